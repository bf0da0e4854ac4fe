// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Instruction fetches, as far as an engine tells of them: it fetches a piece of code once, keeps what it
//! has made of it, and has to be told when the bytes there are no longer those.
//!
//! A fetch reads as a load does, from the point of unification, which on this board is the cache that
//! loads go through. It is no access in device time and in the run's hash: when an engine fetches is its
//! own affair.

use serde::{Deserialize, Serialize};

use super::domain::Domain;
use super::line::{PAGE, UNREAD, WATCHED, parts};
use super::who::Who;
use crate::cpu::{CpuId, SiteId};
use crate::state::{Invalid, at_most, no_longer, same};

/// Pages of which code has been fetched, until their bytes change.
#[derive(Debug)]
pub(super) struct Fetched {
    /// A bit for each page of RAM.
    pages: Vec<u64>,
    /// Pages that have changed, and had a bit then: no more than there are pages.
    changed: Vec<u64>,
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

    fn watch(&mut self, offset: u64) {
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

/// The same, of pages by number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FetchedState {
    pages: Vec<u64>,
    changed: Vec<u64>,
}

impl Fetched {
    pub fn state(&self) -> FetchedState {
        let Fetched { pages, changed } = self;
        FetchedState {
            pages: pages.clone(),
            changed: changed.clone(),
        }
    }

    /// Of `len` bytes of RAM.
    pub fn set_state(&mut self, state: FetchedState, len: u64) -> Result<(), Invalid> {
        same("pages with code", &state.pages.len(), &self.pages.len())?;
        no_longer(
            "pages with new code",
            state.changed.len(),
            (len / PAGE) as usize,
        )?;
        for page in &state.changed {
            at_most("page with new code", *page, len - PAGE)?;
        }
        self.pages = state.pages;
        self.changed = state.changed;
        Ok(())
    }
}

impl Domain {
    /// Code has been fetched from `len` bytes at `pa`, by way of the caches; `site` is asked where that
    /// code is if there is something to judge. Outside RAM: ignored.
    pub fn fetched(&mut self, cpu: CpuId, pa: u64, len: u64, site: &mut dyn FnMut() -> SiteId) {
        let Some(offset) = self.offset(pa, len) else {
            return;
        };
        for (number, bytes, _) in parts(offset, len) {
            self.images.fetched.watch(number * super::LINE);
            let flags = self.lines.line(number).flags;
            if flags & (WATCHED | UNREAD) != 0 {
                self.judge_fetch(number, bytes, Who::cpu(cpu, site()));
            }
        }
    }

    /// A page in which code that was fetched may have changed since, each time once; its address.
    pub fn changed_code(&mut self) -> Option<u64> {
        self.images
            .fetched
            .changed
            .pop()
            .map(|offset| self.base + offset)
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
