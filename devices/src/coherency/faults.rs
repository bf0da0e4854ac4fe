// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Faults in the domain: at which points they are, and what waits because of them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::census::{CountedAccess, CountedBarrier, CountedInterrupt};
use super::domain::Domain;
use super::hash::Item;
use super::limits::{MAX_HELD_LINES, MAX_HELD_WRITES};
use super::line::{DIVERGED, State, parts};
use super::maintenance::Effect;
use super::report;
use crate::clock::Ticks;
use crate::cpu::{
    Barrier, BarrierAccess, BarrierKind, BarrierScope, CacheOp, ChainId, CpuId, LINE, MAX_CPUS,
    SiteId,
};
use crate::dma::{Access, DmaError, MasterId, TransferId};
use crate::events::Cached;
use crate::faults::{
    AccessFault, BarrierFault, Fault, Hold, Injected, InterruptFault, OperationFault, Until,
};
use crate::state::{Invalid, at_most, no_longer};

/// A `dc` instruction that is late.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct HeldLine {
    operation: u32,
    until: Until,
    cpu: CpuId,
    op: CacheOp,
    line: u64,
    site: SiteId,
    chain: ChainId,
}

/// A master's write that is late.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct HeldWrite {
    master: MasterId,
    access: Access,
    pa: u64,
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
    hold: Hold,
}

/// What is to go wrong with whatever is counted.
#[derive(Debug)]
struct Counted<F> {
    all: Vec<(u32, F, Option<u64>)>,
    /// The next of these; none: 0.
    next: u32,
    count: u32,
}

impl<F: Copy + PartialEq> Counted<F> {
    fn new(mut all: Vec<(u32, F, Option<u64>)>) -> Self {
        all.sort_by_key(|(number, ..)| *number);
        let mut counted = Counted {
            all,
            next: 0,
            count: 0,
        };
        counted.set_count(0);
        counted
    }

    fn set_count(&mut self, count: u32) {
        self.count = count;
        let next = self.all.iter().find(|(number, ..)| *number > count);
        self.next = next.map_or(0, |(number, ..)| *number);
    }

    /// One more; what goes wrong with it.
    #[inline]
    fn count(&mut self, now: u64) -> Option<F> {
        // What comes after 2^32 is none of anybody's.
        self.count = self.count.saturating_add(1);
        if self.count != self.next {
            return None;
        }
        self.reached(now)
    }

    #[cold]
    #[inline(never)]
    fn reached(&mut self, now: u64) -> Option<F> {
        let number = self.count;
        self.set_count(number);
        let one = self.all.iter_mut().find(|(n, ..)| *n == number)?;
        one.2 = Some(now);
        Some(one.1)
    }
}

/// The faults of a run.
#[derive(Debug)]
pub(super) struct Injector {
    faults: Vec<Fault>,
    barriers: Counted<BarrierFault>,
    interrupts: Counted<InterruptFault>,
    accesses: Counted<AccessFault>,
    lines: Vec<HeldLine>,
    writes: Vec<HeldWrite>,
    /// In so many ticks, the first write that waits for a time is to come.
    wake: Option<Ticks>,
}

