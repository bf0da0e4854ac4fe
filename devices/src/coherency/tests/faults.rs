// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Each fault does what it says, at its point and nowhere else.

use super::rig::{self, BASE};
use crate::coherency::hazard::HazardKind;
use crate::coherency::limits::MAX_HELD_LINES;
use crate::coherency::{Domain, DomainConfig, Policy, SnoopWrite};
use crate::cpu::{Barrier, BarrierKind, CacheOp, ChainId, CpuId, LINE, MemoryType, SiteId};
use crate::dma::{Access, Direction, DmaError, DmaMemory, MasterId, Order, Transfer, TransferId};
use crate::faults::Fault;
use crate::state::Stateful as _;

const SNOOPING: MasterId = MasterId(0);
const BLIND: MasterId = MasterId(1);
const CPU: CpuId = CpuId::BOOT;

fn config(faults: &[&str]) -> DomainConfig {
    let mut config = rig::config(8192, Policy::Lazy, SnoopWrite::WriteThrough);
    config.faults = faults.iter().map(|f| f.parse::<Fault>().unwrap()).collect();
    config
}

fn domain(faults: &[&str]) -> Domain {
    rig::domain(&config(faults))
}

fn fill(d: &mut Domain, lines: u64, byte: u8) {
    for line in 0..lines {
        let at = (line * LINE) as usize;
        rig::store(
            d,
            at,
            &[byte; LINE as usize],
            SiteId(1),
            MemoryType::Cacheable,
        );
    }
}

fn maintain(d: &mut Domain, op: CacheOp, lines: std::ops::Range<u64>) {
    for line in lines {
        d.maintain(CPU, op, BASE + line * LINE, SiteId(3), ChainId(0));
    }
}

fn dsb(d: &mut Domain) {
    d.barrier(CPU, Barrier::DSB_SY);
}

fn start(d: &mut Domain, direction: Direction, lines: u64) -> TransferId {
    let transfer = Transfer {
        direction,
        pa: BASE,
        bus: None,
        scattered: false,
        len: lines * LINE,
        descriptor: 0,
        channel: 0,
        snoop: true,
    };
    let doorbell = d.doorbell(BLIND);
    d.transfer_open(BLIND, transfer, Order::Doorbell(doorbell))
}

/// Four lines are written, cleaned, and read by a master that does not snoop: the first byte of each that it gets,
/// and what was found.
fn sent(faults: &[&str]) -> ([u8; 4], Vec<HazardKind>, Option<u64>) {
    let mut d = domain(faults);
    fill(&mut d, 4, 7);
    maintain(&mut d, CacheOp::Clean, 0..4);
    dsb(&mut d);
    let id = start(&mut d, Direction::FromMemory, 4);
    let mut got = [0; 4 * LINE as usize];
    for (n, line) in (0..).zip(got.chunks_mut(LINE as usize)) {
        d.dma_read(BLIND, Access::data(id), BASE + n * LINE, line)
            .unwrap();
    }
    d.transfer_close(BLIND, id);
    let report = d.report();
    let kinds = report.hazards.iter().map(|h| h.kind).collect();
    let first = [0, 1, 2, 3].map(|n| got[n * LINE as usize]);
    (first, kinds, report.faults.first().and_then(|f| f.at))
}

#[test]
fn what_goes_wrong_with_a_clean_is_seen_where_it_is() {
    use HazardKind::{MissingBarrier, MissingClean};
    let cases: &[(&str, [u8; 4], &[HazardKind])] = &[
        ("drop@2", [7; 4], &[]),
        ("drop@1", [0; 4], &[MissingClean]),
        ("skip@1:1+2", [7, 0, 0, 7], &[MissingClean]),
        ("skip@1:3+9", [7, 7, 7, 0], &[MissingClean]),
        ("as@1:clean-invalidate", [7; 4], &[]),
        ("as@1:invalidate", [0; 4], &[]),
        // It is done by then, and nobody has waited for it.
        ("delay@1:barrier", [7; 4], &[MissingBarrier]),
        ("delay@1:start", [7; 4], &[MissingClean]),
        ("delay@1:end", [0; 4], &[MissingClean]),
        ("widen@1:after", [7; 4], &[]),
        ("barrier@1:removed", [7; 4], &[MissingBarrier]),
        ("barrier@1:inner", [7; 4], &[MissingBarrier]),
        ("barrier@1:stores", [7; 4], &[MissingBarrier]),
        ("barrier@1:loads", [7; 4], &[MissingBarrier]),
        ("barrier@2:removed", [7; 4], &[]),
    ];
    for (fault, got, kinds) in cases {
        let (first, found, at) = sent(&[fault]);
        assert_eq!(first, *got, "{fault}");
        let expected = match *fault {
            // What it destroys is no longer there to be read in two ways.
            "as@1:invalidate" => vec![HazardKind::DiscardedWrite],
            _ => kinds.to_vec(),
        };
        assert_eq!(found, expected, "{fault}");
        assert_eq!(at.is_some(), !fault.contains("@2"), "{fault}");
    }
    let two = sent(&["skip@1:0+1", "skip@1:3+1"]);
    assert_eq!((two.0, two.1), ([0, 7, 7, 0], vec![MissingClean]));
}

