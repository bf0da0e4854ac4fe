// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The driver's access sequences, and what a channel does that the driver does not use.

use super::tests_rig::{COHERENT, COMP_INT, FROM, LINKED, PAUSE, POOL, Rig, STOP, TO};
use super::*;
use crate::dma::{Content, Direction, Order};

/// One copy as `zynqmp_dma_prep_memcpy()` writes it.
fn copy(rig: &mut Rig, at: u64, from: u64, to: u64, len: u32, flags: u32) {
    rig.descriptor(at, from, len, LINKED | STOP | flags, 0);
    rig.descriptor(at + 32, to, len, LINKED | STOP | COMP_INT | flags, 0);
}

#[test]
fn the_table_is_well_formed() {
    assert!(RegisterFile::check(TABLE));
}

#[test]
fn a_copy_as_the_driver_makes_it() {
    let mut rig = Rig::new();
    rig.init(false);
    let len = 10_001;
    let data = rig.fill(FROM, len);
    copy(&mut rig, POOL, FROM, TO, len as u32, 0);
    rig.start(POOL);
    assert_eq!((rig.read(STATUS), rig.read(CTRL2)), (BUSY, 1));
    assert!(!rig.device.irq());
    rig.run();

    assert_eq!(rig.bytes(TO, len), data);
    assert_eq!(rig.bytes(TO - 1, 1), [0]);
    assert_eq!(rig.bytes(TO + len as u64, 1), [0]);
    assert!(rig.device.irq());
    assert_eq!((rig.read(STATUS), rig.read(CTRL2)), (DONE, 0));
    assert_eq!(rig.interrupt(), DMA_DONE | DST_DSCR_DONE);
    assert!(!rig.device.irq());
    assert_eq!((rig.read(IRQ_DST_ACCT), rig.read(IRQ_DST_ACCT)), (1, 0));
    assert_eq!(rig.read(IRQ_SRC_ACCT), 0);
    assert_eq!(rig.read(TOTAL_BYTE), len as u32);
    // Time passed for it: 16 bytes a tick.
    assert!(rig.queue.now() > len as u64 / 16, "{}", rig.queue.now());

    let [source, destination] = rig.memory.flat.transfers[..] else {
        panic!("{:?}", rig.memory.flat.transfers);
    };
    assert_eq!(
        (source.direction, source.pa, source.descriptor),
        (Direction::FromMemory, FROM, POOL)
    );
    assert_eq!(
        (destination.direction, destination.pa, destination.len),
        (Direction::ToMemory, TO, len as u64)
    );
    assert!(rig.memory.flat.open.is_empty());
    assert!(rig.device.errors().entries().is_empty());
    // Descriptors are fetched because of the write to CTRL2, the only doorbell.
    assert_eq!(rig.memory.flat.doorbells, 1);
    let told = |o: &Order| matches!(o, Order::Doorbell(d) if d.at == 1);
    assert!(rig.memory.orders.iter().all(told) && rig.memory.orders.len() == 2);
}

#[test]
fn a_chain_of_copies_is_counted() {
    let mut rig = Rig::new();
    rig.init(false);
    let data = rig.fill(FROM, 3000);
    for n in 0..3u64 {
        let (at, next) = (POOL + n * 64, POOL + (n + 1) * 64);
        let stop = if n == 2 { STOP } else { 0 };
        rig.descriptor(at, FROM + n * 1000, 1000, LINKED | stop, next);
        let ctrl = LINKED | stop | COMP_INT;
        rig.descriptor(at + 32, TO + n * 1000, 1000, ctrl, next + 32);
    }
    rig.start(POOL);
    rig.run();
    assert_eq!(rig.bytes(TO, 3000), data);
    assert_eq!(rig.read(IRQ_DST_ACCT), 3);
    assert_eq!(rig.interrupt(), DMA_DONE | DST_DSCR_DONE);
    assert_eq!(rig.memory.flat.transfers.len(), 6);
}

/// The lists need not have the same cuts; descriptors without a link follow each other.
#[test]
fn lists_are_walked_independently() {
    let mut rig = Rig::new();
    rig.init(false);
    let data = rig.fill(FROM, 900);
    rig.descriptor(POOL, FROM, 900, LINKED | STOP | COMP_INT, 0);
    let list = POOL + 0x100;
    for (n, (size, ctrl)) in [(500, 0), (0, COMP_INT), (399, COMP_INT), (77, 0)]
        .into_iter()
        .enumerate()
    {
        let to = TO + [0, 0, 500, 899][n];
        rig.descriptor(list + 16 * n as u64, to, size, ctrl, 0);
    }
    rig.start_lists(POOL, list);
    rig.run();
    assert_eq!(rig.bytes(TO, 900), data);
    assert_eq!(rig.interrupt(), DMA_DONE | DST_DSCR_DONE);
    // Counted although masked, as the driver masks it.
    assert_eq!((rig.read(IRQ_SRC_ACCT), rig.read(IRQ_DST_ACCT)), (1, 2));
    assert_eq!(rig.read(TOTAL_BYTE), 900);
    // What was left of the last one is given back.
    assert!(rig.memory.flat.open.is_empty());
}

