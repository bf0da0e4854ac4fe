// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The devices' side of the domain.

use super::LINE;
use super::domain::{Domain, SnoopWrite};
use super::hash::Item;
use super::line::{
    DIVERGED, DMA, IN_FLIGHT_READ, IN_FLIGHT_WRITE, PAGE_LINES, State, WATCHED, Who, parts,
};
use super::sanitizer::{NonSnooping, Subject, fresh_write};
use crate::cpu::SiteId;
use crate::dma::{
    Access, Direction, DmaError, DmaMemory, Doorbell, MasterId, Order, Port, Transfer, TransferId,
};

impl Domain {
    fn port(&self, master: MasterId) -> Port {
        let port = self.ports.get(usize::from(master.0)).copied();
        port.unwrap_or(Port::Hp)
    }

    fn checked_offset(&self, pa: u64, len: usize) -> Result<u64, DmaError> {
        self.offset(pa, len as u64)
            .ok_or(DmaError::OutsideRam { pa, len })
    }

    /// The maintenance operation that came too late for an access of `master`, for want of a DSB.
    fn incomplete(&self, master: MasterId, transfer: TransferId) -> u32 {
        let told = || self.sanitizer.pending.get(usize::from(master.0)).copied();
        let captured = self.transfers.incomplete(transfer);
        captured.or_else(told).unwrap_or(0)
    }

    fn snooping_write(&mut self, number: u64, bytes: u64, who: Who, at: u64, data: &[u8]) {
        match self.snoop_write {
            SnoopWrite::WriteThrough => {
                if self.lines.line(number).cached() {
                    self.evict(number);
                }
                self.images.write_ram(at, data);
                self.images.write_dram(at, data);
                let mut s = Subject::new(&mut self.lines, &self.images, number);
                self.sanitizer.write_through(&mut s, bytes, who);
            }
            SnoopWrite::Allocate => {
                self.cacheable_again(number);
                if !self.lines.line(number).cached() {
                    self.fill(number, SiteId(0));
                }
                self.images.write_ram(at, data);
                let line = self.lines.line(number);
                line.state = State::Dirty;
                line.cached_by = SiteId(0);
                line.flags |= DMA;
                let (flags, way) = (line.flags, line.way);
                self.cache.touch(number, way);
                if flags & WATCHED != 0 {
                    let mut s = Subject::new(&mut self.lines, &self.images, number);
                    self.sanitizer.coherent_write(&mut s, bytes, who);
                } else {
                    let now = self.sanitizer.now;
                    fresh_write(self.lines.line(number), bytes, who, now);
                }
            }
        }
        self.check_ownership(number, bytes, true, who);
    }

    fn non_snooping_write(&mut self, number: u64, by: NonSnooping, at: u64, data: &[u8]) {
        self.before_dma(number, true);
        {
            let mut s = Subject::new(&mut self.lines, &self.images, number);
            self.sanitizer.non_snooping_write(&mut s, by);
        }
        self.images.write_dram(at, data);
        let line = self.lines.line(number);
        match line.state {
            State::Invalid => self.images.write_ram(at, data),
            State::Clean => line.flags |= DIVERGED,
            State::Dirty => {}
        }
        self.after_dma(number, true);
    }

    fn snooping_read(&mut self, number: u64, bytes: u64, who: Who) {
        let line = self.lines.line(number);
        line.flags |= DMA;
        let flags = line.flags;
        if flags & WATCHED != 0 {
            let mut s = Subject::new(&mut self.lines, &self.images, number);
            self.sanitizer.coherent_read(&mut s, bytes, who);
        }
        if flags & IN_FLIGHT_WRITE != 0 {
            self.check_ownership(number, bytes, false, who);
        }
    }

