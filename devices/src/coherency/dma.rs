// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The devices' side of the domain.

use std::ops::Range;

use super::config::SnoopWrite;
use super::domain::Domain;
use super::hash::Item;
use super::line::{
    ALIASED, DESCRIPTOR, DIVERGED, DMA, IN_FLIGHT_READ, IN_FLIGHT_WRITE, PAGE, PAGE_LINES, State,
    UNREAD, parts,
};
use super::mutate::{Rule, off};
use super::rest::Kinds;
use super::sanitizer::{ByMaster, Subject};
use super::who::Who;
use crate::cpu::LINE;
use crate::dma::{
    Access, Content, Direction, DmaError, DmaMemory, Doorbell, MasterId, Order, Port, StartedBy,
    Transfer, TransferId,
};
use crate::events::{Event, Kind};
use crate::faults::Until;

/// An access of a master: what is the same for all its lines.
#[derive(Debug)]
pub(super) struct Request {
    /// But for its bytes and the word that handed the memory over, which are by line.
    pub by: ByMaster,
    /// That word's offset in RAM, if there is one.
    pub handover: Option<u64>,
    pub transfer: TransferId,
    pub snoops: bool,
}

impl Request {
    /// Makes `by` its part in one line: `bytes` of it.
    #[inline]
    fn on(&self, by: &mut ByMaster, line: u64, bytes: u64) {
        // The word is of 4 bytes, and aligned.
        let word = self.handover.filter(|offset| offset / LINE == line);
        by.bytes = bytes;
        by.handover = word.map_or(0, |offset| 0xf << (offset % LINE / 4 * 4));
    }
}

impl Domain {
    pub(super) fn port(&self, master: MasterId) -> Port {
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
            Order::Unprompted | Order::Word { .. } => (self.sanitizer.unprompted(), None),
            Order::Doorbell(doorbell) => (doorbell, None),
            Order::Handover {
                word, idle_until, ..
            } => self.handed_over(word, idle_until, snoops),
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
        if off(Rule::Handover) {
            return (idle_until, None);
        }
        // Nobody tells when the word was stored: it may have been while the device was at work.
        if self.images.watches_ram() {
            return (self.sanitizer.unprompted(), None);
        }
        let Some(offset) = self.offset(word, 4) else {
            return (idle_until, None);
        };
        let (line, cold) = self.lines.with_cold(offset / LINE);
        let words = cold.rare().words.as_deref();
        let stored = words.and_then(|words| match snoops {
            true => words.last_store(offset % LINE),
            false => words.last_store_at_poc(offset % LINE),
        });
        match stored {
            Some(stored) if stored.at > idle_until.at => {
                let by = StartedBy::Word;
                (Doorbell { by, ..stored }, Some(offset))
            }
            Some(_) => (idle_until, None),
            // Stored before anybody watched it: before the doorbell, or who knows when.
            None if line.written_at.max(cold.rare().alias_written_at) > idle_until.at => {
                (self.sanitizer.unprompted(), None)
            }
            None => (idle_until, None),
        }
    }

    /// Whether a read of a master that polls is judged: it found the memory to be its own, or would have
    /// but for a clean that nobody did before the doorbell. Before that, software may still be at work
    /// there, and the master takes no notice.
    fn takes_over(&mut self, order: Order, snoops: bool) -> bool {
        let (word, shows, idle_until) = match order {
            Order::Handover {
                word,
                shows,
                idle_until,
            } => (word, shows, idle_until),
            Order::Word { word, counts } => return snoops || self.is_ambiguous(word, counts),
            _ => return true,
        };
        let Some(offset) = self.offset(word, 4) else {
            return true;
        };
        self.look_at(offset, 4);
        let (mut ram, mut dram) = ([0; 4], [0; 4]);
        self.images.read_ram(offset, &mut ram);
        self.images.read_dram(offset, &mut dram);
        let says_so = |word| u32::from_le_bytes(word) & shows == shows;
        if says_so(if snoops { ram } else { dram }) {
            return true;
        }
        says_so(ram) && self.lines.line(offset / LINE).written_at <= idle_until.at
    }

    /// Whether a word may be read as two that differ in what counts of it; also where no store to it is
    /// uncleaned, so that the access is judged for all else.
    fn is_ambiguous(&mut self, word: u64, counts: u64) -> bool {
        let Some(offset) = self.offset(word, 8).filter(|offset| offset % 8 == 0) else {
            return true;
        };
        self.look_at(offset, 8);
        if self.lines.line(offset / LINE).uncleaned >> (offset % LINE) & 0xff == 0 {
            return true;
        }
        let (mut ram, mut dram) = ([0; 8], [0; 8]);
        self.images.read_ram(offset, &mut ram);
        self.images.read_dram(offset, &mut dram);
        (u64::from_le_bytes(ram) ^ u64::from_le_bytes(dram)) & counts != 0
    }

