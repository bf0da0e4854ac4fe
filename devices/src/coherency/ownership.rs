// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whose a line is while non-snooping transfers are in flight.

use super::domain::Domain;
use super::line::{IN_FLIGHT_READ, IN_FLIGHT_WRITE};
use super::mutate::{Rule, off};
use super::sanitizer::Subject;
use super::transfers::Owner;
use super::who::Who;
use crate::dma::TransferId;

impl Domain {
    /// Bytes of a line that transfers in flight, other than `but`, have written and may write again.
    pub(super) fn being_written(&mut self, number: u64, but: TransferId) -> u64 {
        if self.lines.line(number).flags & IN_FLIGHT_WRITE == 0 {
            return 0;
        }
        self.transfers.being_written(number, but)
    }

    /// A coherent observer has touched what may belong to a transfer in flight; a master's own it may.
    pub(super) fn check_ownership(&mut self, number: u64, bytes: u64, write: bool, who: Who) {
        let owner = self.owner(number, bytes, write);
        let owner = owner.filter(|_| !off(Rule::Ownership));
        let mine = |owner: Who| {
            who.device_master()
                .is_some_and(|m| owner.device_master() == Some(m) && !off(Rule::OwnTransfer))
        };
        if let Some((owner, hit)) = owner.filter(|(owner, _)| !mine(*owner)) {
            let mut s = Subject::new(&mut self.lines, &self.images, number);
            self.sanitizer.ownership(&mut s, hit, write, who, owner);
        }
    }

    /// The transfer in flight that owns some of `bytes`, and which. A read meets only transfers that
    /// write.
    fn owner(&mut self, number: u64, bytes: u64, write: bool) -> Option<(Who, u64)> {
        if self.lines.line(number).flags & (IN_FLIGHT_WRITE | IN_FLIGHT_READ) == 0 {
            return None;
        }
        match self.transfers.owner(number, bytes, write) {
            Owner::Transfer(owner, hit) => Some((owner, hit)),
            Owner::Elsewhere => None,
            // The transfers that had marked the line are over.
            Owner::Nobody => {
                self.lines.line(number).flags &= !(IN_FLIGHT_WRITE | IN_FLIGHT_READ);
                None
            }
        }
    }
}
