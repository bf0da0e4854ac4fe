// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! At which points something is to go wrong, how far each count is, and what waits because of that.

use serde::{Deserialize, Serialize};

use crate::clock::Ticks;
use crate::cpu::{CacheOp, ChainId, CpuId, SiteId};
use crate::dma::{Access, MasterId};
use crate::faults::{
    AccessFault, BarrierFault, Fault, Hold, InterruptFault, OperationFault, Until,
};

/// A `dc` instruction that is late.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct HeldLine {
    pub operation: u32,
    pub until: Until,
    pub cpu: CpuId,
    pub op: CacheOp,
    pub line: u64,
    pub site: SiteId,
    pub chain: ChainId,
}

/// A master's write that is late.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HeldWrite {
    pub master: MasterId,
    pub access: Access,
    pub pa: u64,
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
    pub hold: Hold,
}

/// What is to go wrong with whatever is counted.
#[derive(Debug)]
pub(super) struct Counted<F> {
    pub all: Vec<(u32, F, Option<u64>)>,
    /// The next of these; none: 0.
    pub next: u32,
    pub count: u32,
}

/// What can go wrong at a point that is counted.
pub(super) trait AtPoint: Copy + PartialEq {
    /// Whether it takes place before the point is reached, if at all.
    fn comes_before(self) -> bool {
        false
    }
}

impl AtPoint for BarrierFault {}
impl AtPoint for AccessFault {}
impl AtPoint for InterruptFault {
    fn comes_before(self) -> bool {
        matches!(self, InterruptFault::Early(_))
    }
}

impl<F: AtPoint> Counted<F> {
    pub fn new(mut all: Vec<(u32, F, Option<u64>)>) -> Self {
        all.sort_by_key(|(number, ..)| *number);
        let mut counted = Counted {
            all,
            next: 0,
            count: 0,
        };
        counted.set_count(0);
        counted
    }

    pub fn set_count(&mut self, count: u32) {
        self.count = count;
        let next = self.all.iter().find(|(number, ..)| *number > count);
        self.next = next.map_or(0, |(number, ..)| *number);
    }

    /// One more; what goes wrong with it.
    #[inline]
    pub fn count(&mut self, now: u64) -> Option<F> {
        // What comes after 2^32 is none of anybody's.
        self.count = self.count.saturating_add(1);
        if self.count != self.next {
            return None;
        }
        self.reached(now)
    }

    /// What was to go wrong with the last that was counted cannot go wrong with it.
    pub fn could_not(&mut self) {
        let count = self.count;
        let one = self.all.iter_mut().find(|(n, ..)| *n == count);
        if let Some(one) = one {
            one.2 = None;
        }
    }

    #[cold]
    #[inline(never)]
    fn reached(&mut self, now: u64) -> Option<F> {
        let number = self.count;
        self.set_count(number);
        let one = self.all.iter_mut().find(|(n, ..)| *n == number)?;
        // What was to come before has, or has not.
        if !one.1.comes_before() {
            one.2 = Some(now);
        }
        Some(one.1)
    }
}

/// The faults of a run.
#[derive(Debug)]
pub(super) struct Injector {
    pub faults: Vec<Fault>,
    pub barriers: Counted<BarrierFault>,
    pub interrupts: Counted<InterruptFault>,
    pub accesses: Counted<AccessFault>,
    pub lines: Vec<HeldLine>,
    /// There were more than there is room for, which were left out.
    pub lines_full: bool,
    pub writes: Vec<HeldWrite>,
    /// In so many ticks, the first write that waits for a time is to come.
    pub wake: Option<Ticks>,
    /// Lines whose devices have accessed memory since the last interrupt, by bits.
    pub early: u64,
}

/// Counters, and what waits.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InjectorState {
    pub barriers: u32,
    pub interrupts: u32,
    pub accesses: u32,
    pub lines: Vec<HeldLine>,
    pub lines_full: bool,
    pub writes: Vec<HeldWrite>,
    /// Of the faults of this run, what has taken place, and when.
    pub done: Vec<(Fault, u64)>,
}

/// What goes wrong with operations, by number.
pub(super) fn of_operations(faults: &[Fault]) -> Vec<(u32, OperationFault)> {
    let of = |fault: &Fault| match *fault {
        Fault::Operation(number, what) => Some((number, what)),
        _ => None,
    };
    faults.iter().filter_map(of).collect()
}

impl Injector {
    pub fn new(faults: &[Fault]) -> Self {
        let (mut barriers, mut interrupts, mut accesses) = (Vec::new(), Vec::new(), Vec::new());
        for fault in faults {
            match *fault {
                // Those are with the operations, and with the host.
                Fault::Operation(..) | Fault::Host(..) => {}
                Fault::Barrier(n, what) => barriers.push((n, what, None)),
                Fault::Interrupt(n, what) => interrupts.push((n, what, None)),
                Fault::Access(n, what) => accesses.push((n, what, None)),
            }
        }
        Injector {
            faults: faults.to_vec(),
            barriers: Counted::new(barriers),
            interrupts: Counted::new(interrupts),
            accesses: Counted::new(accesses),
            lines: Vec::new(),
            lines_full: false,
            writes: Vec::new(),
            wake: None,
            early: 0,
        }
    }

    /// When a fault that is of no operation took place.
    pub fn happened(&self, fault: Fault) -> Option<u64> {
        fn at<F: PartialEq>(counted: &Counted<F>, number: u32, what: F) -> Option<u64> {
            let mut all = counted.all.iter();
            all.find(|(n, f, _)| *n == number && *f == what)?.2
        }
        match fault {
            Fault::Operation(..) | Fault::Host(..) => None,
            Fault::Barrier(n, what) => at(&self.barriers, n, what),
            Fault::Interrupt(n, what) => at(&self.interrupts, n, what),
            Fault::Access(n, what) => at(&self.accesses, n, what),
        }
    }

    pub fn set_happened(&mut self, fault: Fault, when: u64) {
        fn at<F: PartialEq>(counted: &mut Counted<F>, number: u32, what: F, when: u64) {
            let mut all = counted.all.iter_mut();
            if let Some(one) = all.find(|(n, f, _)| *n == number && *f == what) {
                one.2 = Some(when);
            }
        }
        match fault {
            Fault::Operation(..) | Fault::Host(..) => {}
            Fault::Barrier(n, what) => at(&mut self.barriers, n, what, when),
            Fault::Interrupt(n, what) => at(&mut self.interrupts, n, what, when),
            Fault::Access(n, what) => at(&mut self.accesses, n, what, when),
        }
    }
}
