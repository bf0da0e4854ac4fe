// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A log whose events somebody else reads, one after the other, and wants told with names.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::Serialize;
use staleline_devices::cpu::SiteId;
use staleline_devices::events::Event;
use staleline_events::LogError;

use super::context::Context;
use super::files::Run;
use super::select::Selection;
use super::survey::{self, Survey};
use super::words;
use crate::events::{Entry, EventReader};
use crate::exit::Error;

/// A log, and what its events refer to.
pub struct Telling {
    run: Run,
    survey: Survey,
}

/// An event in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Its number in the log, from 1.
    pub record: u64,
    /// When, in accesses since power-on.
    pub at: u64,
    /// Who did it.
    pub who: String,
    /// What.
    pub what: String,
    /// Where in memory: `0x40e12000+64`.
    pub address: Option<String>,
    /// Where in guest code: function, file and line.
    pub place: Option<String>,
}

impl Telling {
    /// The run in a directory, or the one of a log.
    ///
    /// # Errors
    /// [`Error::NotARun`] if there is no log; [`Error::Log`] if it cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let run = Run::open(path)?;
        let survey = survey::of(&run, Selection::default())?;
        Ok(Telling { run, survey })
    }

    /// All that is in the log, from its start.
    ///
    /// # Errors
    /// [`Error::Log`].
    pub fn entries(&self) -> Result<EventReader<BufReader<File>>, Error> {
        self.run.entries().map_err(|e| self.unreadable(e))
    }

    /// For an error on the way through them.
    pub fn unreadable(&self, source: LogError) -> Error {
        self.run.unreadable(source)
    }

    /// Names for what they refer to.
    pub fn names(&self) -> Names<'_> {
        Names {
            context: Context::new(&self.run, &self.survey),
            places: HashMap::new(),
        }
    }
}

/// Names for what a log's events refer to. Each place is looked up once.
pub struct Names<'a> {
    context: Context<'a>,
    places: HashMap<SiteId, Option<String>>,
}

impl Names<'_> {
    /// Function, file and line of a place in guest code.
    pub fn place(&mut self, site: SiteId) -> Option<&str> {
        let place = self.places.entry(site);
        let place = place.or_insert_with(|| self.context.place(site));
        place.as_deref()
    }

    /// The name of who did it.
    pub fn who(&self, event: &Event) -> String {
        words::who(event, &self.context)
    }

    /// An event of the log in words.
    pub fn told(&mut self, entry: &Entry, event: &Event) -> Told {
        let site = words::site(event);
        Told {
            record: entry.sequence,
            at: entry.at,
            who: self.who(event),
            what: words::what(event, &self.context),
            address: words::address(event).map(|(pa, len)| format!("{pa:#x}+{len}")),
            place: site.and_then(|site| self.place(site).map(str::to_owned)),
        }
    }
}