/// An operation that comes late is one more, and takes no other's number.
#[test]
fn a_second_fault_is_where_it_is_without_the_first() {
    let reached = |faults: &[&str]| {
        let mut d = domain(faults);
        fill(&mut d, 8, 7);
        for n in [0, 2, 4] {
            maintain(&mut d, CacheOp::Clean, n..n + 1);
            dsb(&mut d);
        }
        let report = d.report();
        assert!(
            report.faults.iter().all(|one| one.at.is_some()),
            "{faults:?}"
        );
        [0, 2, 4, 5].map(|n: usize| rig::dram(&d, n * LINE as usize, 1)[0])
    };
    assert_eq!(reached(&["drop@2"]), [7, 0, 7, 0]);
    assert_eq!(reached(&["delay@1:barrier", "drop@2"]), [7, 0, 7, 0]);
    assert_eq!(reached(&["delay@1:barrier", "drop@3"]), [7, 7, 0, 0]);
    assert_eq!(reached(&["delay@1:barrier", "widen@3:after"]), [7, 7, 7, 7]);
    assert_eq!(
        reached(&["delay@1:barrier", "delay@2:barrier", "drop@3"]),
        [7, 7, 0, 0]
    );
}

/// It goes on from a state as it would have.
#[test]
fn numbers_go_on_behind_what_came_late() {
    let faults = ["delay@1:barrier", "drop@2"];
    let mut d = domain(&faults);
    fill(&mut d, 4, 7);
    maintain(&mut d, CacheOp::Clean, 0..1);
    dsb(&mut d);
    let mut other = domain(&faults);
    rig::poke(&other, 0, &rig::ram(&d, 0, 8192));
    other.restore_state(&d.save_state().unwrap()).unwrap();
    maintain(&mut other, CacheOp::Clean, 2..3);
    dsb(&mut other);
    assert_eq!(rig::dram(&other, 2 * LINE as usize, 1), [0]);
}

#[test]
fn more_lines_than_can_be_late_are_told() {
    let late = |lines: u64| -> Vec<u64> {
        let mut config = config(&["delay@1:end"]);
        config.ram_bytes = 8 << 20;
        let mut d = rig::domain(&config);
        maintain(&mut d, CacheOp::Clean, 0..lines);
        let told = d.report().saturated.into_iter();
        told.map(|s| s.limit).collect()
    };
    let most = MAX_HELD_LINES as u64;
    assert!(late(most).is_empty());
    assert_eq!(late(most + 1), [most]);
}

#[test]
fn a_wider_invalidate_takes_the_neighbours_data() {
    for (fault, lost) in [("widen@1:before", [0, 9, 9]), ("widen@1:after", [9, 9, 0])] {
        let mut d = domain(&[fault]);
        fill(&mut d, 3, 9);
        maintain(&mut d, CacheOp::Invalidate, 1..2);
        dsb(&mut d);
        let line = |n: u64| rig::ram(&d, (n * LINE) as usize, 1)[0];
        // The one in the middle was to be discarded.
        assert_eq!([line(0), 9, line(2)], lost, "{fault}");
    }
}

#[test]
fn a_dmb_in_place_of_a_dsb_completes_nothing_for_what_is_late() {
    let mut d = domain(&["barrier@1:dmb", "delay@1:barrier"]);
    fill(&mut d, 1, 7);
    maintain(&mut d, CacheOp::Clean, 0..1);
    dsb(&mut d);
    assert_eq!(rig::dram(&d, 0, 1), [0]);
    d.barrier(
        CPU,
        Barrier {
            kind: BarrierKind::Dmb,
            ..Barrier::DSB_SY
        },
    );
    assert_eq!(rig::dram(&d, 0, 1), [0]);
    dsb(&mut d);
    assert_eq!(rig::dram(&d, 0, 1), [7]);
    assert_eq!(d.report().counted.barriers, 3);
}

/// A master writes two times two lines, in a transfer: what the second write's lines hold afterwards, each time
/// after another step.
fn received(fault: &str) -> [u8; 4] {
    let mut d = domain(&[fault]);
    let id = start(&mut d, Direction::ToMemory, 4);
    let access = Access::data(id);
    let write = |d: &mut Domain, line: u64, byte: u8| {
        d.dma_write(
            BLIND,
            access,
            BASE + line * LINE + 32,
            &[byte; LINE as usize],
        )
    };
    let see = |d: &Domain| rig::dram(d, LINE as usize, 1)[0] << 4 | rig::dram(d, 32, 1)[0];
    write(&mut d, 0, 1).unwrap();
    let one = see(&d);
    write(&mut d, 2, 2).unwrap();
    let two = see(&d);
    d.transfer_close(BLIND, id);
    let three = see(&d);
    d.after_ticks();
    [one, two, three, see(&d)]
}

