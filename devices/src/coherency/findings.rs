// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The sanitizer's findings, one per rule and cause, however many lines it hits.

use std::collections::HashMap;

use super::hazard::{Actor, Hazard, HazardKind, LastMaintenance};
use super::line::{Cold, Line, Reported, Who};
use super::maintenance::Operations;
use super::{LINE, MAX_HAZARDS};
use crate::dma::{MasterId, TransferId};

/// What broke a rule on one line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finding {
    pub kind: HazardKind,
    /// Findings with the same kind and cause are one hazard.
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
}

/// All findings of a run.
#[derive(Debug, Default)]
pub(super) struct Findings {
    hazards: Vec<Hazard>,
    index: HashMap<(HazardKind, u64), u32>,
    dropped: u64,
    /// Every single occurrence, for tests.
    #[cfg(test)]
    pub log: Vec<Occurrence>,
}

/// One finding on one line, or (without a kind) the destruction of data that one had foreseen.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Occurrence {
    pub slot: u32,
    pub kind: Option<HazardKind>,
    pub line: u64,
    pub bytes: u64,
    pub wrong: u64,
}

impl Findings {
    /// Records a finding on `line_number`. Returns its index + 1, or 0 if there are too many.
    pub fn record(
        &mut self,
        f: Finding,
        line_number: u64,
        line: &Line,
        cold: &mut Cold,
        ops: &Operations,
        now: u64,
    ) -> u32 {
        debug_assert!(f.wrong & !f.bytes == 0, "only bytes concerned can be wrong");
        let slot = match self.index.get(&(f.kind, f.cause)) {
            Some(slot) => *slot,
            None if self.hazards.len() >= MAX_HAZARDS => {
                self.dropped += 1;
                return 0;
            }
            None => {
                let slot = self.hazards.len() as u32 + 1;
                self.index.insert((f.kind, f.cause), slot);
                self.hazards
                    .push(new_hazard(&f, line_number, line, ops, now));
                slot
            }
        };
        #[cfg(test)]
        self.log.push(Occurrence {
            slot,
            kind: Some(f.kind),
            line: line_number,
            bytes: f.bytes,
            wrong: f.wrong,
        });
        let Some(hazard) = self.hazards.get_mut(slot as usize - 1) else {
            return 0;
        };
        if reported(cold, slot).is_none() {
            cold.reported = [Reported { slot, wrong: 0 }, cold.reported[0]];
            hazard.lines += 1;
        }
        count_wrong(hazard, cold, slot, f.wrong);
        hazard.first_pa = hazard.first_pa.min(line_number * LINE);
        hazard.end_pa = hazard.end_pa.max((line_number + 1) * LINE);
        slot
    }

    /// The write-back clobber found earlier on `line` has come true: `wrong` bytes were destroyed.
    pub fn manifest(&mut self, line: u64, cold: &mut Cold, wrong: u64) {
        let slot = cold.clobber;
        let index = (slot as usize).checked_sub(1);
        let Some(hazard) = index.and_then(|i| self.hazards.get_mut(i)) else {
            return;
        };
        #[cfg(test)]
        self.log.push(Occurrence {
            slot,
            kind: None,
            line,
            bytes: wrong,
            wrong,
        });
        let _ = line;
        count_wrong(hazard, cold, slot, wrong);
    }

    /// The findings so far, and how many there was no room for.
    pub fn report(&self, base: u64) -> (Vec<Hazard>, u64) {
        let mut hazards = self.hazards.clone();
        for h in &mut hazards {
            h.first_pa += base;
            h.end_pa += base;
        }
        (hazards, self.dropped)
    }

    /// How many different findings there are.
    pub fn len(&self) -> usize {
        self.hazards.len()
    }
}

/// What was counted of finding `slot` on a line, if that is still known.
fn reported(cold: &mut Cold, slot: u32) -> Option<&mut Reported> {
    cold.reported.iter_mut().find(|r| r.slot == slot)
}

/// Counts wrong bytes of a line, each once.
fn count_wrong(hazard: &mut Hazard, cold: &mut Cold, slot: u32, wrong: u64) {
    let mut forgotten = Reported::default();
    let before = reported(cold, slot).unwrap_or(&mut forgotten);
    let new = wrong & !before.wrong;
    if new != 0 {
        hazard.manifested = true;
        hazard.manifested_lines += u64::from(before.wrong == 0);
        hazard.wrong_bytes += u64::from(new.count_ones());
        before.wrong |= new;
    }
}

fn new_hazard(f: &Finding, line_number: u64, line: &Line, ops: &Operations, now: u64) -> Hazard {
    let (master, transfer) = match f.device.actor() {
        Actor::Device { master, transfer } => (master, transfer),
        _ => (MasterId(0), TransferId::CONTROL),
    };
    let last = line.last_op();
    Hazard {
        kind: f.kind,
        manifested: false,
        lines: 0,
        manifested_lines: 0,
        wrong_bytes: 0,
        first_pa: line_number * LINE,
        end_pa: (line_number + 1) * LINE,
        writer: f.writer.actor(),
        reader: f.reader.actor(),
        transfer,
        master,
        cached_by: line.cached_by,
        cached_at: line.cached_at(now),
        last_maintenance: ops.get(last).map(|(op, site, chain, at)| LastMaintenance {
            op,
            site,
            chain,
            operation: last,
            at,
        }),
        written_at: f.written_at,
        at: now,
    }
}