/// Counters, and what waits.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InjectorState {
    barriers: u32,
    interrupts: u32,
    accesses: u32,
    lines: Vec<HeldLine>,
    writes: Vec<HeldWrite>,
    /// Of the faults of this run, what has taken place, and when.
    done: Vec<(Fault, u64)>,
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
        let mut injector = Injector {
            faults: faults.to_vec(),
            barriers: Counted::new(Vec::new()),
            interrupts: Counted::new(Vec::new()),
            accesses: Counted::new(Vec::new()),
            lines: Vec::new(),
            writes: Vec::new(),
            wake: None,
        };
        for fault in faults {
            match *fault {
                // Those are with the operations.
                Fault::Operation(..) => {}
                Fault::Barrier(n, what) => injector.barriers.all.push((n, what, None)),
                Fault::Interrupt(n, what) => injector.interrupts.all.push((n, what, None)),
                Fault::Access(n, what) => injector.accesses.all.push((n, what, None)),
            }
        }
        injector.barriers = Counted::new(injector.barriers.all);
        injector.interrupts = Counted::new(injector.interrupts.all);
        injector.accesses = Counted::new(injector.accesses.all);
        injector
    }

    /// When a fault that is of no operation took place.
    fn happened(&self, fault: Fault) -> Option<u64> {
        fn at<F: PartialEq>(counted: &Counted<F>, number: u32, what: F) -> Option<u64> {
            let mut all = counted.all.iter();
            all.find(|(n, f, _)| *n == number && *f == what)?.2
        }
        match fault {
            Fault::Operation(..) => None,
            Fault::Barrier(n, what) => at(&self.barriers, n, what),
            Fault::Interrupt(n, what) => at(&self.interrupts, n, what),
            Fault::Access(n, what) => at(&self.accesses, n, what),
        }
    }

    fn set_happened(&mut self, fault: Fault, when: u64) {
        fn at<F: PartialEq>(counted: &mut Counted<F>, number: u32, what: F, when: u64) {
            let mut all = counted.all.iter_mut();
            if let Some(one) = all.find(|(n, f, _)| *n == number && *f == what) {
                one.2 = Some(when);
            }
        }
        match fault {
            Fault::Operation(..) => {}
            Fault::Barrier(n, what) => at(&mut self.barriers, n, what, when),
            Fault::Interrupt(n, what) => at(&mut self.interrupts, n, what, when),
            Fault::Access(n, what) => at(&mut self.accesses, n, what, when),
        }
    }
}

/// The barrier that is left of one with a fault, if any is.
fn disturbed(barrier: Barrier, fault: BarrierFault) -> Option<Barrier> {
    match fault {
        BarrierFault::Removed => None,
        BarrierFault::Dmb => Some(Barrier {
            kind: BarrierKind::Dmb,
            ..barrier
        }),
        BarrierFault::Inner => Some(Barrier {
            scope: BarrierScope::Inner.min(barrier.scope),
            ..barrier
        }),
        BarrierFault::Stores => Some(Barrier {
            access: BarrierAccess::Store,
            ..barrier
        }),
        BarrierFault::Loads => Some(Barrier {
            access: BarrierAccess::Load,
            ..barrier
        }),
    }
}

impl Domain {
    /// What was to go wrong, and whether it did.
    pub(super) fn injected(&self) -> Vec<Injected> {
        let ops = &self.sanitizer.ops;
        let at = |fault: Fault| match fault {
            Fault::Operation(number, what) => ops.went_wrong(number, what),
            other => self.injector.happened(other),
        };
        let all = self.injector.faults.iter();
        all.map(|fault| Injected {
            fault: *fault,
            at: at(*fault),
        })
        .collect()
    }

    /// How many barriers, interrupts and accesses of masters there have been.
    pub(super) fn counted(&self) -> report::Counted {
        report::Counted {
            barriers: self.injector.barriers.count,
            interrupts: self.injector.interrupts.count,
            accesses: self.injector.accesses.count,
        }
    }

    pub(super) fn injector_state(&self) -> InjectorState {
        let Injector {
            faults: _,
            barriers,
            interrupts,
            accesses,
            lines,
            writes,
            // It is fetched in the same call.
            wake: _,
        } = &self.injector;
        let done = self.injected().into_iter();
        InjectorState {
            barriers: barriers.count,
            interrupts: interrupts.count,
            accesses: accesses.count,
            lines: lines.clone(),
            writes: writes.clone(),
            done: done.filter_map(|one| Some((one.fault, one.at?))).collect(),
        }
    }

    pub(super) fn set_injector_state(&mut self, state: InjectorState) -> Result<(), Invalid> {
        no_longer("lines that are late", state.lines.len(), MAX_HELD_LINES)?;
        for held in &state.lines {
            at_most("line that is late", held.line, self.len / LINE)?;
            at_most("CPU of a line", held.cpu.0.into(), MAX_CPUS as u64 - 1)?;
        }
        no_longer("writes that are late", state.writes.len(), MAX_HELD_WRITES)?;
        no_longer("faults", state.done.len(), crate::faults::MAX_FAULTS)?;
        let injector = &mut self.injector;
        injector.barriers.set_count(state.barriers);
        injector.interrupts.set_count(state.interrupts);
        injector.accesses.set_count(state.accesses);
        injector.lines = state.lines;
        injector.writes = state.writes;
        for (fault, at) in state.done {
            match fault {
                Fault::Operation(number, what) => {
                    self.sanitizer.ops.has_gone_wrong(number, what, at);
                }
                other => self.injector.set_happened(other, at),
            }
        }
        Ok(())
    }

