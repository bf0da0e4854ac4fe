// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What non-cacheable aliases of memory mean for its lines.
//!
//! All this only serves the *data*: an engine tells of a load after it was made, from ram. So a line
//! that may be loaded through such an alias must not keep a clean copy that differs from DRAM, and
//! to drop clean copies is what a cache may do at any time. The rules know nothing of mappings; they
//! go by the accesses made.

use super::alias::{ENTRY, MAX_BLOCK, MAX_ENTRIES};
use super::domain::Domain;
use super::line::{ALIAS_MAPPED, ALIAS_USED, ALIASED, PAGE, PAGE_LINES, SLOW_LOAD, State, TABLE};
use super::sanitizer::Subject;
use super::who::Who;
use crate::cpu::LINE;

impl Domain {
    /// A translation table entry that maps `len` bytes at `pa` as non-cacheable was stored at
    /// `entry`. Whatever lies outside RAM is ignored.
    pub fn map_non_cacheable(&mut self, entry: u64, pa: u64, len: u64) {
        let Some(entry) = self.offset(entry, ENTRY) else {
            return;
        };
        let Some(first) = self.offset(pa, 1) else {
            return;
        };
        self.unmap(entry);
        let len = len.min(self.len - first);
        self.aliases.cut |= len > MAX_BLOCK;
        let len = len.min(MAX_BLOCK);
        let pages = (first / PAGE, len.div_ceil(PAGE));
        if len == 0 {
            return;
        }
        if self.file(entry, pages) {
            self.lines.line(entry / LINE).flags |= TABLE;
        }
    }

    /// Files pages, the first and how many, under an entry that has none. Whether there was room for one more.
    pub(super) fn file(&mut self, entry: u64, pages: (u64, u64)) -> bool {
        if self.aliases.entries.len() >= MAX_ENTRIES {
            self.aliases.full = true;
            return false;
        }
        self.aliases.entries.insert(entry, pages);
        for page in pages.0..pages.0 + pages.1 {
            let count = self.aliases.mapped.entry(page).or_default();
            *count += 1;
            if *count == 1 {
                self.mark(page, true);
            }
        }
        true
    }

    /// `bytes` of a line with entries were stored.
    pub(super) fn table_stored(&mut self, number: u64, bytes: u64) {
        let mut left = false;
        for n in 0..LINE / ENTRY {
            let entry = number * LINE + n * ENTRY;
            if bytes >> (n * ENTRY) & 0xff != 0 {
                self.unmap(entry);
            }
            left |= self.aliases.entries.contains_key(&entry);
        }
        if !left {
            self.lines.line(number).flags &= !TABLE;
        }
    }

    pub(super) fn unmap(&mut self, entry: u64) {
        let Some((first, count)) = self.aliases.entries.remove(&entry) else {
            return;
        };
        for page in first..first + count {
            let left = self.aliases.mapped.get_mut(&page).map(|n| {
                *n -= 1;
                *n
            });
            if left == Some(0) {
                self.aliases.mapped.remove(&page);
                self.mark(page, false);
            }
        }
    }

    fn mark(&mut self, page: u64, mapped: bool) {
        for number in page * PAGE_LINES as u64..(page + 1) * PAGE_LINES as u64 {
            let line = self.lines.line(number);
            if !mapped {
                line.flags &= !ALIAS_MAPPED;
                continue;
            }
            line.flags |= ALIAS_MAPPED;
            if line.state == State::Clean {
                self.note_eviction(number);
                self.drop_line(number);
            }
        }
    }

    /// Whether a clean copy of the line must not differ from DRAM.
    pub(super) fn is_aliased(&mut self, number: u64) -> bool {
        self.lines.line(number).flags & ALIASED != 0
    }

    /// An access through a non-cacheable alias, after a store took effect in both images.
    pub(super) fn non_cacheable(&mut self, number: u64, bytes: u64, store: bool, who: Who) {
        let mut s = Subject::new(&mut self.lines, &self.images, number);
        if store {
            self.sanitizer.alias_store(&mut s, bytes, who);
        } else {
            self.sanitizer.alias_load(&mut s, bytes, who);
        }
        s.line.flags |= ALIAS_USED;
        match s.line.state {
            State::Invalid => {}
            State::Clean => {
                self.note_eviction(number);
                self.drop_line(number);
            }
            // Pushed out, so that both views agree from here on. That they did not is judged.
            State::Dirty => self.evict(number),
        }
    }
}

const _: () = assert!(
    SLOW_LOAD & ALIAS_USED != 0,
    "a cacheable access ends its time"
);
