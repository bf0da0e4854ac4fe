// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which operation, put in where, makes a symptom vanish and brings no other.

use crate::explore::{Answer, MAX_STATES, explore_in};
use crate::order::{Assume, Parts};
use crate::program::{
    Barrier, Dc, Event, MAX_EVENTS, MAX_OBSERVERS, Observer, Op, Orders, Program, Scope, View,
};
use crate::symptom::Symptom;

/// States that may still be visited in the search for repairs, so that it ends in seconds also for
/// the largest programs. What is not found by then counts as not to be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Budget(20_000_000)
    }
}

/// Operations put in before one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insertion {
    /// Before the event of this index.
    pub before: usize,
    /// What, in order.
    pub events: Vec<Event>,
}

/// A repair: insertions at one place, or two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// Upwards by place.
    pub insertions: Vec<Insertion>,
}

impl Repair {
    fn one(before: usize, events: Vec<Event>) -> Self {
        Repair {
            insertions: vec![Insertion { before, events }],
        }
    }

    /// This one and another: both put in.
    #[must_use]
    pub fn and(&self, other: &Repair) -> Self {
        let mut insertions = self.insertions.clone();
        insertions.extend(other.insertions.iter().cloned());
        insertions.sort_by_key(|i| i.before);
        Repair { insertions }
    }

    /// All operations put in.
    pub fn operations(&self) -> impl Iterator<Item = &Event> {
        self.insertions.iter().flat_map(|i| &i.events)
    }

    /// Whether it consists of barriers only.
    pub fn barriers_only(&self) -> bool {
        self.operations().all(|e| matches!(e.op, Op::Barrier(_)))
    }

    /// The repaired program; none: it would be too long.
    pub fn apply(&self, program: &Program) -> Option<Program> {
        let mut repaired = program.clone();
        for insertion in self.insertions.iter().rev() {
            for event in insertion.events.iter().rev() {
                repaired = repaired.with(insertion.before, event.clone());
            }
        }
        // Repairs may make a program a little longer than one may be written.
        (repaired.events.len() <= MAX_EVENTS + 6).then_some(repaired)
    }

    /// The index in the original program of an event of the repaired one; none: it was put in.
    pub fn original(&self, index: usize) -> Option<usize> {
        let mut left = index;
        let mut shift = 0;
        for insertion in &self.insertions {
            let start = insertion.before + shift;
            let count = insertion.events.len();
            if index < start {
                break;
            }
            if index < start + count {
                return None;
            }
            shift += count;
            left = index - shift;
        }
        Some(left)
    }

    /// As a sentence without an end.
    pub fn describe(&self, program: &Program) -> String {
        let parts: Vec<String> = (self.insertions.iter())
            .map(|i| {
                let what: Vec<String> = (i.events.iter())
                    .map(|e| format!("`{}`", program.describe(e)))
                    .collect();
                let place = match program.events.get(i.before) {
                    Some(e) => format!("before event {} (`{}`)", i.before, program.describe(e)),
                    None => "at the end".to_owned(),
                };
                format!("{} {place}", what.join(", "))
            })
            .collect();
        format!("insert {}", parts.join(" and "))
    }

    /// Whether it makes `symptom` vanish and brings none that is not in `before`, all that is
    /// wrong now. False also if the repaired program is too large to explore.
    pub fn works(&self, program: &Program, symptom: &Symptom, before: &[Symptom]) -> bool {
        let mut budget = Budget::default();
        self.works_within(program, symptom, before, &mut budget)
    }

    /// As [`Repair::works`], as if the order were another ([`Parts::assuming`]).
    pub fn works_assuming(
        &self,
        program: &Program,
        symptom: &Symptom,
        before: &[Symptom],
        assume: Assume<'_>,
    ) -> bool {
        let mut budget = Budget::default();
        self.works_in(program, symptom, before, assume, &mut budget)
    }

    fn works_within(
        &self,
        program: &Program,
        symptom: &Symptom,
        before: &[Symptom],
        budget: &mut Budget,
    ) -> bool {
        self.works_in(program, symptom, before, &|_, _| None, budget)
    }

    fn works_in(
        &self,
        program: &Program,
        symptom: &Symptom,
        before: &[Symptom],
        assume: Assume<'_>,
        budget: &mut Budget,
    ) -> bool {
        if budget.0 == 0 {
            return false;
        }
        let Some(repaired) = self.apply(program) else {
            return false;
        };
        let answer = explore_in(&repaired, &Parts::assuming(&repaired, assume), MAX_STATES);
        let spent = answer.as_ref().map_or(MAX_STATES, |a| a.states);
        budget.0 = budget.0.saturating_sub(spent);
        let Ok(answer) = answer else {
            return false;
        };
        let mut after = Vec::new();
        for left in Symptom::all(&answer) {
            match left.renumbered(|i| self.original(i)) {
                Some(left) => after.push(left),
                None => return false,
            }
        }
        answer.never == 0
            && symptom.vanished(&after)
            && after.iter().all(|a| a.known(before))
            && self.reads_survive(symptom, &answer)
    }

    /// A read that has one value only because the other write is destroyed for sure is no better.
    fn reads_survive(&self, symptom: &Symptom, answer: &Answer) -> bool {
        let Symptom::Ambiguous { read, bytes } = *symptom else {
            return true;
        };
        let mine = answer
            .reads
            .iter()
            .filter(|r| self.original(r.event) == Some(read));
        mine.filter(|r| r.bytes.meets(bytes))
            .all(|r| !r.intact.is_empty())
    }
}

fn barrier(completes: bool, orders: Orders, outer: bool) -> Op {
    Op::Barrier(Barrier {
        completes,
        orders,
        scope: Scope::Everyone { outer },
    })
}

