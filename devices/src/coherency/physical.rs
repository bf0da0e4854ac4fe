// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the cache does with the data: fills, evictions, write-backs.

use serde::{Deserialize, Serialize};

use super::domain::Domain;
use super::hash::Item;
use super::line::{DIVERGED, DMA, PAGE_LINES, State};
use super::replacement::{Directory, DirectoryState, Policy, Rng};
use super::report::CacheCounters;
use super::sanitizer::Subject;
use super::who::Who;
use crate::state::{Invalid, at_most, no_longer, same, times};

/// Pages under DMA that the `random` policy remembers.
const DMA_PAGES: usize = 1024;

/// The cache's directory and its choices; the lines' states are with the lines.
#[derive(Debug)]
pub(super) struct Cache {
    policy: Policy,
    directory: Option<Directory>,
    rng: Rng,
    counters: CacheCounters,
    /// Pages (by their first line) that DMA has touched last, for `random`: a ring.
    dma_pages: Vec<u64>,
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
    fn remember_dma_page(&mut self, number: u64) {
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

impl Domain {
    /// Brings an absent line in, clean: ram and dram agree already. Whoever has to leave for it
    /// is evicted.
    pub(super) fn fill(&mut self, number: u64, by: Who) {
        self.cache.counters.fills += 1;
        let (way, victim) = match &mut self.cache.directory {
            Some(directory) => directory.insert(number),
            None => (0, None),
        };
        let now = self.sanitizer.now;
        self.note_fill(number, by);
        let line = self.lines.line(number);
        line.state = State::Clean;
        line.way = way;
        if by != Who::default() {
            line.cached_by = by;
            line.filled_at = now as u32;
        }
        if let Some(victim) = victim {
            self.evict_victim(victim);
        }
    }

    /// A line leaves the cache: dirty data goes to DRAM.
    pub(super) fn evict(&mut self, number: u64) {
        self.leave(number);
        self.evict_victim(number);
    }

    fn evict_victim(&mut self, number: u64) {
        self.hash.add(Item::Evict, number);
        self.note_eviction(number);
        if self.lines.line(number).state == State::Dirty {
            self.cache.counters.evictions_dirty += 1;
            self.write_back(number);
        } else {
            self.cache.counters.evictions_clean += 1;
        }
        self.invalidate(number);
    }

    /// `dc cvac`: dirty data goes to DRAM, the line stays; but one with a non-cacheable alias keeps no
    /// clean copy.
    pub(super) fn clean_line(&mut self, number: u64) {
        if self.lines.line(number).state == State::Dirty {
            self.write_back(number);
            if self.is_aliased(number) {
                self.note_eviction(number);
                self.drop_line(number);
            }
        }
    }

    /// `dc ivac`: the cached copy is gone, dirty or not.
    pub(super) fn drop_line(&mut self, number: u64) {
        if self.lines.line(number).cached() {
            self.leave(number);
            self.invalidate(number);
        }
    }

    /// Takes a cached line out of the directory.
    fn leave(&mut self, number: u64) {
        let way = self.lines.line(number).way;
        if let Some(directory) = &mut self.cache.directory {
            directory.remove(number, way);
        }
    }

    fn write_back(&mut self, number: u64) {
        if self.lines.line(number).flags & DMA != 0 && self.lines.has_cold(number) {
            let mut s = Subject::new(&mut self.lines, &self.images, number);
            self.sanitizer.before_write_back(&mut s);
        }
        self.images
            .write_back(number * super::LINE, super::LINE as usize);
        let line = self.lines.line(number);
        line.state = State::Clean;
        line.flags &= !DIVERGED;
    }

    /// What coherent observers see is what DRAM holds.
    fn invalidate(&mut self, number: u64) {
        let line = self.lines.line(number);
        let differs = line.state == State::Dirty || line.flags & DIVERGED != 0;
        line.state = State::Invalid;
        line.flags &= !DIVERGED;
        if differs {
            self.images.reload(number);
        }
    }

    /// What the cache does of its own accord just before a master accesses a line, at the worst legal
    /// moment for `eager`, at random for `random`.
    pub(super) fn before_dma(&mut self, number: u64, non_snooping_write: bool) {
        match self.cache.policy {
            Policy::Eager if non_snooping_write => self.speculative_fill(number),
            Policy::Random => self.random_fill_or_evict(number),
            _ => {}
        }
    }

    /// The same just after.
    pub(super) fn after_dma(&mut self, number: u64, non_snooping_write: bool) {
        match self.cache.policy {
            Policy::Eager
                if non_snooping_write && self.lines.line(number).state == State::Dirty =>
            {
                self.evict(number);
            }
            Policy::Random => {
                self.cache.remember_dma_page(number);
                self.random_fill_or_evict(number);
            }
            _ => {}
        }
    }

    /// A speculative fill. The architecture allows one at any time.
    pub(super) fn speculative_fill(&mut self, number: u64) {
        if !self.lines.line(number).cached() {
            self.hash.add(Item::Fill, number);
            self.fill(number, Who::default());
        }
    }

    /// One time in eight each: an eviction or a speculative fill.
    fn random_fill_or_evict(&mut self, number: u64) {
        match self.cache.rng.below(8) {
            0 if self.lines.line(number).cached() => self.evict(number),
            1 => self.speculative_fill(number),
            _ => {}
        }
    }

    /// The `random` policy's chance to fill or evict a line of some buffer, at each access of the CPU
    /// that takes the slow path: near what the CPU is at work on, or in any page that was under DMA.
    #[inline]
    pub(super) fn random_activity(&mut self, number: u64) {
        if self.cache.policy != Policy::Random || self.cache.dma_pages.is_empty() {
            return;
        }
        let line = if self.cache.rng.below(2) == 0 {
            number.saturating_sub(self.cache.rng.below(8))
        } else {
            let page = self.cache.rng.below(self.cache.dma_pages.len() as u64) as usize;
            self.cache.dma_pages[page] + self.cache.rng.below(PAGE_LINES as u64)
        };
        if self.lines.line(line).flags & DMA != 0 {
            self.random_fill_or_evict(line);
        }
    }
}
