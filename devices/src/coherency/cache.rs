// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The cache: its directory, its choices, and what it has done.

use serde::{Deserialize, Serialize};

use super::line::PAGE_LINES;
use super::replacement::{Directory, DirectoryState, Policy, Rng};
use super::report::CacheCounters;
use crate::state::{Invalid, at_most, no_longer, same, times};

/// Pages under DMA that the `random` policy remembers.
const DMA_PAGES: usize = 1024;

/// The cache's directory and its choices; the lines' states are with the lines.
#[derive(Debug)]
pub(super) struct Cache {
    pub policy: Policy,
    pub directory: Option<Directory>,
    pub rng: Rng,
    pub counters: CacheCounters,
    /// Pages (by their first line) that DMA has touched last, for `random`: a ring.
    pub dma_pages: Vec<u64>,
    next_dma_page: usize,
}

impl Cache {
    pub fn new(policy: Policy, seed: u64) -> Self {
        Cache {
            policy,
            directory: (policy == Policy::Zynqmp).then(Directory::new),
            rng: Rng::new(seed),
            counters: CacheCounters::default(),
            dma_pages: Vec::new(),
            next_dma_page: 0,
        }
    }

    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// A line in the cache was used.
    #[inline]
    pub fn touch(&mut self, line: u64, way: u8) {
        if let Some(directory) = &mut self.directory {
            directory.touch(line, way);
        }
    }

    pub fn counters(&self) -> CacheCounters {
        self.counters
    }

    /// Remembers the page of a line that DMA has touched.
    pub fn remember_dma_page(&mut self, number: u64) {
        let page = number / PAGE_LINES as u64 * PAGE_LINES as u64;
        let at = self.next_dma_page;
        let last = (at + DMA_PAGES - 1) % DMA_PAGES;
        if self.dma_pages.get(last) == Some(&page) {
            return;
        }
        match self.dma_pages.get_mut(at) {
            Some(oldest) => *oldest = page,
            None => self.dma_pages.push(page),
        }
        self.next_dma_page = (at + 1) % DMA_PAGES;
    }

    pub fn count_dma(&mut self, read: usize, written: usize) {
        self.counters.dma_read_bytes += read as u64;
        self.counters.dma_written_bytes += written as u64;
    }
}

/// All but the policy.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CacheState {
    directory: Option<DirectoryState>,
    rng: Rng,
    counters: CacheCounters,
    dma_pages: Vec<u64>,
    next_dma_page: usize,
}

impl Cache {
    pub fn state(&self) -> CacheState {
        let Cache {
            policy: _,
            directory,
            rng,
            counters,
            dma_pages,
            next_dma_page,
        } = self;
        CacheState {
            directory: directory.as_ref().map(Directory::state),
            rng: rng.clone(),
            counters: *counters,
            dma_pages: dma_pages.clone(),
            next_dma_page: *next_dma_page,
        }
    }

    /// Of so many lines of RAM.
    pub fn set_state(&mut self, state: CacheState, lines: u64) -> Result<(), Invalid> {
        let c = &state.counters;
        times(
            "fills and evictions",
            &[c.fills, c.evictions_clean, c.evictions_dirty],
        )?;
        times("bytes of masters", &[c.dma_read_bytes, c.dma_written_bytes])?;
        no_longer("pages under DMA", state.dma_pages.len(), DMA_PAGES)?;
        for page in &state.dma_pages {
            at_most("page under DMA", *page, lines - PAGE_LINES as u64)?;
        }
        no_longer("next page under DMA", state.next_dma_page, DMA_PAGES - 1)?;
        let directories = (state.directory.is_some(), self.directory.is_some());
        same("directory of the cache", &directories.0, &directories.1)?;
        if let (Some(here), Some(state)) = (&mut self.directory, state.directory) {
            here.set_state(state, lines)?;
        }
        self.rng = state.rng;
        self.counters = state.counters;
        self.dma_pages = state.dma_pages;
        self.next_dma_page = state.next_dma_page;
        Ok(())
    }
}
