// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Instruction fetches: whose bytes they may find, and when what was fetched is out of date.

use super::rig::{self, BASE};
use crate::coherency::hazard::{Actor, HazardKind};
use crate::coherency::{Domain, Policy, SnoopWrite};
use crate::cpu::{Barrier, CacheOp, ChainId, CpuId, MemoryType, SiteId};
use crate::dma::{Access, DmaMemory, MasterId, Port, TransferId};

const PAGE: u64 = 4096;
const SITE: SiteId = SiteId(9);
/// A line of the second page.
const CODE: u64 = BASE + PAGE + 0x80;

fn domain(port: Port) -> Domain {
    let mut config = rig::config(4 * PAGE, Policy::Lazy, SnoopWrite::WriteThrough);
    config.ports[0] = port;
    rig::domain(&config)
}

fn fetch(domain: &mut Domain) {
    domain.fetched(CpuId::BOOT, CODE, 16, &mut || SITE);
}

fn write(domain: &mut Domain) {
    let access = Access::data(TransferId::CONTROL);
    domain
        .dma_write(MasterId(0), access, CODE, &[9; 64])
        .unwrap();
}

fn changed(domain: &mut Domain) -> Vec<u64> {
    std::iter::from_fn(|| domain.changed_code()).collect()
}

#[test]
fn code_that_a_master_has_written_is_told_once() {
    for port in Port::ALL {
        let mut domain = domain(port);
        write(&mut domain);
        assert_eq!(changed(&mut domain), [0; 0], "nobody has fetched it");
        fetch(&mut domain);
        write(&mut domain);
        write(&mut domain);
        assert_eq!(changed(&mut domain), [BASE + PAGE]);
        write(&mut domain);
        assert_eq!(changed(&mut domain), [0; 0]);
    }
}

#[test]
fn what_a_cpu_stores_an_engine_sees_by_itself() {
    let mut domain = domain(Port::Hp);
    fetch(&mut domain);
    let memory = MemoryType::Cacheable;
    rig::store(&mut domain, (CODE - BASE) as usize, &[1; 8], SITE, memory);
    let site = SITE;
    domain.maintain(CpuId::BOOT, CacheOp::Clean, CODE, site, ChainId(0));
    domain.barrier(CpuId::BOOT, Barrier::DSB_SY);
    assert_eq!(changed(&mut domain), [0; 0]);
}

/// A line that is dropped shows what a master has put below it.
#[test]
fn dropping_a_line_changes_code() {
    let mut domain = domain(Port::Hp);
    domain.load(CpuId::BOOT, CODE, 8, SITE, MemoryType::Cacheable);
    write(&mut domain);
    fetch(&mut domain);
    assert_eq!(changed(&mut domain), [0; 0]);
    domain.maintain(CpuId::BOOT, CacheOp::Invalidate, CODE, SITE, ChainId(0));
    assert_eq!(changed(&mut domain), [BASE + PAGE]);
}

#[test]
fn code_in_a_line_that_was_not_invalidated_is_found() {
    for invalidated in [false, true] {
        let mut domain = domain(Port::Hp);
        domain.load(CpuId::BOOT, CODE, 8, SITE, MemoryType::Cacheable);
        write(&mut domain);
        if invalidated {
            domain.maintain(CpuId::BOOT, CacheOp::Invalidate, CODE, SITE, ChainId(0));
            domain.barrier(CpuId::BOOT, Barrier::DSB_SY);
        }
        let before = domain.now();
        fetch(&mut domain);
        assert_eq!(domain.now(), before, "no access in time");
        let found = domain.report().hazards;
        if invalidated {
            assert!(found.is_empty(), "{found:#?}");
            continue;
        }
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(found[0].kind, HazardKind::MissingInvalidate);
        let reader = Actor::Cpu {
            cpu: CpuId::BOOT,
            site: SITE,
        };
        assert_eq!(found[0].reader, reader);
    }
}
