// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of all lines: of each page that was accessed, the lines that are not as they were before.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Lines, is_loaded, new_line};
use crate::coherency::aside::AsideState;
use crate::coherency::cold::Cold;
use crate::coherency::line::{FLAGS, Line, PAGE_LINES};
use crate::coherency::page::{PageMeta, no_history};
use crate::coherency::replacement::WAYS;
use crate::coherency::trial::Trial;
use crate::state::{Invalid, at_most, same};

/// Metadata of all RAM.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::coherency) struct LinesState {
    /// What was loaded before power-on, which the board decides.
    loaded: Vec<Range<u64>>,
    pages: Vec<PageState>,
}

/// A page.
#[derive(Debug, Serialize, Deserialize)]
struct PageState {
    number: usize,
    hot: Part<Line>,
    cold: Option<Part<Cold>>,
    trial: Trial,
    aside: Option<AsideState>,
}

/// Which lines of a page are not as they are before anything happens, as a mask, and those.
#[derive(Debug, Serialize, Deserialize)]
struct Part<T> {
    changed: u64,
    lines: Vec<T>,
}

impl<T: Clone + PartialEq> Part<T> {
    fn new(lines: &[T; PAGE_LINES], before: impl Fn(usize) -> T) -> Self {
        let all = lines.iter().enumerate();
        let changed = all.filter(|(n, line)| **line != before(*n));
        let (mut mask, mut kept) = (0, Vec::new());
        for (n, line) in changed {
            mask |= 1 << n;
            kept.push(line.clone());
        }
        Part {
            changed: mask,
            lines: kept,
        }
    }

    /// Puts them into their places.
    fn put(self, lines: &mut [T; PAGE_LINES]) -> Result<(), Invalid> {
        let count = self.changed.count_ones() as usize;
        same("lines of a page", &self.lines.len(), &count)?;
        let changed = (0..PAGE_LINES).filter(|n| self.changed >> n & 1 != 0);
        for (n, line) in changed.zip(self.lines) {
            lines[n] = line;
        }
        Ok(())
    }
}

impl Line {
    fn check(&self) -> Result<(), Invalid> {
        at_most("way of a line", self.way.into(), WAYS as u64 - 1)?;
        at_most("marks of a line", self.flags.into(), FLAGS.into())
    }
}

impl Lines {
    fn before(&self, page: usize, n: usize) -> Line {
        let number = (page * PAGE_LINES + n) as u64;
        new_line(self.power_on, is_loaded(&self.loaded, number))
    }

    fn page_state(&self, number: usize, page: &PageMeta, aside: Option<AsideState>) -> PageState {
        let PageMeta { lines, cold, trial } = page;
        let cold = cold.as_deref();
        PageState {
            number,
            hot: Part::new(lines, |n| self.before(number, n)),
            cold: cold.map(|cold| Part::new(cold, |_| Cold::default())),
            trial: *trial,
            aside,
        }
    }

    pub fn state(&self) -> LinesState {
        let Lines {
            pages,
            aside,
            kinds: _,
            power_on: _,
            below: _,
            loaded,
        } = self;
        let pages = (0..pages.len()).filter_map(|number| {
            let (page, aside) = match pages.get(number) {
                Some(page) => (page, None),
                None => {
                    let (page, aside) = aside.state(number)?;
                    (page, Some(aside))
                }
            };
            Some(self.page_state(number, page, aside))
        });
        LinesState {
            loaded: loaded.clone(),
            pages: pages.collect(),
        }
    }

    /// Takes it over; no page was accessed here before.
    pub fn set_state(&mut self, state: LinesState) -> Result<(), Invalid> {
        same("memory loaded before power-on", &state.loaded, &self.loaded)?;
        for page in state.pages {
            at_most("page", page.number as u64, self.pages.len() as u64 - 1)?;
            page.trial.check()?;
            page.hot.lines.iter().try_for_each(Line::check)?;
            let mut meta = Box::new(PageMeta {
                lines: std::array::from_fn(|n| self.before(page.number, n)),
                cold: None,
                trial: page.trial,
            });
            page.hot.put(&mut meta.lines)?;
            if let Some(cold) = page.cold {
                cold.lines.iter().try_for_each(Cold::check)?;
                cold.put(meta.cold.insert(no_history()))?;
            }
            match page.aside {
                Some(aside) => self.aside.set_state(page.number, meta, aside)?,
                None => self.pages.put(page.number, meta),
            }
        }
        Ok(())
    }

    /// Pages, by number, in which DRAM may hold anything but what it was made with.
    pub fn known_pages(&self) -> BTreeSet<u64> {
        let lines = PAGE_LINES as u64;
        let loaded = self.loaded.iter();
        let loaded = loaded.flat_map(|l| l.start / lines..l.end.div_ceil(lines));
        self.accessed_pages().chain(loaded).collect()
    }

    /// Pages to which something has happened.
    pub fn accessed_pages(&self) -> impl Iterator<Item = u64> {
        let accessed = (0..self.pages.len()).filter(|page| self.peek(*page).is_some());
        accessed.map(|page| page as u64)
    }
}
