// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The sanitizer's findings, one per rule and cause, however many lines it hits.

mod counted;
pub(super) mod state;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use self::counted::Counted;
use super::cold::Cold;
use super::limits::{MAX_CAUSES, MAX_HAZARDS, MAX_OCCURRENCES};
use super::line::Line;
use super::maintenance::Operations;
use super::who::Who;
use crate::cpu::{Barrier, LINE};
use crate::dma::{Doorbell, MasterId, TransferId};
use crate::hazard::{Actor, Hazard, HazardKind, MAX_READERS, Signalled, Why};

/// What broke a rule on one line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finding {
    pub kind: HazardKind,
    pub why: Why,
    /// Findings with the same kind, reason and cause are one hazard.
    pub cause: u64,
    /// Bytes concerned.
    pub bytes: u64,
    /// Of these, bytes that were wrong.
    pub wrong: u64,
    pub writer: Who,
    pub reader: Who,
    /// The non-snooping party: a device, or unknown.
    pub device: Who,
    pub written_at: u64,
    /// How the device was started, if one was.
    pub started: Option<Doorbell>,
    /// A barrier that stood where a stronger one is missing.
    pub stood: Option<Barrier>,
    /// The signal of the fence that came too early.
    pub signalled: Option<Signalled>,
}

/// All findings of a run.
#[derive(Debug, Default)]
pub(super) struct Findings {
    hazards: Vec<Hazard>,
    /// Index + 1 in `hazards`; 0: known, but there was no room.
    index: HashMap<Key, u32>,
    /// The last one looked up: a mistake is mostly made on many lines in a row.
    last: Option<(Key, u32)>,
    /// The lines that each has counted.
    counted: Counted,
    /// Findings kept, by kind.
    kept: [usize; HazardKind::ALL.len()],
    /// Findings known of that there was no room for.
    unlisted: u64,
    /// There were more findings than can be told apart.
    pub full: bool,
    /// Rules that cannot be judged here.
    left_out: &'static [HazardKind],
    /// Every single occurrence, if they are asked for.
    pub log: Option<Vec<Occurrence>>,
    /// There were more occurrences than are kept.
    pub log_full: bool,
}

/// One finding on one line, or (without a kind) the destruction of data that one had foreseen.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Occurrence {
    /// Index + 1 of the hazard it is part of.
    pub slot: u32,
    /// The rule.
    pub kind: Option<HazardKind>,
    /// What about the missing operation.
    pub why: Why,
    /// Line number, from the start of RAM.
    pub line: u64,
    /// Bytes concerned.
    pub bytes: u64,
    /// Of these, wrong ones.
    pub wrong: u64,
    /// Who read or destroyed.
    pub reader: Actor,
}

impl Findings {
    /// None so far; `occurrences`: each single one is to be kept, and none that are `left_out`.
    pub fn new(occurrences: bool, left_out: &'static [HazardKind]) -> Self {
        Findings {
            log: occurrences.then(Vec::new),
            left_out,
            ..Findings::default()
        }
    }

    /// Every single occurrence so far, in order.
    pub fn occurrences(&self) -> &[Occurrence] {
        self.log.as_deref().unwrap_or_default()
    }

    fn note(&mut self, occurrence: impl FnOnce() -> Occurrence) {
        let Some(log) = &mut self.log else { return };
        if log.len() < MAX_OCCURRENCES {
            log.push(occurrence());
        } else {
            self.log_full = true;
        }
    }

    /// Records a finding on `line_number`. Returns its index + 1, or 0 if there are too many, and whether
    /// the line is one more of it.
    pub fn record(
        &mut self,
        f: Finding,
        line_number: u64,
        line: &Line,
        cold: &mut Cold,
        ops: &Operations,
        now: u64,
    ) -> (u32, bool) {
        debug_assert!(f.wrong & !f.bytes == 0, "only bytes concerned can be wrong");
        if self.left_out.contains(&f.kind) {
            return (0, false);
        }
        let key = key(&f);
        let slot = match self.last {
            Some((last, slot)) if last == key => slot,
            _ => match self.index.get(&key) {
                Some(slot) => *slot,
                None => self.add(&f, || new_hazard(&f, line_number, line, cold, ops, now)),
            },
        };
        self.last = Some((key, slot));
        self.note(|| Occurrence {
            slot,
            kind: Some(f.kind),
            why: f.why,
            line: line_number,
            bytes: f.bytes,
            wrong: f.wrong,
            reader: f.reader.actor(),
        });
        let index = (slot as usize).checked_sub(1);
        let Some(hazard) = index.and_then(|i| self.hazards.get_mut(i)) else {
            return (0, false);
        };
        if hazard.why == Why::Absent {
            // Of some lines more is known.
            hazard.why = f.why;
        }
        note_reader(hazard, f.reader);
        let first = self.counted.count(slot, line_number, f.wrong, hazard);
        hazard.first_pa = hazard.first_pa.min(line_number * LINE);
        hazard.end_pa = hazard.end_pa.max((line_number + 1) * LINE);
        (slot, first)
    }

