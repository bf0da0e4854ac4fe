// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Faults in the domain: what becomes of what goes wrong.

use std::ops::Range;

use super::census::{CountedAccess, CountedBarrier, CountedInterrupt, CountedNeighbours};
use super::domain::Domain;
use super::hash::Item;
use super::injector::{HeldLine, HeldWrite, Injector, InjectorState};
use super::limits::{MAX_HELD_LINES, MAX_HELD_WRITES};
use super::line::{DIVERGED, State, parts};
use super::maintenance::Effect;
use super::report;
use crate::clock::Ticks;
use crate::cpu::{Barrier, CacheOp, ChainId, CpuId, LINE, MAX_CPUS, SiteId, line_bit};
use crate::dma::{Access, Content, DmaError, MasterId, TransferId};
use crate::events::Cached;
use crate::faults::{AccessFault, Fault, Hold, Injected, InterruptFault, Until};
use crate::state::{Invalid, at_most, no_longer};

/// Ticks after the end of a transfer after which a write of it comes that was to come after its end: enough for the
/// device to write back descriptors, and for a CPU to be interrupted and to look.
const AFTER_END: u32 = 5000;

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
            lines_full,
            writes,
            // It is fetched in the same call.
            wake: _,
            // Of a run that is counted, and that is not saved.
            early: _,
        } = &self.injector;
        let done = self.injected().into_iter();
        InjectorState {
            barriers: barriers.count,
            interrupts: interrupts.count,
            accesses: accesses.count,
            lines: lines.clone(),
            lines_full: *lines_full,
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
        injector.lines_full = state.lines_full;
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
                let injector = &mut self.injector;
                if injector.lines.len() < MAX_HELD_LINES {
                    injector.lines.push(HeldLine {
                        operation,
                        until,
                        cpu,
                        op,
                        line,
                        site,
                        chain,
                    });
                } else {
                    injector.lines_full = true;
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
                followed: None,
                alone_for_stores: false,
                alone_for_loads: false,
            });
        }
        match self.injector.barriers.count(self.sanitizer.now) {
            None => Some(barrier),
            Some(fault) => fault.applied(barrier),
        }
    }

    /// Counts what a line that an operation does holds, and those beside it.
    #[cold]
    #[inline(never)]
    pub(super) fn count_neighbours(&mut self, operation: u32, number: u64) {
        let lines = self.len / LINE;
        let mut uncleaned = |number: Option<u64>| {
            number
                .filter(|number| *number < lines)
                .is_some_and(|number| {
                    let line = self.lines.line(number);
                    line.uncleaned & !line.firmware != 0
                })
        };
        let counted = CountedNeighbours {
            operation,
            before: uncleaned(number.checked_sub(1)),
            behind: uncleaned(number.checked_add(1)),
            own: uncleaned(Some(number)),
        };
        self.counter.neighbours(counted);
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
        for of_one in due.chunk_by(|a, b| a.cpu == b.cpu) {
            let Some(cpu) = of_one.first().map(|held| held.cpu) else {
                continue;
            };
            let open = self.sanitizer.ops.late(cpu);
            for held in of_one {
                let pa = self.base + held.line * LINE;
                self.maintain(held.cpu, held.op, pa, held.site, held.chain);
            }
            self.sanitizer.ops.on_time(cpu, open);
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
        let snoops = snoops && access.snoop;
        if access.content == Content::Descriptor && !write {
            self.count_order(access, snoops, (pa, data.len()));
        }
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
            snoops,
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

    /// Counts the barrier that alone has ordered what a master has read of descriptors. Goes by the words' stores alone,
    /// and by no rule of the sanitizer.
    fn count_order(&mut self, access: Access, snoops: bool, (pa, len): (u64, usize)) {
        let Some(release) = self.started_by(access, snoops) else {
            return;
        };
        let Some(offset) = self.offset(pa, len as u64) else {
            return;
        };
        let of_words: Vec<_> = parts(offset, len as u64)
            .filter_map(|(number, bytes, _)| {
                let (_, cold) = self.lines.with_cold(number);
                Some((cold.rare().words.clone()?, bytes))
            })
            .collect();
        let cpu = release.cpu;
        self.counter.descriptor_read(&release, |from, to| {
            let mut all = of_words.iter();
            all.any(|(words, bytes)| words.stored_in(*bytes, cpu, from, to))
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
            // There is room for one of each fault.
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
                match border < data.len() {
                    true => hold(border, Hold::End),
                    false => self.injector.accesses.could_not(),
                }
                Ok((access, data.get(..border).unwrap_or(data)))
            }
            // Before, it would be written over.
            AccessFault::Flip { cache, bit } => {
                self.write_now(master, access, pa, data)?;
                self.flip(pa, data.len(), cache, bit);
                Ok((access, &[]))
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
            AccessFault::Torn | AccessFault::Held(_) => {
                self.injector.accesses.could_not();
                Ok(access)
            }
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

    /// A transfer is over: what was to come after it is to come when its device has told of that. If that is more than
    /// one write, the others come now.
    #[cold]
    #[inline(never)]
    pub(super) fn after_end(&mut self, id: TransferId) {
        let waits = |held: &HeldWrite| held.hold == Hold::End && held.access.transfer == id;
        if let Some(first) = self.injector.writes.iter_mut().find(|held| waits(held)) {
            first.hold = Hold::Ticks(AFTER_END);
            self.injector.wake = Some(AFTER_END.into());
        }
        self.write_late(waits);
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
        let early = self.injector.early & line_bit(irq) != 0;
        self.injector.early = 0;
        self.counter.interrupt(CountedInterrupt {
            number: self.injector.interrupts.count.saturating_add(1),
            irq,
            at: self.sanitizer.now,
            early,
        });
        self.injector.interrupts.count(self.sanitizer.now)
    }

    /// Whether the next interrupt, of that line, is to come early; then it has. It is counted all the same when it
    /// comes.
    pub(crate) fn comes_early(&mut self, irq: u8) -> bool {
        self.injector.early |= line_bit(irq);
        let interrupts = &mut self.injector.interrupts;
        let (next, now) = (interrupts.count.saturating_add(1), self.sanitizer.now);
        let early = |one: &&mut (u32, InterruptFault, Option<u64>)| {
            one.0 == next && one.1 == InterruptFault::Early(irq) && one.2.is_none()
        };
        match interrupts.all.iter_mut().find(early) {
            Some(one) => {
                one.2 = Some(now);
                true
            }
            None => false,
        }
    }

    /// Whether interrupts are to come early, or somebody wants to know whether they could.
    #[inline]
    pub(crate) fn may_come_early(&self) -> bool {
        let interrupts = &self.injector.interrupts;
        self.counter.counts() || interrupts.next == interrupts.count.wrapping_add(1)
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
