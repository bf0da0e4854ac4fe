// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is known of each line: its state in the cache, and which of its bytes the two sides of
//! the PoC may see differently.
//!
//! Metadata is kept per guest page and made at the page's first access, so a run pays for the
//! memory its guest touches.

mod state;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::LINE;
use super::aside::{Aside, Asides, Trial};
use super::cold::Cold;
use super::images::Dram;
use super::maintenance::Operations;
use super::rest::{AtRest, Kinds};
use super::who::Who;
use crate::dma::Doorbell;
use crate::events::Cached;

pub(super) use self::state::LinesState;

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
const FLAGS: u16 = (1 << 15) - 1;
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

/// Metadata of one page.
#[derive(Debug)]
pub(super) struct PageMeta {
    pub lines: [Line; PAGE_LINES],
    pub cold: Option<Box<[Cold; PAGE_LINES]>>,
    pub trial: Trial,
}

impl PageMeta {
    /// The line with its cold part, which is made if it is missing.
    #[inline]
    pub fn with_cold(&mut self, index: usize) -> (&mut Line, &mut Cold) {
        let cold = self.cold.get_or_insert_with(no_history);
        (&mut self.lines[index], &mut cold[index])
    }
}

/// Cold parts of lines that nothing has happened to. Apart, as they are made on the stack, of which
/// callers on the hot path shall not have to touch so much.
#[cold]
#[inline(never)]
fn no_history() -> Box<[Cold; PAGE_LINES]> {
    Box::new(std::array::from_fn(|_| Cold::default()))
}

/// What lines that nobody loaded are like at power-on.
#[derive(Debug)]
pub(super) enum AtPowerOn {
    /// Clean.
    Clean,
    /// Possibly dirty, but written back by now.
    WrittenBack,
    /// Dirty, with something else in DRAM.
    Dirty(Dram),
}

/// Metadata of all RAM, by line number.
#[derive(Debug)]
pub(super) struct Lines {
    pages: Vec<Option<Box<PageMeta>>>,
    /// Pages at rest, which are missing in `pages`.
    aside: Asides,
    /// Accesses that pages may be set aside for.
    kinds: Kinds,
    power_on: AtPowerOn,
    /// Lines that were loaded, and cleaned, before power-on.
    loaded: Vec<Range<u64>>,
}

impl Lines {
    /// For `bytes` of RAM, a multiple of the page size. Pages may be set aside for accesses of `kinds`.
    pub fn new(bytes: u64, power_on: AtPowerOn, kinds: Kinds) -> Self {
        let mut pages = Vec::new();
        pages.resize_with((bytes / PAGE) as usize, || None);
        Lines {
            aside: Asides::new(pages.len()),
            kinds,
            pages,
            power_on,
            loaded: Vec::new(),
        }
    }

    /// Lines that are clean at power-on. To be told before their first access.
    pub fn loaded(&mut self, lines: Range<u64>) {
        self.loaded.push(lines);
    }

    fn split(line: u64) -> (usize, usize) {
        ((line as usize) / PAGE_LINES, (line as usize) % PAGE_LINES)
    }

    /// A line of a page that has been accessed and is not set aside.
    #[inline(always)]
    pub fn known(&mut self, line: u64) -> Option<&mut Line> {
        let (page, index) = Self::split(line);
        Some(&mut self.pages.get_mut(page)?.as_mut()?.lines[index])
    }

    /// The page of `line`, made if this is its first access, or fetched back if it was set aside.
    #[inline]
    pub fn page(&mut self, line: u64) -> (&mut PageMeta, usize) {
        let (page, index) = Self::split(line);
        let (power_on, loaded, aside) = (&self.power_on, &self.loaded, &mut self.aside);
        let slot = &mut self.pages[page];
        let meta = slot.get_or_insert_with(|| missing_page(power_on, loaded, aside, page));
        (meta, index)
    }

    /// The page of `line`, if it was set aside and is at rest for such an access.
    pub fn at_rest(&mut self, line: u64, kind: Kinds, release: &Doorbell) -> Option<&mut Aside> {
        self.aside.at_rest(Self::split(line).0, kind, release)
    }

