// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A count of everything that a fault can be of, for who plans some: with the numbers that faults go by.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::limits::MAX_COUNTED;
use crate::cpu::{Barrier, CpuId, LINE, MAX_CPUS};
use crate::dma::{Content, Doorbell, MasterId, TransferId};
use crate::events::Cached;

/// What a maintenance operation would throw away as an invalidate, in its own lines and beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedNeighbours {
    /// The operation's number.
    pub operation: u32,
    /// Of the line before its first, whether stores to it were not cleaned, when that was done.
    pub before: bool,
    /// Likewise of the line behind its last.
    pub behind: bool,
    /// Likewise of any of its own.
    #[serde(default)]
    pub own: bool,
}

/// A barrier that completes or orders maintenance, or is its CPU's last before a device is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedBarrier {
    /// Its number.
    pub number: u32,
    /// Whose.
    pub cpu: CpuId,
    /// Which.
    pub barrier: Barrier,
    /// The first and the last operation of its CPU that was not complete before it; 0: none.
    pub operations: (u32, u32),
    /// The master that is started next by the CPU, if no other barrier comes before.
    pub starts: Option<MasterId>,
    /// When, in accesses since power-on.
    pub at: u64,
    /// When the next barrier of its CPU comes that completes maintenance, whether there is any or not.
    #[serde(default)]
    pub followed: Option<u64>,
    /// A master that was started behind it has read what its CPU had stored in a descriptor before it, and no other
    /// barrier was between those two that orders stores for masters.
    #[serde(default)]
    pub alone_for_stores: bool,
    /// Its CPU had seen a master's event before it, and has loaded what that master had written before behind it, and
    /// no other barrier was between those two that orders loads of what masters write.
    #[serde(default)]
    pub alone_for_loads: bool,
}

/// An interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedInterrupt {
    /// Its number.
    pub number: u32,
    /// The line.
    pub irq: u8,
    /// When, in accesses since power-on.
    pub at: u64,
    /// Whether its device has accessed memory since the interrupt before, so that it could come early.
    #[serde(default)]
    pub early: bool,
}

/// A master's access to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedAccess {
    /// Its number.
    pub number: u32,
    /// Whose.
    pub master: MasterId,
    /// The transfer it is of.
    pub transfer: TransferId,
    /// What its bytes are.
    pub content: Content,
    /// Whether it writes.
    pub write: bool,
    /// Whether it snoops.
    pub snoops: bool,
    /// First byte.
    pub pa: u64,
    /// Bytes.
    pub len: u32,
    /// The last four of its bytes.
    pub word: u32,
    /// How the cache held its first line before.
    pub found: Cached,
    /// Whether a CPU's stores to its bytes there were not cleaned.
    pub uncleaned: bool,
    /// Who has to do with that line next.
    pub next: Option<Next>,
    /// When, in accesses of CPUs since power-on.
    pub at: u64,
}

/// Who has to do with a line after a master's access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Next {
    /// A CPU loads what the master has written.
    Cpu,
    /// A master reads.
    Reads(MasterId),
    /// A master writes.
    Writes(MasterId),
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// In order of operations.
    #[serde(default)]
    pub neighbours: Vec<CountedNeighbours>,
    /// In order.
    pub barriers: Vec<CountedBarrier>,
    /// In order.
    pub interrupts: Vec<CountedInterrupt>,
    /// In order.
    pub accesses: Vec<CountedAccess>,
    /// There were more than there is room for ([`MAX_COUNTED`] of each).
    pub full: bool,
}

/// Barriers of a CPU that are remembered: a master that is told reads its descriptors soon.
const REMEMBERED: usize = 32;

/// Barriers, in order, at most [`REMEMBERED`].
#[derive(Debug, Default)]
struct Latest(VecDeque<CountedBarrier>);

impl Latest {
    fn add(&mut self, barrier: CountedBarrier) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(barrier);
    }

    /// One that orders everything has come.
    fn are_followed(&mut self, at: u64) {
        for earlier in &mut self.0 {
            earlier.followed = earlier.followed.or(Some(at));
        }
    }

    /// One of them, and when the one before it came, or 0 if there was none; if that is known.
    fn get(&self, index: usize) -> Option<(CountedBarrier, u64)> {
        let before = match index.checked_sub(1) {
            Some(before) => self.0.get(before)?.at,
            None if self.0.len() < REMEMBERED => 0,
            None => return None,
        };
        Some((*self.0.get(index)?, before))
    }
}

