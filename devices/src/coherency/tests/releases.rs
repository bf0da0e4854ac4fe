// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Masters that were started long before they look: whatever the CPU has done to the same lines
//! since, they are judged by what was in place when they were told.

use proptest::prelude::*;

use super::rig::{self, BASE};
use crate::coherency::hazard::{HazardKind, Why};
use crate::coherency::line::mask;
use crate::coherency::{Domain, Policy, SnoopWrite};
use crate::cpu::{Barrier, BarrierAccess, BarrierKind, BarrierScope, CpuId};
use crate::cpu::{CacheOp, ChainId, MemoryType, SiteId};
use crate::dma::{Access, Content, DmaMemory, Doorbell, MasterId, Order, TransferId};

const SNOOPING: MasterId = MasterId(0);
const BLIND: MasterId = MasterId(1);
const LINE: usize = 64;

/// `dmb oshst`, what `dma_wmb()` and `writel()` have.
const DMA_WMB: Barrier = Barrier {
    kind: BarrierKind::Dmb,
    access: BarrierAccess::Store,
    scope: BarrierScope::Outer,
};

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

    fn store_as(&mut self, at: usize, len: usize, memory: MemoryType) {
        let site = SiteId(2);
        rig::store(&mut self.domain, at, &[7; LINE][..len], site, memory);
    }

    fn store(&mut self, at: usize, len: usize) {
        self.store_as(at, len, MemoryType::Cacheable);
    }

    fn clean(&mut self) {
        self.domain
            .maintain(CpuId::BOOT, CacheOp::Clean, BASE, SiteId(3), ChainId(0));
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
            rig.domain.barrier(CpuId::BOOT, Barrier::DSB_SY);
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

/// The same with a write: the line was dirty when the device was started, however often it was cleaned.
#[test]
fn a_line_that_was_dirty_by_then_stays_so_for_who_was_told_before() {
    let mut rig = Rig::new(SnoopWrite::WriteThrough);
    let told = rig.bell();
    for _ in 0..5 {
        rig.store(0, 8);
        rig.clean();
        rig.domain.barrier(CpuId::BOOT, Barrier::DSB_SY);
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

/// A later store to the line says nothing about the order of an earlier one, with or without a
/// barrier between the two.
#[test]
fn a_store_after_the_doorbell_hides_no_unordered_one_before_it() {
    let nc = MemoryType::NonCacheable;
    for (memory, master) in [
        (MemoryType::Cacheable, SNOOPING),
        (nc, SNOOPING),
        (nc, BLIND),
    ] {
        for barrier in [false, true] {
            let mut rig = Rig::new(SnoopWrite::WriteThrough);
            rig.domain.barrier(CpuId::BOOT, DMA_WMB);
            rig.store_as(0, 8, memory);
            let told = rig.bell();
            if barrier {
                rig.domain.barrier(CpuId::BOOT, DMA_WMB);
            }
            rig.store_as(8, 8, memory);
            let found = rig.read(master, told, 0, 16);
            let unordered = (HazardKind::MissingBarrier, Why::Unordered, mask(0, 8));
            assert!(
                found.contains(&unordered),
                "{memory:?} {master:?}: {found:?}"
            );
            // Nor does the second, which no doorbell came after.
            rig.domain.barrier(CpuId::BOOT, DMA_WMB);
            let told = rig.bell();
            let found = rig.read(master, told, 0, 16);
            let order = found.iter().filter(|f| f.1 == Why::Unordered);
            assert_eq!(order.count(), 0, "{memory:?} {master:?}: {found:?}");
        }
    }
}

/// Memory that no master has written and nobody has maintained costs no more than its lines.
#[test]
fn a_snooping_read_makes_no_history() {
    let mut rig = Rig::new(SnoopWrite::WriteThrough);
    rig.store(0, 8);
    rig.domain.barrier(CpuId::BOOT, DMA_WMB);
    let told = rig.bell();
    assert_eq!(rig.read(SNOOPING, told, 0, 16), []);
    rig.domain.evict(0);
    assert!(!rig.domain.lines.has_cold(0));
    rig.store(8, 8);
    let told = rig.bell();
    let unordered = (HazardKind::MissingBarrier, Why::Unordered, mask(8, 8));
    assert_eq!(rig.read(SNOOPING, told, 0, 16), [unordered]);
}

/// The same as for a doorbell where a word in memory hands the data over.
#[test]
fn a_store_after_the_handover_hides_no_unordered_one_before_it() {
    const WORD: usize = 4096;
    let mut rig = Rig::new(SnoopWrite::WriteThrough);
    let idle_until = rig.domain.doorbell(SNOOPING);
    let order = Order::Handover {
        word: BASE + WORD as u64,
        shows: 0,
        idle_until,
    };
    let poll = |rig: &mut Rig| {
        let descriptor = Access::descriptor(order);
        let pa = BASE + WORD as u64;
        rig.domain
            .dma_read(SNOOPING, descriptor, pa, &mut [0; 4])
            .unwrap();
    };
    // The ring becomes known as such.
    poll(&mut rig);
    rig.store(0, 8);
    rig.store(WORD, 4);
    rig.store(8, 8);
    poll(&mut rig);
    let unordered = (HazardKind::MissingBarrier, Why::Unordered, mask(0, 8));
    assert_eq!(rig.read(SNOOPING, order, 0, 16), [unordered]);
}

/// A descriptor that is still being written when a master polls it is not judged; it is when the
/// master finds it handed over, or would have if the word had been cleaned before the doorbell.
#[test]
fn a_poll_that_finds_nothing_takes_no_notice() {
    const WORD: usize = 12;
    const OWN: u8 = 1;
    for (master, memory) in [
        (SNOOPING, MemoryType::Cacheable),
        (BLIND, MemoryType::NonCacheable),
        (BLIND, MemoryType::Cacheable),
    ] {
        let mut rig = Rig::new(SnoopWrite::WriteThrough);
        let idle_until = rig.domain.doorbell(master);
        let order = Order::Handover {
            word: BASE + WORD as u64,
            shows: OWN.into(),
            idle_until,
        };
        let of = format!("{master:?} {memory:?}");
        let store = |rig: &mut Rig, at, value: u8| {
            rig::store(&mut rig.domain, at, &[value, 0, 0, 0], SiteId(2), memory);
        };
        store(&mut rig, WORD, 0);
        rig.domain
            .maintain(CpuId::BOOT, CacheOp::Clean, BASE, SiteId(3), ChainId(0));
        rig.domain.barrier(CpuId::BOOT, Barrier::DSB_SY);
        assert_eq!(rig.read(master, order, 0, 16), [], "{of}");
        // The driver at work: nothing is ordered yet, and nothing is cleaned.
        store(&mut rig, 8, 8);
        store(&mut rig, WORD, 4);
        assert_eq!(rig.read(master, order, 0, 16), [], "{of}");
        store(&mut rig, WORD, 4 | OWN);
        let found = rig.read(master, order, 0, 16);
        if (master, memory) == (BLIND, MemoryType::Cacheable) {
            // It may see the word at any time from now on, but does not have to.
            assert_eq!(found, [], "{of}");
            // With a doorbell it is meant to.
            let order = Order::Handover {
                word: BASE + WORD as u64,
                shows: OWN.into(),
                idle_until: rig.domain.doorbell(master),
            };
            let found = rig.read(master, order, 0, 16);
            let unclean = (HazardKind::MissingClean, Why::Absent, mask(8, 8));
            assert!(found.contains(&unclean), "{of}: {found:?}");
        } else {
            let unordered = (HazardKind::MissingBarrier, Why::Unordered, mask(8, 4));
            assert_eq!(found, [unordered], "{of}");
        }
    }
}

/// What is not ordered before a snooping write may come after it, and be dirty then.
#[test]
fn a_store_after_the_doorbell_hides_no_store_that_outlives_a_write_through() {
    let mut rig = Rig::new(SnoopWrite::WriteThrough);
    rig.store(0, 8);
    let told = rig.bell();
    rig.domain.barrier(CpuId::BOOT, DMA_WMB);
    rig.store(8, 8);
    rig.domain
        .dma_write(SNOOPING, Access::descriptor(told), BASE + 32, &[1; 8])
        .unwrap();
    rig.domain.barrier(CpuId::BOOT, Barrier::DSB_SY);
    rig.found();
    let told = rig.bell();
    let unclean = (HazardKind::MissingClean, Why::Absent, mask(0, 8));
    assert!(rig.read(BLIND, told, 0, 8).contains(&unclean));
}

/// A store behind an invalidate of its line finds it done, and if that store is ordered before the
/// doorbell, so is the invalidate; whatever is stored after.
#[test]
fn a_store_after_the_doorbell_hides_no_ordered_one_behind_an_invalidate() {
    for later in [false, true] {
        let mut rig = Rig::new(SnoopWrite::WriteThrough);
        let told = rig.bell();
        let data = Access::descriptor(told);
        rig.domain.dma_write(BLIND, data, BASE, &[1; 8]).unwrap();
        rig.domain.maintain(
            CpuId::BOOT,
            CacheOp::Invalidate,
            BASE,
            SiteId(3),
            ChainId(0),
        );
        rig.store(32, 8);
        rig.domain.barrier(CpuId::BOOT, DMA_WMB);
        let told = rig.bell();
        if later {
            rig.store(40, 8);
        }
        assert_eq!(rig.read(SNOOPING, told, 0, 8), [], "{later}");
    }
}

// ---- against a naive model

#[derive(Debug, Clone)]
enum Event {
    Store(usize, usize),
    Clean,
    Dsb,
    DmaWmb,
    Doorbell,
    /// By the doorbell so many before the last.
    Read(bool, usize, usize, usize),
}

fn event() -> impl Strategy<Value = Event> {
    let span = || (0..LINE, 1..=24usize).prop_map(|(at, len)| (at, len.min(LINE - at)));
    prop_oneof![
        6 => span().prop_map(|(at, len)| Event::Store(at, len)),
        3 => Just(Event::Clean),
        1 => Just(Event::Dsb),
        2 => Just(Event::DmaWmb),
        3 => Just(Event::Doorbell),
        4 => (any::<bool>(), 0..40usize, span())
            .prop_map(|(snoops, bell, (at, len))| Event::Read(snoops, bell, at, len)),
    ]
}

/// Of each byte of the line, its stores and what cleaned it since.
#[derive(Debug, Clone, Default)]
struct Byte {
    stored_at: Vec<u64>,
    clean: Option<u32>,
}

impl Byte {
    /// `completed`: the last operation that was complete at the release.
    fn unclean(&self, release: &Doorbell, completed: u32) -> Option<(HazardKind, Why)> {
        self.stored_at.last()?;
        match self.clean {
            None => Some((HazardKind::MissingClean, Why::Absent)),
            Some(op) if op > release.issued => Some((HazardKind::MissingClean, Why::Late)),
            Some(op) if op > completed => Some((HazardKind::MissingBarrier, Why::Incomplete)),
            Some(_) => None,
        }
    }

    /// Whether the last store of the byte is not ordered before `release`, and whether any is not.
    fn unordered(&self, release: &Doorbell) -> (bool, bool) {
        let unordered = |at: &u64| release.ordered_at < *at && *at <= release.at;
        let last = self.stored_at.last().is_some_and(unordered);
        (last, self.stored_at.iter().any(unordered))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// However late a master comes, each byte is judged by its own last store and its own clean. That
    /// an earlier store of the same byte was not ordered before may be told, and is true.
    #[test]
    fn each_byte_is_judged_by_its_own_history(events in prop::collection::vec(event(), 1..200)) {
        let mut rig = Rig::new(SnoopWrite::WriteThrough);
        let mut bytes: [Byte; LINE] = std::array::from_fn(|_| Byte::default());
        let (mut operations, mut completed) = (0, 0);
        let mut bells = vec![(rig.domain.doorbell(BLIND), completed)];
        for event in events {
            match event {
                Event::Store(at, len) => {
                    rig.store(at, len);
                    for byte in &mut bytes[at..at + len] {
                        byte.stored_at.push(rig.domain.now());
                        byte.clean = None;
                    }
                }
                Event::Clean => {
                    operations += u32::from(!rig.domain.continues(CpuId::BOOT));
                    rig.clean();
                    for byte in &mut bytes {
                        byte.clean.get_or_insert(operations);
                    }
                }
                Event::Dsb => {
                    rig.domain.barrier(CpuId::BOOT, Barrier::DSB_SY);
                    completed = operations;
                }
                Event::DmaWmb => rig.domain.barrier(CpuId::BOOT, DMA_WMB),
                Event::Doorbell => bells.push((rig.domain.doorbell(BLIND), completed)),
                Event::Read(snoops, bell, at, len) => {
                    let (release, completed) = bells[bells.len().saturating_sub(1 + bell)];
                    let master = if snoops { SNOOPING } else { BLIND };
                    let found = rig.read(master, Order::Doorbell(release), at, len);
                    for (n, byte) in bytes.iter().enumerate().skip(at).take(len) {
                        let of = found.iter().filter(|f| f.2 >> n & 1 == 1);
                        let mut of: Vec<_> = of.map(|f| (f.0, f.1)).collect();
                        let due = byte.unclean(&release, completed).filter(|_| !snoops);
                        let (last, any) = byte.unordered(&release);
                        let order = (HazardKind::MissingBarrier, Why::Unordered);
                        if due.is_none() && any && !last {
                            of.retain(|f| *f != order);
                        }
                        let due = due.or(last.then_some(order));
                        prop_assert_eq!(of, Vec::from_iter(due), "byte {}", n);
                    }
                }
            }
        }
    }
}
