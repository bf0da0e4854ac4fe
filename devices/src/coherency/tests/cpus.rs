// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Several CPUs: a barrier orders and completes what its own CPU did, and what one CPU did is ordered
//! for another by whatever made the work over.

use super::rig::{self, BASE};
use crate::coherency::hazard::{Actor, HazardKind, Why};
use crate::coherency::{Domain, Policy, SnoopWrite};
use crate::cpu::{Barrier, BarrierAccess, BarrierKind, BarrierScope, CpuId};
use crate::cpu::{CacheOp, ChainId, MemoryType, SiteId};
use crate::dma::{Access, DmaMemory, MasterId, Order, TransferId};

const BLIND: MasterId = MasterId(1);
const SNOOPING: MasterId = MasterId(0);
const ONE: CpuId = CpuId(0);
const TWO: CpuId = CpuId(1);
/// Outside RAM: a register.
const REGISTER: u64 = 0x1000;

const DMA_WMB: Barrier = Barrier {
    kind: BarrierKind::Dmb,
    access: BarrierAccess::Store,
    scope: BarrierScope::Outer,
};

fn domain() -> Domain {
    rig::domain(&rig::config(8192, Policy::Lazy, SnoopWrite::WriteThrough))
}

fn store(d: &mut Domain, cpu: CpuId) {
    d.store(cpu, BASE, 8, SiteId(2), MemoryType::Cacheable);
}

fn clean(d: &mut Domain, cpu: CpuId) {
    d.maintain(cpu, CacheOp::Clean, BASE, SiteId(3), ChainId(0));
}

/// `cpu` writes a register that tells a master to read, which it does. What is found.
fn doorbell(d: &mut Domain, cpu: CpuId, master: MasterId) -> Vec<(HazardKind, Why, Actor)> {
    d.store(cpu, REGISTER, 4, SiteId(4), MemoryType::NonCacheable);
    let access = Access {
        order: Order::Doorbell(d.doorbell(master)),
        ..Access::data(TransferId(1))
    };
    d.dma_read(master, access, BASE, &mut [0; 8]).unwrap();
    let hazards = d.report().hazards;
    hazards.iter().map(|h| (h.kind, h.why, h.writer)).collect()
}

fn by(cpu: CpuId) -> Actor {
    Actor::Cpu {
        cpu,
        site: SiteId(2),
    }
}

#[test]
fn maintenance_is_completed_by_a_barrier_of_its_own_cpu() {
    for (completer, found) in [
        (ONE, vec![]),
        (
            TWO,
            vec![(HazardKind::MissingBarrier, Why::Incomplete, by(ONE))],
        ),
    ] {
        let mut d = domain();
        store(&mut d, ONE);
        clean(&mut d, ONE);
        d.barrier(completer, Barrier::DSB_SY);
        // The other one goes on with the work.
        assert_eq!(doorbell(&mut d, TWO, BLIND), found);
    }
}

#[test]
fn whoever_made_the_work_over_has_ordered_its_stores() {
    for (teller, found) in [
        (
            ONE,
            vec![(HazardKind::MissingBarrier, Why::Unordered, by(ONE))],
        ),
        (TWO, vec![]),
    ] {
        let mut d = domain();
        store(&mut d, ONE);
        assert_eq!(doorbell(&mut d, teller, SNOOPING), found);
    }
    // A barrier of the other does not help who tells the master itself.
    let mut d = domain();
    store(&mut d, ONE);
    d.barrier(TWO, DMA_WMB);
    assert_eq!(doorbell(&mut d, ONE, SNOOPING).len(), 1);
    let mut d = domain();
    store(&mut d, ONE);
    d.barrier(ONE, DMA_WMB);
    assert_eq!(doorbell(&mut d, ONE, SNOOPING), []);
}

#[test]
fn what_another_cpu_does_in_between_does_not_end_an_operation() {
    let mut d = domain();
    clean(&mut d, ONE);
    store(&mut d, TWO);
    assert!(d.continues(ONE));
    d.maintain(ONE, CacheOp::Clean, BASE + 64, SiteId(3), ChainId(0));
    clean(&mut d, TWO);
    let report = d.report().maintenance;
    let all: Vec<_> = report.operations.iter().map(|o| (o.cpu, o.lines)).collect();
    assert_eq!(all, [(ONE, 2), (TWO, 1)]);
    store(&mut d, ONE);
    assert!(!d.continues(ONE) && d.continues(TWO));
}

#[test]
fn who_did_it_is_in_the_hash() {
    let run = |cpu| {
        let mut d = domain();
        store(&mut d, cpu);
        clean(&mut d, cpu);
        d.barrier(cpu, Barrier::DSB_SY);
        d.report().run_hash
    };
    assert_ne!(run(ONE), run(TWO));
    assert_eq!(run(TWO), run(TWO));
}