    /// What is to be done to a line at once, where the operation goes wrong.
    #[cold]
    #[inline(never)]
    pub(super) fn disturb(
        &mut self,
        effect: Effect,
        (cpu, operation): (CpuId, u32),
        (op, line): (CacheOp, u64),
        (site, chain): (SiteId, ChainId),
    ) -> Option<CacheOp> {
        self.hash.add(Item::Suppressed, line);
        match effect {
            Effect::Done => Some(op),
            Effect::Nothing => None,
            Effect::As(other) => Some(other),
            Effect::AlsoBefore => {
                if let Some(before) = line.checked_sub(1) {
                    self.take_effect(cpu, op, operation, before, site);
                }
                Some(op)
            }
            Effect::Later(until) => {
                // Beyond, lines are not late but left out.
                if self.injector.lines.len() < MAX_HELD_LINES {
                    self.injector.lines.push(HeldLine {
                        operation,
                        until,
                        cpu,
                        op,
                        line,
                        site,
                        chain,
                    });
                }
                None
            }
        }
    }

    /// The barrier that there is, if one comes.
    #[inline]
    pub(super) fn disturbed_barrier(&mut self, cpu: CpuId, barrier: Barrier) -> Option<Barrier> {
        if self.counter.counts() {
            self.counter.barrier(CountedBarrier {
                number: self.injector.barriers.count.saturating_add(1),
                cpu,
                barrier,
                operations: self.sanitizer.ops.incomplete(cpu),
                starts: None,
                at: self.sanitizer.now,
            });
        }
        match self.injector.barriers.count(self.sanitizer.now) {
            None => Some(barrier),
            Some(fault) => disturbed(barrier, fault),
        }
    }

    /// A barrier of `cpu` is about to come: operations that are to do one line more do it.
    #[cold]
    #[inline(never)]
    pub(super) fn widen(&mut self, cpu: CpuId) {
        let now = self.sanitizer.now;
        while let Some((number, op, site, line)) = self.sanitizer.ops.widened(cpu, now) {
            if line < self.len / LINE {
                self.hash.add(Item::Suppressed, line);
                self.take_effect(cpu, op, number, line, site);
            }
        }
    }

    /// Whether operations are late.
    #[inline]
    pub(super) fn holds_lines(&self) -> bool {
        !self.injector.lines.is_empty()
    }

    /// A barrier of `cpu` has come: operations that are late up to then are done now.
    #[cold]
    #[inline(never)]
    pub(super) fn after_barrier(&mut self, cpu: CpuId) {
        self.do_late(|held| held.until == Until::Barrier && held.cpu == cpu);
    }

    /// A transfer of that memory has been taken up, or is over.
    #[cold]
    #[inline(never)]
    pub(super) fn after_transfer(&mut self, until: Until, memory: &Range<u64>) {
        let lines = &self.injector.lines;
        let of_it = |held: &&HeldLine| {
            let pa = self.base + held.line * LINE;
            held.until == until && pa < memory.end && memory.start < pa + LINE
        };
        let concerned: Vec<u32> = lines.iter().filter(of_it).map(|h| h.operation).collect();
        self.do_late(|held| held.until == until && concerned.contains(&held.operation));
    }

    fn do_late(&mut self, mut now: impl FnMut(&HeldLine) -> bool) {
        let (due, late) = std::mem::take(&mut self.injector.lines)
            .into_iter()
            .partition::<Vec<_>, _>(|held| now(held));
        self.injector.lines = late;
        for held in due {
            let pa = self.base + held.line * LINE;
            self.maintain(held.cpu, held.op, pa, held.site, held.chain);
        }
    }