fn dsb_sy() -> Op {
    barrier(true, Orders::Full, false)
}

/// Barriers, weakest first. Whether a DMB is enough between maintenance and a doorbell is not
/// clear from the architecture's text, so where a doorbell follows the full one is a DSB.
fn barriers(before_doorbell: bool) -> [Op; 3] {
    [
        barrier(false, Orders::Stores, true),
        barrier(false, Orders::Loads, true),
        barrier(before_doorbell, Orders::Full, false),
    ]
}

/// Places at which another operation of a CPU makes a difference: before each event of its own, or
/// that takes something from it.
fn places(program: &Program) -> Vec<(u8, usize)> {
    let mut places = Vec::new();
    for cpu in 0..MAX_OBSERVERS {
        for (i, e) in program.events.iter().enumerate() {
            let from = matches!(e.op, Op::Acquire(m) if m == cpu);
            if e.by == Observer::Cpu(cpu) || from {
                places.push((cpu, i));
            }
        }
    }
    places
}

fn event(cpu: u8, op: Op) -> Event {
    Event {
        by: Observer::Cpu(cpu),
        op,
    }
}

/// All repairs that put in one barrier.
pub fn single_barriers(program: &Program) -> Vec<Repair> {
    let doorbell = |cpu: u8, place: usize| {
        let mut later = program.events.iter().skip(place);
        later.any(|e| e.by == Observer::Cpu(cpu) && matches!(e.op, Op::Doorbell(_)))
    };
    let mut all = Vec::new();
    for strength in 0..3 {
        for (cpu, place) in places(program) {
            let op = barriers(doorbell(cpu, place)).into_iter().nth(strength);
            all.extend(op.map(|op| Repair::one(place, vec![event(cpu, op)])));
        }
    }
    all
}

/// Operations to try, the likely one first: a coherent reader needs an invalidate.
fn likely(program: &Program, symptom: &Symptom) -> [Dc; 3] {
    let coherent = match *symptom {
        Symptom::Ambiguous { read, .. } => program.events.get(read),
        _ => None,
    };
    if coherent.and_then(Event::read).is_some_and(View::coherent) {
        [Dc::Ivac, Dc::Civac, Dc::Cvac]
    } else {
        [Dc::Cvac, Dc::Ivac, Dc::Civac]
    }
}

/// All repairs that put in one of these maintenance operations on a line.
pub fn single_maintenance(program: &Program, line: u8, ops: &[Dc]) -> Vec<Repair> {
    let mut all = Vec::new();
    if program.cacheable(line) {
        for op in ops.iter().copied() {
            for (cpu, place) in places(program) {
                all.push(Repair::one(place, vec![event(cpu, Op::Dc { op, line })]));
            }
        }
    }
    all
}

/// Maintenance of all `lines` at one place, with a DSB before, behind, or both.
fn with_barriers(program: &Program, lines: &[u8], ops: &[Dc]) -> Vec<Repair> {
    let mut all = Vec::new();
    let lines: Vec<u8> = (lines.iter().copied())
        .filter(|l| program.cacheable(*l))
        .collect();
    if lines.is_empty() {
        return all;
    }
    let alone = if lines.len() > 1 { 0 } else { 1 };
    for (first, last) in [(false, false), (false, true), (true, false), (true, true)]
        .into_iter()
        .skip(alone)
    {
        for op in ops.iter().copied() {
            for (cpu, place) in places(program) {
                let mut events = Vec::new();
                events.extend(first.then(|| event(cpu, dsb_sy())));
                events.extend(lines.iter().map(|l| event(cpu, Op::Dc { op, line: *l })));
                events.extend(last.then(|| event(cpu, dsb_sy())));
                all.push(Repair::one(place, events));
            }
        }
    }
    all
}

/// Two full barriers.
fn double_barriers(program: &Program) -> Vec<Repair> {
    let places = places(program);
    let mut all = Vec::new();
    for a in &places {
        for b in &places {
            if a.1 < b.1 {
                let at = |(cpu, before): (u8, usize)| Insertion {
                    before,
                    events: vec![event(cpu, dsb_sy())],
                };
                all.push(Repair {
                    insertions: vec![at(*a), at(*b)],
                });
            }
        }
    }
    all
}

/// All repairs that put in barriers only: one, or two.
pub fn barriers_alone(program: &Program) -> Vec<Repair> {
    let mut all = single_barriers(program);
    all.extend(double_barriers(program));
    all
}

/// All repairs that put in maintenance of a symptom's lines at one place, with or without barriers
/// around it.
pub fn maintenance(program: &Program, symptom: &Symptom, ops: &[Dc]) -> Vec<Repair> {
    let lines: Vec<u8> = symptom.bytes(program).lines().collect();
    let mut all = Vec::new();
    if let [line] = lines[..] {
        all.extend(single_maintenance(program, line, ops));
    }
    all.extend(with_barriers(program, &lines, ops));
    all
}

/// The smallest repair of a symptom, barriers before maintenance; `before` is all that is wrong.
pub fn smallest(
    program: &Program,
    symptom: &Symptom,
    before: &[Symptom],
    budget: &mut Budget,
) -> Option<Repair> {
    let mut works = |r: &Repair| r.works_within(program, symptom, before, budget);
    if let Some(found) = single_barriers(program).into_iter().find(&mut works) {
        return Some(found);
    }
    let lines: Vec<u8> = symptom.bytes(program).lines().collect();
    let ops = likely(program, symptom);
    if let [line] = lines[..] {
        let found = single_maintenance(program, line, &ops)
            .into_iter()
            .find(&mut works);
        if found.is_some() {
            return found;
        }
    }
    (with_barriers(program, &lines, &ops).into_iter())
        .chain(double_barriers(program))
        .find(works)
}
