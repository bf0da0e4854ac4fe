// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is known of all lines. It is kept per guest page and made at the page's first access, so a run
//! pays for the memory its guest touches.

pub(super) mod state;

use std::ops::Range;

use super::aside::{Aside, Asides};
use super::cold::Cold;
use super::images::Dram;
use super::line::{DMA, Line, PAGE, PAGE_LINES, State, mask};
use super::maintenance::Operations;
use super::page::PageMeta;
use super::per_page::PerPage;
use super::rest::{AtRest, Kinds};
use super::trial::Trial;
use crate::dma::Doorbell;

/// What lines that nobody loaded are like at power-on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtPowerOn {
    /// Clean.
    Clean,
    /// Possibly dirty, but written back by now.
    WrittenBack,
    /// Dirty, with something else in DRAM.
    Dirty,
}

/// Metadata of all RAM, by line number.
#[derive(Debug)]
pub(super) struct Lines {
    pages: PerPage<PageMeta>,
    /// Pages at rest, which are missing in `pages`.
    aside: Asides,
    /// Accesses that pages may be set aside for.
    kinds: Kinds,
    power_on: AtPowerOn,
    /// DRAM, if nobody else says what it holds at power-on.
    below: Option<Dram>,
    /// Lines that were loaded, and cleaned, before power-on.
    loaded: Vec<Range<u64>>,
}

impl Lines {
    /// For `bytes` of RAM, a multiple of the page size. Pages may be set aside for accesses of `kinds`.
    pub fn new(bytes: u64, (power_on, below): (AtPowerOn, Option<Dram>), kinds: Kinds) -> Self {
        let pages = (bytes / PAGE) as usize;
        Lines {
            aside: Asides::new(pages),
            kinds,
            pages: PerPage::new(pages),
            power_on,
            below,
            loaded: Vec::new(),
        }
    }

    /// Lines that are clean at power-on. To be told before their first access.
    pub fn loaded(&mut self, lines: Range<u64>) {
        self.loaded.push(lines);
    }

    /// Lines of the page of `line` that were loaded, as a mask.
    pub fn loaded_of_page(&self, line: u64) -> u64 {
        let first = line / PAGE_LINES as u64 * PAGE_LINES as u64;
        let lines = (0..PAGE_LINES as u64).filter(|n| is_loaded(&self.loaded, first + n));
        lines.fold(0, |mask, n| mask | 1 << n)
    }

    fn split(line: u64) -> (usize, usize) {
        ((line as usize) / PAGE_LINES, (line as usize) % PAGE_LINES)
    }

    /// A line of a page that has been accessed and is not set aside.
    #[inline(always)]
    pub fn known(&mut self, line: u64) -> Option<&mut Line> {
        let (page, index) = Self::split(line);
        Some(&mut self.pages.get_mut(page)?.lines[index])
    }

    /// The page of `line`, made if this is its first access, or fetched back if it was set aside.
    #[inline]
    pub fn page(&mut self, line: u64) -> (&mut PageMeta, usize) {
        let (page, index) = Self::split(line);
        let (begin, loaded) = ((self.power_on, self.below.as_ref()), &self.loaded);
        let aside = &mut self.aside;
        let make = || missing_page(begin, loaded, aside, page);
        (self.pages.or_insert_with(page, make), index)
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
        let Some(page) = self.pages.get_mut(number) else {
            return;
        };
        if !page.trial.is_due() {
            return;
        }
        if let Some(rest) = AtRest::of(page, self.kinds, kind, ops)
            && let Some(page) = self.pages.take(number)
        {
            self.aside.put(number, page, rest);
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
        let here = self.pages.get(page);
        here.or_else(|| self.aside.peek(page))
    }
}

/// A page that was set aside, or is at its first access.
#[cold]
#[inline(never)]
fn missing_page(
    begin: (AtPowerOn, Option<&Dram>),
    loaded: &[Range<u64>],
    aside: &mut Asides,
    page: usize,
) -> Box<PageMeta> {
    aside
        .take(page)
        .unwrap_or_else(|| new_page(begin, loaded, page))
}

/// A page at its first access.
fn new_page(
    (power_on, below): (AtPowerOn, Option<&Dram>),
    loaded: &[Range<u64>],
    page: usize,
) -> Box<PageMeta> {
    let line = |n: usize| {
        let number = (page * PAGE_LINES + n) as u64;
        let is_loaded = is_loaded(loaded, number);
        let line = new_line(power_on, is_loaded);
        if let Some(dram) = below
            && !is_loaded
        {
            dram.begin(number, line.cached());
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
fn new_line(power_on: AtPowerOn, is_loaded: bool) -> Line {
    match power_on {
        _ if is_loaded => Line::default(),
        AtPowerOn::Clean => Line::default(),
        AtPowerOn::WrittenBack => Line::at_power_on(State::Invalid),
        AtPowerOn::Dirty => Line::at_power_on(State::Dirty),
    }
}

fn is_loaded(loaded: &[Range<u64>], number: u64) -> bool {
    loaded.iter().any(|lines| lines.contains(&number))
}
