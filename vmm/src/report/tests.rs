// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use staleline_devices::coherency::hazard::{Actor, Hazard, HazardKind};
use staleline_devices::cpu::{CpuId, SiteId};
use staleline_devices::dma::{MasterId, Port, TransferId};
use staleline_devices::soc::report::MasterInfo;
use staleline_results::{Event, Frame, Party, Place, Step};
use staleline_support::progress::Quiet;

use super::*;
use crate::exit::Error;
use crate::run::backend::Backend as _;
use crate::run::directory::{self, RunDir};
use crate::run::fake::{self, FakeBackend};
use crate::run::orchestrate::Runner;

/// All that a run with these findings tells, by reporter.
struct Told {
    human: String,
    json: String,
    lines: String,
    ktap: String,
    junit: String,
}

fn tell(backend: &FakeBackend, settings: &[&str]) -> Told {
    let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
    let spec = RunSpec::resolve(
        "iio-capture-nosync",
        "base",
        EngineKind::default(),
        &settings,
    )
    .unwrap();
    backend.check(&spec).unwrap();
    let root = tempfile::tempdir().unwrap();
    let dir = RunDir::create(root.path()).unwrap();
    let mut out: [Vec<u8>; 5] = Default::default();
    let [human, json, lines, ktap, junit] = &mut out;
    {
        let mut reporters = Reporters::default();
        reporters.add(
            "human",
            human::Human::new(anstream::StripStream::new(&mut *human)),
        );
        reporters.add("json", json::Final(&mut *json));
        reporters.add("lines", steps::Steps::begin(&mut *lines).unwrap());
        reporters.add("ktap", ktap::Ktap(&mut *ktap));
        reporters.add("junit", junit::Junit(&mut *junit));
        let runner = Runner {
            backend,
            progress: &Quiet,
            trace: false,
        };
        runner.run(&spec, &dir, &mut reporters).unwrap();
    }
    assert!(dir.file(directory::RESULT).is_file());
    let lines = steps::lines(&std::mem::take(&mut out[2]));
    let [human, json, _, ktap, junit] = out.map(|o| String::from_utf8(o).unwrap());
    Told {
        human,
        json,
        lines,
        ktap,
        junit,
    }
}

fn stale() -> FakeBackend {
    FakeBackend::new(|_, e, text| {
        let domain = &mut e.report.as_mut().unwrap().domain;
        domain.hazards.push(fake::stale_read(1, false));
        domain
            .hazards
            .extend((2..=6).map(|n| fake::stale_read(n, true)));
        *text = text.replacen(
            "\"corrupt\":0,\"first_corrupt\":null",
            "\"corrupt\":8,\"first_corrupt\":64",
            1,
        );
    })
}

/// One finding of every kind, so that the wording of each is seen.
fn every_kind() -> FakeBackend {
    FakeBackend::new(|_, e, _| {
        let report = e.report.as_mut().unwrap();
        report.masters.push(MasterInfo {
            id: MasterId(1),
            name: "dwc3".into(),
            port: Port::Hpc,
            claims_coherent: true,
            asks_if_claimed: false,
            ordered_as_a_cpu: false,
        });
        let cpu = |site| Actor::Cpu {
            cpu: CpuId::BOOT,
            site: SiteId(site),
        };
        let dmac = Actor::Device {
            master: MasterId(0),
            transfer: TransferId(1),
            snoops: false,
        };
        let usb = Actor::Device {
            master: MasterId(1),
            transfer: TransferId::CONTROL,
            snoops: true,
        };
        for (kind, writer, reader) in [
            (HazardKind::MissingClean, cpu(1), dmac),
            (HazardKind::MissingClean, usb, dmac),
            (HazardKind::MissingInvalidate, dmac, usb),
            (HazardKind::MissingInvalidate, dmac, cpu(1)),
            (HazardKind::WritebackClobber, dmac, Actor::Unknown),
            (HazardKind::DiscardedWrite, cpu(1), cpu(2)),
            (HazardKind::MissingBarrier, cpu(2), dmac),
            (HazardKind::MismatchedAlias, cpu(1), cpu(9)),
            (HazardKind::Ownership, dmac, cpu(4 | SiteId::USER)),
        ] {
            report.domain.hazards.push(Hazard {
                kind,
                writer,
                reader,
                last_maintenance: None,
                ..fake::stale_read(1, false)
            });
        }
    })
}

#[test]
fn people_see_one_diagnostic_for_six_transfers() {
    insta::assert_snapshot!(tell(&stale(), &["frames=6"]).human);
}

#[test]
fn every_kind_reads_well() {
    insta::assert_snapshot!(tell(&every_kind(), &[]).human);
}

