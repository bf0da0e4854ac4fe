// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a device noticed about its guest, for the user's eyes: bounded, because the guest decides
//! how often it happens.

use serde::{Deserialize, Serialize};

use crate::clock::Ticks;
use crate::state::{Invalid, no_longer};

/// Entries kept; later ones are only counted. The first mistakes explain the later ones.
const KEPT: usize = 32;

/// The first entries with their times, and how many there were in all.
#[derive(Debug, Clone)]
pub struct BoundedLog<T> {
    entries: Vec<(Ticks, T)>,
    total: u64,
}

impl<T> BoundedLog<T> {
    /// An empty log. All memory it will ever use is allocated here.
    pub fn new() -> Self {
        BoundedLog {
            entries: Vec::with_capacity(KEPT),
            total: 0,
        }
    }

    /// Adds an entry, or only counts it if the log is full. Returns whether it was kept.
    pub fn push(&mut self, now: Ticks, entry: T) -> bool {
        self.total = self.total.saturating_add(1);
        let room = self.entries.len() < KEPT;
        if room {
            self.entries.push((now, entry));
        }
        room
    }

    /// The entries kept, oldest first, with the device time of each.
    pub fn entries(&self) -> &[(Ticks, T)] {
        &self.entries
    }

    /// All entries there ever were.
    pub fn total(&self) -> u64 {
        self.total
    }
}

/// What a log holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogState<T> {
    entries: Vec<(Ticks, T)>,
    total: u64,
}

impl<T: Clone> BoundedLog<T> {
    pub(crate) fn state(&self) -> LogState<T> {
        LogState {
            entries: self.entries.clone(),
            total: self.total,
        }
    }

    /// # Errors
    /// If there are more entries than a log keeps, or than there ever were.
    pub(crate) fn set_state(&mut self, state: LogState<T>) -> Result<(), Invalid> {
        let kept = KEPT.min(usize::try_from(state.total).unwrap_or(KEPT));
        no_longer("entries of the log", state.entries.len(), kept)?;
        self.entries.clear();
        self.entries.extend(state.entries);
        self.total = state.total;
        Ok(())
    }
}

impl<T> Default for BoundedLog<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entries_stay_and_all_are_counted() {
        let mut log = BoundedLog::new();
        for n in 0..1000u64 {
            log.push(n, n);
        }
        assert_eq!((log.entries().len(), log.total()), (KEPT, 1000));
        assert_eq!(log.entries()[KEPT - 1], (31, 31));
    }
}
