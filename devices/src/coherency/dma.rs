// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The devices' side of the domain.

use super::LINE;
use super::domain::{Domain, SnoopWrite};
use super::hash::Item;
use super::line::{
    DESCRIPTOR, DIVERGED, DMA, IN_FLIGHT_READ, IN_FLIGHT_WRITE, PAGE_LINES, State, UNREAD, parts,
};
use super::sanitizer::{ByMaster, Subject};
use super::who::Who;
use crate::dma::{
    Access, Content, Direction, DmaError, DmaMemory, Doorbell, MasterId, Order, Port, ToldBy,
    Transfer, TransferId,
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

    /// When a master was told to make an access, if software did that.
    fn resolve(&mut self, order: Order, snoops: bool) -> (Doorbell, Option<u64>) {
        match order {
            Order::Unprompted => (self.sanitizer.unprompted(), None),
            Order::Doorbell(doorbell) => (doorbell, None),
            Order::Handover { word, idle_until } => self.handed_over(word, idle_until, snoops),
        }
    }

    /// A master that polls goes when it is handed the memory, unless it was idle then. Also the
    /// word's offset in RAM, if that was it.
    fn handed_over(
        &mut self,
        word: u64,
        idle_until: Doorbell,
        snoops: bool,
    ) -> (Doorbell, Option<u64>) {
        let Some(offset) = self.offset(word, 4) else {
            return (idle_until, None);
        };
        let (line, cold) = self.lines.with_cold(offset / LINE);
        let words = cold.words.as_deref();
        let stored = words.and_then(|words| match snoops {
            true => words.last_store(offset % LINE),
            false => words.last_store_at_poc(offset % LINE),
        });
        match stored {
            Some(stored) if stored.at > idle_until.at => {
                let by = ToldBy::Word;
                (Doorbell { by, ..stored }, Some(offset))
            }
            Some(_) => (idle_until, None),
            // Stored before anybody watched it: before the doorbell, or who knows when.
            None if line.written_at.max(cold.alias_written_at) > idle_until.at => {
                (self.sanitizer.unprompted(), None)
            }
            None => (idle_until, None),
        }
    }

    /// What there is to know of an access before it is looked at line by line.
    fn by_master(&mut self, who: Who, access: Access, snoops: bool) -> (ByMaster, Option<u64>) {
        let taken_up = self.transfers.release(access.transfer);
        let (release, handover) = match taken_up {
            Some((release, _)) => (release, None),
            None => self.resolve(access.order, snoops),
        };
        let by = ByMaster {
            who,
            bytes: 0,
            content: access.content,
            release,
            handover: 0,
        };
        (by, handover)
    }

    /// From now on, each store to the line's page is noted with its order.
    fn watch_descriptors(&mut self, number: u64) {
        if self.lines.line(number).flags & DESCRIPTOR == 0 {
            let (page, _) = self.lines.page(number);
            for line in &mut page.lines {
                line.flags |= DESCRIPTOR;
            }
        }
    }

    fn snooping_write(&mut self, number: u64, by: ByMaster, id: TransferId, at: u64, data: &[u8]) {
        let ByMaster { who, bytes, .. } = by;
        match self.snoop_write {
            SnoopWrite::WriteThrough => {
                if self.lines.line(number).cached() {
                    self.evict(number);
                }
                self.images.write_ram(at, data);
                self.images.write_dram(at, data);
                let in_flight = self.being_written(number, id);
                let mut s = Subject::new(&mut self.lines, &self.images, number);
                self.sanitizer.write_through(&mut s, by, in_flight);
            }
            SnoopWrite::Allocate => {
                let mut s = Subject::new(&mut self.lines, &self.images, number);
                self.sanitizer.allocating_write(&mut s, by);
                self.cacheable_again(number);
                if !self.lines.line(number).cached() {
                    self.fill(number, Who::default());
                }
                self.images.write_ram(at, data);
                let line = self.lines.line(number);
                line.state = State::Dirty;
                line.cached_by = Who::default();
                line.flags |= DMA;
                let (flags, way) = (line.flags, line.way);
                self.cache.touch(number, way);
                self.coherent_write(number, bytes, who, flags);
            }
        }
        self.check_ownership(number, bytes, true, who);
    }

    fn non_snooping_write(&mut self, number: u64, by: ByMaster, at: u64, data: &[u8]) {
        self.before_dma(number, true);
        if self.lines.line(number).state == State::Clean && self.is_aliased(number) {
            self.drop_line(number);
        }
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

    fn snooping_read(&mut self, number: u64, by: ByMaster) {
        let line = self.lines.line(number);
        line.flags |= DMA;
        let flags = line.flags;
        if self.sanitizer.is_unordered(number, line, by) || self.lines.has_cold(number) {
            let mut s = Subject::new(&mut self.lines, &self.images, number);
            self.sanitizer.snooping_read(&mut s, by);
        }
        if flags & IN_FLIGHT_WRITE != 0 {
            self.check_ownership(number, by.bytes, false, by.who);
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
        let who = Who::device(master, transfer, snoops);
        let (by, handover) = self.by_master(who, access, snoops);
        self.transfers.moved(transfer, buf.len());
        self.cache.count_dma(buf.len(), 0);
        let mut at = 0;
        for (number, bytes, n) in parts(offset, buf.len() as u64) {
            self.hash
                .add(Item::DmaRead, number << 8 | u64::from(master.0));
            self.before_dma(number, false);
            let piece = &mut buf[at..at + n];
            let by = ByMaster {
                bytes,
                handover: word_mask(handover, number),
                ..by
            };
            if snoops {
                self.images.read_ram(offset + at as u64, piece);
                self.snooping_read(number, by);
            } else {
                self.images.read_dram(offset + at as u64, piece);
                let mut s = Subject::new(&mut self.lines, &self.images, number);
                self.sanitizer.non_snooping_read(&mut s, by);
            }
            self.hash.add_bytes(&buf[at..at + n]);
            if access.content == Content::Descriptor {
                self.watch_descriptors(number);
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
        let who = Who::device(master, transfer, snoops);
        let (by, handover) = self.by_master(who, access, snoops);
        self.transfers.moved(transfer, data.len());
        self.dma_writes = self.dma_writes.saturating_add(1);
        self.cache.count_dma(0, data.len());
        let mut at = 0;
        for (number, bytes, n) in parts(offset, data.len() as u64) {
            self.hash
                .add(Item::DmaWrite, number << 8 | u64::from(master.0));
            let piece = &data[at..at + n];
            self.hash.add_bytes(piece);
            let by = ByMaster {
                bytes,
                handover: word_mask(handover, number),
                ..by
            };
            let (line, cold) = self.lines.with_cold(number);
            line.dma_write = self.dma_writes;
            if line.flags & UNREAD == 0 {
                cold.unread = 0;
            }
            line.flags |= UNREAD;
            cold.unread |= bytes;
            cold.unread_by = who;
            if access.content == Content::Event {
                self.event_written(master, number, bytes);
            }
            if snoops {
                self.before_dma(number, false);
                self.snooping_write(number, by, transfer, offset + at as u64, piece);
                self.after_dma(number, false);
            } else {
                self.non_snooping_write(number, by, offset + at as u64, piece);
            }
            at += n;
        }
        Ok(())
    }

    fn doorbell(&mut self, _: MasterId) -> Doorbell {
        self.sanitizer.doorbell()
    }

    fn transfer_open(&mut self, master: MasterId, transfer: Transfer, order: Order) -> TransferId {
        let snoops = self.port(master).snoops_reads();
        let (release, _) = self.resolve(order, snoops);
        let now = self.sanitizer.now;
        let id = self.transfers.open(master, transfer, release, now);
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

/// The part of a 4-byte word at `offset` of RAM that lies in a line; words are aligned.
fn word_mask(offset: Option<u64>, line: u64) -> u64 {
    match offset {
        Some(offset) if offset / LINE == line => 0xf << (offset % LINE / 4 * 4),
        _ => 0,
    }
}

const _: () = assert!(PAGE_LINES as u64 * LINE == 4096);
