// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The data transfers of a run.

use std::ops::Range;

use super::MAX_TRANSFERS;
use super::line::{Who, mask};
use super::report::TransferRecord;
use crate::dma::{Direction, MasterId, Transfer, TransferId};

/// Transfers in flight at one time whose memory is watched for the `ownership` rule. Each access
/// to memory in flight looks through them, so their number bounds what a guest can cost.
const MAX_IN_FLIGHT: usize = 1024;

/// A non-snooping transfer in flight and the bytes it owns, as offsets in RAM.
#[derive(Debug)]
struct InFlight {
    id: TransferId,
    who: Who,
    writes: bool,
    bytes: Range<u64>,
}

/// Who owns bytes of a line.
pub(super) enum Owner {
    /// A transfer in flight: these bytes of those asked for.
    Transfer(Who, u64),
    /// Some transfer owns other bytes of the line, or reads them only.
    Elsewhere,
    /// No transfer.
    Nobody,
}

/// All transfers, by ID.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    records: Vec<TransferRecord>,
    /// For each record, the maintenance operation that no DSB had completed when the device was
    /// told to go; 0: none.
    incomplete: Vec<u32>,
    dropped: u64,
    /// In order of opening.
    in_flight: Vec<InFlight>,
}

impl Transfers {
    /// A new transfer of a device that was told to go while operation `incomplete` (0: none) was not
    /// completed. Past the limit it gets the ID of no transfer: it works, but diagnostics cannot
    /// name it.
    pub fn open(
        &mut self,
        master: MasterId,
        transfer: Transfer,
        incomplete: u32,
        now: u64,
    ) -> TransferId {
        if self.records.len() >= MAX_TRANSFERS {
            self.dropped += 1;
            return TransferId::CONTROL;
        }
        let id = TransferId(self.records.len() as u32 + 1);
        let record = TransferRecord {
            id,
            master,
            transfer,
            opened_at: now,
            closed_at: None,
            bytes: 0,
        };
        self.records.push(record);
        self.incomplete.push(incomplete);
        id
    }

    fn get_mut(&mut self, id: TransferId) -> Option<&mut TransferRecord> {
        self.records.get_mut((id.0 as usize).checked_sub(1)?)
    }

    /// The maintenance operation that came too late for the transfer for want of a DSB; 0: none.
    /// `None` for what is no transfer.
    pub fn incomplete(&self, id: TransferId) -> Option<u32> {
        self.incomplete
            .get((id.0 as usize).checked_sub(1)?)
            .copied()
    }

    /// From now on the transfer owns `bytes` of RAM. Returns whether that is watched.
    pub fn own(&mut self, id: TransferId, bytes: Range<u64>) -> bool {
        let full = self.in_flight.len() >= MAX_IN_FLIGHT;
        let Some(record) = self.get_mut(id).filter(|_| !full && !bytes.is_empty()) else {
            return false;
        };
        let owner = InFlight {
            id,
            who: Who::device(record.master, id),
            writes: record.transfer.direction == Direction::ToMemory,
            bytes,
        };
        self.in_flight.push(owner);
        true
    }

    /// Who owns some of `bytes` of a line. A load meets only transfers that write.
    pub fn owner(&self, line: u64, bytes: u64, store: bool) -> Owner {
        let (start, end) = (line * super::LINE, (line + 1) * super::LINE);
        let mut answer = Owner::Nobody;
        for t in &self.in_flight {
            let (from, to) = (t.bytes.start.max(start), t.bytes.end.min(end));
            if from >= to {
                continue;
            }
            let hit = mask(from - start, to - from) & bytes;
            if hit != 0 && (store || t.writes) {
                return Owner::Transfer(t.who, hit);
            }
            answer = Owner::Elsewhere;
        }
        answer
    }

    /// Closes an open transfer of `master`.
    pub fn close(&mut self, master: MasterId, id: TransferId, now: u64) {
        let Some(record) = self.get_mut(id) else {
            return;
        };
        if record.master == master && record.closed_at.is_none() {
            record.closed_at = Some(now);
            self.in_flight.retain(|t| t.id != id);
        }
    }

    /// Counts bytes moved.
    pub fn moved(&mut self, id: TransferId, bytes: usize) {
        if let Some(record) = self.get_mut(id) {
            record.bytes += bytes as u64;
        }
    }

    /// All of them, and how many were not recorded.
    pub fn report(&self) -> (Vec<TransferRecord>, u64) {
        (self.records.clone(), self.dropped)
    }
}
