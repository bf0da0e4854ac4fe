// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which lines and bytes a finding has counted already, so that each counts once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::coherency::limits::MAX_LINES;
use crate::hazard::Hazard;

/// A finding, as index + 1, and the number of a line.
pub(super) type OnLine = (u32, u64);

/// For each finding and line the bytes that were wrong. Only looked up, never iterated in the order of
/// the map.
#[derive(Debug, Default)]
pub(super) struct Counted(HashMap<OnLine, u64>);

/// A line of a finding.
pub(super) struct CountedLine<'a> {
    wrong: &'a mut u64,
    /// It was not one of the finding's before.
    pub is_new: bool,
}

impl Counted {
    /// Line `number` of the finding `slot`; none: it is not known, and there is no room for one more.
    pub fn line(&mut self, slot: u32, number: u64) -> Option<CountedLine<'_>> {
        let full = self.0.len() >= MAX_LINES;
        match self.0.entry((slot, number)) {
            Entry::Occupied(known) => Some(CountedLine {
                wrong: known.into_mut(),
                is_new: false,
            }),
            Entry::Vacant(_) if full => None,
            Entry::Vacant(new) => Some(CountedLine {
                wrong: new.insert(0),
                is_new: true,
            }),
        }
    }

    /// All of it, in order.
    pub fn state(&self) -> Vec<(OnLine, u64)> {
        let mut all: Vec<_> = self.0.iter().map(|(at, wrong)| (*at, *wrong)).collect();
        all.sort_unstable();
        all
    }

    pub fn from_state(state: Vec<(OnLine, u64)>) -> Self {
        Counted(state.into_iter().collect())
    }
}

impl CountedLine<'_> {
    /// Counts the line, if it is new, and those of the `wrong` bytes that were not counted before.
    pub fn count(self, hazard: &mut Hazard, wrong: u64) {
        hazard.lines += u64::from(self.is_new);
        let new = wrong & !*self.wrong;
        if new != 0 {
            hazard.manifested = true;
            hazard.manifested_lines += u64::from(*self.wrong == 0);
            hazard.wrong_bytes += u64::from(new.count_ones());
            *self.wrong |= new;
        }
    }
}