/// Takes the count, if it is wanted.
#[derive(Debug, Default)]
pub(super) struct Counter {
    census: Option<Census>,
    /// Each CPU's latest barriers that order stores for masters.
    for_stores: [Latest; MAX_CPUS],
    /// And those that order loads of what masters write.
    for_loads: [Latest; MAX_CPUS],
    /// Each CPU's last barrier, if no device was started since and it is not counted.
    last: [Option<CountedBarrier>; MAX_CPUS],
    /// Of the barriers that are counted, how many there were by each CPU's last that completes maintenance.
    followed: [usize; MAX_CPUS],
    /// By line: which of the accesses had to do with it last, if nobody has since.
    lines: HashMap<u64, usize>,
}

fn push<T>(all: &mut Vec<T>, full: &mut bool, one: T) {
    match all.len() < MAX_COUNTED {
        true => all.push(one),
        false => *full = true,
    }
}

impl Counter {
    pub fn new(wanted: bool) -> Self {
        Counter {
            census: wanted.then(Census::default),
            ..Counter::default()
        }
    }

    /// Whether it is wanted.
    #[inline]
    pub fn counts(&self) -> bool {
        self.census.is_some()
    }

    /// The count so far.
    pub fn census(&self) -> Option<Census> {
        self.census.clone()
    }

    pub fn barrier(&mut self, barrier: CountedBarrier) {
        let Some(census) = &mut self.census else {
            return;
        };
        let cpu = barrier.cpu;
        if barrier.barrier.orders_all() {
            let since = &mut self.followed[cpu.index()];
            let unfollowed = census.barriers.get_mut(*since..).unwrap_or_default();
            *since += unfollowed.len();
            for earlier in unfollowed.iter_mut().filter(|earlier| earlier.cpu == cpu) {
                earlier.followed = earlier.followed.or(Some(barrier.at));
            }
        }
        let for_stores = &mut self.for_stores[cpu.index()];
        let for_loads = &mut self.for_loads[cpu.index()];
        if barrier.barrier.orders_all() {
            for_stores.are_followed(barrier.at);
            for_loads.are_followed(barrier.at);
        }
        if barrier.barrier.orders_stores_for_masters() {
            for_stores.add(barrier);
        }
        if barrier.barrier.orders_loads_from_masters() {
            for_loads.add(barrier);
        }
        let last = &mut self.last[cpu.index()];
        if barrier.operations == (0, 0) {
            *last = Some(barrier);
        } else {
            *last = None;
            push(&mut census.barriers, &mut census.full, barrier);
        }
    }

    /// A master that `release` has started reads words of descriptors; `stored_in` says whether that CPU has stored one
    /// of these last behind the first of two times, and not behind the second.
    pub fn descriptor_read(&mut self, release: &Doorbell, stored_in: impl Fn(u64, u64) -> bool) {
        let latest = &self.for_stores[release.cpu.index()];
        let at = latest.0.iter().rposition(|b| b.at == release.ordered_at);
        if let Some((one, before)) = at.and_then(|at| latest.get(at))
            && stored_in(before, one.at)
        {
            self.mark(one, |counted| counted.alone_for_stores = true);
        }
    }

    /// A CPU that has seen a master's event at `seen_at` loads what that has written before.
    pub fn data_loaded(&mut self, cpu: CpuId, seen_at: u64) {
        let latest = &self.for_loads[cpu.index()];
        if let Some((one, before)) = latest.0.len().checked_sub(1).and_then(|at| latest.get(at))
            && before < seen_at
            && seen_at <= one.at
        {
            self.mark(one, |counted| counted.alone_for_loads = true);
        }
    }

    /// Has a barrier counted, if it is not yet, and marked.
    fn mark(&mut self, one: CountedBarrier, mark: impl FnOnce(&mut CountedBarrier)) {
        let Some(census) = &mut self.census else {
            return;
        };
        let mut counted = census.barriers.iter_mut().rev();
        match counted.find(|counted| counted.number == one.number) {
            Some(counted) => mark(counted),
            None => {
                let mut marked = one;
                mark(&mut marked);
                push(&mut census.barriers, &mut census.full, marked);
                // It is counted, then, whatever is started next.
                let last = &mut self.last[one.cpu.index()];
                last.take_if(|last| last.number == one.number);
            }
        }
    }

    /// `cpu` starts a device.
    pub fn doorbell(&mut self, cpu: CpuId, master: MasterId) {
        let Some(census) = &mut self.census else {
            return;
        };
        let starts = Some(master);
        match self.last[cpu.index()].take() {
            Some(last) => {
                let last = CountedBarrier { starts, ..last };
                push(&mut census.barriers, &mut census.full, last);
            }
            None => {
                let mut barriers = census.barriers.iter_mut().rev();
                if let Some(last) = barriers.find(|barrier| barrier.cpu == cpu) {
                    last.starts = last.starts.or(starts);
                }
            }
        }
    }

