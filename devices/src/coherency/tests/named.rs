// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Who a finding names, and what it says of their accesses.

use super::rig::{self, BASE};
use crate::coherency::hazard::{Actor, Hazard, HazardKind, Why};
use crate::coherency::{Domain, Policy, SnoopWrite};
use crate::cpu::{
    Barrier, BarrierAccess, BarrierKind, BarrierScope, CacheOp, ChainId, CpuId, MemoryType, SiteId,
};
use crate::dma::{Access, DmaMemory, MasterId, Order, Port, TransferId};

const MASTER: MasterId = MasterId(0);
const OTHER: MasterId = MasterId(1);
const LINE: usize = 64;

fn domain(port: Port) -> Domain {
    let mut config = rig::config(8192, Policy::Lazy, SnoopWrite::WriteThrough);
    config.ports[0] = port;
    rig::domain(&config)
}

fn store(domain: &mut Domain, at: usize, site: u32, memory: MemoryType) {
    rig::store(domain, at, &[7; 4], SiteId(site), memory);
}

fn load(domain: &mut Domain, at: u64, site: u32) {
    domain.load(
        CpuId::BOOT,
        BASE + at,
        4,
        SiteId(site),
        MemoryType::Cacheable,
    );
}

fn cpu(site: u32) -> Actor {
    Actor::Cpu {
        cpu: CpuId::BOOT,
        site: SiteId(site),
    }
}

fn device(master: MasterId, snoops: bool) -> Actor {
    Actor::Device {
        master,
        transfer: TransferId::CONTROL,
        snoops,
    }
}

#[track_caller]
fn only(domain: &Domain, kind: HazardKind) -> Hazard {
    let mut all = domain.report().hazards;
    all.retain(|h| h.kind == kind);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

fn read(domain: &mut Domain, access: Access, at: u64, len: usize) {
    let mut buf = vec![0; len];
    domain
        .dma_read(MASTER, access, BASE + at, &mut buf)
        .unwrap();
}

fn write(domain: &mut Domain, master: MasterId, at: u64, len: usize) {
    let access = Access::data(TransferId::CONTROL);
    domain
        .dma_write(master, access, BASE + at, &vec![9; len])
        .unwrap();
}

#[test]
fn whether_an_access_snooped_is_told_of_the_access_and_not_of_the_port() {
    let data = Access::data(TransferId::CONTROL);
    for (port, reads, writes) in [
        (Port::HpcRead, true, false),
        (Port::HpcWrite, false, true),
        (Port::Hp, false, false),
    ] {
        // A write that does not snoop is hidden by the copy that the CPU has.
        let mut written = domain(port);
        load(&mut written, 0, 3);
        write(&mut written, MASTER, 0, LINE);
        load(&mut written, 0, 4);
        let told = written.report().hazards;
        assert_eq!(told.is_empty(), writes);
        assert!(told.iter().all(|h| h.writer == device(MASTER, false)));
        // A read that does not is behind the CPU's store; one that does is behind another's write.
        let mut stored = domain(port);
        store(&mut stored, 0, 3, MemoryType::Cacheable);
        read(&mut stored, data, 0, LINE);
        load(&mut stored, LINE as u64, 3);
        write(&mut stored, OTHER, LINE as u64, LINE);
        read(&mut stored, data, LINE as u64, LINE);
        let kind = match reads {
            true => HazardKind::MissingInvalidate,
            false => HazardKind::MissingClean,
        };
        assert_eq!(only(&stored, kind).reader, device(MASTER, reads));
    }
    // The port would, but the master does not ask for it.
    let mut unasked = domain(Port::Hpc);
    store(&mut unasked, 0, 3, MemoryType::Cacheable);
    let access = Access {
        snoop: false,
        ..data
    };
    read(&mut unasked, access, 0, LINE);
    let told = only(&unasked, HazardKind::MissingClean);
    assert_eq!(told.reader, device(MASTER, false));
}

#[test]
fn the_store_that_is_not_ordered_is_named_though_its_line_was_stored_to_since() {
    for (memory, past) in [
        (MemoryType::NonCacheable, true),
        (MemoryType::Cacheable, false),
    ] {
        let mut domain = domain(Port::Hpc);
        let rung = Order::Doorbell(domain.doorbell(MASTER));
        // Descriptors are known as such from their first fetch on.
        read(&mut domain, Access::descriptor(rung), 0, 16);
        store(&mut domain, 0, 5, memory);
        let written_at = domain.report().accesses;
        let rung = Order::Doorbell(domain.doorbell(MASTER));
        store(&mut domain, 32, 6, memory);
        read(&mut domain, Access::descriptor(rung), 0, 16);
        let told = only(&domain, HazardKind::MissingBarrier);
        assert_eq!(
            (told.writer, told.written_at, told.written_past),
            (cpu(5), written_at, past)
        );
        assert_eq!(told.why, Why::Unordered);
    }
}

#[test]
fn whose_bytes_are_lost_is_told_though_others_have_written_the_line_since() {
    let mut domain = domain(Port::Hp);
    write(&mut domain, MASTER, 0, LINE);
    let written_at = domain.report().accesses;
    store(&mut domain, 0, 5, MemoryType::Cacheable);
    let merged_at = domain.report().accesses;
    write(&mut domain, OTHER, 32, 4);
    // Too late: the old bytes are written back.
    domain.maintain(
        CpuId::BOOT,
        CacheOp::CleanInvalidate,
        BASE,
        SiteId(2),
        ChainId(0),
    );
    domain.barrier(CpuId::BOOT, Barrier::DSB_SY);
    load(&mut domain, 8, 6);
    let mut told = domain.report().hazards;
    told.retain(|h| h.why == Why::StaleStore);
    let [told] = &told[..] else {
        panic!("{told:#?}");
    };
    assert_eq!(
        (told.writer, told.written_at),
        (device(MASTER, false), written_at)
    );
    assert_eq!((told.merged_by, told.merged_at), (cpu(5), merged_at));
    // By now the line is clean.
    assert_eq!((told.merged.count_ones(), told.line_uncleaned), (4, 0));
    assert_eq!(told.reader, cpu(6));
}

#[test]
fn a_barrier_between_loads_that_is_too_weak_is_named() {
    let ishld = Barrier {
        kind: BarrierKind::Dmb,
        access: BarrierAccess::Load,
        scope: BarrierScope::Inner,
    };
    // Before the load of the event, and after it.
    for (before, after) in [(true, false), (false, true), (true, true)] {
        let mut domain = domain(Port::Hpc);
        write(&mut domain, MASTER, 0, LINE);
        let event = Access::event();
        domain.dma_write(MASTER, event, BASE + 64, &[1; 4]).unwrap();
        if before {
            domain.barrier(CpuId::BOOT, ishld);
        }
        load(&mut domain, 64, 3);
        if after {
            domain.barrier(CpuId::BOOT, ishld);
        }
        load(&mut domain, 0, 4);
        let told = only(&domain, HazardKind::MissingBarrier);
        assert_eq!((told.reader, told.stood), (cpu(4), after.then_some(ishld)));
    }
}