#[test]
fn a_masters_write_comes_when_it_may() {
    for (fault, seen) in [
        ("beat@3:torn", [0x11; 4]),
        ("beat@1:torn", [0x01, 0x01, 0x01, 0x11]),
        ("beat@1:after-next", [0, 0x11, 0x11, 0x11]),
        ("beat@1:after-end", [0, 0, 0, 0x11]),
        ("beat@1:late+5", [0, 0, 0, 0x11]),
    ] {
        assert_eq!(received(fault), seen, "{fault}");
    }
}

/// A read is not late, and what is within a line has no border to be torn at.
#[test]
fn what_cannot_go_wrong_with_an_access_has_not() {
    let read = |d: &mut Domain, access| d.dma_read(BLIND, access, BASE, &mut [0; 8]);
    let write = |d: &mut Domain, access| d.dma_write(BLIND, access, BASE, &[1; 8]);
    for (fault, reads) in [
        ("beat@1:torn", true),
        ("beat@1:torn", false),
        ("beat@1:after-next", true),
        ("beat@1:late+5", true),
    ] {
        let mut d = domain(&[fault]);
        let access = Access::data(TransferId::CONTROL);
        match reads {
            true => read(&mut d, access).unwrap(),
            false => write(&mut d, access).unwrap(),
        }
        assert_eq!(d.report().faults[0].at, None, "{fault}");
        assert_eq!(rig::dram(&d, 0, 1), [u8::from(!reads)]);
    }
}

#[test]
fn an_access_fails_or_does_not_snoop_or_meets_a_bit_that_has_changed() {
    let read = |d: &mut Domain, master| {
        let mut got = [0; 8];
        let done = d.dma_read(master, Access::data(TransferId::CONTROL), BASE, &mut got);
        done.map(|()| got[1])
    };
    let mut d = domain(&["beat@1:error", "beat@2:unsnooped"]);
    fill(&mut d, 1, 7);
    assert_eq!(read(&mut d, SNOOPING), Err(DmaError::Injected { pa: BASE }));
    assert_eq!(read(&mut d, SNOOPING), Ok(0));
    assert_eq!(read(&mut d, SNOOPING), Ok(7));
    // Bit 2 of the second byte; of a dirty line, memory is not what is read.
    for (fault, seen) in [("flip@1:cache+10", [3, 0]), ("flip@1:memory+10", [7, 4])] {
        let mut d = domain(&[fault]);
        fill(&mut d, 1, 7);
        let seen_now = [
            read(&mut d, SNOOPING).unwrap(),
            read(&mut d, BLIND).unwrap(),
        ];
        assert_eq!(seen_now, seen, "{fault}");
        // In no cache, there is one copy.
        let mut d = domain(&[fault]);
        let seen_now = [
            read(&mut d, SNOOPING).unwrap(),
            read(&mut d, BLIND).unwrap(),
        ];
        assert_eq!(seen_now, [4, 4], "{fault}");
    }
}

#[test]
fn what_waits_is_saved_and_numbers_go_on() {
    let faults = ["delay@1:end", "beat@1:after-end", "barrier@2:removed"];
    let run = |renew: bool| {
        let mut d = domain(&faults);
        fill(&mut d, 2, 7);
        maintain(&mut d, CacheOp::Clean, 0..2);
        dsb(&mut d);
        let id = start(&mut d, Direction::ToMemory, 4);
        let done = d.dma_write(BLIND, Access::data(id), BASE + 3 * LINE, &[1; 8]);
        done.unwrap();
        if renew {
            let saved = d.save_state().unwrap();
            let mut other = domain(&faults);
            let ram = rig::ram(&d, 0, 8192);
            rig::poke(&other, 0, &ram);
            other.restore_state(&saved).unwrap();
            d = other;
        }
        assert_eq!(rig::dram(&d, 3 * LINE as usize, 1), [0]);
        d.transfer_close(BLIND, id);
        dsb(&mut d);
        d.after_ticks();
        (
            rig::dram(&d, 3 * LINE as usize, 1),
            rig::dram(&d, 0, 1),
            d.report(),
        )
    };
    let (straight, renewed) = (run(false), run(true));
    assert_eq!(straight, renewed);
    assert_eq!(straight.0, [1]);
    assert!(
        straight.2.faults.iter().all(|f| f.at.is_some()),
        "{:?}",
        straight.2.faults
    );
}