    /// One more line is done of an operation.
    pub fn neighbours(&mut self, counted: CountedNeighbours) {
        let Some(census) = &mut self.census else {
            return;
        };
        // Those of other CPUs may be on their way, too; an operation's first line is in order.
        let mut latest = census.neighbours.iter_mut().rev().take(MAX_CPUS);
        if let Some(one) = latest.find(|one| one.operation == counted.operation) {
            one.behind = counted.behind;
            one.own |= counted.own;
        } else {
            push(&mut census.neighbours, &mut census.full, counted);
        }
    }

    pub fn interrupt(&mut self, interrupt: CountedInterrupt) {
        if let Some(census) = &mut self.census {
            push(&mut census.interrupts, &mut census.full, interrupt);
        }
    }

    pub fn access(&mut self, access: CountedAccess) {
        let next = match access.write {
            true => Next::Writes(access.master),
            false => Next::Reads(access.master),
        };
        let first = access.pa / LINE;
        let last = (access.pa + u64::from(access.len).max(1) - 1) / LINE;
        for line in first..=last {
            self.next(line, next);
        }
        let Some(census) = &mut self.census else {
            return;
        };
        if census.accesses.len() < MAX_COUNTED {
            self.lines.insert(first, census.accesses.len());
        }
        push(&mut census.accesses, &mut census.full, access);
    }

