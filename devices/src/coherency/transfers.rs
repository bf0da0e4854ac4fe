// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The data transfers of a run.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::limits::MAX_TRANSFERS;
use super::line::mask;
use super::mutate::{Rule, off};
use super::report::TransferRecord;
use super::who::Who;
use crate::dma::{Direction, Doorbell, MasterId, Transfer, TransferId};
use crate::state::{Invalid, at_most, no_longer, same, times};

/// Transfers in flight at one time whose memory is watched for the `ownership` rule. Each access
/// to memory in flight looks through them, so their number bounds what a guest can cost.
pub(super) const MAX_IN_FLIGHT: usize = 1024;

/// A non-snooping transfer in flight and the bytes it owns, as offsets in RAM.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct InFlight {
    id: TransferId,
    who: Who,
    writes: bool,
    bytes: Range<u64>,
}

impl InFlight {
    /// Which bytes of a line it owns.
    fn owned(&self, line: u64) -> u64 {
        let (start, end) = (line * crate::cpu::LINE, (line + 1) * crate::cpu::LINE);
        let (from, to) = (self.bytes.start.max(start), self.bytes.end.min(end));
        if from < to {
            mask(from - start, to - from)
        } else {
            0
        }
    }
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
    /// For each record, when the device was started, and what was in place by then.
    releases: Vec<Doorbell>,
    /// There were more than [`MAX_TRANSFERS`].
    pub overflow: bool,
    /// There were more than [`MAX_IN_FLIGHT`] in flight.
    pub in_flight_overflow: bool,
    /// In order of opening.
    in_flight: Vec<InFlight>,
}

/// All of them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TransfersState {
    records: Vec<TransferRecord>,
    releases: Vec<Doorbell>,
    overflow: bool,
    in_flight_overflow: bool,
    in_flight: Vec<InFlight>,
}

impl Transfers {
    pub fn state(&self) -> TransfersState {
        let Transfers {
            records,
            releases,
            overflow,
            in_flight_overflow,
            in_flight,
        } = self;
        TransfersState {
            records: records.clone(),
            releases: releases.clone(),
            overflow: *overflow,
            in_flight_overflow: *in_flight_overflow,
            in_flight: in_flight.clone(),
        }
    }

    /// Of `len` bytes of RAM.
    pub fn from_state(state: TransfersState, len: u64) -> Result<Self, Invalid> {
        no_longer("transfers", state.records.len(), MAX_TRANSFERS)?;
        same(
            "releases of transfers",
            &state.releases.len(),
            &state.records.len(),
        )?;
        for (n, record) in (1..).zip(&state.records) {
            same("number of a transfer", &record.id.0, &n)?;
            times(
                "bytes and times of a transfer",
                &[record.bytes, record.opened_at],
            )?;
        }
        state.releases.iter().try_for_each(Doorbell::check)?;
        no_longer("transfers in flight", state.in_flight.len(), MAX_IN_FLIGHT)?;
        for t in &state.in_flight {
            no_longer("transfer in flight", t.id.0 as usize, state.records.len())?;
            at_most("end of a transfer in flight", t.bytes.end, len)?;
            at_most("start of a transfer in flight", t.bytes.start, t.bytes.end)?;
        }
        Ok(Transfers {
            records: state.records,
            releases: state.releases,
            overflow: state.overflow,
            in_flight_overflow: state.in_flight_overflow,
            in_flight: state.in_flight,
        })
    }
}