    /// What goes wrong with an access of a master.
    #[inline]
    pub(super) fn access_fault(&mut self) -> Option<AccessFault> {
        self.injector.accesses.count(self.sanitizer.now)
    }

    /// How the cache holds the first line of an access that is to come, and whether a CPU's stores to these bytes
    /// of it are uncleaned;
    /// nothing where nobody counts.
    #[inline]
    pub(super) fn found(&mut self, pa: u64, len: usize) -> Option<(Cached, bool)> {
        if !self.counter.counts() {
            return None;
        }
        let offset = self.offset(pa, 1)?;
        let (number, bytes, _) = parts(offset, len as u64).next()?;
        let line = self.lines.line(number);
        Some((line.state.as_logged(), line.uncleaned & bytes != 0))
    }

    /// Counts an access that was made.
    #[cold]
    #[inline(never)]
    pub(super) fn count_access(
        &mut self,
        (found, uncleaned): (Cached, bool),
        (master, access): (MasterId, Access),
        write: bool,
        (pa, data): (u64, &[u8]),
    ) {
        let port = self.port(master);
        let snoops = match write {
            true => port.snoops_writes(),
            false => port.snoops_reads(),
        };
        let last = data.len().saturating_sub(4);
        let mut word = [0; 4];
        let bytes = data.get(last..).unwrap_or_default();
        word.iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        self.counter.access(CountedAccess {
            number: self.injector.accesses.count,
            master,
            transfer: access.transfer,
            content: access.content,
            write,
            snoops: snoops && access.snoop,
            pa,
            // A device moves less at a time.
            len: data.len() as u32,
            word: u32::from_le_bytes(word),
            found,
            uncleaned,
            next: None,
            at: self.sanitizer.now,
        });
    }

