// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What cleaned a line's bytes, and when: whether that was in time depends on who reads them.

use serde::{Deserialize, Serialize};

use crate::state::{Invalid, no_longer};

/// Cleans that each line has room for. More take stores to different parts of a line with a clean
/// of each, which is rare.
const OWN: usize = 3;

/// Bytes that one operation has cleaned, not written since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Clean {
    /// The bytes.
    pub bytes: u64,
    /// The operation.
    pub op: u32,
    /// The first later operation that cleaned the line: it would have done it, had `op` not been
    /// done. 0: none.
    pub repeated_by: u32,
    /// It is the last one that found the line possibly dirty.
    pub dirty: bool,
    /// `op` has been counted as needed on this line.
    pub counted: bool,
}

/// Room for cleans that their lines have no room for, over all lines.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Room {
    left: usize,
    /// There was not enough: some clean is taken to have been in time for everybody.
    pub full: bool,
}

impl Room {
    /// For so many.
    pub fn new(cleans: usize) -> Self {
        Room {
            left: cleans,
            full: false,
        }
    }

    /// Whether `more`, beside the first, can take one more. Room once given to a line stays with it.
    fn for_one(&mut self, more: &mut Vec<Clean>) -> bool {
        const OWN_MORE: usize = OWN - 1;
        if more.len() < more.capacity() {
            return true;
        }
        let capacity = more.capacity();
        if capacity < OWN_MORE {
            more.reserve_exact(OWN_MORE);
            return true;
        }
        let step = (capacity - OWN_MORE).max(OWN);
        let enough = step <= self.left;
        if enough {
            self.left -= step;
            more.reserve_exact(step);
        }
        self.full |= !enough;
        enough
    }
}

/// The cleans of one line that somebody may still have to be judged by.
///
/// Masters come late: one that was started before a clean may read when that clean, and others
/// after it, are long complete. So each byte keeps its last clean until it is written again, which
/// makes at most one for each byte of the line. Of those that found the line possibly dirty, the last
/// one is enough: if that was in time, so were those before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "CleansState", into = "CleansState")]
pub(super) struct Cleans {
    /// There is none if its operation is 0, and then there are no more.
    first: Clean,
    /// The others. In a box, as hardly any line has them.
    #[allow(clippy::box_collection, reason = "a line has no room for a vector")]
    more: Option<Box<Vec<Clean>>>,
}

impl Cleans {
    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.op == 0
    }

    /// Those there are.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &Clean> {
        let more = self.more.as_deref().into_iter().flatten();
        let first = (!self.is_empty()).then_some(&self.first);
        first.into_iter().chain(more)
    }

    /// Calls `see` for each: without the cost of an iterator, as nearly always there is one at most.
    #[inline]
    pub fn each(&self, mut see: impl FnMut(&Clean)) {
        if self.is_empty() {
            return;
        }
        see(&self.first);
        if let Some(more) = self.more.as_deref() {
            more.iter().for_each(see);
        }
    }

    /// The same, to be changed.
    #[inline]
    pub fn each_mut(&mut self, mut change: impl FnMut(&mut Clean)) {
        if self.is_empty() {
            return;
        }
        change(&mut self.first);
        if let Some(more) = self.more.as_deref_mut() {
            more.iter_mut().for_each(change);
        }
    }

    /// Those there are, to be changed.
    #[inline]
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Clean> {
        let more = self.more.as_deref_mut().into_iter().flatten();
        let first = (self.first.op != 0).then_some(&mut self.first);
        first.into_iter().chain(more)
    }

    /// Operation `op` cleans the line again: it would have done what earlier ones did. Returns whether
    /// there is nothing left that a later one would repeat.
    #[inline]
    pub fn repeat(&mut self, op: u32) -> bool {
        let mut all = true;
        self.each_mut(|c| {
            if c.op != op && c.repeated_by == 0 {
                c.repeated_by = op;
            }
            all &= c.repeated_by != 0;
        });
        all
    }

    /// Operation `op`, which is one, cleans the line, of which `bytes` were not clean, or which might be
    /// `dirty`.
    pub fn add(&mut self, op: u32, bytes: u64, dirty: bool, room: &mut Room) {
        if bytes == 0 && !dirty {
            return;
        }
        if dirty {
            self.iter_mut().for_each(|c| c.dirty &= c.op == op);
            self.drop_empty();
        }
        if let Some(same) = self.iter_mut().find(|c| c.op == op) {
            same.bytes |= bytes;
            same.dirty |= dirty;
            return;
        }
        let clean = Clean {
            bytes,
            op,
            repeated_by: 0,
            dirty,
            counted: false,
        };
        if self.is_empty() {
            self.first = clean;
            return;
        }
        let more = self.more.get_or_insert_default();
        if room.for_one(more) {
            more.push(clean);
        } else if let Some(oldest) = self.iter_mut().min_by_key(|c| c.op) {
            *oldest = clean;
        }
    }

    /// `bytes` were written anew.
    #[inline]
    pub fn forget(&mut self, bytes: u64) {
        // Most lines have none of these, and need not be written for that.
        let mut some = false;
        self.each(|c| some |= c.bytes & bytes != 0);
        if some {
            self.forget_some(bytes);
        }
    }

    #[inline(never)]
    fn forget_some(&mut self, bytes: u64) {
        self.iter_mut().for_each(|c| c.bytes &= !bytes);
        self.drop_empty();
    }

    fn drop_empty(&mut self) {
        let empty = |c: &Clean| c.bytes == 0 && !c.dirty;
        if let Some(more) = &mut self.more {
            more.retain(|c| !empty(c));
        }
        if empty(&self.first) {
            let next = self.more.as_mut().and_then(|more| more.pop());
            self.first = next.unwrap_or_default();
        }
    }

    /// The line's state at the PoC no longer depends on any of them.
    #[inline]
    pub fn clear(&mut self) {
        if !self.is_empty() {
            self.first = Clean::default();
            if let Some(more) = &mut self.more {
                more.clear();
            }
        }
    }
}

