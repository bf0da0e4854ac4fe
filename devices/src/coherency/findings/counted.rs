// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which lines and bytes a finding has counted already, so that each counts once.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::coherency::limits::MAX_LINES;
use crate::hazard::Hazard;
use crate::state::{Invalid, at_most, no_longer};

/// A finding, as index + 1, and the number of a line.
type OnLine = (u32, u64);

/// For each finding and line the bytes that were wrong.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Only looked up, never iterated in the order of the map.
    wrong: HashMap<OnLine, u64>,
    /// There were more than [`MAX_LINES`].
    pub full: bool,
}

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CountedState {
    /// In order of findings and lines.
    wrong: Vec<(OnLine, u64)>,
    full: bool,
}

impl Counted {
    /// Counts line `number` for the finding `slot`, which is `hazard`, and those of the `wrong` bytes
    /// that were not counted before; whether the line is one more.
    pub fn count(&mut self, slot: u32, number: u64, wrong: u64, hazard: &mut Hazard) -> bool {
        let at = (slot, number);
        let known = self.wrong.get(&at).copied();
        if known.is_none() && self.wrong.len() >= MAX_LINES {
            self.full = true;
            return false;
        }
        let before = known.unwrap_or(0);
        let new = wrong & !before;
        hazard.lines += u64::from(known.is_none());
        if new != 0 {
            hazard.manifested = true;
            hazard.manifested_lines += u64::from(before == 0);
            hazard.wrong_bytes += u64::from(new.count_ones());
        }
        if known.is_none() || new != 0 {
            self.wrong.insert(at, before | new);
        }
        known.is_none()
    }

    pub fn state(&self) -> CountedState {
        let Counted { wrong, full } = self;
        let mut wrong: Vec<_> = wrong.iter().map(|(at, wrong)| (*at, *wrong)).collect();
        wrong.sort_unstable();
        CountedState { wrong, full: *full }
    }

    /// Of so many findings, and lines of RAM.
    pub fn from_state(state: CountedState, findings: usize, lines: u64) -> Result<Self, Invalid> {
        no_longer("lines of findings", state.wrong.len(), MAX_LINES)?;
        for ((slot, line), _) in &state.wrong {
            no_longer("finding", *slot as usize, findings)?;
            at_most("line of a finding", *line, lines)?;
        }
        Ok(Counted {
            wrong: state.wrong.into_iter().collect(),
            full: state.full,
        })
    }
}
