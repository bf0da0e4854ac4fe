// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The order of loads: a driver that learns from memory that data is there has to order its loads of
//! the data behind the load that told it (Documentation/memory-barriers.txt, `dma_rmb()`).
//!
//! Where the line is drawn: a master is only judged by the last event it has written, and only if
//! the CPU has not read a register of it since the data was written; a driver that reads a status
//! register learns of the data by that, and `readl()` has its own barrier. Control and address
//! dependencies between loads are not seen, so code that rests on them alone would be found.

use super::census::Next;
use super::completion::Completion;
use super::domain::Domain;
use super::findings::Finding;
use super::line::UNREAD;
use super::sanitizer::Subject;
use super::who::Who;
use crate::cpu::CpuId;
use crate::cpu::LINE;
use crate::dma::MasterId;
use crate::hazard::{HazardKind, Why};

impl Domain {
    /// A CPU has read a register of `master`.
    pub fn register_read(&mut self, master: MasterId) {
        let known = self.dma_writes;
        if let Some(completion) = self.completions.get_mut(usize::from(master.0)) {
            completion.known = known;
        }
    }

    /// `master` has written an event.
    pub(super) fn event_written(&mut self, master: MasterId, line: u64, bytes: u64) {
        let event = self.dma_writes;
        if let Some(completion) = self.completions.get_mut(usize::from(master.0)) {
            *completion = Completion {
                event,
                line,
                bytes,
                seen_at: 0,
                seen_by: CpuId::BOOT,
                known: completion.known,
            };
        }
    }

    /// A CPU has loaded bytes of a line that a master has written: has it made sure that it did not
    /// load them before it knew?
    pub(super) fn loaded_unread(&mut self, number: u64, bytes: u64, reader: Who) {
        self.counter.next(self.base / LINE + number, Next::Cpu);
        let mut s = Subject::new(&mut self.lines, &self.images, number);
        let writer = s.cold.unread_by;
        let Some(master) = writer.device_master() else {
            s.line.flags &= !UNREAD;
            return;
        };
        let Some(completion) = self.completions.get_mut(usize::from(master.0)) else {
            return;
        };
        let write = s.line.dma_write;
        if completion.line == number && completion.bytes & bytes != 0 && completion.event == write {
            if completion.seen_at == 0 {
                completion.seen_at = self.sanitizer.now;
                completion.seen_by = self.sanitizer.cpu;
            }
            return;
        }
        // What stands beside it need not be the master's.
        let bytes = bytes & s.cold.unread;
        if bytes == 0 {
            return;
        }
        if write <= completion.known {
            s.line.flags &= !UNREAD;
            return;
        }
        let event_seen = completion.seen_at != 0 && write <= completion.event;
        if !event_seen {
            return;
        }
        // Another CPU has learnt of it from the one that has seen the event.
        let same_cpu = completion.seen_by == self.sanitizer.cpu;
        let seen_at = completion.seen_at;
        let barriers = self.sanitizer.barriers();
        if same_cpu {
            self.counter.data_loaded(self.sanitizer.cpu, seen_at);
        }
        if same_cpu && seen_at > barriers.loads {
            let stood = barriers.loads_of_cpus.filter(|(at, _)| *at >= seen_at);
            let f = Finding {
                kind: HazardKind::MissingBarrier,
                why: Why::Unordered,
                cause: u64::from(writer.bits()) | 1 << 33,
                bytes,
                wrong: 0,
                writer,
                reader,
                device: writer,
                written_at: s.line.written_at.max(s.cold.poc_written_at),
                started: None,
                stood: stood.map(|(_, barrier)| barrier),
                signalled: None,
            };
            self.sanitizer.record(&mut s, f);
            s.cold.unread &= !bytes;
            if s.cold.unread != 0 {
                return;
            }
        }
        s.line.flags &= !UNREAD;
    }
}
