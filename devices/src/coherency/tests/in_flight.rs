// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What happens to memory while a transfer owns it. When the model moves the data must make no
//! difference: the device may do it at any time between its start and its end.

use super::rig::{self, BASE};
use crate::coherency::hazard::{Actor, HazardKind};
use crate::coherency::{Domain, Policy, SnoopWrite};
use crate::cpu::{Barrier, CacheOp, ChainId, CpuId, MemoryType, SiteId};
use crate::dma::{Access, Direction, DmaMemory, MasterId, Order, Transfer, TransferId};

const SNOOPING: MasterId = MasterId(0);
const BLIND: MasterId = MasterId(1);
const LINE: usize = 64;

struct Rig {
    domain: Domain,
    id: TransferId,
}

/// A transfer of two lines in flight, after the CPU has written both.
fn started(direction: Direction, before: &[CacheOp]) -> Rig {
    let mut domain = rig::domain(&rig::config(8192, Policy::Lazy, SnoopWrite::WriteThrough));
    for line in [0, LINE] {
        rig::store(
            &mut domain,
            line,
            &[7; LINE],
            SiteId(2),
            MemoryType::Cacheable,
        );
    }
    let mut rig = Rig {
        domain,
        id: TransferId::CONTROL,
    };
    before.iter().for_each(|op| rig.maintain(*op));
    rig.open(direction);
    rig
}

impl Rig {
    /// The device is started.
    fn open(&mut self, direction: Direction) {
        let order = Order::Doorbell(self.domain.doorbell(BLIND));
        let transfer = Transfer {
            direction,
            pa: BASE,
            bus: None,
            scattered: false,
            len: 2 * LINE as u64,
            descriptor: 0,
            channel: 0,
            snoop: true,
        };
        self.id = self.domain.transfer_open(BLIND, transfer, order);
    }

    /// Both lines, and a DSB.
    fn maintain(&mut self, op: CacheOp) {
        for line in 0..2 {
            let pa = BASE + line * LINE as u64;
            self.domain
                .maintain(CpuId::BOOT, op, pa, SiteId(3), ChainId(0));
        }
        self.domain.barrier(CpuId::BOOT, Barrier::DSB_SY);
    }

    fn read(&mut self, line: u64) {
        let pa = BASE + line * LINE as u64;
        self.domain
            .dma_read(BLIND, Access::data(self.id), pa, &mut [0; LINE])
            .unwrap();
    }

    fn write(&mut self, line: u64) {
        let pa = BASE + line * LINE as u64;
        self.domain
            .dma_write(BLIND, Access::data(self.id), pa, &[9; LINE])
            .unwrap();
    }

    fn close(&mut self) {
        self.domain.transfer_close(BLIND, self.id);
    }

    fn load(&mut self) {
        for at in 0..2 * LINE as u64 {
            self.domain
                .load(CpuId::BOOT, BASE + at, 1, SiteId(4), MemoryType::Cacheable);
        }
    }

    fn found(&self) -> Vec<(HazardKind, u64, bool)> {
        let hazards = self.domain.report().hazards;
        hazards
            .iter()
            .map(|h| (h.kind, h.lines, h.manifested))
            .collect()
    }

    fn needed(&self) -> Vec<u64> {
        let operations = self.domain.report().maintenance.operations;
        operations.iter().map(|op| op.needed_lines).collect()
    }
}

#[test]
fn a_clean_after_the_start_is_too_late() {
    let mut rig = started(Direction::FromMemory, &[]);
    rig.read(0);
    rig.maintain(CacheOp::Clean);
    rig.read(1);
    // Both lines: that the model had not read the second one yet was luck. Only the first was wrong.
    assert_eq!(rig.found(), [(HazardKind::MissingClean, 2, true)]);
    assert_eq!(rig.domain.report().hazards[0].manifested_lines, 1);
    rig.close();
    // For the next transfer it was in time.
    rig.open(Direction::FromMemory);
    rig.read(0);
    rig.read(1);
    assert_eq!(rig.found().len(), 1);
}

#[test]
fn a_line_that_was_dirty_after_the_start_may_have_been_evicted_onto_the_data() {
    let mut rig = started(Direction::ToMemory, &[]);
    rig.maintain(CacheOp::Clean);
    rig.write(0);
    assert_eq!(rig.found(), [(HazardKind::WritebackClobber, 1, false)]);
}

#[test]
fn an_invalidate_before_the_end_is_too_early() {
    let mut rig = started(Direction::ToMemory, &[CacheOp::Clean]);
    rig.write(0);
    rig.maintain(CacheOp::Invalidate);
    rig.write(1);
    rig.close();
    rig.load();
    // By luck nothing is wrong: one line was invalidated after, one before the model wrote it.
    assert_eq!(rig.found(), [(HazardKind::MissingInvalidate, 2, false)]);

    let mut rig = started(Direction::ToMemory, &[CacheOp::Clean]);
    rig.write(0);
    rig.write(1);
    rig.close();
    rig.maintain(CacheOp::Invalidate);
    rig.load();
    assert_eq!(rig.found(), []);
}