impl Transfers {
    /// A new transfer of a device that was started at `release`. Past the limit it gets the ID of
    /// no transfer: it works, but diagnostics cannot name it.
    pub fn open(
        &mut self,
        master: MasterId,
        transfer: Transfer,
        release: Doorbell,
        now: u64,
    ) -> TransferId {
        if self.records.len() >= MAX_TRANSFERS {
            self.overflow = true;
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
        self.releases.push(release);
        id
    }

    fn get(&self, id: TransferId) -> Option<&TransferRecord> {
        self.records.get((id.0 as usize).checked_sub(1)?)
    }

    fn get_mut(&mut self, id: TransferId) -> Option<&mut TransferRecord> {
        self.records.get_mut((id.0 as usize).checked_sub(1)?)
    }

    /// When the device was started for the transfer, and when it took it up, in accesses since
    /// power-on. `None` for what is no transfer.
    pub fn release(&self, id: TransferId) -> Option<(Doorbell, u64)> {
        let index = (id.0 as usize).checked_sub(1)?;
        Some((
            *self.releases.get(index)?,
            self.records.get(index)?.opened_at,
        ))
    }

    /// The memory of a transfer, as far as it is in one piece.
    pub fn memory(&self, id: TransferId) -> Option<Range<u64>> {
        Some(self.get(id)?.transfer.range())
    }

    /// Whether it is a transfer, and not over.
    pub fn is_open(&self, id: TransferId) -> bool {
        let record = self.get(id);
        record.is_some_and(|record| record.closed_at.is_none())
    }

    /// The memory of a transfer, address and length, if it was not over at some time (in accesses since
    /// power-on), and is in one piece.
    pub fn open_since(&self, id: TransferId, at: u64) -> Option<(u64, u64)> {
        let record = self.get(id)?;
        let open = record.closed_at.is_none_or(|closed| closed >= at);
        let together = !record.transfer.scattered;
        (open && together).then_some((record.transfer.pa, record.transfer.len))
    }

    /// From now on the transfer owns `bytes` of RAM. Returns whether that is watched.
    pub fn own(&mut self, id: TransferId, bytes: Range<u64>) -> bool {
        let full = self.in_flight.len() >= MAX_IN_FLIGHT;
        self.in_flight_overflow |= full;
        let Some(record) = self.get_mut(id).filter(|_| !full && !bytes.is_empty()) else {
            return false;
        };
        let owner = InFlight {
            id,
            who: Who::device(record.master, id, false),
            writes: record.transfer.direction == Direction::ToMemory,
            bytes,
        };
        self.in_flight.push(owner);
        true
    }

    /// Whether transfers in flight own bytes of the lines of `len` bytes at an offset in RAM.
    pub fn are_at(&self, offset: u64, len: usize) -> bool {
        let first = offset / crate::cpu::LINE * crate::cpu::LINE;
        let end = (offset + len as u64).next_multiple_of(crate::cpu::LINE);
        let mut all = self.in_flight.iter();
        all.any(|t| t.bytes.start < end && first < t.bytes.end)
    }

    /// Who owns some of `bytes` of a line, beside `but`. A load meets only transfers that write.
    pub fn owner(&self, line: u64, bytes: u64, store: bool, but: Option<MasterId>) -> Owner {
        let mut answer = Owner::Nobody;
        for t in &self.in_flight {
            let owned = t.owned(line);
            let hit = owned & bytes;
            let other = but.is_none() || t.who.device_master() != but;
            if hit != 0 && (store || t.writes) && other {
                return Owner::Transfer(t.who, hit);
            }
            if owned != 0 {
                answer = Owner::Elsewhere;
            }
        }
        answer
    }

    /// Bytes of a line that transfers in flight, other than `but`, have written and may write again.
    pub fn being_written(&self, line: u64, but: TransferId) -> u64 {
        let writers = self.in_flight.iter();
        let moved = |id| self.get(id).is_some_and(|record| record.bytes > 0);
        let writers = writers.filter(|t| t.writes && t.id != but && moved(t.id));
        writers.fold(0, |all, t| all | t.owned(line))
    }

    /// Closes an open transfer of `master`. Returns the bytes it has moved, if it was one.
    pub fn close(&mut self, master: MasterId, id: TransferId, now: u64) -> Option<u64> {
        let record = self.get_mut(id)?;
        if record.master != master || record.closed_at.is_some() {
            return None;
        }
        record.closed_at = Some(now);
        let bytes = record.bytes;
        self.in_flight
            .retain(|t| t.id != id || off(Rule::TransferEnds));
        Some(bytes)
    }

    /// Counts bytes moved.
    pub fn moved(&mut self, id: TransferId, bytes: usize) {
        if let Some(record) = self.get_mut(id) {
            record.bytes += bytes as u64;
        }
    }

    /// All of them.
    pub fn report(&self) -> Vec<TransferRecord> {
        self.records.clone()
    }
}
