// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whose a line is while non-snooping transfers are in flight.

use super::domain::Domain;
use super::line::{IN_FLIGHT_READ, IN_FLIGHT_WRITE, mask};
use super::mutate::{Rule, keep, off};
use super::sanitizer::{ByMaster, Subject};
use super::transfers::Owner;
use super::who::Who;
use crate::cpu::LINE;
use crate::dma::{MasterId, TransferId};
use crate::hazard::Actor;

impl Domain {
    /// Bytes of a line that transfers in flight, other than `but`, have written and may write again.
    pub(super) fn being_written(&mut self, number: u64, but: TransferId) -> u64 {
        if self.lines.line(number).flags & IN_FLIGHT_WRITE == 0 {
            return 0;
        }
        self.transfers.being_written(number, but)
    }

    /// Bytes of a line that a transfer of another master has written that was not over when `by` was started
    /// to write: it may as well do so after `by`.
    pub(super) fn written_by_another(&mut self, number: u64, by: &ByMaster) -> u64 {
        let (line, cold) = self.lines.with_cold(number);
        let (unseen, writer) = (line.unseen, cold.poc_writer);
        let unprompted = by.release.ordered_at == u64::MAX;
        if unseen == 0 || unprompted || writer.device_master() == by.who.device_master() {
            return 0;
        }
        let Actor::Device { transfer, .. } = writer.actor() else {
            return 0;
        };
        let range = self.transfers.open_since(transfer, by.release.at);
        let range = range.and_then(|(pa, len)| Some((self.offset(pa, len)?, len)));
        let (start, end) = range.map_or((0, 0), |(start, len)| (start, start + len));
        let (from, to) = (start.max(number * LINE), end.min((number + 1) * LINE));
        match from < to {
            true => keep(
                Rule::WriteThroughOverlaps,
                unseen & mask(from % LINE, to - from),
            ),
            false => 0,
        }
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
