// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Pages at rest, set aside: masters access them as a whole, and whoever needs one of their lines gets
//! the page back with all that has been noted here written into its lines.
//!
//! While a page is set aside it is missing among the others. So the CPU's accesses pay nothing: they
//! look for missing pages anyway.

use serde::{Deserialize, Serialize};

use super::line::{IN_FLIGHT_READ, IN_FLIGHT_WRITE, PAGE_LINES};
use super::page::PageMeta;
use super::per_page::PerPage;
use super::rest::{AtRest, Kinds};
use super::who::Who;
use crate::dma::Doorbell;
use crate::state::{Invalid, at_most, no_longer};

/// The last write of a master to some lines: all that a write changes in a page at rest.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Written {
    /// By number.
    pub dma_write: u32,
    pub by: Who,
    /// In accesses since power-on.
    pub at: u64,
}

/// A page at rest.
#[derive(Debug)]
pub(super) struct Aside {
    page: Box<PageMeta>,
    rest: AtRest,
    /// Some master has met it.
    met: bool,
    /// Lines, as masks, that have been written since, each in one of them.
    written: Vec<(u64, Written)>,
    /// Lines that transfers have come to own since, with their flag.
    owned: Vec<(u64, u16)>,
}

impl Aside {
    /// `lines` (a mask) have been written. Returns which lines are in the cache.
    pub fn write(&mut self, lines: u64, written: Written) -> u64 {
        // At most one for each line is left.
        self.written.retain_mut(|(before, _)| {
            *before &= !lines;
            *before != 0
        });
        self.written.push((lines, written));
        self.rest.cached
    }

    fn own(&mut self, lines: u64, flag: u16) {
        match self.owned.iter_mut().find(|(_, f)| *f == flag) {
            Some((before, _)) => *before |= lines,
            None => self.owned.push((lines, flag)),
        }
    }

    /// The page as if each access had gone through its lines.
    fn settle(self) -> Box<PageMeta> {
        let mut page = self.page;
        page.trial.over(self.met);
        for (lines, written) in self.written {
            for index in numbers(lines) {
                let (line, cold) = page.with_cold(index);
                line.dma_write = written.dma_write;
                cold.unread_by = written.by;
                cold.poc_writer = written.by;
                cold.poc_written_at = written.at;
            }
        }
        for (lines, flag) in self.owned {
            for index in numbers(lines) {
                page.lines[index].flags |= flag;
            }
        }
        page
    }
}

/// All that are set aside, by number of the page.
#[derive(Debug)]
pub(super) struct Asides(PerPage<Aside>);

impl Asides {
    /// None, of so many pages.
    pub fn new(pages: usize) -> Self {
        Asides(PerPage::new(pages))
    }

    /// Sets a page aside.
    pub fn put(&mut self, number: usize, page: Box<PageMeta>, rest: AtRest) {
        let aside = Aside {
            page,
            rest,
            met: false,
            written: Vec::new(),
            owned: Vec::new(),
        };
        self.0.put(number, Box::new(aside));
    }

    /// Gives a page back, if it is here.
    pub fn take(&mut self, number: usize) -> Option<Box<PageMeta>> {
        Some(self.0.take(number)?.settle())
    }

    /// A look at the lines as they were when the page was set aside: their flags may lack owners.
    pub fn peek(&self, number: usize) -> Option<&PageMeta> {
        Some(&self.0.get(number)?.page)
    }

    /// A page that is at rest for an access of `kind` by a master started at `release`.
    pub fn at_rest(
        &mut self,
        number: usize,
        kind: Kinds,
        release: &Doorbell,
    ) -> Option<&mut Aside> {
        let aside = self.0.get_mut(number)?;
        let flags = aside.owned.iter().fold(0, |all, (_, flag)| all | flag);
        let rests = aside.rest.is_for(kind, release, flags);
        aside.met |= rests;
        rests.then_some(aside)
    }

    /// A transfer in flight owns `lines` (a mask) of a page from now on; `flag` says how. Returns whether
    /// the page is here.
    pub fn own(&mut self, number: usize, lines: u64, flag: u16) -> bool {
        let Some(aside) = self.0.get_mut(number) else {
            return false;
        };
        aside.own(lines, flag);
        true
    }
}

/// A page at rest but for what stands in the page itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AsideState {
    rest: AtRest,
    met: bool,
    written: Vec<(u64, Written)>,
    owned: Vec<(u64, u16)>,
}

impl Asides {
    /// The page, with what is noted of it, if it is here.
    pub fn state(&self, number: usize) -> Option<(&PageMeta, AsideState)> {
        let Aside {
            page,
            rest,
            met,
            written,
            owned,
        } = self.0.get(number)?;
        let state = AsideState {
            rest: *rest,
            met: *met,
            written: written.clone(),
            owned: owned.clone(),
        };
        Some((page, state))
    }

    /// Sets a page aside as one was that is noted so.
    pub fn set_state(
        &mut self,
        number: usize,
        page: Box<PageMeta>,
        state: AsideState,
    ) -> Result<(), Invalid> {
        state.rest.check()?;
        no_longer("writes of a page at rest", state.written.len(), PAGE_LINES)?;
        no_longer("owners of a page at rest", state.owned.len(), 2)?;
        for (_, flag) in &state.owned {
            let owners = IN_FLIGHT_READ | IN_FLIGHT_WRITE;
            at_most("other marks of a page at rest", (flag & !owners).into(), 0)?;
        }
        let aside = Aside {
            page,
            rest: state.rest,
            met: state.met,
            written: state.written,
            owned: state.owned,
        };
        self.0.put(number, Box::new(aside));
        Ok(())
    }
}

/// The bits that are set in a mask of lines.
fn numbers(lines: u64) -> impl Iterator<Item = usize> {
    (0..PAGE_LINES).filter(move |n| lines >> n & 1 != 0)
}
