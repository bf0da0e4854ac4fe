// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Between which devices a maintenance operation stands: whose transfer on that memory came before it,
//! and whose came next. It follows from the records of both, so nothing is kept for it while a guest runs.

use std::cell::Cell;
use std::collections::BTreeMap;

use staleline_devices::coherency::report::{MaintenanceOp, TransferRecord};
use staleline_devices::dma::MasterId;

const PAGE: u64 = 4096;

/// Pages of all transfers together, at most: more than that many frames of 256 KiB in 128 MiB have.
const MAX_PAGES: usize = 1 << 23;

/// Looks at a page's list, at most, for all operations together.
const MAX_LOOKS: u64 = 1 << 28;

/// Transfers of a page that are looked at for one operation and are none of its lines', at most.
const MAX_MISSES: usize = 256;

/// Masters, before and after.
pub(super) type Pair = (Option<MasterId>, Option<MasterId>);

/// Transfers by memory and time.
pub(super) struct Between<'a> {
    transfers: &'a [TransferRecord],
    /// For each page, by index, those that are there, in order of opening.
    pages: BTreeMap<u64, Vec<u32>>,
    looks: Cell<u64>,
    /// There were more pages than that.
    overflow: bool,
}

impl<'a> Between<'a> {
    /// Of all transfers of a run, in order of opening.
    pub fn new(transfers: &'a [TransferRecord]) -> Self {
        let mut between = Between {
            transfers,
            pages: BTreeMap::new(),
            looks: Cell::new(MAX_LOOKS),
            overflow: false,
        };
        let mut room = MAX_PAGES as u64;
        for (index, record) in (0_u32..).zip(transfers) {
            let transfer = &record.transfer;
            // Of one that goes on elsewhere, only the first page is known.
            let len = match transfer.scattered {
                true => transfer.len.min(PAGE - transfer.pa % PAGE),
                false => transfer.len,
            };
            let Some(last) = len.checked_sub(1) else {
                continue;
            };
            let (first, last) = (transfer.pa / PAGE, transfer.pa.saturating_add(last) / PAGE);
            match room.checked_sub(last - first + 1) {
                Some(rest) => room = rest,
                None => {
                    between.overflow = true;
                    break;
                }
            }
            for page in first..=last {
                between.pages.entry(page).or_default().push(index);
            }
        }
        between
    }

    /// What an operation stands between; none if there is too much to look through.
    pub fn of(&self, op: &MaintenanceOp) -> Option<Pair> {
        if self.overflow {
            return None;
        }
        let (mut before, mut after) = (None, None);
        for memory in op.ranges() {
            let Some(last) = memory.end.checked_sub(1).filter(|l| *l >= memory.start) else {
                continue;
            };
            for list in self.pages.range(memory.start / PAGE..=last / PAGE) {
                self.look()?;
                let list = &list.1[..];
                let is_before = |i: &u32| self.opened_at(*i).is_some_and(|at| at <= op.at);
                let (earlier, later) = list.split_at(list.partition_point(is_before));
                let there = |i: &&u32| self.is_in(**i, memory.start, last);
                before = before.max(earlier.iter().rev().take(MAX_MISSES).find(there));
                let first = later.iter().take(MAX_MISSES).find(there);
                after = match (after, first) {
                    (Some(a), Some(b)) => Some(std::cmp::min::<&u32>(a, b)),
                    (a, b) => a.or(b),
                };
            }
        }
        let master = |i: &u32| Some(self.transfers.get(*i as usize)?.master);
        Some((before.and_then(master), after.and_then(master)))
    }

    fn look(&self) -> Option<()> {
        let rest = self.looks.get().checked_sub(1)?;
        self.looks.set(rest);
        Some(())
    }

    fn opened_at(&self, index: u32) -> Option<u64> {
        Some(self.transfers.get(index as usize)?.opened_at)
    }

    /// Whether a transfer has to do with the lines up to that of `last`.
    fn is_in(&self, index: u32, first: u64, last: u64) -> bool {
        self.transfers.get(index as usize).is_some_and(|record| {
            let memory = record.transfer.range();
            memory.start <= last && memory.end > first
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::fake::soc_report;

    /// The fake machine's, with other masters and places.
    fn transfers(all: &[(u8, u64, u64, u64)]) -> Vec<TransferRecord> {
        let template = soc_report().domain.transfers[0];
        let of = |(master, pa, len, at): &(u8, u64, u64, u64)| {
            let mut record = template;
            record.master = MasterId(*master);
            (record.transfer.pa, record.transfer.len) = (*pa, *len);
            record.opened_at = *at;
            record
        };
        all.iter().map(of).collect()
    }

    fn op(pa: u64, lines: u64, at: u64) -> MaintenanceOp {
        let mut op = soc_report().domain.maintenance.operations.remove(0);
        (op.first_pa, op.lines, op.at) = (pa, lines, at);
        op
    }

    fn pair(before: Option<u8>, after: Option<u8>) -> Option<Pair> {
        Some((before.map(MasterId), after.map(MasterId)))
    }

    #[test]
    fn an_operation_stands_between_the_transfers_next_to_it_in_time_on_its_memory() {
        let all = transfers(&[
            (1, 0x1_0000, 0x2000, 10),
            (2, 0x1_1000, 0x1000, 20),
            (3, 0x9_0000, 0x40, 30),
            (1, 0x1_0000, 0x40, 40),
        ]);
        let between = Between::new(&all);
        let of = |pa, lines, at| between.of(&op(pa, lines, at));
        // All of the buffer, before, between and behind.
        assert_eq!(of(0x1_0000, 128, 9), pair(None, Some(1)));
        assert_eq!(of(0x1_0000, 128, 10), pair(Some(1), Some(2)));
        assert_eq!(of(0x1_0000, 128, 25), pair(Some(2), Some(1)));
        assert_eq!(of(0x1_0000, 128, 99), pair(Some(1), None));
        // A line that the second does not touch, of a page that others are in.
        assert_eq!(of(0x1_0fc0, 1, 15), pair(Some(1), None));
        // A line of another page, and memory of nobody's.
        assert_eq!(of(0x1_1000, 1, 15), pair(Some(1), Some(2)));
        assert_eq!(of(0x9_0040, 1, 35), pair(None, None));
        assert_eq!(of(0x9_0000, 0, 35), pair(None, None));
        // Of what lies between its pieces, nothing.
        let mut scattered = op(0x1_0fc0, 2, 35);
        scattered.pieces = vec![(0x1_0fc0, 1), (0x9_0000, 1)];
        assert_eq!(between.of(&scattered), pair(Some(3), None));
    }

    #[test]
    fn memory_that_no_machine_has_is_no_reason_to_look_for_ever() {
        let all = transfers(&[(1, 0, u64::MAX, 10)]);
        let between = Between::new(&all);
        // Too many pages: nothing is told, rather than something wrong.
        assert_eq!(between.of(&op(0, 1, 10)), None);
        let all = transfers(&[(1, u64::MAX - 9, 100, 10), (1, 0x1000, 0x40, 11)]);
        let between = Between::new(&all);
        assert_eq!(between.of(&op(0, u64::MAX, 10)), pair(Some(1), Some(1)));
        let few = Between {
            looks: Cell::new(1),
            ..between
        };
        assert_eq!(few.of(&op(0, u64::MAX, 10)), None);
    }
}