/// The cleans of a line, and how many it has been given room for beside the first.
#[derive(Serialize, Deserialize)]
struct CleansState {
    first: Clean,
    more: Option<(usize, Vec<Clean>)>,
}

/// Most that a line can be given room for.
const MOST: usize = 128;

impl From<Cleans> for CleansState {
    fn from(cleans: Cleans) -> Self {
        CleansState {
            first: cleans.first,
            more: cleans.more.map(|more| (more.capacity(), *more)),
        }
    }
}

impl From<CleansState> for Cleans {
    fn from(state: CleansState) -> Self {
        let more = state.more.map(|(room, cleans)| {
            let mut more = Vec::with_capacity(room.min(MOST));
            more.extend(cleans);
            Box::new(more)
        });
        Cleans {
            first: state.first,
            more,
        }
    }
}

impl Cleans {
    /// For a state that comes from outside.
    pub fn check(&self) -> Result<(), Invalid> {
        let more = self.more.as_deref().map_or(0, Vec::len);
        no_longer("cleans of a line", more, MOST)
    }
}

impl Room {
    /// For a state that comes from outside, where there was room for so many.
    pub fn check(&self, cleans: usize) -> Result<(), Invalid> {
        no_longer("room for cleans", self.left, cleans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(cleans: &Cleans) -> Vec<(u32, u64, u32, bool)> {
        let mut all: Vec<_> = cleans
            .iter()
            .map(|c| (c.op, c.bytes, c.repeated_by, c.dirty))
            .collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn the_latest_clean_of_a_byte_counts_and_the_latest_that_found_the_line_dirty() {
        let mut room = Room::new(0);
        let mut cleans = Cleans::default();
        cleans.add(1, 0xff, true, &mut room);
        cleans.forget(0x0f);
        assert!(cleans.repeat(2));
        cleans.add(2, 0x0f, true, &mut room);
        assert_eq!(all(&cleans), [(1, 0xf0, 2, false), (2, 0x0f, 0, true)]);
        // What only invalidates would not have cleaned what others did.
        cleans.add(3, 0, true, &mut room);
        let three = [(1, 0xf0, 2, false), (2, 0x0f, 0, false), (3, 0, 0, true)];
        assert_eq!(all(&cleans), three);
        assert!(!cleans.repeat(3) && cleans.repeat(4));
        cleans.forget(0xf0);
        assert_eq!(all(&cleans), [(2, 0x0f, 3, false), (3, 0, 4, true)]);
        assert!(!room.full);
    }

    #[test]
    fn there_is_room_for_one_clean_of_each_byte() {
        let mut room = Room::new(2 * 64);
        let mut cleans = Cleans::default();
        let expected: Vec<_> = (0..64).map(|n| (n + 1, 1 << n, 0, n == 63)).collect();
        // However often.
        for _ in 0..3 {
            for n in 0..64 {
                cleans.forget(1 << n);
                cleans.add(n + 1, 1 << n, true, &mut room);
            }
            assert_eq!(all(&cleans), expected);
            cleans.clear();
        }
        assert!(!room.full);
    }

    #[test]
    fn what_does_not_fit_is_the_oldest_and_that_is_told() {
        let mut room = Room::new(OWN);
        let mut cleans = Cleans::default();
        let most = 2 * OWN as u32;
        for op in 1..=most {
            cleans.add(op, 1 << op, false, &mut room);
        }
        assert!(!room.full);
        cleans.add(most + 1, 1, false, &mut room);
        assert!(room.full);
        let ops: Vec<_> = all(&cleans).iter().map(|c| c.0).collect();
        assert_eq!(ops, (2..=most + 1).collect::<Vec<_>>());
    }
}
