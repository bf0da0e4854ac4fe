// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! An SMMUv3 (Arm IHI0070) in front of bus masters: stage 1, translation tables of AArch64 with pages of
//! 4 KiB, a linear stream table, command and event queue.
//!
//! The core translates on behalf of the gate, and reads its tables and queues through a port of its own,
//! like any master: whether that port snoops is the board's, and whether a table is visible there is judged
//! as for any descriptor. It remembers configurations and translations until a command invalidates them.
//!
//! Commands are carried out as soon as CMDQ_PROD is written, so CMDQ_CONS has moved by the time of the
//! guest's next access. Not there: stage 2, substreams, stalls, MSI, ATS and PRI, and page 0's alias of what
//! is in page 1; the ID registers say so.

mod command;
mod fault;
mod queue;
mod regs;
mod state;
#[cfg(test)]
mod tests;
mod tlb;
mod walk;

use self::command::{Command, Illegal};
pub use self::fault::{Fault, Why};
use self::queue::Queue;
use self::regs::*;
use self::tlb::Tlb;
use self::walk::{Stream, StreamTable};
use crate::bus::{Context, Device};
use crate::diagnostics::BoundedLog;
use crate::dma::{Access, DmaPort, Doorbell, Order, Translated, Translator};
use crate::registers::{Register, RegisterFile};
use crate::state::{RestoreError, SaveError, Saved, Stateful as _};

/// Bytes of its registers.
pub const BYTES: u64 = 0x2_0000;
/// Streams it can tell apart.
pub const STREAMS: u32 = 1 << STREAM_BITS;

/// Bytes of a command and of an event.
const COMMAND: usize = 16;
const EVENT: usize = 32;

/// The codes of CMDQ_CONS.ERR.
const CERROR_ILL: u32 = 1;
const CERROR_ABT: u32 = 2;

/// The device.
#[derive(Debug)]
pub struct Smmu {
    regs: RegisterFile,
    /// By stream, what is remembered of its configuration.
    streams: Vec<Option<Stream>>,
    tlb: Tlb,
    log: BoundedLog<Fault>,
}

impl Smmu {
    /// After reset: accesses go through untranslated. `coherent` says what its port does.
    pub fn new(coherent: bool) -> Self {
        Smmu {
            regs: RegisterFile::new(table(coherent)),
            streams: vec![None; STREAMS as usize],
            tlb: Tlb::new(),
            log: BoundedLog::new(),
        }
    }

    fn wide(&self, low: u64) -> u64 {
        u64::from(self.regs.get(low + 4)) << 32 | u64::from(self.regs.get(low))
    }

    fn is_on(&self, bit: u32) -> bool {
        self.regs.get(CR0ACK) & bit != 0
    }

    /// Of CR1, whether three fields say that memory is cacheable and shared.
    fn snoops(&self, shareable: u32, outer: u32, inner: u32) -> bool {
        let cr1 = self.regs.get(CR1);
        [shareable, outer, inner]
            .iter()
            .all(|at| cr1 >> at & 3 != 0)
    }

    fn queue(&self, base: u64, most: u32) -> Queue {
        Queue::new(self.wide(base), most)
    }

    /// Errors that are told and not acknowledged.
    fn errors_pending(&self) -> u32 {
        self.regs.get(GERROR) ^ self.regs.get(GERRORN)
    }

    fn raise(&mut self, error: u32) {
        if self.errors_pending() & error == 0 {
            self.regs.modify(GERROR, error, !self.regs.get(GERROR));
        }
    }

    fn events_pending(&self) -> bool {
        let queue = self.queue(EVTQ_BASE, EVTQ_BITS);
        !queue.is_empty(self.regs.get(EVTQ_PROD), self.regs.get(EVTQ_CONS))
    }