/// What each access asks for, by content and direction.
fn asked(rig: &Rig) -> (Vec<bool>, Vec<bool>, Vec<bool>) {
    let of = |write, content| {
        let mut all: Vec<bool> = rig
            .memory
            .seen
            .iter()
            .filter(|s| s.0 == write && s.1 == content)
            .map(|s| s.2)
            .collect();
        all.dedup();
        all
    };
    (
        of(false, Content::Descriptor),
        of(false, Content::Data),
        of(true, Content::Data),
    )
}

#[test]
fn coherency_is_each_accesss_own() {
    for (coherent, flags, expected) in [
        (false, 0, (false, false, false)),
        // Marked as coherent, but with attributes that no shareable transaction has.
        (false, COHERENT, (false, false, false)),
        (true, 0, (true, false, false)),
        (true, COHERENT, (true, true, true)),
    ] {
        let mut rig = Rig::new();
        rig.init(coherent);
        copy(&mut rig, POOL, FROM, TO, 1000, flags);
        rig.start(POOL);
        rig.run();
        let (d, r, w) = expected;
        assert_eq!(
            asked(&rig),
            (vec![d], vec![r], vec![w]),
            "{coherent} {flags}"
        );
    }
    // One way only.
    let mut rig = Rig::new();
    rig.init(true);
    rig.descriptor(POOL, FROM, 64, LINKED | STOP | COHERENT, 0);
    rig.descriptor(POOL + 32, TO, 64, LINKED, 0);
    rig.start(POOL);
    rig.run();
    assert_eq!(asked(&rig), (vec![true], vec![true], vec![false]));
}

#[test]
fn simple_mode_takes_its_buffers_from_registers() {
    let mut rig = Rig::new();
    rig.init(false);
    let data = rig.fill(FROM, 300);
    for (first, address, size) in [(SRC_DSCR_WORD0, FROM, 300), (DST_DSCR_WORD0, TO, 7)] {
        rig.write(first, address as u32);
        rig.write(first + 4, 0);
        rig.write(first + 8, size);
    }
    rig.write(CTRL2, 1);
    rig.run();
    assert_eq!(
        rig.bytes(TO, 300),
        data,
        "the destination's size does not count"
    );
    assert_eq!(rig.read(ISR), DMA_DONE);
    assert!(!rig.device.irq(), "all is masked");
    assert!(rig.memory.seen.iter().all(|s| s.1 == Content::Data));
}

#[test]
fn a_paused_channel_goes_on_or_is_disabled() {
    let paused = || {
        let mut rig = Rig::new();
        rig.init(false);
        rig.fill(FROM, 200);
        rig.descriptor(POOL, FROM, 100, LINKED | PAUSE, 0);
        rig.descriptor(POOL + 32, TO, 200, LINKED | COMP_INT, 0);
        rig.start(POOL);
        rig.run();
        assert_eq!((rig.read(STATUS), rig.read(ISR)), (PAUSED, DMA_PAUSE));
        rig
    };
    // Software adds to the list, then lets the channel go on.
    let mut rig = paused();
    rig.descriptor(POOL, FROM, 100, LINKED | PAUSE, POOL + 64);
    rig.descriptor(POOL + 64, FROM + 100, 100, LINKED | STOP, 0);
    rig.write(CTRL0, POINT_TYPE_SG | CONT);
    rig.run();
    assert_eq!(rig.bytes(TO, 200), rig.bytes(FROM, 200));
    assert_eq!(rig.read(STATUS), DONE);
    assert_eq!(rig.memory.flat.doorbells, 2);

    // With new lists.
    let mut rig = paused();
    copy(&mut rig, POOL + 128, FROM + 100, TO + 0x1000, 50, 0);
    rig.write(SRC_START_LSB, (POOL + 128) as u32);
    rig.write(DST_START_LSB, (POOL + 160) as u32);
    rig.write(CTRL0, POINT_TYPE_SG | CONT | CONT_ADDR);
    rig.run();
    assert_eq!(rig.bytes(TO + 0x1000, 50), rig.bytes(FROM + 100, 50));

    // Not at all.
    let mut rig = paused();
    rig.write(CTRL2, 0);
    rig.write(CTRL0, POINT_TYPE_SG | CONT);
    assert_eq!(rig.read(STATUS), DONE);
    assert!(rig.memory.flat.open.is_empty() && !rig.step());
}

#[test]
fn counters_tell_that_they_overflow() {
    let mut rig = Rig::new();
    rig.init(false);
    for n in 0..257 {
        copy(&mut rig, POOL, FROM, TO, 1, 0);
        rig.start(POOL);
        rig.run();
        let over = rig.interrupt() & IRQ_DST_ACCT_ERR != 0;
        assert_eq!(over, n == 255, "{n}");
    }
    assert_eq!(rig.read(IRQ_DST_ACCT), 1);
    // Nearly 4 GiB, which would take a while.
    rig.device.regs.set(TOTAL_BYTE, u32::MAX);
    rig.write(CTRL2, 1);
    rig.run();
    assert_eq!(rig.interrupt() & BYTE_CNT_OVRFL, BYTE_CNT_OVRFL);
    assert_eq!(rig.read(TOTAL_BYTE), 0);
}
