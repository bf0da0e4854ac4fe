// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use staleline_devices::cpu::SiteId;
use staleline_support::progress::Quiet;

use super::super::fake::{self, FakeBackend};
use super::super::ledger;
use super::*;
use crate::engine::EngineKind;
use crate::engine::chains::TracedAccess;
use crate::evidence::Execution;
use crate::report::cases::Status;
use staleline_results::ReportClass;
use staleline_results::Verdict;

fn run(backend: &FakeBackend, scenario: &str, settings: &[&str]) -> Result<RunResult, Error> {
    carry_out(backend, scenario, settings, false)
}

fn carry_out(
    backend: &FakeBackend,
    scenario: &str,
    settings: &[&str],
    trace: bool,
) -> Result<RunResult, Error> {
    let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
    let spec = RunSpec::resolve(scenario, "base", EngineKind::default(), &settings)?;
    let root = tempfile::tempdir().unwrap();
    let dir = RunDir::create(root.path()).unwrap();
    let runner = Runner {
        backend,
        progress: &Quiet,
        trace,
    };
    let result = runner.run(&spec, &dir, &mut logbook::files(&dir)?)?;
    // Whatever came of it, the log says as much.
    assert_eq!(ledger::of(dir.path()).unwrap().result(), result);
    let written: RunResult = directory::read_json(dir.path(), directory::RESULT).unwrap();
    assert_eq!(written, result);
    let spec: RunSpec = directory::read_json(dir.path(), directory::SPEC).unwrap();
    let drop = spec.scenario.faults.drop_maintenance;
    // Once the guest has run, it is known which operation it was.
    assert!(result.guest.end.is_none() || !matches!(drop, Some(DropMaintenance::Nth(_))));
    assert_eq!(
        result.guest.end.is_some(),
        dir.file(directory::CONSOLE).is_file()
    );
    Ok(result)
}

fn verdict(
    change: impl Fn(Attempt<'_>, &mut Execution, &mut String) + Sync + Send + 'static,
) -> (Verdict, String) {
    let r = run(&FakeBackend::new(change), "iio-capture", &[]).unwrap();
    (r.verdict, r.reasons.join("; "))
}

#[test]
fn a_run_without_findings_passes() {
    let r = run(&FakeBackend::good(), "iio-capture", &[]).unwrap();
    assert_eq!(
        (r.verdict, r.reasons.len()),
        (Verdict::Pass, 0),
        "{:?}",
        r.reasons
    );
    assert_eq!((r.data.bytes, r.data.planned), (61_200, 61_200));
    assert_eq!(r.run_hash.as_deref(), Some("0123456789abcdef"));
    assert_eq!(
        r.maintenance.callers[0].function,
        "system_heap_dma_buf_begin_cpu_access"
    );
    assert_eq!(
        run(&FakeBackend::good(), "boot", &[]).unwrap().verdict,
        Verdict::Pass
    );
}

#[test]
fn evidence_is_a_failure() {
    let (v, why) = verdict(|_, e, _| {
        let report = e.report.as_mut().unwrap();
        report.domain.hazards.push(fake::stale_read(1, false));
    });
    assert_eq!(v, Verdict::Fail);
    assert!(
        why.contains("missing-invalidate") && why.contains("latent"),
        "{why}"
    );

    let corrupt = |_: Attempt<'_>, _: &mut Execution, text: &mut String| {
        *text = text.replacen("\"corrupt\":0", "\"corrupt\":8", 1);
    };
    assert_eq!(verdict(corrupt).0, Verdict::Fail);

    let (v, why) = verdict(|_, _, text| *text = text.replace("ok 2 transfer", "not ok 2 transfer"));
    assert_eq!(v, Verdict::Fail);
    assert!(why.contains("guest test 2 failed: transfer"), "{why}");
}

