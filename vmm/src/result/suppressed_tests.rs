// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use staleline_devices::coherency::hazard::{Actor, Hazard, HazardKind, Why};
use staleline_devices::coherency::report::MaintenanceOp;
use staleline_devices::cpu::{CacheOp, CpuId, SiteId};

use super::super::RunResult;
use super::super::facts_tests::run;
use crate::run::fake::stale_read;

/// A run of which the first invalidate, at 1600, was suppressed: after the first transfer, which was
/// over at 1500, and before its data was read at 1700.
fn without(
    change: fn(&mut MaintenanceOp),
    claims: bool,
    hazards: impl Into<Vec<Hazard>>,
) -> RunResult {
    let hazards = hazards.into();
    let (result, _) = run(move |e| {
        let report = e.report.as_mut().unwrap();
        report.masters[0].claims_coherent = claims;
        let op = report.domain.maintenance.operations.first_mut().unwrap();
        op.dropped = true;
        change(op);
        report.domain.hazards.clone_from(&hazards);
    });
    result
}

fn rows(result: &RunResult) -> Vec<&str> {
    result.diagnostics.iter().map(|d| &*d.advice).collect()
}

#[test]
fn what_the_suppressed_operation_would_have_prevented_accuses_nobody() {
    for claims in [false, true] {
        let result = without(|_| {}, claims, [stale_read(1, true)]);
        assert_eq!(rows(&result), ["suppressed"]);
    }
    // The bounds belong to it.
    let bounds: [fn(&mut MaintenanceOp); 2] = [|op| op.at = 1500, |op| op.at = 1700];
    for change in bounds {
        let result = without(change, false, [stale_read(1, true)]);
        assert_eq!(rows(&result), ["suppressed"]);
    }
}

#[test]
fn what_it_would_not_have_prevented_is_told_as_ever() {
    type Change = (&'static str, fn(&mut MaintenanceOp));
    let changes: [Change; 5] = [
        ("another line", |op| op.first_pa += 64),
        ("a line less", |op| op.lines -= 1),
        ("another kind", |op| op.op = CacheOp::Clean),
        ("in flight", |op| op.at = 1499),
        ("after it", |op| op.at = 1701),
    ];
    for (what, change) in changes {
        let result = without(change, false, [stale_read(1, true)]);
        assert_eq!(rows(&result), ["sync-without-effect"], "{what}");
        let result = without(change, true, [stale_read(1, true)]);
        assert_eq!(rows(&result), ["lying-tree"], "{what}");
    }
    // Of two frames, one: what the other lacks is no less lacking.
    let both = [stale_read(1, true), stale_read(2, true)];
    let result = without(|_| {}, false, both.clone());
    assert_eq!(rows(&result), ["suppressed", "sync-without-effect"]);
    let result = without(|_| {}, true, both);
    assert_eq!(rows(&result), ["suppressed", "lying-tree"]);
}

#[test]
fn each_rule_misses_an_operation_of_its_own() {
    let cpu = Actor::Cpu {
        cpu: CpuId::BOOT,
        site: SiteId(1),
    };
    let device = stale_read(1, true).writer;
    let of = |kind, writer, reader| Hazard {
        kind,
        writer,
        reader,
        merged_by: cpu,
        merged_at: 1650,
        ..stale_read(1, true)
    };
    let stored = |kind| Hazard {
        why: Why::StaleStore,
        ..of(kind, device, cpu)
    };
    use HazardKind::*;
    // Whether a clean would have done, and an invalidate.
    let cases = [
        (of(MissingClean, cpu, device), true, false),
        (of(MissingInvalidate, device, cpu), false, true),
        (of(WritebackClobber, device, cpu), true, true),
        (stored(WritebackClobber), false, true),
        (of(DiscardedWrite, cpu, cpu), true, false),
        (of(MismatchedAlias, cpu, device), false, true),
        (of(MissingBarrier, cpu, device), false, false),
        (of(Ownership, device, cpu), false, false),
    ];
    for (hazard, by_clean, by_invalidate) in cases {
        let what = (hazard.kind, hazard.why);
        let excused = |change: fn(&mut MaintenanceOp)| {
            let result = without(change, false, [hazard.clone()]);
            rows(&result) == ["suppressed"]
        };
        assert_eq!(excused(|op| op.op = CacheOp::Clean), by_clean, "{what:?}");
        assert_eq!(excused(|_| {}), by_invalidate, "{what:?}");
        let both = excused(|op| op.op = CacheOp::CleanInvalidate);
        assert_eq!(both, by_clean || by_invalidate, "{what:?}");
    }
    // A store into a stale copy has to be preceded by the invalidate.
    let early = Hazard {
        merged_at: 1599,
        ..stored(WritebackClobber)
    };
    assert_ne!(rows(&without(|_| {}, false, [early])), ["suppressed"]);
}

/// Whatever it would have prevented, that one was missing: of several rules, and of one rule for several
/// reasons, the largest stands for the others.
#[test]
fn what_one_suppressed_operation_would_have_prevented_is_one_cause() {
    use HazardKind::*;
    let cpu = Actor::Cpu {
        cpu: CpuId::BOOT,
        site: SiteId(1),
    };
    let small = Hazard {
        kind: WritebackClobber,
        writer: cpu,
        lines: 1,
        ..stale_read(1, false)
    };
    let large = Hazard {
        why: Why::PowerOn,
        lines: 15,
        ..small.clone()
    };
    let lost = Hazard {
        kind: DiscardedWrite,
        reader: cpu,
        lines: 8,
        ..small.clone()
    };
    let both = |op: &mut MaintenanceOp| op.op = CacheOp::CleanInvalidate;
    let result = without(both, false, [small, large, lost]);
    assert_eq!(rows(&result), ["suppressed"; 3]);
    let causes: Vec<_> = result.diagnostics.iter().map(|d| d.cause).collect();
    assert_eq!(causes, [Some(1), None, Some(1)]);
}
