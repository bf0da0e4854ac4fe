// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Runs that reach bounds: it is told, and sums stay true.

use staleline_devices::coherency::hazard::{Actor, Hazard, HazardKind};
use staleline_devices::coherency::report::Saturated;
use staleline_devices::cpu::{CacheOp, ChainId, CpuId, SiteId};
use staleline_support::progress::Quiet;

use super::{RunResult, Verdict, listing};
use crate::boot::Loaded;
use crate::engine::EngineKind;
use crate::engine::chains::{Chain, Forgotten};
use crate::evidence::Execution;
use crate::report::{Reporters, Summary, human, steps};
use crate::run::directory::RunDir;
use crate::run::fake::{self, FakeBackend};
use crate::run::orchestrate::Runner;
use crate::spec::RunSpec;

/// A run's result, what people are told, and its event stream.
struct Told {
    result: RunResult,
    human: String,
    lines: String,
}

fn run(backend: &FakeBackend, settings: &[&str]) -> Told {
    let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
    let spec = RunSpec::resolve("iio-capture", "base", EngineKind::default(), &settings).unwrap();
    let root = tempfile::tempdir().unwrap();
    let dir = RunDir::create(root.path()).unwrap();
    let (mut text, mut lines) = (Vec::new(), Vec::new());
    let result = {
        let mut reporters = Reporters::default();
        let plain = anstream::StripStream::new(&mut text);
        reporters.add("human", human::Human::new(plain));
        reporters.add("lines", steps::Steps::begin(&mut lines).unwrap());
        let runner = Runner {
            backend,
            progress: &Quiet,
            trace: false,
        };
        runner.run(&spec, &dir, &mut reporters).unwrap()
    };
    Told {
        result,
        human: String::from_utf8(text).unwrap(),
        lines: steps::lines(&lines),
    }
}

fn changed(change: impl Fn(&mut Execution) + Sync + Send + 'static) -> FakeBackend {
    FakeBackend::new(move |_, e, _| change(e))
}

const OPERATIONS: u64 = listing::OPERATIONS as u64 + 1000;

/// With more operations than are listed, each of one line, every other one needed.
fn busy() -> FakeBackend {
    FakeBackend::new(|attempt, e, _| {
        let maintenance = &mut e.report.as_mut().unwrap().domain.maintenance;
        let one = maintenance.operations[0].clone();
        let operations = (1..=OPERATIONS).map(|n| {
            let mut op = one.clone();
            op.number = u32::try_from(2 * n).unwrap();
            (op.lines, op.dma_lines) = (1, 1);
            (op.needed_lines, op.at) = (n % 2, 10 * n);
            op.dropped = attempt.drop_operation == Some(op.number);
            op
        });
        maintenance.operations = operations.collect();
    })
}

#[test]
fn operations_are_listed_up_to_a_bound_and_summed_over_all() {
    let told = run(&busy(), &[]);
    let m = &told.result.maintenance;
    assert_eq!(m.operations.len(), listing::OPERATIONS);
    assert_eq!(
        (m.operations_listed, m.operations_total),
        (listing::OPERATIONS as u64, OPERATIONS)
    );
    // The K-th stands at its index.
    assert_eq!(m.operations[99].number, 200);
    let caller = &m.callers[0];
    assert_eq!(
        (caller.operations, caller.lines, caller.needed),
        (OPERATIONS, OPERATIONS, OPERATIONS / 2)
    );
    let note = format!(
        "lists {} of {OPERATIONS} maintenance operations",
        listing::OPERATIONS
    );
    assert!(told.human.contains(&note), "{}", told.human);
}

/// Operations elsewhere: one of the DMA API, one that was needed, one of neither sort.
fn elsewhere(with_names: bool) -> FakeBackend {
    FakeBackend::new(move |attempt, e, _| {
        if !with_names {
            let map = attempt.artifacts.system_map.as_ref().unwrap();
            std::fs::remove_file(map).unwrap();
        }
        let maintenance = &mut e.report.as_mut().unwrap().domain.maintenance;
        let [api, needed, other, ..] = &mut maintenance.operations[..] else {
            panic!("{maintenance:?}");
        };
        for op in [&mut *api, &mut *needed, &mut *other] {
            (op.lines, op.dma_lines, op.needed_lines) = (8, 0, 0);
            op.chain = ChainId(0);
        }
        needed.needed_lines = 3;
        let caller = 0xffff_8000_8001_5010;
        e.seen.chains.push(Chain {
            callers: vec![caller],
            ..Chain::default()
        });
        api.chain = ChainId(u32::try_from(e.seen.chains.len()).unwrap());
    })
}