    /// Somebody has to do with a line, by its address.
    pub fn next(&mut self, line: u64, next: Next) {
        let index = self.lines.remove(&line);
        let Some(census) = &mut self.census else {
            return;
        };
        if let Some(access) = index.and_then(|index| census.accesses.get_mut(index)) {
            access.next = Some(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{BarrierAccess, BarrierKind, BarrierScope};

    const DSB: Barrier = Barrier::DSB_SY;

    fn barrier(number: u32, cpu: u8, barrier: Barrier, at: u64) -> CountedBarrier {
        CountedBarrier {
            number,
            cpu: CpuId(cpu),
            barrier,
            operations: (number, number),
            starts: None,
            at,
            followed: None,
            alone_for_stores: false,
            alone_for_loads: false,
        }
    }

    /// One of the boot CPU's that has nothing to complete.
    fn idle(number: u32, at: u64, which: Barrier) -> CountedBarrier {
        CountedBarrier {
            operations: (0, 0),
            ..barrier(number, 0, which, at)
        }
    }

    fn weak(access: BarrierAccess, scope: BarrierScope) -> Barrier {
        Barrier {
            kind: BarrierKind::Dmb,
            access,
            scope,
        }
    }

    #[test]
    fn a_barrier_is_followed_by_the_next_of_its_cpu_that_orders_everything_for_masters() {
        let mut counter = Counter::new(true);
        counter.barrier(barrier(1, 0, DSB, 10));
        counter.barrier(barrier(2, 1, DSB, 20));
        for (number, access, scope) in [
            (3, BarrierAccess::Store, BarrierScope::Outer),
            (4, BarrierAccess::Load, BarrierScope::Outer),
            (5, BarrierAccess::Full, BarrierScope::Inner),
        ] {
            counter.barrier(barrier(number, 0, weak(access, scope), 30));
        }
        // One that has nothing to complete follows all the same, and is not counted itself.
        let mut idle = barrier(6, 0, weak(BarrierAccess::Full, BarrierScope::Outer), 40);
        idle.operations = (0, 0);
        counter.barrier(idle);
        counter.barrier(barrier(7, 0, DSB, 50));
        let followed: Vec<_> = counter.census().unwrap().barriers;
        let followed: Vec<_> = followed.iter().map(|b| (b.number, b.followed)).collect();
        let by_the_idle = Some(40);
        assert_eq!(
            followed,
            [
                (1, by_the_idle),
                (2, None),
                (3, by_the_idle),
                (4, by_the_idle),
                (5, by_the_idle),
                (7, None)
            ]
        );
    }

    #[test]
    fn a_barrier_that_orders_nothing_else_is_counted_if_a_device_is_started() {
        let mut counter = Counter::new(true);
        for number in [1, 2] {
            let mut idle = barrier(number, 0, DSB, 10 * u64::from(number));
            idle.operations = (0, 0);
            counter.barrier(idle);
        }
        counter.doorbell(CpuId(1), MasterId(7));
        assert_eq!(counter.census().unwrap().barriers, []);
        counter.doorbell(CpuId(0), MasterId(3));
        counter.doorbell(CpuId(0), MasterId(4));
        let counted = counter.census().unwrap().barriers;
        let counted: Vec<_> = counted.iter().map(|b| (b.number, b.starts)).collect();
        assert_eq!(counted, [(2, Some(MasterId(3)))]);
    }

    #[test]
    fn a_barrier_that_alone_orders_a_descriptor_is_told() {
        let stores = weak(BarrierAccess::Store, BarrierScope::Outer);
        let alone = |barriers: &[CountedBarrier], ordered_at, stored_at: u64| {
            let mut counter = Counter::new(true);
            barriers.iter().for_each(|one| counter.barrier(*one));
            let release = Doorbell {
                ordered_at,
                ..Doorbell::default()
            };
            counter.descriptor_read(&release, |from, to| from < stored_at && stored_at <= to);
            let counted = counter.census().unwrap().barriers;
            let alone = counted.iter().filter(|one| one.alone_for_stores);
            alone.map(|one| one.number).collect::<Vec<_>>()
        };
        let two = [idle(1, 10, stores), idle(2, 20, stores)];
        // Behind the first and before the second; before both; behind both.
        assert_eq!(alone(&two, 20, 11), [2]);
        assert!(alone(&two, 20, 10).is_empty());
        assert!(alone(&two, 20, 21).is_empty());
        assert_eq!(alone(&two, 10, 1), [1]);
        assert!(alone(&two, 15, 11).is_empty());
        // Those that order no stores, or none for masters, do not count, nor do another CPU's.
        let inner = weak(BarrierAccess::Store, BarrierScope::Inner);
        let loads = weak(BarrierAccess::Load, BarrierScope::System);
        let others = [
            two[0],
            idle(2, 12, inner),
            idle(3, 13, loads),
            barrier(4, 1, DSB, 14),
            idle(5, 20, stores),
        ];
        assert_eq!(alone(&others, 20, 11), [5]);
        // Two without an access in between stand for each other.
        let twins = [idle(1, 10, stores), idle(2, 10, stores)];
        assert!(alone(&twins, 10, 5).is_empty());
        // Of one that is long gone nothing is known, nor of what was before the oldest.
        let many: Vec<_> = (1..40).map(|n| idle(n, n.into(), stores)).collect();
        assert!(alone(&many, 3, 3).is_empty());
        assert!(alone(&many, 8, 8).is_empty());
        assert_eq!(alone(&many, 9, 9), [9]);
    }

    #[test]
    fn a_barrier_that_alone_orders_loads_is_told() {
        let loads = weak(BarrierAccess::Load, BarrierScope::Outer);
        let alone = |barriers: &[CountedBarrier], seen_at| {
            let mut counter = Counter::new(true);
            barriers.iter().for_each(|one| counter.barrier(*one));
            counter.data_loaded(CpuId::BOOT, seen_at);
            let counted = counter.census().unwrap().barriers;
            let alone = counted.iter().filter(|one| one.alone_for_loads);
            alone.map(|one| one.number).collect::<Vec<_>>()
        };
        let two = [idle(1, 10, loads), idle(2, 20, loads)];
        assert_eq!(alone(&two, 11), [2]);
        assert_eq!(alone(&two, 20), [2]);
        assert!(alone(&two, 10).is_empty() && alone(&two, 21).is_empty());
        // Of those for stores, or for CPUs alone, only a DSB for CPUs counts.
        let stores = weak(BarrierAccess::Store, BarrierScope::System);
        let inner = weak(BarrierAccess::Load, BarrierScope::Inner);
        let others = [two[0], idle(2, 12, stores), idle(3, 13, inner)];
        assert!(alone(&others, 11).is_empty());
        assert_eq!(alone(&others, 10), [1]);
        let dsb = Barrier {
            scope: BarrierScope::Inner,
            ..DSB
        };
        assert_eq!(alone(&[two[0], idle(2, 12, dsb)], 11), [2]);
    }

    #[test]
    fn neighbours_are_those_of_an_operations_first_and_last_line() {
        let mut counter = Counter::new(true);
        let mut line = |operation, before, behind, own| {
            counter.neighbours(CountedNeighbours {
                operation,
                before,
                behind,
                own,
            });
        };
        line(1, true, true, true);
        // Another CPU's is on its way, too.
        line(2, false, true, false);
        line(1, false, false, false);
        line(2, true, false, true);
        line(3, false, true, false);
        let counted = counter.census().unwrap().neighbours;
        let counted: Vec<_> = counted
            .iter()
            .map(|n| (n.operation, n.before, n.behind, n.own))
            .collect();
        assert_eq!(
            counted,
            [
                (1, true, false, true),
                (2, false, false, true),
                (3, false, true, false)
            ]
        );
    }

    #[test]
    fn nothing_is_counted_unless_it_is_wanted() {
        let mut counter = Counter::new(false);
        counter.barrier(barrier(1, 0, DSB, 1));
        counter.doorbell(CpuId(0), MasterId(0));
        assert!(!counter.counts() && counter.census().is_none());
    }
}
