// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A run's log, as far as the page needs it.

use std::cell::RefCell;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use staleline_devices::coherency::SnoopWrite;
use staleline_devices::events::Kind;
use staleline_events::LogError;
use staleline_support::text;

use super::lanes::{Lanes, Watch};
use crate::events::{EventReader, Head, Item};

/// What a timeline is made of.
const NEEDED: [Kind; 5] = [
    Kind::Dma,
    Kind::Maintenance,
    Kind::Finding,
    Kind::Cache,
    Kind::Access,
];

/// A run's log.
pub struct Source<'a> {
    log: &'a Path,
    snoop_write: SnoopWrite,
    head: RefCell<Head>,
}

impl<'a> Source<'a> {
    /// The log there. `snoop_write`: what a write that snoops does on that board.
    pub fn of(log: &'a Path, snoop_write: SnoopWrite) -> Self {
        Source {
            log,
            snoop_write,
            head: RefCell::default(),
        }
    }

    /// The name of a bus master, once the log has been read.
    pub fn master(&self, id: u8) -> String {
        self.head.borrow().master(id)
    }

    /// Reads the log once, and follows these lines.
    ///
    /// # Errors
    /// A sentence that says why that says nothing.
    pub fn follow(&self, watches: &[Watch]) -> Result<Vec<Lanes>, String> {
        let lanes = watches.iter().map(|w| Lanes::of(*w, self.snoop_write));
        let mut lanes: Vec<Lanes> = lanes.collect();
        if lanes.is_empty() {
            return Ok(lanes);
        }
        let entries = File::open(self.log)
            .map_err(LogError::from)
            .and_then(|file| EventReader::new(BufReader::with_capacity(1 << 16, file)))
            .map_err(|e| format!("the run's log cannot be read: {}", text::chain(&e)))?;
        let mut known = false;
        for entry in entries {
            // What comes before a damage is told all the same: the result says that the log is damaged.
            let Ok(entry) = entry else { break };
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
                Item::Full => {
                    return Err("the log was full before (log.limit-mib in the scenario)".into());
                }
                Item::Run(_) | Item::End(_) => {}
            }
        }
        match known {
            true => Ok(lanes),
            false => Err("the run kept no events of the machine (--log off)".into()),
        }
    }
}