/// What comes too late does not make up for what came in time.
#[test]
fn the_clean_before_the_start_is_the_one_that_was_needed() {
    for direction in [Direction::FromMemory, Direction::ToMemory] {
        let mut rig = started(direction, &[CacheOp::Clean]);
        rig.maintain(CacheOp::Clean);
        for line in [0, 1] {
            match direction {
                Direction::FromMemory => rig.read(line),
                Direction::ToMemory => rig.write(line),
            }
        }
        assert_eq!(rig.found(), []);
        assert_eq!(rig.needed(), [2, 0], "{direction:?}");
    }
}

#[test]
fn a_snooping_device_must_wait_for_the_end_like_a_cpu() {
    let mut buf = [0; LINE];
    for (direction, reads, writes) in [(Direction::FromMemory, 0, 1), (Direction::ToMemory, 1, 1)] {
        let mut rig = started(direction, &[CacheOp::Clean]);
        rig.domain
            .dma_read(SNOOPING, Access::data(TransferId::CONTROL), BASE, &mut buf)
            .unwrap();
        let ownership = |rig: &Rig| {
            let hazards = rig.domain.report().hazards;
            assert!(hazards.iter().all(|h| h.kind == HazardKind::Ownership));
            assert!(hazards.iter().all(|h| {
                matches!(h.reader, Actor::Device { master, .. } if master == SNOOPING)
            }));
            hazards.len()
        };
        assert_eq!(ownership(&rig), reads, "{direction:?}");
        rig.domain
            .dma_write(SNOOPING, Access::data(TransferId::CONTROL), BASE, &buf)
            .unwrap();
        assert_eq!(ownership(&rig), reads.max(writes), "{direction:?}");
    }
}

/// Other registers may be written between the start and the access: an interrupt's acknowledgement.
#[test]
fn a_missing_barrier_stays_missing() {
    let mut rig = started(Direction::FromMemory, &[]);
    rig.close();
    for line in [0, LINE as u64] {
        let pa = BASE + line;
        rig.domain
            .maintain(CpuId::BOOT, CacheOp::Clean, pa, SiteId(3), ChainId(0));
    }
    rig.open(Direction::FromMemory);
    rig.domain.barrier(CpuId::BOOT, Barrier::DSB_SY);
    rig.domain.doorbell(BLIND);
    rig.read(0);
    assert_eq!(rig.found(), [(HazardKind::MissingBarrier, 1, false)]);
}

/// A ring entry that was added while the device was busy: it may see the word that hands it over at
/// once, and everything before that word has to be ordered. Its own answer into the entry is no
/// matter of that word's order.
#[test]
fn an_answer_into_a_descriptor_is_not_judged_by_the_word_that_handed_it_over() {
    let words = |ordered: bool| {
        let config = rig::config(8192, Policy::Lazy, SnoopWrite::WriteThrough);
        let mut d = rig::domain(&config);
        let store = |d: &mut Domain, at: usize| {
            rig::store(d, at, &[1; 4], SiteId(2), MemoryType::Cacheable);
        };
        // The ring becomes known as such.
        let idle_until = d.doorbell(SNOOPING);
        let order = Order::Handover {
            word: BASE + 12,
            shows: 0,
            idle_until,
        };
        let descriptor = Access::descriptor(order);
        d.dma_read(SNOOPING, descriptor, BASE, &mut [0; 16])
            .unwrap();
        for at in [0, 4, 8] {
            store(&mut d, at);
        }
        if ordered {
            d.barrier(CpuId::BOOT, Barrier::DSB_SY);
        }
        store(&mut d, 12);
        d.dma_read(SNOOPING, descriptor, BASE, &mut [0; 16])
            .unwrap();
        d.dma_write(SNOOPING, descriptor, BASE + 8, &[0; 8])
            .unwrap();
        let found = d.report().hazards;
        found.iter().map(|h| (h.kind, h.lines)).collect::<Vec<_>>()
    };
    assert_eq!(words(true), []);
    assert_eq!(words(false), [(HazardKind::MissingBarrier, 1)]);
}

#[test]
fn a_transfer_that_does_not_ask_to_be_snooped_owns_its_lines_on_any_port() {
    let touched = |snoop| {
        let mut domain = rig::domain(&rig::config(8192, Policy::Lazy, SnoopWrite::WriteThrough));
        let transfer = Transfer {
            direction: Direction::ToMemory,
            pa: BASE,
            bus: None,
            scattered: false,
            len: LINE as u64,
            descriptor: 0,
            channel: 0,
            snoop,
        };
        let order = Order::Doorbell(domain.doorbell(SNOOPING));
        let id = domain.transfer_open(SNOOPING, transfer, order);
        rig::store(&mut domain, 0, &[7; 4], SiteId(2), MemoryType::Cacheable);
        domain.transfer_close(SNOOPING, id);
        let hazards = domain.report().hazards;
        hazards.iter().map(|h| h.kind).collect::<Vec<_>>()
    };
    assert_eq!(touched(true), []);
    assert_eq!(touched(false), [HazardKind::Ownership]);
}