/// What the DMA API says of a device that does no DMA, twice, and the oops that follows.
fn crash() -> FakeBackend {
    FakeBackend::new(|_, e, text| {
        text.truncate(text.find("ok 2 transfer").unwrap());
        let warning = "------------[ cut here ]------------\n\
                       WARNING: CPU: 0 PID: 1 at kernel/dma/mapping.c:209 __dma_map_sg_attrs+0x68/0x74\n\
                       CPU: 0 UID: 0 PID: 1 Comm: init Not tainted 6.12.117 #1\n\
                       Hardware name: board (DT)\npc : __dma_map_sg_attrs+0x68/0x74\nCall trace:\n \
                       __dma_map_sg_attrs+0x68/0x74\n dma_buf_map_attachment+0x90/0xa0\n\
                       ---[ end trace 0000000000000000 ]---\n";
        let oops = "Unable to handle kernel paging request at virtual address ffffff9800d92d38\n\
                    Mem abort info:\n  ESR = 0x0000000096000005\n\
                    Internal error: Oops: 0000000096000005 [#1] SMP\npc : f+0x4/0x8\nCall trace:\n \
                    axi_dmac_alloc_desc+0x114/0x130\n iio_dma_buffer_enable+0x78/0xa8\n\
                    ---[ end trace 0000000000000000 ]---\n\
                    Kernel panic - not syncing: Oops: Fatal exception\n";
        *text += &format!("{warning}{warning}{oops}");
        e.end = GuestEnd::Died {
            what: "it reset itself".into(),
        };
    })
}