    /// Sets the page of `line` aside, if it is at rest for accesses of `kind`.
    pub fn set_aside(&mut self, line: u64, kind: Kinds, ops: &Operations) {
        if !self.undisturbed(kind) {
            return;
        }
        let (number, _) = Self::split(line);
        let slot = self.pages.get_mut(number);
        let Some((slot, page)) = slot.and_then(|slot| slot.take().map(|page| (slot, page))) else {
            return;
        };
        let mut page = page;
        if !page.trial.is_due() {
            *slot = Some(page);
            return;
        }
        match AtRest::of(&page, self.kinds, kind, ops) {
            Some(rest) => self.aside.put(number, page, rest),
            None => *slot = Some(page),
        }
    }

    /// Whether the cache does nothing of its own accord before, while and after accesses of `kind`.
    pub fn undisturbed(&self, kind: Kinds) -> bool {
        self.kinds.meet(kind)
    }

    /// Sets no page aside any more.
    #[cfg(test)]
    pub fn keep_all(&mut self) {
        self.kinds = Kinds::NONE;
    }

    /// Marks lines as owned by a transfer in flight: `flag` says how.
    pub fn own(&mut self, lines: Range<u64>, flag: u16) {
        let per_page = PAGE_LINES as u64;
        let mut at = lines.start;
        while at < lines.end {
            let end = lines.end.min((at / per_page + 1) * per_page);
            let (page, index) = Self::split(at);
            let n = (end - at) as usize;
            if !self.aside.own(page, mask(index as u64, n as u64), flag) {
                let (page, _) = self.page(at);
                for line in page.lines.iter_mut().skip(index).take(n) {
                    line.flags |= flag;
                }
            }
            at = end;
        }
    }

    /// The hot part of `line`.
    #[inline]
    pub fn line(&mut self, line: u64) -> &mut Line {
        let (page, index) = self.page(line);
        &mut page.lines[index]
    }

    /// The line with its cold part.
    #[inline]
    pub fn with_cold(&mut self, line: u64) -> (&mut Line, &mut Cold) {
        let (page, index) = self.page(line);
        page.with_cold(index)
    }

    /// Whether the line, or one of its page, has a cold part: without, nobody has written the line at
    /// the PoC, maintained it, or used it through a non-cacheable alias.
    pub fn has_cold(&self, line: u64) -> bool {
        let (page, _) = Self::split(line);
        self.peek(page).is_some_and(|page| page.cold.is_some())
    }

    /// The page of `line`, made if this is its first access, unless it is set aside: masters have touched
    /// each of its lines then.
    #[inline]
    pub fn page_at_hand(&mut self, line: u64) -> Option<&mut PageMeta> {
        let (page, _) = Self::split(line);
        if self.aside.peek(page).is_some() {
            return None;
        }
        Some(self.page(line).0)
    }

    /// Whether masters have accessed the line. Makes nothing.
    #[inline]
    pub fn was_under_dma(&self, line: u64) -> bool {
        let (page, index) = Self::split(line);
        let page = self.peek(page);
        page.is_some_and(|page| page.lines[index].flags & DMA != 0)
    }

    #[inline]
    fn peek(&self, page: usize) -> Option<&PageMeta> {
        let here = self.pages.get(page)?.as_deref();
        here.or_else(|| self.aside.peek(page))
    }
}

/// A page that was set aside, or is at its first access.
#[cold]
#[inline(never)]
fn missing_page(
    power_on: &AtPowerOn,
    loaded: &[Range<u64>],
    aside: &mut Asides,
    page: usize,
) -> Box<PageMeta> {
    aside
        .take(page)
        .unwrap_or_else(|| new_page(power_on, loaded, page))
}

/// A page at its first access.
fn new_page(power_on: &AtPowerOn, loaded: &[Range<u64>], page: usize) -> Box<PageMeta> {
    let line = |n: usize| {
        let number = (page * PAGE_LINES + n) as u64;
        let line = new_line(power_on, loaded, number);
        if let AtPowerOn::Dirty(dram) = power_on
            && line.cached()
        {
            dram.poison(number);
        }
        line
    };
    Box::new(PageMeta {
        lines: std::array::from_fn(line),
        cold: None,
        trial: Trial::default(),
    })
}

/// A line before its first access.
fn new_line(power_on: &AtPowerOn, loaded: &[Range<u64>], number: u64) -> Line {
    if loaded.iter().any(|lines| lines.contains(&number)) {
        return Line::default();
    }
    match power_on {
        AtPowerOn::Clean => Line::default(),
        AtPowerOn::WrittenBack => Line::at_power_on(State::Invalid),
        AtPowerOn::Dirty(_) => Line::at_power_on(State::Dirty),
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
