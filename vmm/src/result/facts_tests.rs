// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! From what a run left behind to diagnostics: which findings are one, and what is told of them.

use staleline_devices::coherency::hazard::{Actor, Hazard, HazardKind, Why};
use staleline_devices::cpu::{CacheOp, ChainId, CpuId, SiteId};
use staleline_devices::dma::{MasterId, TransferId};
use staleline_support::progress::Quiet;

use super::Event;
use super::{Class, Diagnostic, RunResult, Verdict};
use crate::engine::EngineKind;
use crate::engine::chains::Chain;
use crate::evidence::Execution;
use crate::report::{Reporters, human};
use crate::run::directory::RunDir;
use crate::run::fake::{self, FakeBackend};
use crate::run::orchestrate::Runner;
use crate::spec::RunSpec;

/// `copy_page` and `dma_buf_ioctl` in the map of the fake kernel.
const COPY: (SiteId, u64) = (SiteId(7), 0xffff_8000_8001_3010);
const IOCTL: u64 = 0xffff_8000_8001_4010;

/// The result of a run that `change` has changed, and what people see of it.
pub(super) fn run(change: impl Fn(&mut Execution) + Sync + Send + 'static) -> (RunResult, String) {
    run_with(move |e, _| change(e))
}

/// The same; the second is what the guest's console has.
fn run_with(
    change: impl Fn(&mut Execution, &mut String) + Sync + Send + 'static,
) -> (RunResult, String) {
    let backend = FakeBackend::new(move |_, e, console| {
        e.sites.insert(COPY.0, COPY.1);
        change(e, console);
    });
    let spec = RunSpec::resolve("iio-capture", "base", EngineKind::default(), &[]).unwrap();
    let root = tempfile::tempdir().unwrap();
    let dir = RunDir::create(root.path()).unwrap();
    let mut text = Vec::new();
    let result = {
        let mut reporters = Reporters::default();
        let plain = anstream::StripStream::new(&mut text);
        reporters.add("human", human::Human::new(plain));
        let runner = Runner {
            backend: &backend,
            progress: &Quiet,
            trace: false,
        };
        runner.run(&spec, &dir, &mut reporters).unwrap()
    };
    (result, String::from_utf8(text).unwrap())
}

/// Those of a run with these findings.
pub(super) fn with(hazards: Vec<Hazard>) -> (RunResult, String) {
    run(move |e| {
        let domain = &mut e.report.as_mut().unwrap().domain;
        domain.hazards.clone_from(&hazards);
    })
}

#[track_caller]
fn only(result: &RunResult) -> &Diagnostic {
    let [diagnostic] = &result.diagnostics[..] else {
        panic!("{:#?}", result.diagnostics);
    };
    diagnostic
}

/// A routine that copies pages read what a transfer wrote.
pub(super) fn copied() -> Hazard {
    Hazard {
        reader: Actor::Cpu {
            cpu: CpuId::BOOT,
            site: COPY.0,
        },
        readers: vec![COPY.0],
        ..fake::stale_read(1, true)
    }
}

#[test]
fn bytes_that_only_a_copy_of_a_page_reads_do_not_fail_the_run() {
    let (result, text) = with(vec![copied()]);
    assert_eq!(result.verdict, Verdict::Pass, "{:?}", result.reasons);
    assert_eq!(only(&result).class, Class::StaleCopy);
    assert!(
        text.starts_with("note[stale-copy]: the kernel copied"),
        "{text}"
    );
    // Others have read them too.
    let both = Hazard {
        readers: vec![COPY.0, SiteId(1)],
        ..copied()
    };
    let (result, text) = with(vec![both, copied()]);
    assert_eq!(result.verdict, Verdict::Fail);
    let classes = result.diagnostics.iter().map(|d| d.class);
    assert!(classes.eq([Class::Error, Class::StaleCopy]), "{text}");
}

#[test]
fn findings_of_one_cause_are_one_and_those_of_two_are_two() {
    let kernel = Hazard {
        reader: Actor::Cpu {
            cpu: CpuId::BOOT,
            site: SiteId(1),
        },
        readers: vec![SiteId(1)],
        ..fake::stale_read(2, false)
    };
    let late = Hazard {
        why: Why::Late,
        manifested: true,
        ..kernel.clone()
    };
    let (result, _) = with(vec![kernel.clone(), late]);
    assert_eq!(
        (only(&result).findings, only(&result).why),
        (2, super::Why::Late)
    );
    // Nobody has synced here, and too early there: user space that syncs does not forget it at times.
    let early = Hazard {
        why: Why::Early,
        ..fake::stale_read(2, true)
    };
    let (result, _) = with(vec![fake::stale_read(1, true), early]);
    let rows = result.diagnostics.iter().map(|d| &*d.advice);
    assert!(rows.eq(["sync-without-effect", "early"]));
    let merged = Hazard {
        why: Why::StaleStore,
        ..fake::stale_read(3, true)
    };
    let user = Hazard {
        reader: Actor::Cpu {
            cpu: CpuId::BOOT,
            site: SiteId(4 | SiteId::USER),
        },
        ..fake::stale_read(1, true)
    };
    let (result, _) = with(vec![user, kernel, merged]);
    assert_eq!(result.diagnostics.len(), 3);
}

