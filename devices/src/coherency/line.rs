// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is known of a line: its state in the cache, and which of its bytes the two sides of the PoC
//! may see differently.

use serde::{Deserialize, Serialize};

use super::cold::Cold;
use super::who::Who;
use crate::cpu::LINE;
use crate::events::Cached;

/// Lines per 4 KiB page.
pub(super) const PAGE_LINES: usize = 64;
/// Bytes per page.
pub(super) const PAGE: u64 = LINE * PAGE_LINES as u64;

/// A line's state in the CPU cluster's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[repr(u8)]
pub(super) enum State {
    /// Not cached; ram and dram agree.
    #[default]
    Invalid,
    /// Cached, not modified since the fill.
    Clean,
    /// Cached and modified: an eviction writes it back.
    Dirty,
}

impl State {
    /// As the log has it.
    pub fn as_logged(self) -> Cached {
        match self {
            State::Invalid => Cached::No,
            State::Clean => Cached::Clean,
            State::Dirty => Cached::Dirty,
        }
    }
}

/// The cached copy may differ from DRAM though it is clean: DRAM was written behind its back.
pub(super) const DIVERGED: u16 = 1 << 0;
/// The line was last used through a non-cacheable alias.
pub(super) const ALIAS_USED: u16 = 1 << 1;
/// A non-snooping transfer that writes memory owns (part of) the line.
pub(super) const IN_FLIGHT_WRITE: u16 = 1 << 2;
/// A non-snooping transfer that reads memory owns (part of) the line.
pub(super) const IN_FLIGHT_READ: u16 = 1 << 3;
/// The line was the target of DMA at some time of the run.
pub(super) const DMA: u16 = 1 << 4;
/// `unseen`, or one of [`Cold`]'s `saved_invalidate`, `lost`, or its rare `saved_lost`, is not empty.
pub(super) const WATCHED: u16 = 1 << 5;
/// A coherent write has not been cleaned since: the line may be dirty, and may be written back at
/// any moment. Stays when a device overwrites the bytes at the PoC, which `uncleaned` does not.
pub(super) const MAYBE_DIRTY: u16 = 1 << 6;
/// [`Cold`]'s `cleans` are not empty: a store has to take its bytes out. Or it is to be known when the
/// first store comes behind an invalidate.
pub(super) const CLEANED: u16 = 1 << 7;
/// Masters read descriptors here: each store is noted with its order.
pub(super) const DESCRIPTOR: u16 = 1 << 8;
/// The page is mapped as non-cacheable somewhere.
pub(super) const ALIAS_MAPPED: u16 = 1 << 9;
/// Holds translation table entries that map memory as non-cacheable.
pub(super) const TABLE: u16 = 1 << 10;

/// A master has written here, and no CPU has loaded it in order since.
pub(super) const UNREAD: u16 = 1 << 11;

/// Earlier stores to the line are kept beside it: see [`super::stores`].
pub(super) const OVERTAKEN: u16 = 1 << 12;

/// The line is under a non-cacheable alias: a clean copy must not differ from DRAM.
pub(super) const ALIASED: u16 = ALIAS_USED | ALIAS_MAPPED;
/// One of [`Cold`]'s `cleans` may not have been done again by a later operation.
pub(super) const UNREPEATED: u16 = 1 << 13;
/// A witness has been told of the line, which a master has touched or is about to.
pub(super) const LOGGED: u16 = 1 << 14;
/// All flags that there are.
pub(super) const FLAGS: u16 = (1 << 15) - 1;
/// Flags that take a load off the fast path.
pub(super) const SLOW_LOAD: u16 = ALIAS_USED | IN_FLIGHT_WRITE | WATCHED | UNREAD;
/// Flags that take a store off the fast path.
pub(super) const SLOW_STORE: u16 = SLOW_LOAD | IN_FLIGHT_READ | CLEANED | DESCRIPTOR | TABLE;