#[test]
fn a_kernel_that_reports_on_itself_fails() {
    let report = "BUG: sleeping function called from invalid context at mm/a.c:1";
    let backend = FakeBackend::new(move |_, _, text| {
        text.push_str(&format!("[    1.5] {report}\n[    1.5] Call trace:\n"));
    });
    let r = run(&backend, "iio-capture", &[]).unwrap();
    assert_eq!((r.verdict, r.reasons.len()), (Verdict::Fail, 1));
    assert_eq!(r.guest.reports[0].class, ReportClass::Locking);
    assert!(r.reasons[0].contains(report), "{:?}", r.reasons);
    let cases = crate::report::cases::of(&r);
    let last = cases.last().unwrap();
    assert_eq!(
        (&*last.name, &*last.kind),
        ("kernel-report locking", "kernel-report")
    );
    assert!(last.details[0].ends_with(report), "{:?}", last.details);

    // Known ones can be allowed, by what they say.
    let allow = |part: &str| format!("guest.allow-reports=[{part:?}]");
    let r = run(
        &backend,
        "iio-capture",
        &[&allow("invalid context at mm/a.c")],
    )
    .unwrap();
    assert_eq!((r.verdict, &r.reasons[..]), (Verdict::Pass, &[][..]));
    assert_eq!(r.guest.warnings, [report]);
    assert!(r.guest.reports[0].allowed);
    let r = run(
        &backend,
        "iio-capture",
        &[&allow("invalid context at mm/b.c")],
    )
    .unwrap();
    assert_eq!(r.verdict, Verdict::Fail);
}

/// An oops in the path under test, which stops the guest in the middle of it.
fn oops(end: GuestEnd) -> FakeBackend {
    FakeBackend::new(move |_, e, text| {
        let done = text.find("ok 2 transfer").unwrap();
        text.truncate(done);
        text.push_str(
            "[    1.5] Unable to handle kernel NULL pointer dereference at virtual address 10\r\n\
             [    1.5] Internal error: Oops: 0000000096000004 [#1] SMP\r\n\
             [    1.5] pc : frob+0x40/0x90\r\n[    1.5] Call trace:\r\n\
             [    1.5]  frob+0x40/0x90\r\n[    1.5]  iio_do+0x10/0x20\r\n\
             [    1.5] ---[ end trace 0000000000000000 ]---\r\n\
             [    1.5] Kernel panic - not syncing: Oops: Fatal exception\r\n",
        );
        e.end = end.clone();
        if e.end == GuestEnd::TimedOut {
            e.report = None;
        }
    })
}

#[test]
fn a_kernel_that_crashes_under_test_fails() {
    let reset = GuestEnd::Died {
        what: "it reset itself".into(),
    };
    for end in [reset.clone(), GuestEnd::TimedOut] {
        let r = run(&oops(end), "iio-capture", &[]).unwrap();
        assert_eq!(r.verdict, Verdict::Fail);
        assert!(
            r.reasons[0].starts_with("kernel-report: Unable to handle kernel NULL pointer")
                && r.reasons[0].contains("frob"),
            "{:?}",
            r.reasons
        );
        assert!(r.guest.reports[0].fatal);
        assert_eq!(r.guest.reports[0].chain, ["frob+0x40", "iio_do+0x10"]);
        // Nobody may read from this that there are no hazards.
        let cases = crate::report::cases::of(&r);
        let coherency = cases.iter().find(|c| c.name == "coherency").unwrap();
        assert_eq!(coherency.status, Status::Skipped);
        assert_eq!(cases.last().unwrap().name, "kernel-report oops");
    }
    // Allowed, it is no failure; but the run checked less than it should.
    let allow = ["guest.allow-reports=[\"NULL pointer dereference\"]"];
    let r = run(&oops(reset), "iio-capture", &allow).unwrap();
    assert_eq!(r.verdict, Verdict::InfraError);
}

#[test]
fn a_guest_that_dies_without_a_word_is_infrastructure() {
    let (v, _) = verdict(|_, e, text| {
        text.truncate(text.find("ok 2 transfer").unwrap());
        e.end = GuestEnd::Died {
            what: "it reset itself".into(),
        };
    });
    assert_eq!(v, Verdict::InfraError);
}