#[test]
fn what_is_in_no_sum_for_want_of_names_is_told() {
    let of = |with_names| run(&elsewhere(with_names), &[]);
    let told = of(true);
    let m = &told.result.maintenance;
    let counts = (m.operations_total, m.elsewhere_total, m.unaccounted);
    assert_eq!(counts, (3, 2, 1), "{m:?}");
    // What was needed counts, whoever did it.
    assert_eq!((m.needed, m.untouched), (3 * 189 + 3, 5 + 8));
    assert!(!told.human.contains("System.map"), "{}", told.human);
    assert!(
        told.human
            .contains("3 maintenance operations on DMA memory, 2 elsewhere"),
        "{}",
        told.human
    );
    let told = of(false);
    let m = &told.result.maintenance;
    assert_eq!((m.elsewhere_total, m.unaccounted), (1, 2), "{m:?}");
    let note = "leaves out 2 operations";
    assert!(told.human.contains(note), "{}", told.human);
}

#[test]
fn the_last_operation_can_be_suppressed_although_it_is_not_listed() {
    let told = run(&busy(), &[&format!("drop-maintenance={OPERATIONS}")]);
    let dropped = told.result.drop_maintenance.unwrap();
    assert_eq!(u64::from(dropped.number), 2 * OPERATIONS);
    assert_eq!(dropped.of, usize::try_from(OPERATIONS).ok());
    assert!(dropped.happened);
    let listed = &told.result.maintenance.operations;
    assert_eq!(listed.len(), listing::OPERATIONS + 1);
    assert!(listed.last().unwrap().dropped);
    assert!(
        told.human.contains("was suppressed: invalidate"),
        "{}",
        told.human
    );
}

#[test]
fn the_result_stands_once() {
    let told = run(&busy(), &[]);
    let last = told.lines.lines().last().unwrap();
    assert!(told.lines.len() < 10_000, "{}", told.lines.len());
    let summary: Summary = serde_json::from_str(last).unwrap();
    assert_eq!(summary, Summary::of(&told.result));
    assert_eq!(summary.operations, OPERATIONS);
    assert_eq!(summary.verdict, Verdict::Pass);
}

#[test]
fn a_kind_that_comes_late_stays() {
    let backend = changed(|e| {
        let domain = &mut e.report.as_mut().unwrap().domain;
        let reads = (0..listing::HAZARDS + 7).map(|_| fake::stale_read(1, false));
        domain.hazards.extend(reads);
        domain.hazards.push(Hazard {
            kind: HazardKind::DiscardedWrite,
            writer: Actor::Cpu {
                cpu: CpuId::BOOT,
                site: SiteId(1),
            },
            ..fake::stale_read(2, true)
        });
        domain.hazards_dropped = 5;
    });
    let told = run(&backend, &[]);
    let r = &told.result;
    assert_eq!(r.hazards.len(), listing::HAZARDS);
    let all = listing::HAZARDS as u64 + 8;
    assert_eq!((r.hazards_listed, r.hazards_total), (all - 8, all + 5));
    let [reads, discarded] = &r.diagnostics[..] else {
        panic!("{:?}", r.diagnostics);
    };
    // Counted over all, and shown is what is meant.
    assert_eq!((reads.findings, discarded.findings), (all - 1, 1));
    // Every one found is either kept, and in a diagnostic, or told to be dropped.
    let kept = reads.findings + discarded.findings;
    assert_eq!(
        (r.hazards_dropped, kept + r.hazards_dropped),
        (5, r.hazards_total)
    );
    assert_eq!(Summary::of(r).hazards, r.hazards_total);
    let shown = |d: &super::Diagnostic| (r.hazards[d.shown].kind, r.hazards[d.shown].transfer);
    assert_eq!(shown(reads), (super::HazardKind::MissingInvalidate, 1));
    assert_eq!(shown(discarded), (super::HazardKind::DiscardedWrite, 2));
    let note = format!("lists {} of {} hazards", all - 8, all + 5);
    assert!(told.human.contains(&note), "{}", told.human);
    let sum = format!(" {} hazards;", all + 5);
    assert!(told.human.contains(&sum), "{}", told.human);
}