    /// What has started a master for a read that was made, if software has, and the read was judged.
    pub(super) fn started_by(&mut self, access: Access, snoops: bool) -> Option<Doorbell> {
        if !self.takes_over(access.order, snoops) {
            return None;
        }
        let release = match self.transfers.release(access.transfer) {
            Some((release, _)) => release,
            None => self.resolve(access.order, snoops).0,
        };
        (release.by != StartedBy::Itself).then_some(release)
    }

    /// What there is to know of an access before it is looked at line by line.
    fn request(&mut self, who: Who, access: Access, snoops: bool) -> Request {
        let taken_up = self.transfers.release(access.transfer);
        let (release, handover) = match taken_up {
            Some((release, _)) => (release, None),
            None => self.resolve(access.order, snoops),
        };
        let by = ByMaster {
            who,
            in_flight: self.transfers.is_open(access.transfer),
            bytes: 0,
            content: access.content,
            release,
            handover: 0,
        };
        Request {
            by,
            handover,
            transfer: access.transfer,
            snoops,
        }
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

    fn snooping_write(&mut self, number: u64, by: &ByMaster, id: TransferId, at: u64, data: &[u8]) {
        let ByMaster { who, bytes, .. } = *by;
        match self.snoop_write {
            SnoopWrite::WriteThrough => {
                if self.lines.line(number).cached() {
                    self.evict(number);
                }
                self.images.write_ram(at, data);
                self.images.write_dram(at, data);
                let in_flight =
                    self.being_written(number, id) | self.written_by_another(number, by);
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

    /// `left_behind`: if transfers have marked the line as theirs, they are over.
    #[inline]
    fn snooping_read(&mut self, number: u64, by: &ByMaster, left_behind: bool) {
        let (page, index) = self.lines.page(number);
        let line = &mut page.lines[index];
        line.flags |= DMA;
        if left_behind && line.flags & IN_FLIGHT_WRITE != 0 {
            line.flags &= !(IN_FLIGHT_WRITE | IN_FLIGHT_READ);
        }
        let flags = line.flags;
        if page.cold.is_some() || self.sanitizer.is_unordered(number, line, by) {
            let (line, cold) = page.with_cold(index);
            let images = &self.images;
            let mut s = Subject {
                number,
                line,
                cold,
                images,
            };
            self.sanitizer.snooping_read(&mut s, by);
        }
        if flags & IN_FLIGHT_WRITE != 0 {
            self.check_ownership(number, by.bytes, false, by.who);
        }
    }

    /// A read of descriptors that is of no consequence.
    fn look(&mut self, offset: u64, buf: &mut [u8], snoops: bool) {
        match snoops {
            true => self.images.read_ram(offset, buf),
            false => self.images.read_dram(offset, buf),
        }
        for (number, ..) in parts(offset, buf.len() as u64) {
            self.watch_descriptors(number);
        }
    }

    /// A read within one page.
    fn read_lines(&mut self, kind: Kinds, request: &Request, offset: u64, buf: &mut [u8]) {
        if self.lines.undisturbed(kind) {
            self.read_piece(request, offset, buf);
            return;
        }
        let mut left = buf;
        for (number, bytes, n) in parts(offset, left.len() as u64) {
            let (piece, rest) = left.split_at_mut(n);
            left = rest;
            // The cache may write a line back just before its access, so they are read one by one.
            self.before_dma(number, false);
            let at = number * LINE + u64::from(bytes.trailing_zeros());
            self.read_piece(request, at, piece);
            self.after_dma(number, false);
        }
    }

    /// A read within one page, while which the cache does nothing.
    fn read_piece(&mut self, request: &Request, offset: u64, buf: &mut [u8]) {
        // What the page holds at power-on is there once it is made.
        self.lines.page(offset / LINE);
        if request.snoops {
            self.images.read_ram(offset, buf);
        } else {
            self.images.read_dram(offset, buf);
        }
        let mut by = request.by;
        // Asked once for several lines; of a single one it is asked only if it is marked.
        let several = request.snoops && buf.len() as u64 > LINE;
        let left_behind = several && !self.transfers.are_at(offset, buf.len());
        for (number, bytes, _) in parts(offset, buf.len() as u64) {
            request.on(&mut by, number, bytes);
            if request.snoops {
                self.snooping_read(number, &by, left_behind);
            } else {
                let mut s = Subject::new(&mut self.lines, &self.images, number);
                self.sanitizer.non_snooping_read(&mut s, &by);
            }
            if by.content == Content::Descriptor {
                self.watch_descriptors(number);
            }
        }
    }

    /// A write within one page.
    fn write_lines(&mut self, kind: Kinds, request: &Request, offset: u64, data: &[u8]) {
        if !request.snoops && self.lines.undisturbed(kind) {
            self.write_piece(request, offset, data);
            return;
        }
        let mut by = request.by;
        let mut left = data;
        for (number, bytes, n) in parts(offset, data.len() as u64) {
            let (piece, rest) = left.split_at(n);
            left = rest;
            let at = number * LINE + u64::from(bytes.trailing_zeros());
            self.before_dma(number, !request.snoops);
            if request.snoops {
                request.on(&mut by, number, bytes);
                self.event(number, &by);
                let mut s = Subject::new(&mut self.lines, &self.images, number);
                note_write(&mut s, &by, self.dma_writes);
                self.snooping_write(number, &by, request.transfer, at, piece);
            } else {
                self.write_piece(request, at, piece);
            }
            self.after_dma(number, !request.snoops);
        }
    }

    /// What a master writes may be an event.
    #[inline]
    fn event(&mut self, number: u64, by: &ByMaster) {
        if let (Content::Event, Some(master)) = (by.content, by.who.device_master()) {
            self.event_written(master, number, by.bytes);
        }
    }

    /// A write of a master that does not snoop within one page, while which the cache does nothing.
    fn write_piece(&mut self, request: &Request, offset: u64, data: &[u8]) {
        let mut by = request.by;
        // Lines, as a mask, that stay in the cache.
        let mut cached = 0;
        for (number, bytes, _) in parts(offset, data.len() as u64) {
            request.on(&mut by, number, bytes);
            self.event(number, &by);
            let mut s = Subject::new(&mut self.lines, &self.images, number);
            if s.line.state == State::Clean && s.line.flags & ALIASED != 0 {
                self.note_eviction(number);
                self.drop_line(number);
                s = Subject::new(&mut self.lines, &self.images, number);
            }
            note_write(&mut s, &by, self.dma_writes);
            self.sanitizer.non_snooping_write(&mut s, &by);
            if s.line.state == State::Clean {
                s.line.flags |= DIVERGED;
            }
            cached |= u64::from(s.line.cached()) << (number % PAGE_LINES as u64);
        }
        self.write_behind(offset, data, cached);
    }

    /// Marks the lines that a non-snooping transfer owns. The marks only say where to look for an
    /// owner; the CPU's next access after the end of the transfer takes them away.
    fn own(&mut self, direction: Direction, memory: &Range<u64>, id: TransferId) {
        // The part within RAM.
        let end = memory.end.saturating_sub(self.base);
        let bytes = memory.start.saturating_sub(self.base)..end.min(self.len);
        let lines = bytes.start / LINE..bytes.end.div_ceil(LINE);
        if !self.transfers.own(id, bytes) {
            return;
        }
        let flag = match direction {
            Direction::ToMemory => IN_FLIGHT_WRITE,
            Direction::FromMemory => IN_FLIGHT_READ,
        };
        self.lines.own(lines, flag);
    }

    /// The memory of a transfer is not all known beforehand, and not watched.
    pub(crate) fn not_all_is_watched(&mut self) {
        self.transfers.in_flight_overflow = true;
    }

    /// Opens a transfer whose bytes are in `memory`, in pieces of physical addresses; see
    /// [`DmaMemory::transfer_open`].
    pub(crate) fn open_in(
        &mut self,
        master: MasterId,
        transfer: Transfer,
        order: Order,
        memory: &[Range<u64>],
    ) -> TransferId {
        let snoops = self.port(master).snoops_reads();
        let (release, _) = self.resolve(order, snoops);
        let now = self.sanitizer.now;
        let id = self.transfers.open(master, transfer, release, now);
        self.note_open(master, &transfer, id);
        let port = self.port(master);
        let snoops = match transfer.direction {
            Direction::FromMemory => port.snoops_reads(),
            Direction::ToMemory => port.snoops_writes(),
        };
        if !(snoops && transfer.snoop) {
            for piece in memory {
                self.own(transfer.direction, piece, id);
            }
        }
        if self.holds_lines() {
            for piece in memory {
                self.after_transfer(Until::Start, piece);
            }
        }
        id
    }
}

/// A master makes its write number `dma_write` to a line: who was it, for CPUs that load that.
#[inline]
pub(super) fn note_write(s: &mut Subject<'_>, by: &ByMaster, dma_write: u32) {
    s.line.dma_write = dma_write;
    if s.line.flags & UNREAD == 0 {
        s.cold.unread = 0;
    }
    s.line.flags |= UNREAD;
    s.cold.unread |= by.bytes;
    s.cold.unread_by = by.who;
}

impl Domain {
    /// Reads, whatever is to go wrong.
    fn read_now(
        &mut self,
        master: MasterId,
        access: Access,
        pa: u64,
        buf: &mut [u8],
    ) -> Result<(), DmaError> {
        let offset = self.checked_offset(pa, buf.len())?;
        self.look_at(offset, buf.len() as u64);
        let transfer = access.transfer;
        let snoops = access.snoop && self.port(master).snoops_reads();
        let who = Who::device(master, transfer, snoops);
        self.cache.count_dma(buf.len(), 0);
        if !self.takes_over(access.order, snoops) {
            self.look(offset, buf, snoops);
            self.hash.add_dma(Item::DmaRead, offset, master, buf);
            return Ok(());
        }
        let request = self.request(who, access, snoops);
        self.transfers.moved(transfer, buf.len());
        self.note_dma(false, &request, offset, buf.len());
        let kind = Kinds::read(snoops);
        for (at, range) in pages(offset, buf.len()) {
            let piece = &mut buf[range];
            if !self.read_at_rest(kind, &request, at, piece) {
                self.read_lines(kind, &request, at, piece);
                self.let_rest(kind, &request, at, piece.len());
            }
        }
        self.hash.add_dma(Item::DmaRead, offset, master, buf);
        Ok(())
    }

    /// Writes, whatever is to go wrong.
    pub(super) fn write_now(
        &mut self,
        master: MasterId,
        access: Access,
        pa: u64,
        data: &[u8],
    ) -> Result<(), DmaError> {
        let offset = self.checked_offset(pa, data.len())?;
        self.look_at(offset, data.len() as u64);
        let transfer = access.transfer;
        let snoops = access.snoop && self.port(master).snoops_writes();
        let who = Who::device(master, transfer, snoops);
        let request = self.request(who, access, snoops);
        self.transfers.moved(transfer, data.len());
        self.dma_writes = self.dma_writes.saturating_add(1);
        self.cache.count_dma(0, data.len());
        self.hash.add_dma(Item::DmaWrite, offset, master, data);
        self.note_dma(true, &request, offset, data.len());
        let kind = Kinds::write(snoops, self.snoop_write);
        for (at, range) in pages(offset, data.len()) {
            let piece = &data[range];
            if !self.write_at_rest(kind, &request, at, piece) {
                self.write_lines(kind, &request, at, piece);
                self.let_rest(kind, &request, at, piece.len());
            }
        }
        Ok(())
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
        let late = self.late_writes();
        let id = (master, access);
        let found = self.found(pa, buf.len());
        let access = match self.access_fault() {
            None => access,
            Some(fault) => self.disturb_read(fault, access, pa, buf.len())?,
        };
        self.read_now(master, access, pa, buf)?;
        if let Some(found) = found {
            self.count_access(found, id, false, (pa, buf));
        }
        if late != 0 {
            self.after_access(master, late);
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
        let late = self.late_writes();
        let id = (master, access);
        let found = self.found(pa, data.len());
        match self.access_fault() {
            None => {
                self.write_now(master, access, pa, data)?;
                if let Some(found) = found {
                    self.count_access(found, id, true, (pa, data));
                }
            }
            Some(fault) => {
                self.checked_offset(pa, data.len())?;
                let (access, data) = self.disturb_write(fault, id, pa, data)?;
                if !data.is_empty() {
                    self.write_now(master, access, pa, data)?;
                }
            }
        }
        if late != 0 {
            self.after_access(master, late);
        }
        Ok(())
    }

    fn doorbell(&mut self, master: MasterId) -> Doorbell {
        self.note_doorbell(master);
        let doorbell = self.sanitizer.doorbell();
        self.counter.doorbell(doorbell.cpu, master);
        doorbell
    }

    fn transfer_open(&mut self, master: MasterId, transfer: Transfer, order: Order) -> TransferId {
        self.open_in(master, transfer, order, &[transfer.range()])
    }

    fn transfer_close(&mut self, master: MasterId, id: TransferId) {
        let memory = self.transfers.memory(id).filter(|_| self.holds_lines());
        let closed = self.transfers.close(master, id, self.sanitizer.now);
        if let Some(bytes) = closed {
            self.sanitizer.note(Kind::Transfer, |_| Event::Closed {
                transfer: id,
                master,
                bytes,
            });
        }
        if let Some(memory) = memory {
            self.after_transfer(Until::End, &memory);
        }
        if self.holds_writes() {
            self.after_end(id);
        }
    }
}

/// The parts of an access page by page: where in RAM each begins, and what it is of the data.
fn pages(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let n = (len - done).min((PAGE - at % PAGE) as usize);
        let part = (at, done..done + n);
        done += n;
        (n > 0).then_some(part)
    })
}