#[test]
fn evidence_stands_even_if_the_guest_then_dies() {
    let (v, why) = verdict(|_, e, _| {
        e.end = GuestEnd::TimedOut;
        let report = e.report.as_mut().unwrap();
        report.domain.hazards.push(fake::stale_read(1, true));
    });
    assert_eq!(v, Verdict::Fail);
    assert!(why.contains("time limit"), "{why}");
}

type Break = fn(Attempt<'_>, &mut Execution, &mut String);

#[test]
fn what_proves_nothing_is_neither_pass_nor_failure() {
    let broken: [(&str, Break); 12] = [
        ("time limit", |_, e, _| e.end = GuestEnd::TimedOut),
        ("segfault", |_, e, _| {
            e.end = GuestEnd::Died {
                what: "segfault".into(),
            }
        }),
        ("no report", |_, e, _| e.report = None),
        ("did not boot", |_, _, text| text.clear()),
        ("incomplete", |_, _, text| {
            *text = text.replace("ok 2 transfer", "")
        }),
        ("gave up: no iio", |_, _, text| {
            text.push_str("Bail out! no iio\n")
        }),
        ("plan: EINVAL", |_, _, text| {
            text.push_str("# staleline: {\"report\":\"broken\",\"what\":\"EINVAL\"}\n");
        }),
        ("unreadable", |_, _, text| text.push_str("# staleline: {\n")),
        ("crashed: Kernel panic", |_, _, text| {
            text.push_str("[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs\n")
        }),
        ("user checked 1000 of 61200", |_, _, text| {
            *text = text.replace("\"bytes\":12040", "\"bytes\":0");
        }),
        ("axi-dmac-rx: bad", |_, e, _| {
            let errors = &mut e.report.as_mut().unwrap().device_errors;
            errors.push(staleline_devices::soc::report::DeviceError {
                device: "axi-dmac-rx".into(),
                what: "bad".into(),
            });
        }),
        // A failed test in a run that is broken is no finding.
        ("incomplete", |_, _, text| {
            *text = text.replace("ok 2 transfer", "not ok 1 boot")
        }),
    ];
    for (expect, change) in broken {
        let (v, why) = verdict(change);
        assert_eq!(v, Verdict::InfraError, "{expect}: {why}");
        assert!(why.contains(expect), "{expect}: {why}");
    }
}

#[test]
fn a_guest_that_never_said_a_word_is_not_given_more_time() {
    let (v, why) = verdict(|_, e, text| {
        e.end = GuestEnd::TimedOut;
        *text = "\r\n".into();
    });
    assert_eq!(v, Verdict::InfraError);
    assert!(why.contains("cut short"), "{why}");
    assert!(!why.contains("--timeout"), "{why}");
    let (_, why) = verdict(|_, e, text| {
        e.end = GuestEnd::TimedOut;
        *text = "[    0.0] Booting Linux\n".into();
    });
    assert!(
        why.contains("--timeout") && !why.contains("cut short"),
        "{why}"
    );
}

#[test]
fn how_far_a_guest_came_is_told() {
    let (_, why) = verdict(|_, e, text| {
        e.end = GuestEnd::TimedOut;
        text.truncate(text.find("ok 2 transfer").unwrap());
        text.push_str("  1..5\r\n  ok 1 devices\r\n");
    });
    let told =
        "the guest came no further than to the end of `devices` within the time limit; raise";
    assert!(why.contains(told), "{why}");
}

#[test]
fn trouble_before_the_run_has_a_result_too() {
    let backend = FakeBackend::without_kernel(|| Error::Kernel("make failed".into()));
    let r = run(&backend, "iio-capture", &[]).unwrap();
    assert_eq!((r.verdict, r.kernel), (Verdict::InfraError, None));
    assert_eq!(
        r.reasons[0],
        "the guest kernel could not be prepared: make failed"
    );
    let backend = FakeBackend::without_kernel(|| Error::UnknownKernel {
        name: "x".into(),
        why: "y".into(),
        help: "z".into(),
    });
    assert!(matches!(
        run(&backend, "boot", &[]),
        Err(Error::UnknownKernel { .. })
    ));
}

#[test]
fn the_kth_operation_is_found_by_a_pilot() {
    let backend = FakeBackend::good();
    let r = run(&backend, "iio-capture", &["drop-maintenance=3"]).unwrap();
    assert_eq!(*backend.attempts.lock().unwrap(), [None, Some(103)]);
    let dropped = r.drop_maintenance.unwrap();
    assert_eq!(
        (dropped.nth, dropped.of, dropped.happened),
        (Some(3), Some(6), true)
    );

    let backend = FakeBackend::good();
    run(&backend, "iio-capture", &["drop-maintenance=@104"]).unwrap();
    assert_eq!(*backend.attempts.lock().unwrap(), [Some(104)]);
}

#[test]
fn an_operation_that_does_not_exist_is_told() {
    let e = run(&FakeBackend::good(), "iio-capture", &["drop-maintenance=7"]).unwrap_err();
    assert_eq!(e.exit_code(), USAGE);
    assert!(
        e.render().contains("has 6 maintenance") && e.render().contains("1 to 6"),
        "{e}"
    );

    // However it was asked for.
    let set = ["drop-maintenance=@9"];
    let e = run(&FakeBackend::good(), "iio-capture", &set).unwrap_err();
    assert_eq!(e.exit_code(), USAGE);
    let told = e.render();
    assert!(
        told.contains("=@9: the run has 6 maint") && told.contains("among @101 to @106"),
        "{told}"
    );

    // A run that broke off may have had it.
    let backend = FakeBackend::new(|_, e, _| e.end = GuestEnd::TimedOut);
    let r = run(&backend, "iio-capture", &set).unwrap();
    assert_eq!(r.verdict, Verdict::InfraError);
}

#[test]
fn a_pilot_that_breaks_is_trouble() {
    let backend = FakeBackend::new(|_, e, _| e.end = GuestEnd::TimedOut);
    let r = run(&backend, "iio-capture", &["drop-maintenance=1"]).unwrap();
    assert_eq!(r.verdict, Verdict::InfraError);
    assert!(r.reasons[0].contains("pilot"), "{:?}", r.reasons);
}

#[test]
fn a_playback_is_proven_by_the_dac() {
    let dac = |checked| {
        FakeBackend::new(move |_, e, text| {
            // User space has nothing to check.
            *text = text.replace("# staleline: {\"report\":\"data\"", "# other: {");
            let streams = &mut e.report.as_mut().unwrap().streams;
            streams.push(staleline_devices::soc::report::StreamReport {
                name: "dac".into(),
                bytes: checked,
                checked,
                corrupt: 0,
                first_corrupt: None,
            });
        })
    };
    let r = run(&dac(61_200), "iio-playback", &[]).unwrap();
    assert_eq!(
        (r.verdict, r.data.bytes),
        (Verdict::Pass, 61_200),
        "{:?}",
        r.reasons
    );
    let r = run(&dac(61_192), "iio-playback", &[]).unwrap();
    assert_eq!(r.verdict, Verdict::InfraError);
    let r = run(&FakeBackend::good(), "iio-playback", &[]).unwrap();
    assert_eq!(r.verdict, Verdict::InfraError);
}

/// A run with a stale read, whose second pass `change` spoils or not.
fn traced(change: fn(&mut Execution)) -> (RunResult, Vec<Option<u32>>) {
    let backend = FakeBackend::new(move |a, e, _| {
        let domain = &mut e.report.as_mut().unwrap().domain;
        domain.hazards.push(fake::stale_read(1, true));
        if !a.trace.is_empty() {
            // When user space read, and when its line was cached; devices have no chains.
            assert_eq!(a.trace, [800, 1000, 1700]);
            e.seen.accesses = vec![TracedAccess {
                at: 800,
                pc: fake::sites()[&SiteId(1)],
                chain: fake::seen().chains[0].clone(),
            }];
            change(e);
        }
    });
    let r = carry_out(&backend, "iio-capture", &["drop-maintenance=2"], true).unwrap();
    let attempts = backend.attempts.lock().unwrap().clone();
    (r, attempts)
}

#[test]
fn findings_get_call_chains_by_a_second_pass_that_is_the_same_run() {
    let (r, attempts) = traced(|_| {});
    // Pilot, run, second pass: it drops what the run dropped.
    assert_eq!(attempts, [None, Some(102), Some(102)]);
    assert!(r.tracing.unwrap().same);
    let cached_by = r.hazards[0].cached_by.as_ref().unwrap();
    let stack = cached_by.stack.as_ref().unwrap();
    assert_eq!((stack.pid, stack.callers.len()), (Some(1), 1));

    let backend = FakeBackend::good();
    let r = carry_out(&backend, "iio-capture", &[], true).unwrap();
    assert_eq!(r.tracing, None);
    assert_eq!(backend.attempts.lock().unwrap().len(), 1);
}

#[test]
fn chains_of_another_run_are_not_used() {
    for change in [
        (|e| e.report.as_mut().unwrap().domain.run_hash = 1) as fn(&mut Execution),
        |e| e.report = None,
    ] {
        let (r, _) = traced(change);
        assert_eq!(r.verdict, Verdict::Fail);
        assert!(!r.tracing.unwrap().same);
        assert!(r.hazards[0].cached_by.as_ref().unwrap().stack.is_none());
        // Those of maintenance are the run's own.
        let last = r.hazards[0].last_maintenance.as_ref().unwrap();
        assert!(last.place.stack.is_some());
    }
}

/// What the USB host says after it was told to break off transfers `cuts` times, and once more when
/// the stream was over if `missed`.
fn usb_host(checked: u64, corrupt: u64, cuts: u32, missed: u32) -> FakeBackend {
    FakeBackend::new(move |_, e, _| {
        let host = serde_json::json!({
            "enumerations": [], "errors": ["the device has gone"], "error-count": 1,
            "finished": false,
            "steps": [{
                "received": {"bytes": checked + 7, "corrupt": corrupt, "first": null}, "sent": 0,
                "transfers": 1, "short-packets": 0, "zero-packets": 0, "naks": 0, "stalls": 0,
                "incidents": 1, "cuts": cuts, "missed": missed, "received-cut": 7,
                "outcome": "running",
            }],
        });
        let end = serde_json::json!({
            "checked": checked + 7, "repeated": 7, "corrupt": corrupt, "first_corrupt": 8,
            "host": host,
        });
        let extra = &mut e.report.as_mut().unwrap().extra;
        extra.insert("usb-host".into(), end);
    })
}

#[test]
fn interruptions_excuse_neither_wrong_nor_missing_bytes() {
    let verdict = |backend| run(&backend, "iio-to-usb", &[]).unwrap();
    for cuts in [0, 1] {
        let r = verdict(usb_host(61_200, 0, cuts, 0));
        assert_eq!(r.verdict, Verdict::Pass, "{:?}", r.reasons);
        let r = verdict(usb_host(61_200, 5, cuts, 0));
        assert_eq!((r.verdict, r.data.corrupt_bytes), (Verdict::Fail, 5));
    }
    let r = verdict(usb_host(49_160, 0, 1, 0));
    assert_eq!(r.verdict, Verdict::InfraError);
    let reasons = r.reasons.join("\n");
    for told in [
        "usb-host checked 49160 of 61200 bytes",
        "49167 received, of these 0 and 7 in frames that 1 of the scenario's",
        "the device has gone",
    ] {
        assert!(reasons.contains(told), "{told}: {reasons}");
    }
}

#[test]
fn an_incident_that_did_not_happen_is_no_pass() {
    let r = run(&usb_host(61_200, 0, 1, 2), "iio-to-usb", &[]).unwrap();
    assert_eq!(r.verdict, Verdict::InfraError);
    assert!(r.reasons[0].starts_with("2 of the scenario's usb.incidents did not happen"));
}
