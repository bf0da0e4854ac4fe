// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is in the log of a run, for people and programs: `staleline events`.
//!
//! A log is read three times: for the evidence, from which the result follows once more; to learn what
//! its events refer to (places in code, transfers and operations of the memory asked for); and to tell
//! them. Events are not held in memory.

mod context;
mod files;
mod lacks;
mod lines;
mod select;
mod survey;
mod table;
mod telling;
mod words;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::Path;

use staleline_devices::events::Kind;
use staleline_events::LogError;

use crate::events::{Entry, Item};
use crate::exit::Error;
use context::Context;
use select::Selection;
pub use telling::{Names, Telling, Told};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// What concerns the cache line that holds this physical address.
    pub line: Option<u64>,
    /// What concerns the DMABUF of this index.
    pub buffer: Option<u32>,
    /// These kinds; all if there are none.
    pub kinds: Vec<Wanted>,
    /// Not before this time, in accesses since power-on.
    pub since: Option<u64>,
    /// Not after this one.
    pub until: Option<u64>,
}

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Steps of the runner.
    Run,
    /// Events of the machine.
    Event(Kind),
}

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "run" {
            return Ok(Wanted::Run);
        }
        let kind = crate::events::filter::kind(name);
        kind.map(Wanted::Event)
            .map_err(|e| format!("{e}; and run, for the runner's steps"))
    }
}

impl Query {
    /// Whether it is about some memory.
    fn is_of_memory(&self) -> bool {
        self.line.is_some() || self.buffer.is_some()
    }

    /// Whether it asks for a kind.
    fn wants(&self, wanted: Wanted) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&wanted)
    }

    /// Whether it asks for the runner's steps, which have no time on the machine.
    fn wants_steps(&self) -> bool {
        let anything = !self.is_of_memory() && self.since.is_none() && self.until.is_none();
        match self.kinds.is_empty() {
            true => anything,
            false => self.kinds.contains(&Wanted::Run),
        }
    }

    /// Whether it asks for what happened on the machine.
    fn wants_events(&self) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|kind| *kind != Wanted::Run)
    }

    fn is_within(&self, at: u64) -> bool {
        self.since.is_none_or(|since| since <= at) && self.until.is_none_or(|until| at <= until)
    }

    fn fits(&self, entry: &Entry, selection: &Selection) -> bool {
        match &entry.item {
            Item::Run(_) => self.wants_steps(),
            Item::Event(event) => {
                self.wants(Wanted::Event(event.kind()))
                    && self.is_within(entry.at)
                    && selection.fits(event, entry.at)
            }
            Item::Full => self.wants_events() && self.is_within(entry.at),
            Item::Machine(_) | Item::End(_) => false,
        }
    }
}

/// How to write what fits.
trait Form {
    fn entry(
        &mut self,
        out: &mut dyn Write,
        context: &Context,
        entry: &Entry,
    ) -> std::io::Result<()>;
}

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A table.
    Table,
    /// A JSON object in each line.
    Lines,
}

/// Writes what the log at `path`, or of the run in that directory, holds of what is asked for. Returns
/// what it lacks, a sentence each.
///
/// # Errors
/// [`Error::Limit`] for a range of times that is none, [`Error::Option`] for a line where there is no RAM,
/// [`Error::NotARun`] if it is no run, [`Error::Log`] if it is no log or a damaged one: what comes before
/// the damage has been written then. One that was cut, as its run was stopped, is told like any other.
/// [`Error::Host`] for the output; a reader that stops reading is no error.
pub fn write(
    path: &Path,
    query: &Query,
    shape: Shape,
    out: &mut dyn Write,
) -> Result<Vec<String>, Error> {
    if let (Some(since), Some(until)) = (query.since, query.until)
        && since > until
    {
        return Err(Error::Limit {
            origin: format!("--since {since} --until {until}"),
            what: "no time is in that range".into(),
        });
    }
    let run = files::Run::open(path)?;
    lacks::check_line(query, &run)?;
    let selection = Selection::of(query, &run)?;
    let survey = survey::of(&run, selection)?;
    let context = Context::new(&run, &survey);
    let mut form: Box<dyn Form> = match shape {
        Shape::Table => Box::new(table::Table::new(query, &survey)),
        Shape::Lines => Box::new(lines::Lines),
    };
    let mut written = || -> Result<Result<(), LogError>, std::io::Error> {
        let entries = match run.entries() {
            Ok(entries) => entries,
            Err(e) => return Ok(Err(e)),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => return Ok(Err(e)),
            };
            if query.fits(&entry, &survey.selection) {
                form.entry(out, &context, &entry)?;
            }
        }
        out.flush()?;
        Ok(Ok(()))
    };
    match written() {
        Ok(Ok(())) => Ok(lacks::of(query, &run, &survey)),
        Ok(Err(cut @ LogError::CutShort { .. })) => {
            out.flush()
                .map_err(|e| Error::host("cannot write to stdout", e))?;
            let mut lacks = vec![format!("the log has no end: {cut}")];
            lacks.extend(lacks::of(query, &run, &survey));
            Ok(lacks)
        }
        Ok(Err(source)) => Err(run.unreadable(source)),
        // Who reads our output may stop to.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(Vec::new()),
        Err(e) => Err(Error::host("cannot write to stdout", e)),
    }
}