    /// Marks the lines that a non-snooping transfer owns. The marks only say where to look for an
    /// owner; the CPU's next access after the end of the transfer takes them away.
    fn own(&mut self, t: &Transfer, id: TransferId) {
        // The part within RAM.
        let end = t.pa.saturating_add(t.len).saturating_sub(self.base);
        let bytes = t.pa.saturating_sub(self.base)..end.min(self.len);
        let lines = bytes.start / LINE..bytes.end.div_ceil(LINE);
        if !self.transfers.own(id, bytes) {
            return;
        }
        let flag = match t.direction {
            Direction::ToMemory => IN_FLIGHT_WRITE,
            Direction::FromMemory => IN_FLIGHT_READ,
        };
        for number in lines {
            self.lines.line(number).flags |= flag;
        }
    }
}

impl DmaMemory for Domain {
    fn dma_read(
        &mut self,
        master: MasterId,
        access: Access,
        pa: u64,
        buf: &mut [u8],
    ) -> Result<(), DmaError> {
        let offset = self.checked_offset(pa, buf.len())?;
        let transfer = access.transfer;
        let snoops = access.snoop && self.port(master).snoops_reads();
        let who = Who::device(master, transfer);
        let incomplete = self.incomplete(master, transfer);
        self.transfers.moved(transfer, buf.len());
        self.cache.count_dma(buf.len(), 0);
        let mut at = 0;
        for (number, bytes, n) in parts(offset, buf.len() as u64) {
            self.hash
                .add(Item::DmaRead, number << 8 | u64::from(master.0));
            self.before_dma(number, false);
            let piece = &mut buf[at..at + n];
            if snoops {
                self.images.read_ram(offset + at as u64, piece);
                self.snooping_read(number, bytes, who);
            } else {
                self.images.read_dram(offset + at as u64, piece);
                let mut s = Subject::new(&mut self.lines, &self.images, number);
                let by = NonSnooping {
                    who,
                    bytes,
                    incomplete,
                };
                self.sanitizer.non_snooping_read(&mut s, by);
            }
            self.after_dma(number, false);
            at += n;
        }
        Ok(())
    }

    fn dma_write(
        &mut self,
        master: MasterId,
        access: Access,
        pa: u64,
        data: &[u8],
    ) -> Result<(), DmaError> {
        let offset = self.checked_offset(pa, data.len())?;
        let transfer = access.transfer;
        let snoops = access.snoop && self.port(master).snoops_writes();
        let who = Who::device(master, transfer);
        let incomplete = self.incomplete(master, transfer);
        self.transfers.moved(transfer, data.len());
        self.cache.count_dma(0, data.len());
        let mut at = 0;
        for (number, bytes, n) in parts(offset, data.len() as u64) {
            self.hash
                .add(Item::DmaWrite, number << 8 | u64::from(master.0));
            let piece = &data[at..at + n];
            if snoops {
                self.before_dma(number, false);
                self.snooping_write(number, bytes, who, offset + at as u64, piece);
                self.after_dma(number, false);
            } else {
                let by = NonSnooping {
                    who,
                    bytes,
                    incomplete,
                };
                self.non_snooping_write(number, by, offset + at as u64, piece);
            }
            at += n;
        }
        Ok(())
    }

    fn doorbell(&mut self, master: MasterId) -> Doorbell {
        self.told(master);
        Doorbell::default()
    }

    fn transfer_open(&mut self, master: MasterId, transfer: Transfer, _: Order) -> TransferId {
        // Now, as other registers of the device may be written before the data moves.
        let incomplete = self.incomplete(master, TransferId::CONTROL);
        let now = self.sanitizer.now;
        let id = self.transfers.open(master, transfer, incomplete, now);
        let port = self.port(master);
        let snoops = match transfer.direction {
            Direction::FromMemory => port.snoops_reads(),
            Direction::ToMemory => port.snoops_writes(),
        };
        if !snoops {
            self.own(&transfer, id);
        }
        id
    }

    fn transfer_close(&mut self, master: MasterId, id: TransferId) {
        self.transfers.close(master, id, self.sanitizer.now);
    }
}

const _: () = assert!(PAGE_LINES as u64 * LINE == 4096);
