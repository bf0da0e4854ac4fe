// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Masters that were told to go long before they look: whatever the CPU has done to the same lines
//! since, they are judged by what was in place when they were told.

use super::rig::{self, BASE};
use crate::coherency::hazard::{HazardKind, Why};
use crate::coherency::line::mask;
use crate::coherency::{Domain, Policy, SnoopWrite};
use crate::cpu::{Barrier, CacheOp, ChainId, MemoryType, SiteId};
use crate::dma::{Access, Content, DmaMemory, MasterId, Order, TransferId};

const BLIND: MasterId = MasterId(1);
const LINE: usize = 64;

/// A finding: kind, reason, bytes.
type Found = (HazardKind, Why, u64);

struct Rig {
    domain: Domain,
    seen: usize,
}

impl Rig {
    fn new(snoop_write: SnoopWrite) -> Self {
        Rig {
            domain: rig::domain(&rig::config(8192, Policy::Lazy, snoop_write)),
            seen: 0,
        }
    }

    fn store(&mut self, at: usize, len: usize) {
        let (data, memory) = (&[7; LINE][..len], MemoryType::Cacheable);
        rig::store(&mut self.domain, at, data, SiteId(2), memory);
    }

    fn clean(&mut self) {
        self.domain
            .maintain(CacheOp::Clean, BASE, SiteId(3), ChainId(0));
    }

    fn bell(&mut self) -> Order {
        Order::Doorbell(self.domain.doorbell(BLIND))
    }

    /// Reads of the first line; what the domain says of it.
    fn read(&mut self, master: MasterId, order: Order, at: usize, len: usize) -> Vec<Found> {
        let access = Access {
            transfer: TransferId::CONTROL,
            snoop: true,
            content: Content::Data,
            order,
        };
        let pa = BASE + at as u64;
        self.domain
            .dma_read(master, access, pa, &mut [0; LINE][..len])
            .unwrap();
        self.found()
    }

    fn found(&mut self) -> Vec<Found> {
        let all = self.domain.occurrences();
        let new = all[self.seen..].iter();
        let new: Vec<_> = new
            .filter_map(|o| Some((o.kind?, o.why, o.bytes)))
            .collect();
        self.seen = all.len();
        new
    }
}

/// Parts of a line that are cleaned one by one, each clean completed at once, after the device was
/// told: all of them are late, the first as much as the last.
#[test]
fn a_clean_that_is_complete_by_now_was_late_for_who_was_told_before() {
    for parts in [2, 3, 4, 5, 16, LINE] {
        let mut rig = Rig::new(SnoopWrite::WriteThrough);
        let told = rig.bell();
        let len = LINE / parts;
        for part in 0..parts {
            rig.store(part * len, len);
            rig.clean();
            rig.domain.barrier(Barrier::DSB_SY);
        }
        let found = rig.read(BLIND, told, 0, len);
        let first = mask(0, len as u64);
        assert_eq!(
            found,
            [(HazardKind::MissingClean, Why::Late, first)],
            "{parts} parts"
        );
        // For who is told now, all of them were in time.
        let told = rig.bell();
        assert_eq!(rig.read(BLIND, told, 0, LINE), []);
    }
}

/// The same with a write: the line was dirty when the device was told, however often it was cleaned.
#[test]
fn a_line_that_was_dirty_by_then_stays_so_for_who_was_told_before() {
    let mut rig = Rig::new(SnoopWrite::WriteThrough);
    let told = rig.bell();
    for _ in 0..5 {
        rig.store(0, 8);
        rig.clean();
        rig.domain.barrier(Barrier::DSB_SY);
    }
    let access = Access {
        order: told,
        ..Access::descriptor(told)
    };
    rig.domain
        .dma_write(BLIND, access, BASE + 32, &[1; 8])
        .unwrap();
    let clobber = (HazardKind::WritebackClobber, Why::Late, mask(32, 8));
    assert_eq!(rig.found(), [clobber]);
}
