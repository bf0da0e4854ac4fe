// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What cleaned a line's bytes, and when: whether that was in time depends on who reads them.

use crate::dma::Doorbell;

/// Cleans that a line remembers. A byte is in one at most, and is forgotten when it is written
/// again, so more than one take stores to different parts of a line with a clean of each.
const KEPT: usize = 3;

/// Bytes that one operation has cleaned, not written since.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clean {
    /// The bytes.
    pub bytes: u64,
    /// The operation.
    pub op: u32,
    /// The first later operation that cleaned the line: it would have done it, had `op` not been
    /// done. 0: none.
    pub again: u32,
    /// The line might have been dirty.
    pub dirty: bool,
    /// `op` has been counted as needed on this line.
    pub counted: bool,
}

/// Whether an operation was in time for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timing {
    /// Complete before it was told to go.
    InTime,
    /// Begun before, but no barrier had completed it.
    Incomplete,
    /// Begun after.
    Late,
}

/// When operation `op` was, for a device that was told to go at `release`.
pub(super) fn timing(op: u32, release: &Doorbell) -> Timing {
    if op <= release.completed {
        Timing::InTime
    } else if op <= release.issued {
        Timing::Incomplete
    } else {
        Timing::Late
    }
}

/// The cleans of one line, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Cleans {
    kept: [Clean; KEPT],
}

impl Cleans {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Those there are.
    pub fn iter(&self) -> impl Iterator<Item = &Clean> {
        self.kept.iter().filter(|c| c.op != 0)
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Clean> {
        self.kept.iter_mut().filter(|c| c.op != 0)
    }

    /// Operation `op` cleans the line: it would have done what earlier ones did.
    pub fn again(&mut self, op: u32) {
        for clean in self.iter_mut().filter(|c| c.op != op && c.again == 0) {
            clean.again = op;
        }
    }

    /// Operation `op` cleans the line, of which `bytes` were not clean, or which might be `dirty`.
    /// Operations up to `completed` are complete.
    pub fn add(&mut self, op: u32, bytes: u64, dirty: bool, completed: u32) {
        if bytes == 0 && !dirty {
            return;
        }
        if let Some(same) = self.iter_mut().find(|c| c.op == op) {
            same.bytes |= bytes;
            same.dirty |= dirty;
            return;
        }
        if let Some(oldest) = self.full() {
            self.make_room(oldest, completed);
        }
        let free = self.kept.iter_mut().find(|c| c.op == 0);
        if let Some(slot) = free {
            *slot = Clean {
                bytes,
                op,
                again: 0,
                dirty,
                counted: false,
            };
        }
        self.kept
            .sort_unstable_by_key(|c| if c.op == 0 { u32::MAX } else { c.op });
    }

    fn full(&self) -> Option<Clean> {
        self.kept.iter().all(|c| c.op != 0).then_some(self.kept[0])
    }

    /// The oldest goes: it was in time for whoever comes, or is taken for part of the next.
    fn make_room(&mut self, oldest: Clean, completed: u32) {
        if oldest.op > completed {
            self.kept[1].bytes |= oldest.bytes;
            self.kept[1].dirty |= oldest.dirty;
        }
        self.kept[0] = Clean::default();
    }

    /// `bytes` were written anew.
    pub fn forget(&mut self, bytes: u64) {
        for clean in self.kept.iter_mut() {
            clean.bytes &= !bytes;
            if clean.bytes == 0 && !clean.dirty {
                *clean = Clean::default();
            }
        }
    }

    /// The line's state at the PoC no longer depends on any of them.
    pub fn clear(&mut self) {
        self.kept = [Clean::default(); KEPT];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_clean_of_a_byte_counts() {
        let mut cleans = Cleans::default();
        cleans.add(1, 0xff, true, 0);
        cleans.forget(0x0f);
        cleans.again(2);
        cleans.add(2, 0x0f, true, 1);
        let all: Vec<_> = cleans
            .iter_mut()
            .map(|c| (c.op, c.bytes, c.again))
            .collect();
        assert_eq!(all, [(1, 0xf0, 2), (2, 0x0f, 0)]);
        // What only invalidates would not have done it.
        cleans.add(3, 0, true, 2);
        assert_eq!(
            cleans.iter_mut().map(|c| c.again).collect::<Vec<_>>(),
            [2, 0, 0]
        );
        cleans.again(4);
        assert_eq!(
            cleans.iter_mut().map(|c| c.again).collect::<Vec<_>>(),
            [2, 4, 4]
        );
    }

    #[test]
    fn what_does_not_fit_was_in_time_or_joins_the_next() {
        let mut cleans = Cleans::default();
        for op in 1..=4 {
            cleans.add(op, 1 << op, true, 1);
        }
        let all: Vec<_> = cleans.iter_mut().map(|c| (c.op, c.bytes)).collect();
        assert_eq!(all, [(2, 1 << 2), (3, 1 << 3), (4, 1 << 4)]);
        cleans.add(5, 1 << 5, true, 1);
        let all: Vec<_> = cleans.iter_mut().map(|c| (c.op, c.bytes)).collect();
        assert_eq!(all, [(3, 1 << 2 | 1 << 3), (4, 1 << 4), (5, 1 << 5)]);
    }

    #[test]
    fn timing_is_by_the_moment_of_release() {
        let release = Doorbell {
            issued: 5,
            completed: 3,
            ..Doorbell::default()
        };
        assert_eq!(timing(3, &release), Timing::InTime);
        assert_eq!(timing(4, &release), Timing::Incomplete);
        assert_eq!(timing(6, &release), Timing::Late);
    }
}
