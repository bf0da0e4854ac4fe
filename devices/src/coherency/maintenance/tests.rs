// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Operations, their barriers and their account.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use super::*;
use crate::cpu::{BarrierKind, BarrierScope};

const ONE: CpuId = CpuId(0);
const TWO: CpuId = CpuId(1);

fn clean(ops: &mut Operations, cpu: CpuId, line: u64, last_access: u64) -> u32 {
    done(ops, CacheOp::Clean, cpu, line, last_access)
}

fn done(ops: &mut Operations, op: CacheOp, cpu: CpuId, line: u64, last_access: u64) -> u32 {
    let instruction = Instruction {
        cpu,
        op,
        line,
        dma: false,
        site: SiteId(1),
        chain: ChainId(0),
        at: last_access,
        last_access,
    };
    ops.line(&instruction).0
}

fn start(ops: &Operations) -> Doorbell {
    Doorbell {
        issued: ops.issued(),
        completed: ops.completions(),
        ..Doorbell::default()
    }
}

#[test]
fn timing_is_by_the_moment_of_release() {
    let mut ops = Operations::new(Vec::new());
    assert_eq!(clean(&mut ops, ONE, 1, 5), 1);
    assert_eq!(clean(&mut ops, ONE, 2, 5), 1, "the same operation");
    ops.barrier(ONE, Barrier::DSB_SY, 5);
    assert_eq!(clean(&mut ops, ONE, 3, 5), 2);
    let release = start(&ops);
    ops.barrier(ONE, Barrier::DSB_SY, 5);
    assert_eq!(clean(&mut ops, ONE, 3, 6), 3);
    ops.barrier(ONE, Barrier::DSB_SY, 6);
    let timings: Vec<_> = (0..=3).map(|op| ops.timing(op, &release)).collect();
    use Timing::{InTime, Incomplete, Late};
    assert_eq!(timings, [InTime, InTime, Incomplete, Late]);
    assert!(ops.is_complete(3));
}

#[test]
fn a_range_that_is_begun_at_its_end_is_told_from_its_start() {
    let mut ops = Operations::new(Vec::new());
    // As dcache_inval_poc() does it: the line in which the range ends comes first.
    let all = [13, 10, 11, 12].map(|line| clean(&mut ops, ONE, line, 1));
    assert_eq!(all, [1; 4]);
    let last = ops.last(1).unwrap();
    assert_eq!((last.first_pa / LINE, last.lines), (10, 4));
}

#[test]
fn what_lies_between_the_pieces_of_an_operation_it_did_not_do() {
    let mut ops = Operations::new(Vec::new());
    let at = |line: u64| line * LINE;
    // Two ranges, the second first, and a line twice.
    for line in [30, 31, 10, 11, 12, 31] {
        clean(&mut ops, ONE, line, 1);
    }
    ops.barrier(ONE, Barrier::DSB_SY, 1);
    // One range, whose end is done first.
    for line in [53, 50, 51, 52] {
        clean(&mut ops, ONE, line, 2);
    }
    let report = ops.report(|_| false);
    let [scattered, one] = &report.operations[..] else {
        unreachable!()
    };
    assert_eq!((scattered.first_pa, scattered.lines), (at(10), 6));
    assert_eq!(scattered.pieces, [(at(10), 3), (at(30), 2)]);
    assert!(scattered.ranges().eq([at(10)..at(13), at(30)..at(32)]));
    assert!(scattered.does(at(12)) && scattered.does(at(32) - 1));
    assert!(!scattered.does(at(13)) && !scattered.does(at(32)) && !scattered.does(at(10) - 1));
    assert!(scattered.covers(&(at(30)..at(32))) && !scattered.covers(&(at(12)..at(31))));
    assert_eq!(scattered.met(&(at(13)..at(31))), Some(at(30)..at(32)));
    assert_eq!(scattered.met(&(at(13)..at(30))), None);
    assert!(one.pieces.is_empty() && one.ranges().eq(std::iter::once(at(50)..at(54))));
    assert!(one.covers(&(at(50)..at(54))) && !one.does(at(54)));
    // What a finding knows of it is less.
    let last = ops.last(1).unwrap();
    assert!(!report.covers(&last, &(at(13)..at(14))));
}

