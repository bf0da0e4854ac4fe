// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What cache maintenance cost: in lines, bytes and instructions, and between which devices.

use serde::{Deserialize, Serialize};

/// Bytes of a cache line.
pub const LINE: u64 = 64;

/// Line operations. `needed`, `redundant` and `untouched` are together `lines`; a line that one operation
/// cleans and invalidates is one of `lines`, and counts in `cleaned` and in `invalidated`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineCost {
    /// Maintenance operations: `dc` instructions of one CPU without a load, store or barrier in between.
    pub operations: u64,
    /// Line operations, one for each `dc` instruction.
    pub lines: u64,
    /// The same in bytes.
    pub bytes: u64,
    /// Lines cleaned: `dc cvac` and `dc civac`.
    pub cleaned: u64,
    /// Lines invalidated: `dc ivac` and `dc civac`.
    pub invalidated: u64,
    /// On lines on which the loss of the operation would have been a hazard.
    pub needed: u64,
    /// On lines that DMA has touched, on which it would not have mattered.
    pub redundant: u64,
    /// On lines that no DMA has touched in the whole run.
    pub untouched: u64,
}

impl LineCost {
    /// Adds another's.
    pub fn add(&mut self, more: &LineCost) {
        let LineCost {
            operations,
            lines,
            bytes,
            cleaned,
            invalidated,
            needed,
            redundant,
            untouched,
        } = self;
        for (sum, n) in [
            (operations, more.operations),
            (lines, more.lines),
            (bytes, more.bytes),
            (cleaned, more.cleaned),
            (invalidated, more.invalidated),
            (needed, more.needed),
            (redundant, more.redundant),
            (untouched, more.untouched),
        ] {
            *sum = sum.saturating_add(n);
        }
    }
}

/// What maintenance stood between two devices: the operations on memory of which `before` was the last
/// device to begin a transfer there, and `after` the next. An operation belongs to one pair, with all its
/// lines: also with those that neither device transfers, which is what maintaining a whole buffer for a
/// part of it costs. What the CPU reads or writes in between is not in it: a buffer that a device fills,
/// user space reads and the device fills again is between that device and itself, and
/// [`MaintenanceCaller`](crate::MaintenanceCaller) tells who asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairCost {
    /// The device whose transfer had begun last by then in any of the operation's lines; none if no device's
    /// had, so that what is there is the CPU's.
    pub before: Option<String>,
    /// The device whose transfer began next; none if none did.
    pub after: Option<String>,
    /// What it took.
    #[serde(flatten)]
    pub cost: LineCost,
}

/// Instructions of the CPUs that are maintenance: exactly the `dc` by virtual address to the PoC, and the
/// barriers that completed them for bus masters, each once. The few instructions beside each (address
/// arithmetic and branch of the loop, the way through the DMA API) are not counted: an engine that sees
/// memory and maintenance does not see them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instructions {
    /// `dc` instructions.
    pub dc: u64,
    /// Barriers.
    pub barriers: u64,
}

impl Instructions {
    /// Together.
    pub fn all(&self) -> u64 {
        self.dc.saturating_add(self.barriers)
    }
}

/// The data path: from the moment at which the first transfer with the scenario's data begins to that at
/// which the last ends. Where nobody knows which transfers these are, as of users' programs, all data
/// transfers count. What is done once for a buffer, before the first or behind the last, is not in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathCost {
    /// Its begin, in accesses since power-on.
    pub from: u64,
    /// Its end.
    pub to: u64,
    /// Loads and stores of all CPUs meanwhile.
    pub accesses: u64,
    /// Instructions of maintenance meanwhile.
    pub instructions: Instructions,
    /// Of those accesses and instructions together, the instructions: parts in a million.
    pub share_ppm: u64,
}

impl PathCost {
    /// Of such a time.
    pub fn new(from: u64, to: u64, instructions: Instructions) -> Self {
        let accesses = to.saturating_sub(from);
        let all = u128::from(accesses) + u128::from(instructions.all());
        let share = u128::from(instructions.all()) * 1_000_000;
        PathCost {
            from,
            to,
            accesses,
            instructions,
            // A share is at most one.
            share_ppm: share.checked_div(all).map_or(0, |ppm| ppm as u64),
        }
    }
}

/// What the maintenance of a run cost: of the operations accounted, which are those in
/// [`Maintenance::callers`](crate::Maintenance::callers).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// All of them.
    pub total: LineCost,
    /// Their instructions.
    pub instructions: Instructions,
    /// By what stood before and after, most lines first; together `total`. Empty if there was too much to
    /// tell them apart, which `notes` say then.
    pub pairs: Vec<PairCost>,
    /// Their share of the data path; none if no transfer was made.
    pub path: Option<PathCost>,
}

impl Cost {
    /// Of the operations on memory that a device's transfer has touched, before or after: without what the
    /// kernel does once for itself and its drivers.
    pub fn transferred(&self) -> LineCost {
        let mut sum = LineCost::default();
        let transferred = |pair: &&PairCost| pair.before.is_some() || pair.after.is_some();
        for pair in self.pairs.iter().filter(transferred) {
            sum.add(&pair.cost);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_accesses_and_maintenance_together() {
        let instructions = Instructions { dc: 9, barriers: 1 };
        let path = PathCost::new(100, 190, instructions);
        assert_eq!((path.accesses, path.share_ppm), (90, 100_000));
        assert_eq!(PathCost::new(5, 5, Instructions::default()).share_ppm, 0);
        let most = Instructions {
            dc: u64::MAX,
            barriers: u64::MAX,
        };
        assert_eq!(PathCost::new(9, 0, most).share_ppm, 1_000_000);
    }

    #[test]
    fn what_no_device_transfers_is_told_apart() {
        let pair = |before: Option<&str>, after: Option<&str>, lines| PairCost {
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
            cost: LineCost {
                lines,
                ..LineCost::default()
            },
        };
        let (a, b) = (Some("a"), Some("b"));
        let cost = Cost {
            pairs: vec![
                pair(None, None, 1),
                pair(None, a, 10),
                pair(a, b, 100),
                pair(b, None, 1000),
            ],
            ..Cost::default()
        };
        assert_eq!(cost.transferred().lines, 1110);
    }

    #[test]
    fn sums_of_what_comes_from_anywhere_do_not_overflow() {
        let mut sum = LineCost {
            lines: u64::MAX,
            ..LineCost::default()
        };
        sum.add(&sum.clone());
        assert_eq!(sum.lines, u64::MAX);
    }
}
