// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which events concern some memory.

use std::collections::BTreeSet;

use staleline_devices::coherency::LINE;
use staleline_devices::cpu::CpuId;
use staleline_devices::events::Event;

use super::Query;
use super::files::Run;
use crate::exit::Error;

/// Some memory, and what has to do with it beyond its addresses. Empty: all of it.
#[derive(Debug, Default)]
pub struct Selection {
    /// First byte and length of each piece; none: no memory was named.
    pieces: Option<Vec<(u64, u64)>>,
    /// Transfers to or from there.
    transfers: BTreeSet<u32>,
    /// When their devices were started.
    started: BTreeSet<(u8, u64)>,
    /// Maintenance operations that did a line there, by CPU: a barrier completes those of its own.
    operations: BTreeSet<(CpuId, u32)>,
}

impl Selection {
    /// The memory that a query is about.
    pub fn of(query: &Query, run: &Run) -> Result<Self, Error> {
        let line = query.line.map(|pa| vec![(pa & !(LINE - 1), LINE)]);
        let pieces = match query.buffer {
            None => line,
            Some(index) => {
                let buffer = extents(index, run)?;
                Some(line.map_or(buffer.clone(), |line| within(&line, &buffer)))
            }
        };
        Ok(Selection {
            pieces,
            ..Selection::default()
        })
    }

    /// Whether memory was named that is nowhere.
    pub fn is_nowhere(&self) -> bool {
        self.pieces.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether `len` bytes at `pa` are part of it.
    fn holds(&self, pa: u64, len: u64) -> bool {
        let Some(pieces) = &self.pieces else {
            return true;
        };
        let end = pa.saturating_add(len);
        let mut pieces = pieces.iter();
        pieces.any(|(first, len)| pa < first.saturating_add(*len) && *first < end)
    }

    /// Whether an event is about a part of it.
    fn is_met_by(&self, event: &Event) -> bool {
        event.memory().is_some_and(|(pa, len)| self.holds(pa, len))
    }

    /// Learns which transfers and operations have to do with the memory. To be told of all events once.
    pub fn learn(&mut self, event: &Event) {
        if self.pieces.is_none() {
            return;
        }
        if !self.is_met_by(event) {
            return;
        }
        match *event {
            Event::Opened {
                transfer,
                master,
                started_at,
                ..
            } => {
                self.transfers.insert(transfer.0);
                self.started.insert((master.0, started_at));
            }
            Event::Maintained { cpu, operation, .. } => {
                self.operations.insert((cpu, operation));
            }
            _ => {}
        }
    }

    /// Whether an event, at this time, concerns the memory.
    pub fn fits(&self, event: &Event, at: u64) -> bool {
        if self.pieces.is_none() {
            return true;
        }
        match *event {
            Event::Closed { transfer, .. } => self.transfers.contains(&transfer.0),
            Event::Started { master, .. } => self.started.contains(&(master.0, at)),
            Event::Barrier {
                cpu,
                operations: (first, last),
                ..
            } => {
                let of_cpu = (cpu, first)..=(cpu, last);
                first <= last && self.operations.range(of_cpu).next().is_some()
            }
            _ => self.is_met_by(event),
        }
    }
}

/// Where a DMABUF is.
fn extents(index: u32, run: &Run) -> Result<Vec<(u64, u64)>, Error> {
    let wrong = |why: String| Error::NoBuffer { index, why };
    let buffers = run.buffers();
    let buffer = buffers.iter().find(|b| b.index == index).ok_or_else(|| {
        let there = match buffers.len() {
            0 => "by its log, the run has none".to_owned(),
            n => format!("by its log, the run has {n}, from 0"),
        };
        wrong(format!("there is no such DMABUF: {there}"))
    })?;
    if buffer.extents.is_empty() {
        return Err(wrong("nobody knows where this DMABUF is".into()));
    }
    Ok(buffer
        .extents
        .iter()
        .map(|(pa, len)| (pa.0, *len))
        .collect())
}

/// The parts of `some` that are in `others`.
fn within(some: &[(u64, u64)], others: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut parts = Vec::new();
    for (pa, len) in some {
        for (first, other) in others {
            let from = *pa.max(first);
            let to = pa.saturating_add(*len).min(first.saturating_add(*other));
            if from < to {
                parts.push((from, to - from));
            }
        }
    }
    parts
}