#[test]
fn each_operation_knows_what_it_has_done_and_which_barrier_completed_it() {
    let mut ops = Operations::new(vec![(3, OperationFault::Drop)]);
    // An invalidate of a range that ends within a line: that one is cleaned, too.
    done(&mut ops, CacheOp::CleanInvalidate, ONE, 13, 1);
    for line in 10..13 {
        done(&mut ops, CacheOp::Invalidate, ONE, line, 1);
    }
    clean(&mut ops, ONE, 1, 2);
    ops.barrier(ONE, Barrier::DSB_SY, 2);
    clean(&mut ops, ONE, 7, 3);
    let report = ops.report(|_| true);
    let done: Vec<_> = report
        .operations
        .iter()
        .map(|op| (op.lines, op.cleaned, op.invalidated, op.completed_by))
        .collect();
    // The last one is suppressed, and no barrier has come.
    assert_eq!(done, [(4, 1, 4, 1), (1, 1, 0, 1), (1, 0, 0, 0)]);
    assert_eq!((report.cleaned, report.invalidated), (2, 4));
}

#[test]
fn a_barrier_is_for_the_maintenance_of_its_own_cpu() {
    let mut ops = Operations::new(Vec::new());
    let one = clean(&mut ops, ONE, 1, 1);
    let two = clean(&mut ops, TWO, 2, 2);
    assert_eq!(clean(&mut ops, ONE, 3, 1), one, "it goes on");
    ops.barrier(TWO, Barrier::DSB_SY, 2);
    assert_eq!(ops.timing(one, &start(&ops)), Timing::Incomplete);
    assert_eq!(ops.timing(two, &start(&ops)), Timing::InTime);
    assert!(!ops.is_ordered(one) && ops.is_ordered(two));
    assert!(ops.continues(ONE, 1) && !ops.continues(TWO, 2));
    ops.barrier(ONE, Barrier::DSB_SY, 2);
    assert_eq!(ops.timing(one, &start(&ops)), Timing::InTime);
}

#[test]
fn a_barrier_inside_the_cluster_orders_and_does_not_complete() {
    let mut ops = Operations::new(Vec::new());
    let one = clean(&mut ops, ONE, 1, 1);
    let ish = Barrier {
        kind: BarrierKind::Dsb,
        access: BarrierAccess::Full,
        scope: BarrierScope::Inner,
    };
    ops.barrier(ONE, ish, 1);
    assert!(ops.is_ordered(one) && !ops.is_complete(one));
    ops.barrier(ONE, Barrier::DSB_SY, 1);
    assert!(ops.is_complete(one));
    assert_eq!(ops.last(one).unwrap().barrier, Some(ish), "the first");
}

#[test]
fn where_an_operation_was_needed_is_told_if_that_is_counted() {
    for counts in [false, true] {
        let mut ops = Operations::new(Vec::new());
        if counts {
            ops.count_needed();
        }
        for line in 4..10 {
            assert_eq!(clean(&mut ops, ONE, line, 1), 1);
        }
        assert_eq!(clean(&mut ops, ONE, 5, 2), 2);
        for (number, line) in [(1, 8), (2, 5), (1, 6), (1, 5), (1, 5), (0, 4)] {
            ops.needed(number, line);
        }
        let report = ops.report(|_| true);
        let told: Vec<_> = report.operations.iter().map(|op| &*op.needed_at).collect();
        let expected: [&[(u64, u64)]; 2] = match counts {
            true => [&[(5 * LINE, 2), (8 * LINE, 1)], &[(5 * LINE, 1)]],
            false => [&[], &[]],
        };
        assert_eq!(told, expected);
        let needed: Vec<_> = report.operations.iter().map(|op| op.needed_lines).collect();
        assert_eq!(needed, [4, 1]);
        assert!(!ops.needed_is_full());
        for _ in 0..MAX_COUNTED {
            ops.needed(1, 5);
        }
        assert_eq!(ops.needed_is_full(), counts);
    }
}
