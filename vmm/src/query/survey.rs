// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The first reading of a log: what its events refer to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use staleline_devices::coherency::hazard::Actor;
use staleline_devices::cpu::SiteId;
use staleline_devices::events::{Cached, Event};
use staleline_events::{Ended, LogError};
use staleline_results::Hex;

use super::files::Run;
use super::select::Selection;
use crate::events::{Head, Item};
use crate::exit::Error;
use crate::report::CodeFiles;

/// What a log says that is needed to tell the rest.
#[derive(Debug, Default)]
pub struct Survey {
    /// The memory asked for, and what has to do with it.
    pub selection: Selection,
    /// Places in guest code.
    pub places: BTreeMap<SiteId, u64>,
    /// The machine.
    pub head: Head,
    /// Where names of the guest's code are.
    pub code: CodeFiles,
    /// Physical address of the kernel's first byte.
    pub kernel_at: Option<u64>,
    /// Whether a machine has a part in it.
    pub has_machine: bool,
    /// How that ended.
    pub ended: Option<Ended>,
    /// Whether the runner has come to its end.
    pub is_over: bool,
    /// What was in the cache before the first DMA, of the first line that concerns the memory.
    pub before: Option<Before>,
}

/// How a line had come into the cache before events tell of it.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    /// The line.
    pub pa: u64,
    /// When, in accesses since power-on.
    pub at: u64,
    /// By whom.
    pub by: Actor,
}

/// What is of use in the runner's steps.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Step {
    GuestPrepared {
        code: CodeFiles,
    },
    GuestEnded {
        kernel_at: Option<Hex>,
    },
    Finished,
    #[serde(other)]
    Other,
}

/// Reads a log for the first time. What ends it early is told at the second.
pub fn of(run: &Run, selection: Selection) -> Result<Survey, Error> {
    let mut survey = Survey {
        selection,
        ..Survey::default()
    };
    let mut entries = run.entries().map_err(|e| run.unreadable(e))?;
    for entry in entries.by_ref() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(LogError::Io(e)) => return Err(run.unreadable(e.into())),
            Err(_) => break,
        };
        match entry.item {
            Item::Run(json) => survey.step(&json),
            Item::Machine(head) => {
                survey.head = *head;
                survey.has_machine = true;
            }
            Item::Event(event) => survey.event(&event, entry.at),
            Item::End(ended) => survey.ended = Some(ended),
            Item::Full => {}
        }
    }
    survey.places = entries.into_places();
    Ok(survey)
}

/// Those that are files: a log that comes from elsewhere may name anything.
fn files(code: CodeFiles) -> CodeFiles {
    let file = |path: Option<PathBuf>| path.filter(|path| path.is_file());
    CodeFiles {
        vmlinux: file(code.vmlinux),
        system_map: file(code.system_map),
        source_root: code.source_root,
        agent_elf: file(code.agent_elf),
        inputs: code.inputs,
    }
}

impl Survey {
    fn step(&mut self, json: &str) {
        match serde_json::from_str(json) {
            Ok(Step::GuestPrepared { code }) => self.code = files(code),
            Ok(Step::GuestEnded { kernel_at }) => self.kernel_at = kernel_at.map(|at| at.0),
            Ok(Step::Finished) => self.is_over = true,
            // Another version's steps are told as they are.
            Ok(Step::Other) | Err(_) => {}
        }
    }

    fn event(&mut self, event: &Event, at: u64) {
        self.selection.learn(event);
        let Event::UnderDma {
            pa,
            cached,
            cached_by,
            cached_at,
            ..
        } = *event
        else {
            return;
        };
        let known = cached != Cached::No || cached_by != Actor::Unknown;
        if self.before.is_none() && known && self.selection.fits(event, at) {
            self.before = Some(Before {
                pa,
                at: cached_at,
                by: cached_by,
            });
        }
    }
}
