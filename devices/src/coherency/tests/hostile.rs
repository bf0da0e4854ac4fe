// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a hostile guest can ask of the domain is bounded in time and memory.

use std::time::{Duration, Instant};

use super::rig::{self, BASE};
use crate::coherency::{Domain, Policy, SnoopWrite};
use crate::cpu::{CacheOp, ChainId, CpuId, MemoryType, SiteId};
use crate::dma::{Access, Direction, DmaError, DmaMemory, MasterId, Order, Transfer, TransferId};

const BLIND: MasterId = MasterId(1);
const RAM: u64 = 16 << 20;

fn domain() -> Domain {
    rig::domain(&rig::config(RAM, Policy::Lazy, SnoopWrite::Allocate))
}

fn transfer(pa: u64, len: u64) -> Transfer {
    Transfer {
        direction: Direction::ToMemory,
        pa,
        bus: None,
        scattered: false,
        len,
        descriptor: 0,
        channel: 0,
        snoop: true,
    }
}

#[test]
fn addresses_and_lengths_outside_ram_do_nothing() {
    let mut d = domain();
    let edges = [
        0,
        1,
        BASE - 1,
        BASE + RAM - 1,
        BASE + RAM,
        u64::MAX - 63,
        u64::MAX,
    ];
    for pa in edges {
        for memory in [MemoryType::Cacheable, MemoryType::NonCacheable] {
            for size in [0, 1, 64, 65, u32::MAX] {
                d.load(CpuId::BOOT, pa, size, SiteId(1), memory);
                d.store(CpuId::BOOT, pa, size, SiteId(1), memory);
            }
        }
        d.maintain(
            CpuId::BOOT,
            CacheOp::CleanInvalidate,
            pa,
            SiteId(1),
            ChainId(0),
        );
        for master in [0, 1, 200] {
            let master = MasterId(master);
            d.doorbell(master);
            for len in [0, 1, 4096, u64::MAX] {
                let id = d.transfer_open(master, transfer(pa, len), Order::Unprompted);
                d.transfer_close(MasterId(7), id);
                d.transfer_close(master, id);
                d.transfer_close(master, id);
            }
            let mut buf = [0; 130];
            let inside = pa == BASE + RAM - 1;
            let len = buf.len();
            let outside = Err(DmaError::OutsideRam { pa, len });
            assert_eq!(
                d.dma_read(master, Access::data(TransferId::CONTROL), pa, &mut buf),
                outside
            );
            assert_eq!(
                d.dma_write(master, Access::data(TransferId(u32::MAX)), pa, &buf),
                outside
            );
            let one = d.dma_write(master, Access::data(TransferId::CONTROL), pa, &buf[..1]);
            assert_eq!(one.is_ok(), inside);
        }
    }
}

/// A transfer over all of RAM and far beyond owns what there is of it.
#[test]
fn a_transfer_owns_its_part_within_ram() {
    for (pa, len, owned) in [
        (0, u64::MAX, true),
        (BASE - 64, 65, true),
        (BASE - 64, 64, false),
        (BASE, u64::MAX, true),
        (BASE + 1, u64::MAX, false),
    ] {
        let mut d = domain();
        d.transfer_open(BLIND, transfer(pa, len), Order::Unprompted);
        d.load(CpuId::BOOT, BASE, 1, SiteId(1), MemoryType::Cacheable);
        assert_eq!(
            d.report().hazards.len(),
            usize::from(owned),
            "{pa:#x} {len:#x}"
        );
    }
}

/// Transfers over all of RAM that never end: each costs its marks at most once, then nothing.
#[test]
fn endless_transfers_cost_a_bounded_time() {
    let mut d = domain();
    let start = Instant::now();
    let mut last = TransferId::CONTROL;
    for _ in 0..20_000 {
        last = d.transfer_open(BLIND, transfer(BASE, 1 << 32), Order::Unprompted);
    }
    for at in (0..RAM).step_by(64) {
        d.load(CpuId::BOOT, BASE + at, 8, SiteId(1), MemoryType::Cacheable);
    }
    for id in 1..=last.0 {
        d.transfer_close(BLIND, TransferId(id));
    }
    // Seconds in a model that walked memory for each; the margin is for slow machines.
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    // All of RAM is free again.
    let before = d.findings();
    d.store(CpuId::BOOT, BASE, 8, SiteId(2), MemoryType::Cacheable);
    assert_eq!(d.findings(), before);
}

/// Transfers in flight side by side in one line each keep their own bytes.
#[test]
fn neighbours_in_a_line_are_told_apart() {
    let mut d = domain();
    let first = d.transfer_open(BLIND, transfer(BASE, 40), Order::Unprompted);
    let second = d.transfer_open(BLIND, transfer(BASE + 40, 40), Order::Unprompted);
    d.transfer_close(BLIND, second);
    d.load(CpuId::BOOT, BASE + 48, 8, SiteId(1), MemoryType::Cacheable);
    assert_eq!(d.report().hazards, []);
    d.load(CpuId::BOOT, BASE + 32, 8, SiteId(1), MemoryType::Cacheable);
    let hazards = d.report().hazards;
    assert_eq!(hazards.len(), 1);
    assert_eq!(hazards[0].transfer, first);
}
