// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A run's log, as far as the page needs it.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use staleline_devices::coherency::SnoopWrite;
use staleline_devices::events::Kind;
use staleline_events::LogError;
use staleline_support::text;

use super::lanes::{Lanes, Watch};
use crate::events::{EventReader, Head, Item};

/// Lines that are followed of one run, at most, for all its timelines.
const MAX_LINES: u64 = 1 << 16;

/// What a timeline is made of.
const NEEDED: [Kind; 7] = [
    Kind::Transfer,
    Kind::Dma,
    Kind::Maintenance,
    Kind::Barrier,
    Kind::Finding,
    Kind::Cache,
    Kind::Access,
];

/// A run's log.
pub struct Source<'a> {
    log: &'a Path,
    snoop_write: SnoopWrite,
    head: RefCell<Head>,
    cut_at: Cell<Option<u64>>,
}

impl<'a> Source<'a> {
    /// The log there. `snoop_write`: what a write that snoops does on that board.
    pub fn of(log: &'a Path, snoop_write: SnoopWrite) -> Self {
        Source {
            log,
            snoop_write,
            head: RefCell::default(),
            cut_at: Cell::default(),
        }
    }

    /// The name of a bus master, once the log has been read.
    pub fn master(&self, id: u8) -> String {
        self.head.borrow().master(id)
    }

    /// When the log was full, or cut off, if it was, once it has been read: in accesses since power-on.
    pub fn cut_at(&self) -> Option<u64> {
        self.cut_at.get()
    }

    /// Reads the log once, and follows these lines.
    ///
    /// # Errors
    /// A sentence that says why that says nothing.
    pub fn follow(&self, watches: &[Watch]) -> Result<Vec<Lanes>, String> {
        let mut room = MAX_LINES;
        let mut lanes = Vec::with_capacity(watches.len());
        for watch in watches {
            let one = Lanes::of(*watch, self.snoop_write, room);
            room -= one.watch().lines().min(room);
            lanes.push(one);
        }
        if lanes.is_empty() {
            return Ok(lanes);
        }
        let entries = File::open(self.log)
            .map_err(LogError::from)
            .and_then(|file| EventReader::new(BufReader::with_capacity(1 << 16, file)))
            .map_err(|e| format!("the run's log cannot be read: {}", text::chain(&e)))?;
        let mut known = false;
        let (mut last, mut ended) = (0, false);
        for entry in entries {
            // What comes before a damage is told all the same.
            let Ok(entry) = entry else { break };
            last = entry.at;
            match entry.item {
                Item::Machine(head) => {
                    let wants = |kind: &Kind| head.filter.0.contains(*kind);
                    if !NEEDED.iter().all(wants) {
                        let filter = head.filter;
                        return Err(format!(
                            "the run kept too few kinds of events for that (--log {filter})"
                        ));
                    }
                    known = true;
                    self.head.replace(*head);
                }
                Item::Event(event) => {
                    for lanes in &mut lanes {
                        lanes.take(entry.at, &event);
                    }
                }
                // Behind it are findings alone.
                Item::Full => break,
                Item::End(_) => ended = true,
                Item::Run(_) => {}
            }
        }
        if !ended {
            self.cut_at.set(Some(last));
            lanes.iter_mut().for_each(|lanes| lanes.end_at(last));
        }
        match known {
            true => Ok(lanes),
            false => Err("the run kept no events of the machine (--log off)".into()),
        }
    }
}