    /// Carries out what is in the command queue: no more than it holds.
    fn consume(&mut self, doorbell: Doorbell, port: &mut DmaPort<'_>) {
        let queue = self.queue(CMDQ_BASE, CMDQ_BITS);
        let snoop = self.snoops(4, 2, 0);
        for _ in 0..queue.entries() {
            let (prod, cons) = (self.regs.get(CMDQ_PROD), self.regs.get(CMDQ_CONS));
            let stopped = !self.is_on(CMDQEN) || self.errors_pending() & CMDQ_ERR != 0;
            if stopped || queue.is_empty(prod, cons) {
                return;
            }
            let mut bytes = [0; COMMAND];
            let access = Access {
                snoop,
                ..Access::descriptor(Order::Doorbell(doorbell))
            };
            let read = port.read(access, queue.at(cons, COMMAND), &mut bytes);
            let done = match read {
                Ok(()) => self.carry_out(&bytes).map_err(|Illegal| CERROR_ILL),
                Err(_) => Err(CERROR_ABT),
            };
            match done {
                Ok(()) => self.regs.set(CMDQ_CONS, queue.next(cons)),
                Err(code) => {
                    self.regs.modify(CMDQ_CONS, 0x7f << 24, code << 24);
                    self.raise(CMDQ_ERR);
                    return;
                }
            }
        }
    }

    fn carry_out(&mut self, bytes: &[u8; COMMAND]) -> Result<(), Illegal> {
        match Command::decode(bytes)? {
            // All before has been carried out.
            Command::Sync | Command::Prefetch => {}
            Command::ForgetStreams { first, bits } => {
                for (stream, known) in (0u64..).zip(&mut self.streams) {
                    if stream >> bits == u64::from(first) >> bits {
                        *known = None;
                    }
                }
            }
            Command::ForgetAll => self.tlb.forget(|_| true),
            Command::ForgetAsid { asid } => self.tlb.forget(|entry| entry.asid == asid),
            Command::ForgetAddress { asid, at } => self
                .tlb
                .forget(|entry| entry.covers(at) && asid.is_none_or(|asid| entry.asid == asid)),
        }
        Ok(())
    }

    /// Notes a fault, and tells the guest if it wants to know.
    fn tell(&mut self, fault: Fault, now: u64, port: &mut DmaPort<'_>) {
        if self.log.push(now, fault) {
            log::warn!("SMMU: {fault}");
        }
        let unknown = fault.why == Why::StreamId && self.regs.get(CR2) & RECINVSID == 0;
        let Some(record) = fault.record().filter(|_| self.is_on(EVTQEN) && !unknown) else {
            return;
        };
        let queue = self.queue(EVTQ_BASE, EVTQ_BITS);
        let (prod, cons) = (self.regs.get(EVTQ_PROD), self.regs.get(EVTQ_CONS));
        if queue.is_full(prod, cons) {
            // Told once, until the guest has taken notice.
            if (prod ^ cons) >> 31 == 0 {
                self.regs.set(EVTQ_PROD, prod ^ 1 << 31);
            }
            return;
        }
        let mut bytes = [0; EVENT];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(record) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let access = Access {
            snoop: self.snoops(4, 2, 0),
            ..Access::event()
        };
        match port.write(access, queue.at(prod, EVENT), &bytes) {
            Ok(()) => {
                let next = queue.next(prod);
                self.regs.set(EVTQ_PROD, prod & 1 << 31 | next);
            }
            Err(_) => self.raise(EVTQ_ABT_ERR),
        }
    }

    /// What a stream's accesses come to, remembered or looked up.
    fn stream(&mut self, stream: u32, port: &mut DmaPort<'_>) -> Result<Stream, Why> {
        let known = self.streams.get(stream as usize);
        if let Some(known) = known.copied().flatten() {
            return Ok(known);
        }
        let cfg = self.regs.get(STRTAB_BASE_CFG);
        if cfg >> 16 & 3 != 0 {
            // Two levels, which this one has not.
            return Err(Why::StreamId);
        }
        let table = StreamTable {
            base: self.wide(STRTAB_BASE),
            bits: (cfg & 0x3f).min(STREAM_BITS),
            snoop: self.snoops(10, 8, 6),
        };
        let found = table.look_up(stream, port)?;
        if let Some(known) = self.streams.get_mut(stream as usize) {
            *known = Some(found);
        }
        Ok(found)
    }

