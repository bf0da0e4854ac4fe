// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The findings that are due: what is wrong, by its mechanism.
//!
//! The kind follows from what repairs it and from who reads and writes how, not from what anything
//! is called:
//! - barriers alone repair it: `missing-barrier`;
//! - an invalidate dropped the only copy of a write: `discarded-write`;
//! - a write at the PoC may be written over by an older line: `writeback-clobber`, of a CPU's own
//!   uncached write `mismatched-alias`;
//! - no operation is found that repairs it, because nothing orders accesses of the same bytes, of a
//!   CPU and a master or of two masters: `ownership`;
//! - what a coherent reader may miss was written by a CPU, uncached: `mismatched-alias`; by a
//!   master: `missing-invalidate`;
//! - what a reader of the PoC may miss lies in a cache: `mismatched-alias` if a CPU reads,
//!   `missing-clean` if a master does.
//!
//! A read that is right once a loss is put right is of the kind of that loss.

use std::fmt;

use crate::explore::{Answer, Gone};
use crate::order::{Order, Parts};
use crate::program::{Event, Granules, Observer, Program, View};
use crate::repair::{self, Budget, NoRepair, Repair};
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
    /// What is wrong: one thing, or several of one kind and place that one repair puts right, or none.
    pub symptoms: Vec<Symptom>,
    /// The smallest repair.
    pub repair: Result<Repair, NoRepair>,
}

/// All findings due, in the order of events; `answer` is the explorer's on `program`.
pub fn findings(program: &Program, answer: &Answer) -> Vec<Finding> {
    findings_within(program, answer, Budget::default())
}

/// The same, with so much for the search for repairs.
pub fn findings_within(program: &Program, answer: &Answer, budget: Budget) -> Vec<Finding> {
    let symptoms = &Symptom::all(answer);
    let mut search = Search {
        program,
        symptoms,
        parts: Parts::of(program),
        budget,
        gave_up: false,
    };
    let is_read = |s: &&Symptom| matches!(s, Symptom::Ambiguous { .. });
    // What is destroyed comes first: reads may be put right by what helps against that.
    let mut all: Vec<Finding> = Vec::new();
    for symptom in symptoms.iter().filter(|s| !is_read(s)) {
        let finding = search.finding(symptom);
        search.add(&mut all, finding);
    }
    let is_loss = |f: &&Finding| matches!(f.symptoms[..], [Symptom::Lost { .. }, ..]);
    let losses: Vec<Finding> = all.iter().filter(is_loss).cloned().collect();
    for symptom in symptoms.iter().filter(is_read) {
        let finding = search.read(symptom, &losses);
        search.add(&mut all, finding);
    }
    all.sort_by_key(|f| (f.at, f.kind));
    all
}

/// The search for all that is due.
struct Search<'a> {
    program: &'a Program,
    symptoms: &'a [Symptom],
    parts: Parts,
    budget: Budget,
    /// Of something it was not found out whether it helps.
    gave_up: bool,
}

impl Search<'_> {
    fn smallest(&mut self, symptom: &Symptom) -> repair::Found {
        repair::smallest(self.program, symptom, self.symptoms, &mut self.budget)
    }

    /// Whether a repair helps against all of these.
    fn works(&mut self, repair: &Repair, symptoms: &[Symptom]) -> bool {
        let budget = &mut self.budget;
        let mut all = symptoms.iter();
        let helps = all.try_fold(true, |helps, s| {
            Some(helps && repair.works_within(self.program, s, self.symptoms, budget)?)
        });
        self.gave_up |= helps.is_none();
        helps.unwrap_or(false)
    }

    fn kind(&self, symptom: &Symptom, repair: Option<&Repair>) -> Kind {
        let lines = symptom.bytes(self.program).lines();
        let order = self.parts.on(lines.fold(0, |all, line| all | 1 << line));
        kind(self.program, &order, symptom, repair)
    }

    fn of(&self, symptom: &Symptom, kind: Kind, repair: Result<Repair, NoRepair>) -> Finding {
        Finding {
            kind,
            at: symptom.at(),
            bytes: symptom.bytes(self.program),
            symptoms: vec![*symptom],
            repair,
        }
    }

    fn finding(&mut self, symptom: &Symptom) -> Finding {
        let found = self.smallest(symptom);
        let repair = found
            .repair
            .or_else(|none| found.but_for_others.ok_or(none));
        self.of(symptom, self.kind(symptom, repair.as_ref().ok()), repair)
    }

    /// The finding of an ambiguous read; `losses`: the findings of what may be destroyed.
    fn read(&mut self, symptom: &Symptom, losses: &[Finding]) -> Finding {
        let bytes = symptom.bytes(self.program);
        let mut found = self.smallest(symptom);
        let by_barriers = found.repair.as_ref().is_ok_and(Repair::barriers_only);
        if let Some(rest) = found.but_for_others.filter(|_| !by_barriers) {
            let losses = losses.iter().filter(|l| l.bytes.meets(bytes));
            self.gave_up = (losses.clone()).any(|l| l.repair == Err(NoRepair::GaveUp));
            // What was written last is what the read should find.
            let repairs = (losses.rev()).filter_map(|l| Some((l, l.repair.as_ref().ok()?)));
            // One mistake: what keeps the loss from happening puts the read right too.
            for (loss, repair) in repairs.clone() {
                if self.works(repair, &[*symptom]) {
                    return self.of(symptom, loss.kind, Ok(repair.clone()));
                }
            }
            // More: the kind is that of the one that is left once nothing is destroyed any more.
            if found.repair.is_err() {
                let all = (repairs.clone()).fold(rest.clone(), |all, (_, r)| all.and(r));
                for both in repairs.map(|(_, r)| rest.and(r)).chain([all]) {
                    if self.works(&both, &[*symptom]) {
                        return self.of(symptom, self.kind(symptom, Some(&rest)), Ok(both));
                    }
                }
                if self.gave_up {
                    found.repair = Err(NoRepair::GaveUp);
                }
            }
        }
        let kind = self.kind(symptom, found.repair.as_ref().ok());
        self.of(symptom, kind, found.repair)
    }

    /// What helps against the symptoms of two findings; none: nothing that is known.
    fn common(&mut self, a: &Finding, b: &Finding) -> Option<Result<Repair, NoRepair>> {
        let symptoms = [&a.symptoms[..], &b.symptoms].concat();
        match (&a.repair, &b.repair) {
            (Ok(a), Ok(b)) => {
                let one = [a.clone(), b.clone(), a.and(b)];
                let one = one.into_iter().find(|r| self.works(r, &symptoms));
                one.map(Ok)
            }
            (Err(a), Err(b)) if a == b => Some(Err(*a)),
            _ => None,
        }
    }

    /// Adds a finding, to one of its kind and place if the same helps against both.
    fn add(&mut self, all: &mut Vec<Finding>, finding: Finding) {
        let same = |f: &&mut Finding| (f.kind, f.at) == (finding.kind, finding.at);
        for f in all.iter_mut().filter(same) {
            if let Some(repair) = self.common(f, &finding) {
                f.repair = repair;
                f.bytes = f.bytes.or(finding.bytes);
                f.symptoms.extend(finding.symptoms);
                return;
            }
        }
        all.push(finding);
    }
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
