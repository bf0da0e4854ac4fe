// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Pages of which code has been fetched.

use serde::{Deserialize, Serialize};

use super::line::PAGE;
use crate::state::{Invalid, at_most, no_longer};

/// Pages of which code has been fetched, until their bytes change.
#[derive(Debug)]
pub(super) struct Fetched {
    /// A bit for each page of RAM.
    pages: Vec<u64>,
    /// Pages that have changed, and had a bit then: no more than there are pages.
    pub changed: Vec<u64>,
}

impl Fetched {
    /// For `len` bytes of RAM, of which nothing has been fetched.
    pub fn new(len: u64) -> Self {
        let words = len.div_ceil(PAGE).div_ceil(64);
        Fetched {
            // RAM is mapped, so this fits into memory too.
            pages: vec![0; words as usize],
            changed: Vec::new(),
        }
    }

    fn bit(&mut self, offset: u64) -> Option<(&mut u64, u64)> {
        let page = offset / PAGE;
        let word = self.pages.get_mut((page / 64) as usize)?;
        Some((word, 1 << (page % 64)))
    }

    pub fn watch(&mut self, offset: u64) {
        if let Some((word, bit)) = self.bit(offset) {
            *word |= bit;
        }
    }

    /// Bytes of the page that holds `offset` have been written, and not by a CPU's own store.
    #[inline]
    pub fn written(&mut self, offset: u64) {
        if let Some((word, bit)) = self.bit(offset)
            && *word & bit != 0
        {
            *word &= !bit;
            self.changed.push(offset / PAGE * PAGE);
        }
    }
}

/// The same: of the words of the bitmap, those that are not 0, by number; of pages, their offsets.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FetchedState {
    pages: Vec<(usize, u64)>,
    changed: Vec<u64>,
}

impl Fetched {
    pub fn state(&self) -> FetchedState {
        let Fetched { pages, changed } = self;
        let some = pages.iter().copied().enumerate();
        FetchedState {
            pages: some.filter(|(_, word)| *word != 0).collect(),
            changed: changed.clone(),
        }
    }

    /// Of `len` bytes of RAM.
    pub fn set_state(&mut self, state: FetchedState, len: u64) -> Result<(), Invalid> {
        for (number, word) in &state.pages {
            let Some(here) = self.pages.get_mut(*number) else {
                let last = self.pages.len().saturating_sub(1);
                return at_most("pages with code", *number as u64, last as u64);
            };
            *here = *word;
        }
        no_longer(
            "pages with new code",
            state.changed.len(),
            (len / PAGE) as usize,
        )?;
        for page in &state.changed {
            at_most("page with new code", *page, len - PAGE)?;
        }
        self.changed = state.changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_told_once_for_each_time_that_it_was_fetched() {
        let mut fetched = Fetched::new(200 * PAGE);
        fetched.written(PAGE);
        assert!(fetched.changed.is_empty());
        fetched.watch(130 * PAGE + 8);
        fetched.written(131 * PAGE);
        fetched.written(130 * PAGE + 4095);
        fetched.written(130 * PAGE);
        assert_eq!(fetched.changed, [130 * PAGE]);
        // Beyond RAM nothing is fetched.
        fetched.watch(1 << 40);
        fetched.written(1 << 40);
        assert_eq!(fetched.changed.len(), 1);
    }
}
