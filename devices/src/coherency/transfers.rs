// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The data transfers of a run.

use super::MAX_TRANSFERS;
use super::report::TransferRecord;
use crate::dma::{MasterId, Transfer, TransferId};

/// All transfers, by ID.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    records: Vec<TransferRecord>,
    dropped: u64,
}

impl Transfers {
    /// A new transfer. Past the limit it gets the ID of no transfer: it works, but diagnostics
    /// cannot name it.
    pub fn open(&mut self, master: MasterId, transfer: Transfer, now: u64) -> TransferId {
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
        id
    }

    fn get_mut(&mut self, id: TransferId) -> Option<&mut TransferRecord> {
        self.records.get_mut((id.0 as usize).checked_sub(1)?)
    }

    /// The transfer with this ID.
    pub fn get(&self, id: TransferId) -> Option<&TransferRecord> {
        self.records.get((id.0 as usize).checked_sub(1)?)
    }

    /// Closes an open transfer of `master` and returns it.
    pub fn close(&mut self, master: MasterId, id: TransferId, now: u64) -> Option<Transfer> {
        let record = self.get_mut(id)?;
        if record.master != master || record.closed_at.is_some() {
            return None;
        }
        record.closed_at = Some(now);
        Some(record.transfer)
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
