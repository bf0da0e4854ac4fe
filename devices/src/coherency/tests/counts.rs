// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a hazard of the report counts.

use super::rig::{self, BASE};
use crate::coherency::hazard::{Actor, HazardKind};
use crate::coherency::{Domain, Policy, SnoopWrite};
use crate::cpu::{Barrier, CacheOp, ChainId, CpuId, MemoryType, SiteId};
use crate::dma::{Access, DmaMemory, MasterId, TransferId};
use crate::faults::{Fault, OperationFault};

const SNOOPING: MasterId = MasterId(0);
const BLIND: MasterId = MasterId(1);
const ID: TransferId = TransferId::CONTROL;

fn domain() -> Domain {
    rig::domain(&rig::config(8192, Policy::Lazy, SnoopWrite::Allocate))
}

fn load(d: &mut Domain, at: u64, size: u32) {
    d.load(
        CpuId::BOOT,
        BASE + at,
        size,
        SiteId(1),
        MemoryType::Cacheable,
    );
}

fn store(d: &mut Domain, at: usize, data: &[u8]) {
    rig::store(d, at, data, SiteId(2), MemoryType::Cacheable);
}

/// However often, by whatever pieces, and with whatever in between stale bytes are read.
#[test]
fn a_wrong_byte_counts_once() {
    let mut d = domain();
    // Two lines cached, then written behind the cache's back; 4 bytes keep their value.
    load(&mut d, 0, 8);
    load(&mut d, 64, 8);
    let mut data = [7; 100];
    data[10..14].fill(0);
    d.dma_write(BLIND, Access::data(ID), BASE, &data).unwrap();
    for _ in 0..3 {
        for at in (0..128).step_by(8) {
            load(&mut d, at, 8);
            let mut buf = [0; 8];
            d.dma_read(SNOOPING, Access::data(ID), BASE + at, &mut buf)
                .unwrap();
        }
    }
    let hazards = d.report().hazards;
    assert_eq!(hazards.len(), 2, "one for each reader");
    for h in &hazards {
        assert_eq!(h.kind, HazardKind::MissingInvalidate);
        assert!(h.manifested);
        assert_eq!((h.lines, h.manifested_lines, h.wrong_bytes), (2, 2, 96));
        assert_eq!((h.first_pa, h.end_pa), (BASE, BASE + 128));
        assert_eq!(h.master, BLIND);
    }
    assert_eq!(
        hazards[0].reader,
        Actor::Cpu {
            cpu: CpuId::BOOT,
            site: SiteId(1)
        }
    );
}

#[test]
fn a_destroyed_byte_counts_once_when_read_too() {
    let mut d = domain();
    store(&mut d, 0, &[1; 8]);
    d.dma_write(BLIND, Access::data(ID), BASE + 16, &[9; 20])
        .unwrap();
    assert!(!d.report().hazards[0].manifested);
    // The dirty copy is written back: the 20 bytes are gone.
    d.maintain(
        CpuId::BOOT,
        CacheOp::CleanInvalidate,
        BASE,
        SiteId(3),
        ChainId(0),
    );
    load(&mut d, 16, 32);
    let hazards = d.report().hazards;
    assert_eq!(hazards.len(), 1);
    assert_eq!(hazards[0].kind, HazardKind::WritebackClobber);
    let counts = (hazards[0].lines, hazards[0].manifested_lines);
    assert_eq!((counts, hazards[0].wrong_bytes), ((1, 1), 20));
}

/// An operation on two lines that a device has written, of which the CPU then uses one twice over.
#[test]
fn a_line_is_needed_once() {
    let mut d = domain();
    d.dma_write(BLIND, Access::data(ID), BASE, &[5; 128])
        .unwrap();
    for at in [0, 64] {
        d.maintain(
            CpuId::BOOT,
            CacheOp::Invalidate,
            BASE + at,
            SiteId(3),
            ChainId(0),
        );
    }
    d.barrier(CpuId::BOOT, Barrier::DSB_SY);
    // A store that a stale copy would have merged with, and a read that it would have gone to.
    store(&mut d, 0, &[1; 8]);
    load(&mut d, 8, 8);
    load(&mut d, 16, 8);
    let report = d.report();
    assert_eq!(report.hazards, []);
    let op = &report.maintenance.operations[0];
    assert_eq!((op.lines, op.dma_lines, op.needed_lines), (2, 2, 1));
    assert_eq!(
        (report.maintenance.needed, report.maintenance.redundant),
        (1, 1)
    );
}