/// The agent does not know where its DMABUFs are, as it has not mapped them.
fn nowhere(console: &mut String) {
    let known = |index: u64| format!("[[{},16384]]", 0x4500_0000 + index * 16384);
    for index in 0..2 {
        assert!(console.contains(&known(index)), "{console}");
        *console = console.replace(&known(index), "[]");
    }
}

#[test]
fn a_sync_of_another_part_of_the_buffer_is_told_with_what_it_covered() {
    a_sync_of_another_part(|_| {});
    // What its transfer has written is the buffer's, too.
    a_sync_of_another_part(nowhere);
}

fn a_sync_of_another_part(change: fn(&mut String)) {
    let (result, text) = run_with(move |e, console| {
        change(console);
        e.seen.chains.push(Chain {
            callers: vec![IOCTL],
            ..Chain::default()
        });
        let chain = ChainId(u32::try_from(e.seen.chains.len()).unwrap());
        let domain = &mut e.report.as_mut().unwrap().domain;
        let op = domain.maintenance.operations.first_mut().unwrap();
        (op.chain, op.op, op.lines, op.at) = (chain, CacheOp::Invalidate, 64, 1600);
        // So that all frames are there, which tells to which DMABUF a transfer goes.
        domain.transfers.last_mut().unwrap().bytes = 1000;
        domain.hazards.push(Hazard {
            first_pa: 0x4500_1000,
            line_pa: 0x4500_1000,
            ..fake::stale_read(1, true)
        });
    });
    let told = only(&result);
    assert_eq!(told.advice, "sync-incomplete", "{text}");
    let note = &told.notes[0];
    assert!(
        note.ends_with("covered 0x45000000..0x45001000 only"),
        "{note}"
    );
}

#[test]
fn a_sync_of_another_buffer_says_nothing() {
    // Of the second DMABUF, a part is synchronised while the first one is overdue; the rest is, later.
    const SECOND: u64 = 0x4500_4000;
    const REST: u64 = SECOND + 4096;
    let (result, text) = run(|e| {
        e.seen.chains.push(Chain {
            callers: vec![IOCTL],
            ..Chain::default()
        });
        let chain = ChainId(u32::try_from(e.seen.chains.len()).unwrap());
        let domain = &mut e.report.as_mut().unwrap().domain;
        let op = domain.maintenance.operations.first_mut().unwrap();
        (op.chain, op.op, op.at) = (chain, CacheOp::Invalidate, 1600);
        (op.first_pa, op.lines) = (SECOND, 64);
        let second = Hazard {
            first_pa: REST,
            line_pa: REST,
            end_pa: REST + 64,
            lines: 1,
            ..fake::stale_read(2, true)
        };
        domain.hazards.extend([fake::stale_read(1, true), second]);
    });
    assert_eq!(only(&result).buffers, [0, 1], "{text}");
    assert_eq!(only(&result).advice, "sync-without-effect", "{text}");
}

#[test]
fn a_line_that_is_partly_the_buffers_is_told_by_the_bytes_in_question() {
    let discarded = |line_bytes| Hazard {
        kind: HazardKind::DiscardedWrite,
        lines: 1,
        // The transfer ends 8 bytes into this line.
        line_pa: 0x4500_2f00,
        line_bytes,
        writer: Actor::Cpu {
            cpu: CpuId::BOOT,
            site: SiteId(1),
        },
        reader: Actor::Cpu {
            cpu: CpuId::BOOT,
            site: SiteId(2),
        },
        ..fake::stale_read(1, true)
    };
    let (result, _) = with(vec![discarded(0xff00)]);
    assert_eq!(only(&result).advice, "shared-line");
    assert!(only(&result).notes[0].contains("0x45000000..0x45002f08"));
    let (result, _) = with(vec![discarded(0x0ff0)]);
    assert_ne!(only(&result).advice, "shared-line");
}

#[test]
fn a_lying_tree_is_told_first() {
    let (result, text) = run(|e| {
        let report = e.report.as_mut().unwrap();
        report.masters[0].claims_coherent = true;
        report.domain.hazards.push(fake::stale_read(1, true));
    });
    assert_eq!(only(&result).advice, "lying-tree");
    let at = |what: &str| text.find(what).unwrap();
    assert!(at("does not snoop") < at("\n  missing"), "{text}");
}

#[test]
fn a_history_is_in_order_and_ends_with_the_finding() {
    let dmac = |id| Actor::Device {
        master: MasterId(0),
        transfer: TransferId(id),
        snoops: false,
    };
    let (result, text) = with(vec![Hazard {
        kind: HazardKind::WritebackClobber,
        writer: dmac(2),
        reader: Actor::Cpu {
            cpu: CpuId::BOOT,
            site: SiteId(1),
        },
        transfer: TransferId(2),
        cached_at: 900,
        written_at: 900,
        started_at: Some(1990),
        started_by: staleline_devices::dma::StartedBy::Doorbell,
        at: 2100,
        ..fake::stale_read(2, true)
    }]);
    let history = &only(&result).history;
    let times: Vec<_> = history.iter().map(|s| s.at).collect();
    assert_eq!(times, [900, 900, 1990, 2000, 2100], "{text}");
    assert_eq!(history[0].what, Event::Stored);
    assert!(matches!(
        history[1].what,
        Event::Maintained { number: 101, .. }
    ));
    assert_eq!(history[4].what, Event::WrittenOver);
}