/// The hot part: one host cache line per guest cache line. Masks have bit *n* for byte *n*.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[repr(C, align(64))]
pub(super) struct Line {
    /// Bytes that a coherent observer wrote last, and nobody cleaned since.
    pub uncleaned: u64,
    /// Of these, bytes that nobody has written since power-on: firmware may have.
    pub firmware: u64,
    /// Bytes written at the PoC by a non-snooping master or through a non-cacheable alias, with no
    /// invalidate since: a copy in the cache may be older.
    pub unseen: u64,
    /// Bytes that a CPU has stored since the barrier before its last store here.
    pub fresh: u64,
    /// When the last coherent write was, in accesses since power-on.
    pub written_at: u64,
    /// The last write of a master, by number.
    pub dma_write: u32,
    /// The last operation that cleaned the line, dirty or not; 0: none.
    pub clean_op: u32,
    /// The last coherent writer.
    pub writer: Who,
    /// What brought the line into the cache, or wrote it there last.
    pub cached_by: Who,
    /// When a CPU's access last filled the line: the low bits of the number of accesses since
    /// power-on, which is all there is room for.
    pub filled_at: u32,
    pub state: State,
    /// Its way, for policies that have ways.
    pub way: u8,
    pub flags: u16,
}

impl Line {
    /// A line as it may be at power-on, if nobody has cleaned the caches: firmware may have left
    /// any of its bytes dirty.
    pub fn at_power_on(state: State) -> Self {
        Line {
            uncleaned: u64::MAX,
            firmware: u64::MAX,
            flags: MAYBE_DIRTY,
            state,
            ..Line::default()
        }
    }

    /// Whether the line is in the cache.
    pub fn cached(&self) -> bool {
        self.state != State::Invalid
    }

    /// Whether to clean the line would do nothing, nor be what an earlier clean has done.
    pub fn is_clean(&self) -> bool {
        let nothing = self.flags & (MAYBE_DIRTY | UNREPEATED) == 0 && self.uncleaned == 0;
        nothing && self.state != State::Dirty
    }

    /// When `cached_by` was, in accesses since power-on; `now` is that number. A fill counts as
    /// one of the last 2^32 accesses, and a later store renews the copy.
    pub fn cached_at(&self, now: u64) -> u64 {
        let since = (now as u32).wrapping_sub(self.filled_at);
        now.saturating_sub(u64::from(since)).max(self.written_at)
    }

    /// Brings [`WATCHED`] in line with the masks.
    #[inline]
    pub fn watch_bytes(&mut self, cold: &Cold) {
        let watched = self.unseen | cold.saved_invalidate | cold.lost;
        self.flags &= !WATCHED;
        if watched != 0 || !cold.rare().saved_lost.is_empty() {
            self.flags |= WATCHED;
        }
    }

    /// Brings [`WATCHED`] and [`CLEANED`] in line with the masks.
    #[inline]
    pub fn watch(&mut self, cold: &Cold) {
        self.watch_bytes(cold);
        self.flags &= !CLEANED;
        let invalidated = cold.settling != 0 || cold.discard_op != 0;
        if !cold.cleans.is_empty() || invalidated && cold.stored_behind == 0 {
            self.flags |= CLEANED;
        }
    }
}

/// Mask of `len` bytes from `offset` of a line; `offset + len` at most 64, `len` at least 1.
#[inline]
pub(super) fn mask(offset: u64, len: u64) -> u64 {
    (u64::MAX >> (64 - len)) << offset
}

/// The parts of `pa..pa + len` line by line: (line number, mask, bytes).
pub(super) fn parts(offset: u64, len: u64) -> impl Iterator<Item = (u64, u64, usize)> {
    let end = offset + len;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let within = at % LINE;
        let n = (LINE - within).min(end - at);
        let part = (at / LINE, mask(within, n), n as usize);
        at += n;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_a_host_cache_line() {
        assert_eq!(size_of::<Line>(), 64);
    }

    #[test]
    fn a_copy_is_as_old_as_its_fill_or_its_last_store() {
        let mut line = Line {
            filled_at: 7,
            ..Line::default()
        };
        assert_eq!(line.cached_at(7), 7);
        assert_eq!(line.cached_at(1 << 32 | 9), 1 << 32 | 7);
        assert_eq!(line.cached_at(1 << 32 | 5), 7);
        line.written_at = 20;
        assert_eq!(line.cached_at(30), 20);
        assert_eq!(Line::default().cached_at(30), 0);
    }

    #[test]
    fn masks_cover_what_they_say() {
        assert_eq!(mask(0, 64), u64::MAX);
        assert_eq!(mask(63, 1), 1 << 63);
        assert_eq!(mask(4, 4), 0xf0);
        let got: Vec<_> = parts(60, 72).collect();
        assert_eq!(
            got,
            [(0, mask(60, 4), 4), (1, u64::MAX, 64), (2, mask(0, 4), 4)]
        );
    }
}
