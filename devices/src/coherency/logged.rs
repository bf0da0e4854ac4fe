// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the domain tells of lines: those that a master has touched, or is about to.

use super::dma::Request;
use super::domain::Domain;
use super::line::{LOGGED, PAGE_LINES, State};
use super::who::Who;
use crate::cpu::LINE;
use crate::cpu::MemoryType;
use crate::dma::{MasterId, Transfer, TransferId};
use crate::events::{Event, Kind};

impl Domain {
    /// A CPU loads or stores `bytes` of a line, and not on the fast path.
    #[inline]
    pub(super) fn note_access(
        &mut self,
        number: u64,
        bytes: u64,
        store: bool,
        who: Who,
        memory: MemoryType,
    ) {
        if !self.sanitizer.tap.wants(Kind::Access) {
            return;
        }
        let line = self.lines.line(number);
        let past = memory == MemoryType::NonCacheable;
        let filled = !past && !line.cached();
        let (Some((cpu, site)), true) = (who.cpu_and_site(), line.flags & LOGGED != 0) else {
            return;
        };
        let first = u64::from(bytes.trailing_zeros());
        let len = u64::from((bytes >> (first & 63)).trailing_ones());
        self.sanitizer.note(Kind::Access, |base| Event::Accessed {
            cpu,
            site,
            store,
            past,
            filled,
            pa: base + number * LINE + first,
            len,
        });
    }

    /// A line comes into the cache. That a CPU's access brings it is told by the access, where that is.
    #[inline]
    pub(super) fn note_fill(&mut self, number: u64, by: Who) {
        if !self.sanitizer.tap.wants(Kind::Cache) || self.lines.line(number).flags & LOGGED == 0 {
            return;
        }
        if by.cpu_and_site().is_some() && self.sanitizer.tap.wants(Kind::Access) {
            return;
        }
        self.sanitizer.note(Kind::Cache, |base| Event::Filled {
            pa: base + number * LINE,
            lines: 1,
            by: by.actor(),
        });
    }

    /// A line leaves the cache, not by maintenance.
    #[inline]
    pub(super) fn note_eviction(&mut self, number: u64) {
        if !self.sanitizer.tap.wants(Kind::Cache) {
            return;
        }
        let line = self.lines.line(number);
        let written_back = line.state == State::Dirty;
        if line.flags & LOGGED != 0 {
            self.sanitizer.note(Kind::Cache, |base| Event::Evicted {
                pa: base + number * LINE,
                lines: 1,
                written_back,
            });
        }
    }

    /// A master is about to read or write `len` bytes at an offset in RAM.
    #[inline]
    pub(super) fn note_dma(&mut self, write: bool, request: &Request, offset: u64, len: usize) {
        if self.sanitizer.tap.wants(Kind::Cache) {
            self.note_new_lines(offset, len);
        }
        let Some(master) = request.by.who.device_master() else {
            return;
        };
        self.sanitizer.note(Kind::Dma, |base| Event::Moved {
            master,
            transfer: request.transfer,
            snoops: request.snoops,
            write,
            content: request.by.content,
            pa: base + offset,
            len: len as u64,
        });
    }

    /// Tells the state of the lines that no master has touched yet.
    #[inline(never)]
    fn note_new_lines(&mut self, offset: u64, len: usize) {
        let now = self.sanitizer.now;
        let per_page = PAGE_LINES as u64;
        let end = (offset + len as u64).div_ceil(LINE);
        let mut number = offset / LINE;
        while number < end {
            let next = end.min((number / per_page + 1) * per_page);
            let (first, count) = ((number % per_page) as usize, (next - number) as usize);
            let page = self.lines.page_at_hand(number);
            let lines = page.into_iter().flat_map(|page| &mut page.lines);
            for (n, line) in lines.enumerate().skip(first).take(count) {
                if line.flags & LOGGED != 0 {
                    continue;
                }
                line.flags |= LOGGED;
                let event = Event::UnderDma {
                    pa: self.sanitizer.base + (number / per_page * per_page + n as u64) * LINE,
                    cached: line.state.as_logged(),
                    cached_by: line.cached_by.actor(),
                    cached_at: line.cached_at(now),
                    uncleaned: line.uncleaned & !line.firmware,
                    clean_op: line.clean_op,
                };
                self.sanitizer.tap.note(now, event);
            }
            number = next;
        }
    }

    /// A transfer begins.
    #[inline]
    pub(super) fn note_open(&mut self, master: MasterId, t: &Transfer, id: TransferId) {
        let start = self.transfers.release(id).map(|(start, _)| start);
        let start = start.unwrap_or_default();
        self.sanitizer.note(Kind::Transfer, |_| Event::Opened {
            transfer: id,
            master,
            direction: t.direction,
            pa: t.pa,
            len: t.len,
            descriptor: t.descriptor,
            channel: t.channel,
            started_at: start.at,
            started_by: start.by,
        });
    }

    /// A register write starts a master.
    #[inline]
    pub(super) fn note_doorbell(&mut self, master: MasterId) {
        let (cpu, site, pa) = self.sanitizer.tap.register;
        self.sanitizer.note(Kind::Handover, |_| Event::Started {
            cpu,
            site,
            pa,
            master,
        });
    }
}