#[test]
fn a_bound_of_the_model_keeps_a_run_from_passing_and_not_from_failing() {
    let saturate = |e: &mut Execution| {
        e.report.as_mut().unwrap().domain.saturated.push(Saturated {
            bound: "transfers in flight".into(),
            limit: 1024,
        });
    };
    let told = run(&changed(saturate), &[]);
    assert_eq!(told.result.verdict, Verdict::InfraError);
    let why = &told.result.reasons[0];
    assert!(why.contains("checked less than planned"), "{why}");
    assert!(why.contains("1024 transfers in flight"), "{why}");
    assert!(told.human.contains(why), "{}", told.human);

    let told = run(
        &changed(move |e| {
            saturate(e);
            let domain = &mut e.report.as_mut().unwrap().domain;
            domain.hazards.push(fake::stale_read(1, true));
        }),
        &[],
    );
    assert_eq!(told.result.verdict, Verdict::Fail);
    assert!(
        told.human.contains("1024 transfers in flight"),
        "{}",
        told.human
    );
}

#[test]
fn what_costs_names_only_is_a_note() {
    let told = run(
        &changed(|e| {
            e.seen
                .forgotten
                .extend(Forgotten::of("places in code", 7, 3))
        }),
        &[],
    );
    assert_eq!(told.result.verdict, Verdict::Pass);
    let [note] = &told.result.notes[..] else {
        panic!("{:?}", told.result.notes);
    };
    assert!(note.contains("room for 7 places in code"), "{note}");
    assert!(told.human.contains(note), "{}", told.human);
}

#[test]
fn data_that_was_not_moved_is_not_judged() {
    let backend = FakeBackend::new(|_, e, text| {
        e.report.as_mut().unwrap().streams[0].bytes = 0;
        *text = text.replacen("\"corrupt\":0", "\"corrupt\":8", 1);
    });
    let told = run(&backend, &[]);
    assert_eq!(told.result.verdict, Verdict::InfraError);
    let why = &told.result.reasons[0];
    assert!(why.contains("the converter had moved only 0"), "{why}");
    assert!(!told.human.contains("corrupt-data"), "{}", told.human);
}

#[test]
fn the_cause_is_told_first_and_once() {
    let what = "the transfer of frame 0 by ad9467 ended with error 12";
    let backend = FakeBackend::new(move |_, _, text| {
        let broken = staleline_protocol::report::Report::Broken { what: what.into() };
        text.push_str(&format!("{}\r\nBail out! {what}\r\n", broken.to_line()));
    });
    let told = run(&backend, &[]);
    assert_eq!(told.result.verdict, Verdict::InfraError);
    assert!(
        told.result.reasons[0].ends_with(what),
        "{:?}",
        told.result.reasons
    );
    let times = told.result.reasons.iter().filter(|r| r.contains(what));
    assert_eq!(times.count(), 1);
}

#[test]
fn hashes_are_of_what_was_loaded() {
    let told = run(
        &changed(|e| {
            e.loaded = Some(Loaded {
                kernel: "aa".into(),
                kernel_at: 0x4020_0000,
                initrd: Some("bb".into()),
            });
        }),
        &[],
    );
    let kernel = told.result.kernel.unwrap();
    assert_eq!(kernel.image_hash.as_deref(), Some("aa"));
    assert_eq!(told.result.initrd_hash.as_deref(), Some("bb"));
    // Of what it was made.
    assert_eq!(kernel.hash, "5f3e");
}

#[test]
fn the_operation_before_a_discarded_write_is_found_among_many() {
    let backend = changed(|e| {
        let domain = &mut e.report.as_mut().unwrap().domain;
        assert_eq!(domain.maintenance.operations[2].op, CacheOp::Invalidate);
        let at = domain.maintenance.operations[2].at;
        domain.hazards.push(Hazard {
            kind: HazardKind::DiscardedWrite,
            writer: Actor::Unknown,
            reader: Actor::Cpu {
                cpu: CpuId::BOOT,
                site: SiteId(2),
            },
            last_maintenance: None,
            at,
            ..fake::stale_read(1, true)
        });
    });
    let reader = &run(&backend, &[]).result.hazards[0].reader;
    let super::Party::Cpu { place, .. } = reader else {
        panic!("{reader:?}");
    };
    assert!(place.stack.is_some(), "{place:?}");
}