    /// A finding that is not known yet: its index + 1, or 0 if there is no room for one more.
    fn add(&mut self, f: &Finding, hazard: impl FnOnce() -> Hazard) -> u32 {
        if self.index.len() >= MAX_CAUSES {
            self.full = true;
            return 0;
        }
        let kept = HazardKind::ALL.iter().position(|kind| *kind == f.kind);
        let kept = kept.and_then(|n| self.kept.get_mut(n));
        let slot = match kept {
            Some(kept) if *kept < MAX_HAZARDS => {
                *kept += 1;
                self.hazards.push(hazard());
                self.hazards.len() as u32
            }
            _ => {
                self.unlisted += 1;
                0
            }
        };
        self.index.insert(key(f), slot);
        slot
    }

    /// The write-back clobber found earlier on `line` has come true: `wrong` bytes were destroyed.
    pub fn manifest(&mut self, line: u64, cold: &Cold, wrong: u64) {
        let slot = cold.rare().clobber;
        let index = (slot as usize).checked_sub(1);
        let Some(hazard) = index.and_then(|i| self.hazards.get(i)) else {
            return;
        };
        let (why, reader) = (hazard.why, hazard.reader);
        self.note(|| Occurrence {
            slot,
            kind: None,
            why,
            line,
            bytes: wrong,
            wrong,
            reader,
        });
        let Some(hazard) = index.and_then(|i| self.hazards.get_mut(i)) else {
            return;
        };
        self.counted.count(slot, line, wrong, hazard);
    }

    /// The findings so far, and how many there was no room for.
    pub fn report(&self, base: u64) -> (Vec<Hazard>, u64) {
        let mut hazards = self.hazards.clone();
        for h in &mut hazards {
            h.first_pa += base;
            h.end_pa += base;
            h.line_pa += base;
            let maintenance = [
                &mut h.last_maintenance,
                &mut h.last_clean,
                &mut h.last_invalidate,
            ];
            for last in maintenance.into_iter().flatten() {
                last.first_pa += base;
            }
        }
        (hazards, self.unlisted)
    }

    /// Findings that there was no room for.
    pub fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// Whether they were on more lines than are remembered: what came after is not counted.
    pub fn lines_full(&self) -> bool {
        self.counted.full
    }

    /// How many different findings there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }
}

/// What makes findings one.
type Key = (HazardKind, Why, u64);

/// That one was too late and another never came is the same mistake.
fn key(f: &Finding) -> Key {
    (f.kind, f.why.mistake(), f.cause)
}

/// Another place in guest code that a finding is about.
fn note_reader(hazard: &mut Hazard, reader: Who) {
    if let Actor::Cpu { site, .. } = reader.actor()
        && hazard.readers.len() < MAX_READERS
        && !hazard.readers.contains(&site)
    {
        hazard.readers.push(site);
    }
}

fn new_hazard(
    f: &Finding,
    line_number: u64,
    line: &Line,
    cold: &Cold,
    ops: &Operations,
    now: u64,
) -> Hazard {
    let (master, transfer) = match f.device.actor() {
        Actor::Device {
            master, transfer, ..
        } => (master, transfer),
        _ => (MasterId(0), TransferId::CONTROL),
    };
    let stale_store = f.why == Why::StaleStore;
    let rare = cold.rare();
    let words = rare.words.as_deref();
    let past = f.written_at != 0
        && (rare.alias_written_at == f.written_at
            || words.is_some_and(|w| w.went_past(f.written_at)));
    Hazard {
        kind: f.kind,
        manifested: false,
        lines: 0,
        manifested_lines: 0,
        wrong_bytes: 0,
        first_pa: line_number * LINE,
        end_pa: (line_number + 1) * LINE,
        line_pa: line_number * LINE,
        line_bytes: f.bytes,
        line_uncleaned: line.uncleaned,
        writer: f.writer.actor(),
        reader: f.reader.actor(),
        readers: Vec::new(),
        transfer,
        master,
        cached_by: line.cached_by.actor(),
        cached_at: line.cached_at(now),
        why: f.why,
        last_maintenance: ops.last(line.clean_op.max(cold.invalidate_op)),
        last_clean: ops.last(line.clean_op),
        last_invalidate: ops.last(cold.invalidate_op),
        merged_by: if stale_store {
            rare.merged_by.actor()
        } else {
            Actor::Unknown
        },
        merged_at: if stale_store { rare.merged_at } else { 0 },
        merged: if stale_store { rare.merged } else { 0 },
        started_at: f.started.map(|start| start.at),
        started_by: f.started.map(|start| start.by).unwrap_or_default(),
        written_at: f.written_at,
        written_past: past && f.writer.device_master().is_none(),
        stood: f.stood,
        signalled: f.signalled,
        at: now,
    }
}