#[test]
fn reports_of_the_kernel_are_diagnostics_and_cases() {
    let told = tell(&crash(), &[]);
    insta::assert_snapshot!("crash_human", told.human);
    insta::assert_snapshot!("crash_ktap", told.ktap);
    assert!(
        told.junit.contains(r#"type="kernel-report""#),
        "{}",
        told.junit
    );
    let reports = told
        .lines
        .lines()
        .filter(|l| l.contains(r#""event":"kernel-report""#));
    assert_eq!(reports.count(), 2);
}

#[test]
fn a_pass_is_one_line() {
    insta::assert_snapshot!(tell(&FakeBackend::good(), &[]).human);
}

#[test]
fn a_suppressed_operation_is_named() {
    let backend = FakeBackend::new(|a, e, _| {
        if a.drop_operation.is_some() {
            let domain = &mut e.report.as_mut().unwrap().domain;
            domain.hazards.push(fake::stale_read(3, true));
        }
    });
    insta::assert_snapshot!(tell(&backend, &["drop-maintenance=3"]).human);
}

#[test]
fn infrastructure_is_no_failure() {
    let backend = FakeBackend::without_kernel(|| Error::Kernel("make: not found".into()));
    let told = tell(&backend, &[]);
    insta::assert_snapshot!("infra_human", told.human);
    insta::assert_snapshot!("infra_ktap", told.ktap);
    assert!(told.junit.contains("errors=\"1\"") && told.junit.contains("failures=\"0\""));
}

#[test]
fn the_json_schema_is_stable() {
    let told = tell(&stale(), &[]);
    let value: serde_json::Value = serde_json::from_str(&told.json).unwrap();
    insta::assert_json_snapshot!(value, {
        ".staleline" => "[version]",
        ".guest.console_tail" => "[console]",
    });
}

#[test]
fn ktap_and_junit_have_a_case_for_each_diagnostic() {
    let told = tell(&stale(), &[]);
    insta::assert_snapshot!("stale_ktap", told.ktap);
    insta::with_settings!({filters => vec![(r#" uuid="[^"]*""#, ""), (r#" timestamp="[^"]*""#, "")]}, {
        insta::assert_snapshot!("stale_junit", told.junit);
    });
}

#[test]
fn sarif_has_a_finding_once_beside_the_drivers_line() {
    let mut result: RunResult = serde_json::from_str(&tell(&stale(), &[]).json).unwrap();
    let place = Place {
        va: Hex(0xffff_0000),
        kernel: true,
        module: None,
        program: None,
        symbol: Some("copy+0x4".into()),
        frames: [
            ("copy", "lib/copy.c", 3),
            ("my_read", "drivers/my/read.c", 7),
        ]
        .map(|(function, file, line)| Frame {
            text: None,
            path: None,
            function: function.into(),
            file: Some(file.into()),
            line: Some(line),
        })
        .into(),
        stack: None,
    };
    let who = Party::Cpu { cpu: None, place };
    result.diagnostics[0].history.push(Step {
        at: 1 << 60,
        what: Event::Read,
        who,
    });
    let mut second = result.clone();
    second.replay = "second".into();
    let mut text = Vec::new();
    let mut document = sarif::Document::default();
    document.add(&result);
    document.add(&second);
    document.write(&mut text).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let run = &document["runs"][0];
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 1, "{results:#?}");
    let found = &results[0];
    assert_eq!(found["ruleId"], "missing-invalidate");
    assert_eq!(found["level"], "error");
    let at = &found["locations"][0]["physicalLocation"];
    assert_eq!(at["artifactLocation"]["uri"], "drivers/my/read.c");
    assert_eq!(at["region"]["startLine"], 7);
    let replays = [&*result.replay, "second"];
    assert_eq!(found["properties"]["replay"], serde_json::json!(replays));
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let known = |rule: &serde_json::Value| rule["id"] == found["ruleId"];
    assert!(rules.iter().any(known), "{rules:?}");
}

/// Who uploads SARIF of a run that came to nothing must not read that nothing was found.
#[test]
fn sarif_says_of_a_run_without_findings_whether_it_is_clean() {
    let written = |verdict: Verdict, reason: &str| {
        let mut result: RunResult = serde_json::from_str(&tell(&stale(), &[]).json).unwrap();
        result.diagnostics.clear();
        result.guest.reports.clear();
        result.data = staleline_results::Data::default();
        result.verdict = verdict;
        result.reasons = vec![reason.into()];
        let mut text = Vec::new();
        let mut document = sarif::Document::default();
        document.add(&result);
        document.write(&mut text).unwrap();
        let mut document: serde_json::Value = serde_json::from_slice(&text).unwrap();
        document["runs"][0].take()
    };
    let clean = written(Verdict::Pass, "");
    assert_eq!(clean["results"], serde_json::json!([]));
    assert_eq!(clean["invocations"][0]["executionSuccessful"], true);

    let broken = written(Verdict::InfraError, "no guest");
    let invocation = &broken["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    let told = &invocation["toolExecutionNotifications"][0]["message"]["text"];
    assert!(told.as_str().unwrap().starts_with("no guest\n"), "{told}");

    let failed = written(Verdict::Fail, "exit code 3");
    assert_eq!(failed["results"][0]["ruleId"], "failed");
    let told = failed["results"][0]["message"]["text"].as_str().unwrap();
    assert_eq!(told.matches("replay").count(), 1, "{told}");
}

#[test]
fn what_comes_of_one_cause_is_one_case_and_one_event() {
    let backend = FakeBackend::new(|_, e, _| {
        let report = e.report.as_mut().unwrap();
        report.masters[0].claims_coherent = true;
        report.domain.hazards.push(fake::stale_read(1, true));
        report.domain.hazards.push(Hazard {
            kind: HazardKind::WritebackClobber,
            ..fake::stale_read(2, false)
        });
    });
    let told = tell(&backend, &[]);
    let events: Vec<serde_json::Value> = told
        .lines
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let hazards: Vec<_> = events.iter().filter(|e| e["event"] == "hazard").collect();
    let [hazard] = &hazards[..] else {
        panic!("{}", told.lines);
    };
    assert_eq!(hazard["diagnostic"]["kind"], "missing-invalidate");
    let also = hazard["consequences"].as_array().unwrap();
    assert_eq!(also.len(), 1);
    assert_eq!(also[0]["diagnostic"]["kind"], "writeback-clobber");
    assert_eq!(also[0]["finding"]["transfer"], 2);
    let finished = events.last().unwrap();
    assert_eq!(finished["diagnostics"], 2);
    assert_eq!(finished["causes"], 1);
    let result: serde_json::Value = serde_json::from_str(&told.json).unwrap();
    assert_eq!(result["hazards"].as_array().unwrap().len(), 2);
    assert_eq!(result["diagnostics"][0]["cause"], serde_json::Value::Null);
    assert_eq!(result["diagnostics"][1]["cause"], 0);
    // Boot, data, and the one.
    assert!(told.ktap.contains("\n1..3\n"), "{}", told.ktap);
    let list = "            writeback-clobber at DMABUF 0, pa 0x45000000..0x45002f40 (189 lines,";
    for text in [&told.ktap, &told.junit] {
        assert!(text.contains(list), "{text}");
        assert!(!text.contains("coherency writeback-clobber"), "{text}");
    }
    assert!(told.junit.contains("failures=\"1\""), "{}", told.junit);
}

#[test]
fn events_come_in_order() {
    let told = tell(&stale(), &[]);
    let names: Vec<String> = told
        .lines
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["event"].to_string())
        .collect();
    let expect = [
        "run-started",
        "guest-prepared",
        "step",
        "guest-ended",
        "step",
        "hazard",
        "data",
        "finished",
    ];
    assert_eq!(names, expect.map(|n| format!("{n:?}")));
}

#[test]
fn a_closed_pipe_is_no_error() {
    struct Closed;
    impl Reporter for Closed {
        fn event(&mut self, _: &RunEvent) -> std::io::Result<()> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }
    let mut reporters = Reporters::default();
    reporters.add("pipe", Closed);
    reporters
        .event(&RunEvent::Step { what: "x".into() })
        .unwrap();
}
