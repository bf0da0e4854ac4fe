// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the cache does with the data: fills, evictions, write-backs.

use super::domain::Domain;
use super::hash::Item;
use super::line::{DIVERGED, DMA, PAGE_LINES, State};
use super::replacement::Policy;
use super::sanitizer::Subject;
use super::who::Who;
use crate::cpu::LINE;

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
        // What a CPU has stored makes it dirty.
        self.look_at(number * LINE, LINE);
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
        self.images.write_back(number * LINE, LINE as usize);
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
        if self.images.watches_ram() && non_snooping_write {
            self.speculative_fill(number);
        }
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
