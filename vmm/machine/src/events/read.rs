// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A log, read record by record. Holds one frame at a time, and the places in code.

use std::collections::BTreeMap;
use std::io::Read;

use serde::de::{DeserializeOwned, IgnoredAny};
use staleline_devices::cpu::SiteId;
use staleline_devices::events::Event;
use staleline_events::{Ended, Frame, LogError, Reader, Tag, records};

use super::Head;

/// Places that are kept, at most: more than engines make up.
const MAX_PLACES: usize = 1 << 21;

/// Something in a log.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A step of the runner: a JSON object in one line.
    Run(String),
    /// A machine begins.
    Machine(Box<Head>),
    /// What happened on it.
    Event(Event),
    /// Of what follows, only findings are kept.
    Full,
    /// The machine ends.
    End(Ended),
}

/// Something in a log, and when it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its number, from 1, if it is a step or an event; else that of the one before.
    pub sequence: u64,
    /// Accesses of the CPUs since power-on.
    pub at: u64,
    /// Device time, in ticks: accesses, and what was skipped while all CPUs waited.
    pub ticks: u64,
    /// What it is.
    pub item: Item,
}

/// Reads a log.
pub struct EventReader<R> {
    frames: Reader<R>,
    block: std::vec::IntoIter<(u64, Event)>,
    places: BTreeMap<SiteId, u64>,
    sequence: u64,
    at: u64,
    waited: u64,
    over: bool,
}

impl<R: Read> EventReader<R> {
    /// Takes a log from its start.
    ///
    /// # Errors
    /// If it is none, or of another version.
    pub fn new(from: R) -> Result<Self, LogError> {
        Ok(EventReader {
            frames: Reader::new(from)?,
            block: Vec::new().into_iter(),
            places: BTreeMap::new(),
            sequence: 0,
            at: 0,
            waited: 0,
            over: false,
        })
    }

    /// The places in code that the entries read so far refer to.
    pub fn places(&self) -> &BTreeMap<SiteId, u64> {
        &self.places
    }

    /// All of them, when the log is read.
    pub fn into_places(self) -> BTreeMap<SiteId, u64> {
        self.places
    }

    fn entry(&self, item: Item) -> Entry {
        Entry {
            sequence: self.sequence,
            at: self.at,
            ticks: self.at.saturating_add(self.waited),
            item,
        }
    }

    fn event(&mut self, at: u64, event: Event) -> Entry {
        self.sequence += 1;
        self.at = at;
        let entry = self.entry(Item::Event(event));
        if let Event::Waited { ticks } = event {
            self.waited = self.waited.saturating_add(ticks);
        }
        entry
    }

    /// What a frame says, if it is something by itself.
    fn frame(&mut self, frame: &Frame) -> Result<Option<Entry>, LogError> {
        let item = match frame.tag {
            Tag::RUN => {
                self.sequence += 1;
                json::<IgnoredAny>(&frame.payload)?;
                let text = String::from_utf8_lossy(&frame.payload);
                // A writer of lines makes none; whoever made this shall not make two of one.
                Item::Run(text.replace(['\n', '\r'], " "))
            }
            Tag::MACHINE => {
                (self.at, self.waited) = (0, 0);
                Item::Machine(Box::new(json::<Head>(&frame.payload)?.plain()))
            }
            Tag::PLACES => {
                let places: Vec<(SiteId, u64)> = json(&frame.payload)?;
                let room = MAX_PLACES.saturating_sub(self.places.len());
                self.places.extend(places.into_iter().take(room));
                return Ok(None);
            }
            Tag::RECORDS => {
                let events: Result<Vec<_>, _> = records(frame.records, &frame.payload).collect();
                self.block = events?.into_iter();
                return Ok(None);
            }
            Tag::FULL => Item::Full,
            Tag::END => {
                let mut ended: Ended = json(&frame.payload)?;
                if let Some(trouble) = &mut ended.trouble {
                    trouble.retain(|c| !c.is_control());
                }
                Item::End(ended)
            }
            _ => return Ok(None),
        };
        Ok(Some(self.entry(item)))
    }

    fn step(&mut self) -> Result<Option<Entry>, LogError> {
        loop {
            if let Some((at, event)) = self.block.next() {
                return Ok(Some(self.event(at, event)));
            }
            let Some(frame) = self.frames.next() else {
                return Ok(None);
            };
            if let Some(entry) = self.frame(&frame?)? {
                return Ok(Some(entry));
            }
        }
    }
}

impl<R: Read> Iterator for EventReader<R> {
    type Item = Result<Entry, LogError>;

    /// The next entry; nothing comes after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.step().transpose();
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

fn json<T: DeserializeOwned>(payload: &[u8]) -> Result<T, LogError> {
    serde_json::from_slice(payload).map_err(|e| LogError::Record(e.to_string()))
}
