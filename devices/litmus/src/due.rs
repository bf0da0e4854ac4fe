// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The findings that are due: what is wrong, by its mechanism.
//!
//! The kind follows from what repairs it and from who reads and writes how, not from what anything
//! is called:
//! - barriers alone repair it: `missing-barrier`;
//! - an invalidate dropped the only copy of a write: `discarded-write`;
//! - a write at the PoC may be written over by an older line: `writeback-clobber`, of a CPU's own
//!   uncached write `mismatched-alias`;
//! - no operation repairs it, because nothing orders accesses of the same bytes, of a CPU and a
//!   master or of two masters: `ownership`;
//! - what a coherent reader may miss was written by a CPU, uncached: `mismatched-alias`; by a
//!   master: `missing-invalidate`;
//! - what a reader of the PoC may miss lies in a cache: `mismatched-alias` if a CPU reads,
//!   `missing-clean` if a master does.

use std::fmt;

use crate::explore::{Answer, Gone};
use crate::order::{Order, Parts};
use crate::program::{Event, Granules, Observer, Program, View};
use crate::repair::{self, Budget, Repair};
use crate::symptom::Symptom;

/// Kind of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What a master reads at the PoC may still be in a cache.
    MissingClean,
    /// What a coherent reader gets may be older than what a master wrote.
    MissingInvalidate,
    /// A dirty line may be written back over what a master wrote.
    WritebackClobber,
    /// An invalidate may drop the only copy of a write.
    DiscardedWrite,
    /// Only a barrier is missing.
    MissingBarrier,
    /// Cacheable and non-cacheable accesses of a CPU disagree.
    MismatchedAlias,
    /// Nothing orders accesses of the same bytes by different observers.
    Ownership,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 7] = [
        Kind::MissingClean,
        Kind::MissingInvalidate,
        Kind::WritebackClobber,
        Kind::DiscardedWrite,
        Kind::MissingBarrier,
        Kind::MismatchedAlias,
        Kind::Ownership,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::MissingClean => "missing-clean",
            Kind::MissingInvalidate => "missing-invalidate",
            Kind::WritebackClobber => "writeback-clobber",
            Kind::DiscardedWrite => "discarded-write",
            Kind::MissingBarrier => "missing-barrier",
            Kind::MismatchedAlias => "mismatched-alias",
            Kind::Ownership => "ownership",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub kind: Kind,
    /// The ambiguous read, the write that may be destroyed, or the invalidate that destroys.
    pub at: usize,
    /// Bytes.
    pub bytes: Granules,
    /// What is wrong.
    pub symptom: Symptom,
    /// The smallest repair, if there is one.
    pub repair: Option<Repair>,
}

/// All findings due, in the order of events; `answer` is the explorer's on `program`.
pub fn findings(program: &Program, answer: &Answer) -> Vec<Finding> {
    let symptoms = Symptom::all(answer);
    let parts = Parts::of(program);
    let mut budget = Budget::default();
    let mut all: Vec<Finding> = Vec::new();
    for symptom in &symptoms {
        let repair = repair::smallest(program, symptom, &symptoms, &mut budget);
        let lines = symptom.bytes(program).lines();
        let order = parts.on(lines.fold(0, |all, line| all | 1 << line));
        let kind = kind(program, &order, symptom, repair.as_ref());
        let bytes = symptom.bytes(program);
        let at = symptom.at();
        match all.iter_mut().find(|f| f.kind == kind && f.at == at) {
            Some(f) => f.bytes = f.bytes.or(bytes),
            None => all.push(Finding {
                kind,
                at,
                bytes,
                symptom: *symptom,
                repair,
            }),
        }
    }
    all.sort_by_key(|f| (f.at, f.kind));
    all
}

fn kind(program: &Program, order: &Order, symptom: &Symptom, repair: Option<&Repair>) -> Kind {
    if repair.is_some_and(Repair::barriers_only) {
        return Kind::MissingBarrier;
    }
    match *symptom {
        Symptom::Lost {
            how: Gone::Dropped(_),
            ..
        } => Kind::DiscardedWrite,
        Symptom::Lost { write, bytes, .. } => {
            let uncached = write
                .and_then(|w| program.events[w].write())
                .is_some_and(|(view, _)| by_cpu_uncached(view));
            if uncached {
                Kind::MismatchedAlias
            } else if repair.is_none() && write.is_some_and(|w| dirtied(program, order, w, bytes)) {
                Kind::Ownership
            } else {
                Kind::WritebackClobber
            }
        }
        Symptom::Ambiguous { read, bytes } => {
            if repair.is_none() && races(program, order, read, bytes) {
                return Kind::Ownership;
            }
            let view = program.events[read].read();
            by_reader(program, read, view.unwrap_or(View::NonSnooping), bytes)
        }
        Symptom::Stuck { poll } => {
            // It may wait for somebody who waits for what lies in a cache.
            let only_cleans = |e: &Event| {
                let dc = e.maintains();
                dc.is_some_and(|(dc, _)| dc.cleans() && !dc.invalidates())
            };
            if repair.is_some_and(|r| r.operations().any(only_cleans)) {
                return Kind::MissingClean;
            }
            let event = &program.events[poll];
            let view = event.poll().map_or(View::NonSnooping, |(view, _)| view);
            by_reader(program, poll, view, event.bytes())
        }
    }
}

fn by_cpu_uncached(view: View) -> bool {
    matches!(view, View::NonCacheable | View::WriteThrough)
}

fn by_reader(program: &Program, reader: usize, view: View, bytes: Granules) -> Kind {
    if by_cpu_uncached(view) {
        return Kind::MismatchedAlias;
    }
    if !view.coherent() {
        return Kind::MissingClean;
    }
    // The write that is missed: the last one at the PoC before the reader.
    let missed = (program.events.iter().take(reader))
        .filter(|e| e.bytes().meets(bytes))
        .filter_map(|e| e.write().map(|(view, _)| (e.by, view)))
        .rfind(|(_, view)| !view.coherent());
    match missed {
        Some((Observer::Cpu(_), _)) => Kind::MismatchedAlias,
        _ => Kind::MissingInvalidate,
    }
}

/// Whether a write of these bytes is not ordered against the event: another observer's, or, where
/// a master fetches ahead, its own.
fn races(program: &Program, order: &Order, event: usize, bytes: Granules) -> bool {
    let masters = |e: &Event| matches!(e.by, Observer::Dev(_));
    program.events.iter().enumerate().any(|(i, e)| {
        (e.by != program.events[event].by || masters(e))
            && e.write().is_some()
            && e.bytes().meets(bytes)
            && order.race(i, event)
    })
}

/// Whether something makes these bytes dirty that is not ordered against the event. (Where it is
/// other bytes of the line that it dirties, each has its own bytes to itself, and the write-back is
/// what is wrong.)
fn dirtied(program: &Program, order: &Order, event: usize, bytes: Granules) -> bool {
    program.events.iter().enumerate().any(|(i, e)| {
        let dirties = e.write().is_some_and(|(view, _)| view.coherent());
        dirties
            && e.by != program.events[event].by
            && e.bytes().meets(bytes)
            && order.race(i, event)
    })
}