    /// Lets a write of a master go wrong; what is left to be written at once, and whether it snoops.
    #[cold]
    #[inline(never)]
    pub(super) fn disturb_write<'a>(
        &mut self,
        fault: AccessFault,
        (master, access): (MasterId, Access),
        pa: u64,
        data: &'a [u8],
    ) -> Result<(Access, &'a [u8]), DmaError> {
        let mut hold = |at: usize, hold: Hold| {
            let hold = match (hold, access.transfer) {
                (Hold::End, TransferId::CONTROL) => Hold::Next,
                (hold, _) => hold,
            };
            if let Hold::Ticks(ticks) = hold {
                self.injector.wake = Some(ticks.into());
            }
            // Beyond, they are lost.
            if self.injector.writes.len() < MAX_HELD_WRITES {
                self.injector.writes.push(HeldWrite {
                    master,
                    access,
                    pa: pa + at as u64,
                    data: data.get(at..).unwrap_or_default().to_vec(),
                    hold,
                });
            }
        };
        match fault {
            AccessFault::Error => Err(DmaError::Injected { pa }),
            AccessFault::Unsnooped => Ok((unsnooped(access), data)),
            AccessFault::Held(until) => {
                hold(0, until);
                Ok((access, &[]))
            }
            AccessFault::Torn => {
                let border = (LINE - pa % LINE) as usize;
                if border < data.len() {
                    hold(border, Hold::End);
                }
                Ok((access, data.get(..border).unwrap_or(data)))
            }
            AccessFault::Flip { cache, bit } => {
                self.flip(pa, data.len(), cache, bit);
                Ok((access, data))
            }
        }
    }

    /// Lets a read of a master go wrong. One cannot be late.
    #[cold]
    #[inline(never)]
    pub(super) fn disturb_read(
        &mut self,
        fault: AccessFault,
        access: Access,
        pa: u64,
        len: usize,
    ) -> Result<Access, DmaError> {
        match fault {
            AccessFault::Error => Err(DmaError::Injected { pa }),
            AccessFault::Unsnooped => Ok(unsnooped(access)),
            AccessFault::Flip { cache, bit } => {
                self.flip(pa, len, cache, bit);
                Ok(access)
            }
            AccessFault::Torn | AccessFault::Held(_) => Ok(access),
        }
    }

    fn flip(&mut self, pa: u64, len: usize, cache: bool, bit: u32) {
        let at = u64::from(bit / 8) % (len as u64).max(1);
        let Some(offset) = self.offset(pa + at, 1) else {
            return;
        };
        let mask = 1_u8 << (bit % 8);
        let line = self.lines.line(offset / LINE);
        let state = line.state;
        let mut byte = [0];
        // What is in no cache is the same in both.
        let (ram, dram) = match state {
            State::Invalid => (true, true),
            State::Clean | State::Dirty => (cache, !cache),
        };
        if state == State::Clean {
            line.flags |= DIVERGED;
        }
        if dram {
            self.images.read_dram(offset, &mut byte);
            self.images.write_dram(offset, &[byte[0] ^ mask]);
        }
        if ram {
            self.images.read_ram(offset, &mut byte);
            self.images.write_ram(offset, &[byte[0] ^ mask]);
        }
    }

    /// Whether writes of masters are late.
    #[inline]
    pub(super) fn holds_writes(&self) -> bool {
        !self.injector.writes.is_empty()
    }

    /// A master has made its next access: what was to come after it comes.
    #[cold]
    #[inline(never)]
    pub(super) fn after_access(&mut self, master: MasterId, before: usize) {
        let mut index = 0;
        self.write_late(|held| {
            index += 1;
            index <= before && held.hold == Hold::Next && held.master == master
        });
    }

    /// How many writes are late.
    pub(super) fn late_writes(&self) -> usize {
        self.injector.writes.len()
    }

    /// A transfer is over: what was to come after it comes.
    #[cold]
    #[inline(never)]
    pub(super) fn after_end(&mut self, id: TransferId) {
        self.write_late(|held| held.hold == Hold::End && held.access.transfer == id);
    }

    /// The time of a write that is late has come.
    pub(crate) fn after_ticks(&mut self) {
        let mut first = true;
        self.write_late(|held| matches!(held.hold, Hold::Ticks(_)) && std::mem::take(&mut first));
    }

    /// In how many ticks [`Domain::after_ticks`] is to be called, told once.
    #[inline]
    pub(crate) fn take_wake(&mut self) -> Option<Ticks> {
        self.injector.wake.take()
    }

    fn write_late(&mut self, mut now: impl FnMut(&HeldWrite) -> bool) {
        let (due, late) = std::mem::take(&mut self.injector.writes)
            .into_iter()
            .partition::<Vec<_>, _>(|held| now(held));
        self.injector.writes = late;
        for held in due {
            // Its place was looked at when it was held.
            let _ = self.write_now(held.master, held.access, held.pa, &held.data);
        }
    }

    /// A device raises its line: what goes wrong with that.
    pub(crate) fn interrupt_fault(&mut self, irq: u8) -> Option<InterruptFault> {
        self.counter.interrupt(CountedInterrupt {
            number: self.injector.interrupts.count.saturating_add(1),
            irq,
            at: self.sanitizer.now,
        });
        self.injector.interrupts.count(self.sanitizer.now)
    }

    /// Whether the next interrupt is to come early; then it has. It is counted all the same when it comes.
    pub(crate) fn comes_early(&mut self) -> bool {
        let interrupts = &mut self.injector.interrupts;
        let (next, now) = (interrupts.count.saturating_add(1), self.sanitizer.now);
        let early = |one: &&mut (u32, InterruptFault, Option<u64>)| {
            one.0 == next && one.1 == InterruptFault::Early && one.2.is_none()
        };
        match interrupts.all.iter_mut().find(early) {
            Some(one) => {
                one.2 = Some(now);
                true
            }
            None => false,
        }
    }

    /// Whether interrupts are to come early.
    #[inline]
    pub(crate) fn may_come_early(&self) -> bool {
        self.injector.interrupts.next == self.injector.interrupts.count.wrapping_add(1)
    }

    /// Accesses of masters so far.
    #[inline]
    pub(crate) fn master_accesses(&self) -> u32 {
        self.injector.accesses.count
    }
}

fn unsnooped(access: Access) -> Access {
    Access {
        snoop: false,
        ..access
    }
}