/// Where snooping writes push the caches' copies out, they clean as well.
#[test]
fn a_write_through_makes_the_clean_before_it_redundant() {
    let drop = Fault::Operation(1, OperationFault::Drop);
    for faults in [vec![], vec![drop]] {
        let mut config = rig::config(4096, Policy::Lazy, SnoopWrite::WriteThrough);
        config.faults = faults;
        let mut d = rig::domain(&config);
        store(&mut d, 0, &[1; 8]);
        d.maintain(CpuId::BOOT, CacheOp::Clean, BASE, SiteId(3), ChainId(0));
        d.barrier(CpuId::BOOT, Barrier::DSB_SY);
        d.dma_write(SNOOPING, Access::data(ID), BASE + 32, &[2; 8])
            .unwrap();
        d.maintain(
            CpuId::BOOT,
            CacheOp::Invalidate,
            BASE,
            SiteId(3),
            ChainId(0),
        );
        d.barrier(CpuId::BOOT, Barrier::DSB_SY);
        let report = d.report();
        assert_eq!(report.hazards, []);
        assert_eq!(report.maintenance.operations[0].needed_lines, 0);
        assert_eq!(rig::dram(&d, 0, 8), [1; 8]);
    }
}

/// However many findings there are on one line, each counts it once: three readers, over and over.
#[test]
fn a_line_counts_once_in_each_of_many_findings() {
    const ALSO_SNOOPING: MasterId = MasterId(3);
    let mut d = domain();
    load(&mut d, 0, 8);
    d.dma_write(BLIND, Access::data(ID), BASE, &[7; 64])
        .unwrap();
    for _ in 0..3 {
        load(&mut d, 0, 8);
        for reader in [SNOOPING, ALSO_SNOOPING] {
            d.dma_read(reader, Access::data(ID), BASE, &mut [0; 8])
                .unwrap();
        }
    }
    let hazards = d.report().hazards;
    assert_eq!(hazards.len(), 3, "one for each reader");
    for h in &hazards {
        assert_eq!((h.lines, h.manifested_lines, h.wrong_bytes), (1, 1, 8));
    }
}

#[test]
fn a_mapping_that_is_too_large_to_be_followed_is_told() {
    let told = |d: &Domain| -> Vec<(String, u64)> {
        let saturated = d.report().saturated.into_iter();
        saturated.map(|s| (s.bound, s.limit)).collect()
    };
    let mut d = rig::domain(&rig::config(8 << 20, Policy::Lazy, SnoopWrite::Allocate));
    d.map_non_cacheable(BASE, BASE + (2 << 20), 2 << 20);
    // What lies outside RAM does not count.
    d.map_non_cacheable(BASE + 8, BASE + (6 << 20), 1 << 30);
    assert_eq!(told(&d), []);
    d.map_non_cacheable(BASE + 16, BASE + (2 << 20), 4 << 20);
    let bound = "bytes that one translation table entry maps as non-cacheable";
    assert_eq!(told(&d), [(bound.into(), 2 << 20)]);
}

#[test]
fn more_mappings_than_can_be_followed_are_told() {
    let mut d = rig::domain(&rig::config(16 << 20, Policy::Lazy, SnoopWrite::Allocate));
    let most = 1 << 20;
    for n in 0..most {
        d.map_non_cacheable(BASE + 8 * n, BASE, 4096);
    }
    assert_eq!(d.report().saturated, []);
    d.map_non_cacheable(BASE + 8 * most, BASE, 4096);
    let saturated = d.report().saturated;
    assert_eq!((saturated.len(), saturated[0].limit), (1, most));
}

/// Where RAM begins, everything of an operation does.
#[test]
fn an_operation_with_gaps_is_where_its_lines_are() {
    let mut d = domain();
    for line in [4, 6] {
        let pa = BASE + line * 64;
        d.maintain(CpuId::BOOT, CacheOp::Clean, pa, SiteId(3), ChainId(0));
    }
    d.barrier(CpuId::BOOT, Barrier::DSB_SY);
    let all = d.report().maintenance.operations;
    let [op] = &all[..] else { panic!("{all:?}") };
    let lines = |n: u64| BASE + n * 64..BASE + (n + 1) * 64;
    assert!(op.ranges().eq([lines(4), lines(6)]), "{op:?}");
    assert_eq!(op.first_pa, BASE + 4 * 64);
    assert!(op.does(lines(6).start) && !op.does(lines(5).start));
}
