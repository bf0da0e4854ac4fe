// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which operation, put in where, makes a symptom vanish and brings no other.

use crate::caveat::Caveat;
use crate::explore::{Answer, MAX_STATES, explore_in};
use crate::order::{Assume, Parts};
use crate::program::{
    Barrier, Dc, Event, Granules, MAX_EVENTS, MAX_OBSERVERS, Observer, Op, Orders, Program, Scope,
    View,
};
use crate::reach::Reach;
use crate::symptom::Symptom;

/// States that may still be visited in the search for repairs, so that it ends in seconds also for
/// the largest programs. When they are used up, it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget(usize);

impl Budget {
    /// So many.
    pub fn states(states: usize) -> Self {
        Budget(states)
    }
}

impl Default for Budget {
    fn default() -> Self {
        Budget(20_000_000)
    }
}

/// Why there is no repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRepair {
    /// Nothing that is put in helps: all was tried.
    NothingHelps,
    /// Something may help. Not all was tried: the [`Budget`] was used up, or the program would have
    /// become too large.
    GaveUp,
}

/// What a repair does to a symptom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It is gone, and nothing new is wrong. A read has one value, which is not one that is left
    /// because another write is destroyed; where a write was lost, none is.
    Repairs,
    /// The same, but for other writes of these bytes that may be destroyed, as they might before: a
    /// read may find that, or a write is no longer lost because it is written over in time.
    ButForOthers,
    /// It is not gone, or something new is wrong.
    NoHelp,
    /// Not known: too large, or the budget is used up.
    Unknown,
}

impl Effect {
    fn works(self, symptom: &Symptom) -> bool {
        let lost = matches!(symptom, Symptom::Lost { .. });
        self == Effect::Repairs || lost && self == Effect::ButForOthers
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

/// A repair: insertions at one place, or at several.
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
        for more in &other.insertions {
            match insertions.iter_mut().find(|i| i.before == more.before) {
                Some(same) => same.events.extend(more.events.iter().cloned()),
                None => insertions.push(more.clone()),
            }
        }
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
    /// wrong now; of a read, whether it is left with one value, and that not for want of another
    /// that is destroyed. False also if the repaired program is too large to explore.
    pub fn works(&self, program: &Program, symptom: &Symptom, before: &[Symptom]) -> bool {
        self.works_assuming(program, symptom, before, &|_, _| None)
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
        let effect = self.effect(program, symptom, before, assume, &mut budget);
        effect.works(symptom)
    }

    /// As [`Repair::works`], on a budget; none: not known, for that is used up or the repaired program
    /// is too large.
    pub fn works_within(
        &self,
        program: &Program,
        symptom: &Symptom,
        before: &[Symptom],
        budget: &mut Budget,
    ) -> Option<bool> {
        match self.effect(program, symptom, before, &|_, _| None, budget) {
            Effect::Unknown => None,
            effect => Some(effect.works(symptom)),
        }
    }

    fn effect(
        &self,
        program: &Program,
        symptom: &Symptom,
        before: &[Symptom],
        assume: Assume<'_>,
        budget: &mut Budget,
    ) -> Effect {
        if budget.0 == 0 {
            return Effect::Unknown;
        }
        let Some(repaired) = self.apply(program) else {
            return Effect::Unknown;
        };
        let answer = explore_in(&repaired, &Parts::assuming(&repaired, assume), MAX_STATES);
        let spent = answer.as_ref().map_or(MAX_STATES, |a| a.states);
        budget.0 = budget.0.saturating_sub(spent);
        let Ok(answer) = answer else {
            return Effect::Unknown;
        };
        let mut after = Vec::new();
        for left in Symptom::all(&answer) {
            match left.renumbered(|i| self.original(i)) {
                Some(left) => after.push(left),
                None => return Effect::NoHelp,
            }
        }
        let helps =
            answer.never == 0 && symptom.vanished(&after) && after.iter().all(|a| a.known(before));
        if !helps {
            return Effect::NoHelp;
        }
        match *symptom {
            Symptom::Ambiguous { read, bytes } => self.on_read(read, bytes, &answer),
            Symptom::Lost { bytes, .. } => {
                let lost =
                    |s: &Symptom| matches!(s, Symptom::Lost { bytes: b, .. } if b.meets(bytes));
                if after.iter().any(lost) {
                    Effect::ButForOthers
                } else {
                    Effect::Repairs
                }
            }
            Symptom::Stuck { .. } => Effect::Repairs,
        }
    }

    /// What is left of a read that is not ambiguous as long as no write is destroyed.
    fn on_read(&self, read: usize, bytes: Granules, answer: &Answer) -> Effect {
        let mine = || {
            let mine = (answer.reads.iter()).filter(|r| self.original(r.event) == Some(read));
            mine.filter(|r| r.bytes.meets(bytes))
        };
        // One value that is left only because the other write is destroyed for sure is no better.
        if mine().any(|r| r.intact.is_empty()) {
            Effect::NoHelp
        } else if mine().any(|r| r.all.len() > 1) {
            Effect::ButForOthers
        } else {
            Effect::Repairs
        }
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
    let reach = Reach::of(program);
    let doorbell = |cpu: u8, place| reach.doorbells_from(Observer::Cpu(cpu), place) != 0;
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

/// What a search for a repair has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The smallest repair.
    pub repair: Result<Repair, NoRepair>,
    /// The smallest that would be one if no other write of these bytes were destroyed.
    pub but_for_others: Option<Repair>,
}

/// Searches for the smallest repair of a symptom, barriers before maintenance, and one after which the
/// answer rests on a doubt that it does not rest on now only if there is no other; `before` is all
/// that is wrong.
pub fn smallest(
    program: &Program,
    symptom: &Symptom,
    before: &[Symptom],
    budget: &mut Budget,
) -> Found {
    let mut found = Found {
        repair: Err(NoRepair::NothingHelps),
        but_for_others: None,
    };
    let ops = likely(program, symptom);
    let all = (single_barriers(program).into_iter())
        .chain(maintenance(program, symptom, &ops))
        .chain(double_barriers(program));
    let doubts = Caveat::of(program);
    let (doubtful, sure): (Vec<Repair>, Vec<Repair>) = all.partition(|repair| {
        let repaired = repair.apply(program);
        repaired.is_some_and(|p| Caveat::of(&p).iter().any(|c| !doubts.contains(c)))
    });
    for repair in sure.into_iter().chain(doubtful) {
        match repair.effect(program, symptom, before, &|_, _| None, budget) {
            Effect::Repairs => {
                found.repair = Ok(repair);
                break;
            }
            Effect::ButForOthers if found.but_for_others.is_none() => {
                found.but_for_others = Some(repair);
            }
            Effect::ButForOthers | Effect::NoHelp => {}
            Effect::Unknown => found.repair = Err(NoRepair::GaveUp),
        }
    }
    found
}