    fn look_up(
        &mut self,
        stream: u32,
        at: u64,
        write: bool,
        port: &mut DmaPort<'_>,
    ) -> Result<Translated, Why> {
        let through = Translated {
            at,
            cacheable: true,
        };
        if !self.is_on(SMMUEN) {
            return match self.regs.get(GBPA) & GBPA_ABORT {
                0 => Ok(through),
                _ => Err(Why::Abort),
            };
        }
        let context = match self.stream(stream, port)? {
            Stream::Abort => return Err(Why::Abort),
            Stream::Bypass => return Ok(through),
            Stream::Stage1(context) => context,
        };
        let entry = match self.tlb.get(context.asid, at) {
            Some(entry) => entry,
            None => {
                let entry = context.walk(at, port)?;
                self.tlb.put(entry);
                entry
            }
        };
        if write && !entry.writable {
            return Err(Why::Permission);
        }
        Ok(Translated {
            at: entry.output | at & ((1 << tlb::PAGE_BITS) - 1),
            cacheable: entry.cacheable,
        })
    }
}

impl Translator for Smmu {
    fn translate(
        &mut self,
        stream: u32,
        at: u64,
        write: bool,
        now: u64,
        port: &mut DmaPort<'_>,
    ) -> Option<Translated> {
        match self.look_up(stream, at, write, port) {
            Ok(translated) => Some(translated),
            Err(why) => {
                let fault = Fault {
                    why,
                    stream,
                    at,
                    write,
                };
                self.tell(fault, now, port);
                None
            }
        }
    }

    fn foresee(&mut self, stream: u32, at: u64, port: &mut DmaPort<'_>) -> Option<Translated> {
        self.look_up(stream, at, false, port).ok()
    }
}

impl Device for Smmu {
    fn registers(&self) -> &[Register] {
        self.regs.table()
    }

    fn peek(&self, offset: u64) -> u32 {
        self.regs.get(offset)
    }

    fn write(&mut self, offset: u64, value: u32, ctx: &mut Context<'_>) {
        match offset {
            CR0 => {
                let was = self.regs.get(CR0ACK);
                let is = self.regs.write(CR0, value);
                self.regs.set(CR0ACK, is);
                if is & !was & CMDQEN != 0 {
                    let doorbell = ctx.dma.doorbell();
                    self.consume(doorbell, &mut ctx.dma);
                }
            }
            // What these say is only looked at while what they are for is off.
            STRTAB_BASE..=STRTAB_BASE_CFG if self.is_on(SMMUEN) => {}
            CMDQ_BASE..CMDQ_PROD | CMDQ_CONS if self.is_on(CMDQEN) => {}
            EVTQ_BASE..=0xa4 | EVTQ_PROD if self.is_on(EVTQEN) => {}
            // Takes effect at once.
            GBPA if value & GBPA_UPDATE != 0 => {
                self.regs.write(GBPA, value);
            }
            GBPA => {}
            IRQ_CTRL => {
                let is = self.regs.write(IRQ_CTRL, value);
                self.regs.set(IRQ_CTRLACK, is);
            }
            CMDQ_PROD => {
                self.regs.write(CMDQ_PROD, value);
                let doorbell = ctx.dma.doorbell();
                self.consume(doorbell, &mut ctx.dma);
            }
            GERRORN => {
                let was = self.errors_pending();
                self.regs.write(GERRORN, value);
                if was & !self.errors_pending() & CMDQ_ERR != 0 {
                    // The guest has put something else in the place of what was wrong.
                    let doorbell = ctx.dma.doorbell();
                    self.consume(doorbell, &mut ctx.dma);
                }
            }
            _ => {
                self.regs.write(offset, value);
            }
        }
    }

    fn irq(&self) -> bool {
        let enabled = self.regs.get(IRQ_CTRLACK);
        enabled & IRQ_EVTQ != 0 && self.is_on(EVTQEN) && self.events_pending()
            || enabled & IRQ_GERROR != 0 && self.errors_pending() != 0
    }

    fn translator(&mut self) -> Option<&mut dyn Translator> {
        Some(self)
    }

    fn errors(&self) -> Vec<String> {
        let entries = self.log.entries().iter();
        entries
            .map(|(at, e)| format!("at tick {at}: {e}"))
            .collect()
    }

    fn save(&self) -> Result<Saved, SaveError> {
        self.save_state()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        self.restore_state(saved)
    }
}
