// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whose a line is while non-snooping transfers are in flight.

use super::domain::Domain;
use super::line::{IN_FLIGHT_READ, IN_FLIGHT_WRITE};
use super::mutate::{Rule, off};
use super::sanitizer::Subject;
use super::transfers::Owner;
use super::who::Who;
use crate::dma::{MasterId, TransferId};

impl Domain {
    /// Bytes of a line that transfers in flight, other than `but`, have written and may write again.
    pub(super) fn being_written(&mut self, number: u64, but: TransferId) -> u64 {
        if self.lines.line(number).flags & IN_FLIGHT_WRITE == 0 {
            return 0;
        }
        self.transfers.being_written(number, but)
    }

    /// A coherent observer has touched what may belong to transfers in flight; a master's own it may.
    pub(super) fn check_ownership(&mut self, number: u64, bytes: u64, write: bool, who: Who) {
        let own = who.device_master().filter(|_| !off(Rule::OwnTransfer));
        let mut left = if off(Rule::Ownership) { 0 } else { bytes };
        // Each byte counts for the first that owns it.
        while let Some((owner, hit)) = self.owner(number, left, write, own) {
            left &= !hit;
            let mut s = Subject::new(&mut self.lines, &self.images, number);
            self.sanitizer.ownership(&mut s, hit, write, who, owner);
        }
    }

    /// The first transfer in flight that owns some of `bytes`, and which; none of `but`, a master. A read
    /// meets only transfers that write.
    fn owner(
        &mut self,
        number: u64,
        bytes: u64,
        write: bool,
        but: Option<MasterId>,
    ) -> Option<(Who, u64)> {
        if self.lines.line(number).flags & (IN_FLIGHT_WRITE | IN_FLIGHT_READ) == 0 {
            return None;
        }
        match self.transfers.owner(number, bytes, write, but) {
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
