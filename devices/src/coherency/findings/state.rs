// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of the findings.

use serde::{Deserialize, Serialize};

use super::counted::{Counted, CountedState};
use super::{Findings, Hazard, HazardKind, Key, Occurrence};
use crate::coherency::limits::{MAX_CAUSES, MAX_HAZARDS, MAX_OCCURRENCES};
use crate::cpu::LINE;
use crate::hazard::MAX_READERS;
use crate::state::{Invalid, at_most, no_longer, same, times};

/// All of them; how many there are of each kind follows.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::coherency) struct FindingsState {
    hazards: Vec<Hazard>,
    /// In order of the keys.
    index: Vec<(Key, u32)>,
    counted: CountedState,
    unlisted: u64,
    full: bool,
    log: Option<Vec<Occurrence>>,
    log_full: bool,
}

impl Hazard {
    /// With addresses as offsets in `len` bytes of RAM.
    fn check(&self, len: u64) -> Result<(), Invalid> {
        no_longer("readers of a finding", self.readers.len(), MAX_READERS)?;
        times("lines of a finding", &[self.lines, self.manifested_lines])?;
        times("wrong bytes of a finding", &[self.wrong_bytes])?;
        let last = [
            &self.last_maintenance,
            &self.last_clean,
            &self.last_invalidate,
        ];
        let last = last.into_iter().flatten().map(|last| last.first_pa);
        let places = [self.first_pa, self.line_pa, self.end_pa];
        let mut places = places.into_iter().chain(last);
        places.try_for_each(|pa| at_most("place of a finding", pa, len))
    }
}

impl Findings {
    pub fn state(&self) -> FindingsState {
        let Findings {
            hazards,
            index,
            last: _,
            left_out: _,
            counted,
            kept: _,
            unlisted,
            full,
            log,
            log_full,
        } = self;
        let mut index: Vec<_> = index.iter().map(|(key, slot)| (*key, *slot)).collect();
        index.sort_unstable();
        FindingsState {
            hazards: hazards.clone(),
            index,
            counted: counted.state(),
            unlisted: *unlisted,
            full: *full,
            log: log.clone(),
            log_full: *log_full,
        }
    }

    /// Takes it over, of `len` bytes of RAM.
    pub fn set_state(&mut self, state: FindingsState, len: u64) -> Result<(), Invalid> {
        state.hazards.iter().try_for_each(|h| h.check(len))?;
        let mut kept = [0; HazardKind::ALL.len()];
        for hazard in &state.hazards {
            let kind = HazardKind::ALL.iter().position(|kind| *kind == hazard.kind);
            if let Some(kept) = kind.and_then(|n| kept.get_mut(n)) {
                *kept += 1;
                no_longer("findings of a kind", *kept, MAX_HAZARDS)?;
            }
        }
        no_longer("findings", state.index.len(), MAX_CAUSES)?;
        for (_, slot) in &state.index {
            no_longer("finding", *slot as usize, state.hazards.len())?;
        }
        let counted = Counted::from_state(state.counted, state.hazards.len(), len / LINE)?;
        times("findings that there was no room for", &[state.unlisted])?;
        let log = (state.log.is_some(), self.log.is_some());
        same("log of findings", &log.0, &log.1)?;
        let log = state.log.as_deref().unwrap_or_default();
        no_longer("log of findings", log.len(), MAX_OCCURRENCES)?;
        let mut log = log.iter();
        log.try_for_each(|o| at_most("line of a finding", o.line, len / LINE))?;
        self.hazards = state.hazards;
        self.index = state.index.into_iter().collect();
        self.last = None;
        self.counted = counted;
        self.kept = kept;
        self.unlisted = state.unlisted;
        self.full = state.full;
        self.log = state.log;
        self.log_full = state.log_full;
        Ok(())
    }
}
