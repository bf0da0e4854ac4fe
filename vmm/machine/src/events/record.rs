// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The machine's part of the log, as it is written.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use staleline_devices::cpu::SiteId;
use staleline_devices::events::{Event, Witness};
use staleline_events::{Recorder, Tag, append};

use super::{Filter, Head};

/// What an engine is to record, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// A log that has been begun. The machine's part goes to its end.
    pub path: PathBuf,
    /// The events that are kept.
    pub filter: Filter,
    /// Bytes of them, at most.
    pub limit: u64,
}

/// Guest addresses by [`SiteId::index`], as far as an engine has made them up. Shared with the engine,
/// which adds to them when it translates code, on the same thread: nobody ever waits.
pub type Sites = Arc<Mutex<Vec<u64>>>;

/// Writes what happens to a log.
pub struct EventLog {
    recorder: Recorder<File>,
    places: Places,
    /// The last finding told of. They are numbered as they are made.
    findings: u32,
}

impl EventLog {
    /// Begins the machine's part of a log.
    ///
    /// # Errors
    /// Those of the file.
    pub fn open(recording: &Recording, head: &Head, sites: Sites) -> io::Result<Self> {
        let file = File::options().append(true).open(&recording.path)?;
        let mut recorder = Recorder::new(file, recording.limit);
        recorder.document(Tag::MACHINE, head);
        Ok(EventLog {
            recorder,
            places: Places::new(sites),
            findings: 0,
        })
    }
}

impl Witness for EventLog {
    fn event(&mut self, at: u64, event: &Event) {
        for site in event.sites() {
            self.places.refer(site);
        }
        let places = &mut self.places;
        // A finding on one more line is worth less than the next one.
        let important = match *event {
            Event::Found { finding, .. } => finding > self.findings,
            _ => false,
        };
        if let Event::Found { finding, .. } = *event {
            self.findings = self.findings.max(finding);
        }
        let before = |out: &mut File| places.write(out);
        self.recorder.record(at, event, important, before);
    }

    fn rest(&mut self) {
        self.recorder.flush(|out| self.places.write(out));
    }

    fn end(&mut self) {
        self.recorder.end(|out| self.places.write(out));
    }
}

/// The places in code that events refer to: each is written once, before the first event that does.
struct Places {
    sites: Sites,
    /// By index, as bits: written, or about to be.
    known: Vec<u64>,
    new: Vec<SiteId>,
}

impl Places {
    fn new(sites: Sites) -> Self {
        Places {
            sites,
            known: Vec::new(),
            new: Vec::with_capacity(1 << 12),
        }
    }

    #[inline]
    fn refer(&mut self, site: SiteId) {
        let (word, bit) = (site.index() / 64, 1 << (site.index() % 64));
        match self.known.get(word) {
            Some(known) if known & bit != 0 => {}
            _ => self.add(site, word, bit),
        }
    }

    #[cold]
    fn add(&mut self, site: SiteId, word: usize, bit: u64) {
        if site == SiteId(0) {
            return;
        }
        // Bounded by the number of sites that engines make up.
        if self.known.len() <= word {
            self.known.resize(word + 1, 0);
        }
        if let Some(known) = self.known.get_mut(word) {
            *known |= bit;
            self.new.push(site);
        }
    }

    fn write(&mut self, out: &mut File) -> io::Result<()> {
        if self.new.is_empty() {
            return Ok(());
        }
        let sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let address = |site: &SiteId| Some((site.0, *sites.get(site.index())?));
        let places: Vec<(u32, u64)> = self.new.iter().filter_map(address).collect();
        drop(sites);
        self.new.clear();
        append(out, Tag::PLACES, 0, &serde_json::to_vec(&places)?)
    }
}
