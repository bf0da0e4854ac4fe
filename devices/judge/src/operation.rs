// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which operation is missing: what a finding of the domain says, and what the explorer finds to
//! help.

use std::collections::{BTreeMap, BTreeSet};

use staleline_devices::coherency::Policy;
use staleline_devices::coherency::hazard::{HazardKind, Why};
use staleline_litmus::explore::{Answer, explore};
use staleline_litmus::order::Assume;
use staleline_litmus::program::{self, Dc, Event, Granules, Observer, Op, Program, View};
use staleline_litmus::repair::{self, Repair};
use staleline_litmus::symptom::Symptom;

use crate::agreement::Agreement;
use crate::domain::{Error, Found, findings};
use crate::known::{self, Class, Known};
use crate::variants;

/// What has to be put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// A clean of the line.
    Clean,
    /// An invalidate of the line.
    Invalidate,
    /// A barrier.
    Barrier,
    /// Nothing: the accesses have to be ordered by a wait or a doorbell, or kept to lines of their
    /// own.
    Order,
}

impl Operation {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Clean => "clean",
            Operation::Invalidate => "invalidate",
            Operation::Barrier => "barrier",
            Operation::Order => "order",
        }
    }

    /// What a finding says is missing.
    pub fn of(program: &Program, found: &Found) -> Self {
        let event = found.at.and_then(|at| program.events.get(at));
        let coherent = event.and_then(Event::read).is_some_and(View::coherent);
        match (found.kind, found.why) {
            (HazardKind::MissingBarrier, _) => Operation::Barrier,
            // Litmus cases know no fences that signal.
            (HazardKind::Ownership | HazardKind::SignalledEarly, _) => Operation::Order,
            // That invalidate has to go somewhere else.
            (HazardKind::DiscardedWrite, Why::Late) => Operation::Order,
            // As the product's advice has it: no maintenance helps while a line is shared.
            (HazardKind::WritebackClobber, _) if stored_beside(program, found) => Operation::Order,
            // A store has merged into a copy that should not have been there any more.
            (_, Why::StaleStore) | (HazardKind::MissingInvalidate, _) => Operation::Invalidate,
            (HazardKind::MismatchedAlias, _) if coherent => Operation::Invalidate,
            (
                HazardKind::MissingClean
                | HazardKind::WritebackClobber
                | HazardKind::DiscardedWrite
                | HazardKind::MismatchedAlias,
                _,
            ) => Operation::Clean,
        }
    }
}

/// Whether a CPU stores to other bytes of a line, through the cache, between the moment a master is
/// told to write the bytes that are threatened and the CPU's wait for it.
fn stored_beside(program: &Program, found: &Found) -> bool {
    let events = &program.events;
    let beside = |e: &Event| {
        let through_cache =
            matches!((e.by, e.write()), (Observer::Cpu(_), Some((view, _))) if view.coherent());
        let line = e
            .bytes()
            .lines()
            .any(|l| Granules::line(l).meets(found.bytes));
        through_cache && line && !e.bytes().meets(found.bytes)
    };
    events.iter().enumerate().any(|(write, e)| {
        let Observer::Dev(dev) = e.by else {
            return false;
        };
        let told = |e: &Event| {
            e.op == Op::Doorbell(dev) || (e.by == Observer::Dev(dev) && e.poll().is_some())
        };
        let first = events[..write].iter().rposition(told);
        let waited = events[write..].iter().position(|e| e.op == Op::Wait(dev));
        let last = waited.map_or(events.len(), |n| write + n);
        let in_flight = first.map_or(&[][..], |first| &events[first..last]);
        e.write().is_some() && e.bytes().meets(found.bytes) && in_flight.iter().any(beside)
    })
}

/// What makes a symptom vanish and brings no other, put in anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Helpful {
    /// Barriers alone: one, or two.
    pub barrier: bool,
    /// `dc cvac`, alone or with full DSBs around it.
    pub clean: bool,
    /// `dc ivac` or `dc civac`, likewise.
    pub invalidate: bool,
}

impl Helpful {
    /// What helps against `symptom`; `all`: all that is wrong with the program.
    pub fn against(program: &Program, symptom: &Symptom, all: &[Symptom]) -> Self {
        Helpful::assuming(program, symptom, all, &|_, _| None)
    }

    /// The same as if the order were another.
    fn assuming(program: &Program, symptom: &Symptom, all: &[Symptom], assume: Assume<'_>) -> Self {
        let helps = |ops: &[Dc]| {
            let mut tries = repair::maintenance(program, symptom, ops).into_iter();
            tries.any(|r| r.works_assuming(program, symptom, all, assume))
        };
        let mut barriers = repair::barriers_alone(program).into_iter();
        Helpful {
            barrier: barriers.any(|r| r.works_assuming(program, symptom, all, assume)),
            clean: helps(&[Dc::Cvac]),
            invalidate: helps(&[Dc::Ivac, Dc::Civac]),
        }
    }

    /// Whether it helps to put `operation` in. `excused`: maintenance is right also where a barrier
    /// helps.
    fn is(self, operation: Operation, excused: bool) -> bool {
        let more = excused || !self.barrier;
        match operation {
            Operation::Barrier => self.barrier,
            Operation::Clean => self.clean && more,
            Operation::Invalidate => self.invalidate && more,
            Operation::Order => self == Helpful::default(),
        }
    }

    /// The names of what helps.
    pub fn describe(self) -> String {
        let all = [
            (self.barrier, Operation::Barrier),
            (self.clean, Operation::Clean),
            (self.invalidate, Operation::Invalidate),
        ];
        let names: Vec<&str> = all
            .into_iter()
            .filter(|(helps, _)| *helps)
            .map(|(_, operation)| operation.name())
            .collect();
        if names.is_empty() {
            Operation::Order.name().to_owned()
        } else {
            names.join(" or ")
        }
    }
}

/// Whether maintenance may be asked for although barriers alone help too. That is so
/// - of a write that is lost: a barrier helps by having it overwritten before anybody can miss it;
/// - where a snooping write passes through the line: a barrier helps by having that write clean it.
fn maintenance_is_right(program: &Program, symptom: &Symptom) -> bool {
    let bytes = symptom.bytes(program);
    let lines: Vec<u8> = bytes.lines().collect();
    let passes = |e: &Event| {
        let through = matches!(e.write(), Some((View::Snooping, _)));
        through && e.bytes().lines().any(|line| lines.contains(&line))
    };
    match symptom {
        Symptom::Lost { .. } => true,
        _ => program.policy == program::Policy::WriteThrough && program.events.iter().any(passes),
    }
}

/// Part of a symptom: some of its bytes.
fn part(symptom: &Symptom, of: Granules) -> Symptom {
    let mut part = *symptom;
    if let Symptom::Ambiguous { bytes, .. } | Symptom::Lost { bytes, .. } = &mut part {
        *bytes = bytes.and(of);
    }
    part
}

/// Whether a finding may be about a symptom: not only because it is on the same bytes.
fn concerns(found: &Found, symptom: &Symptom) -> bool {
    match symptom {
        Symptom::Lost { .. } => found.why != Why::Unordered && found.kind != HazardKind::Ownership,
        _ => true,
    }
}

/// What findings on these bytes ask for.
fn asked(program: &Program, found: &[Found], symptom: &Symptom, bytes: Granules) -> Operations {
    let here = (found.iter()).filter(|f| f.bytes.meets(bytes) && concerns(f, symptom));
    here.map(|f| Operation::of(program, f)).collect()
}

type Operations = BTreeSet<Operation>;

/// Whether findings ask for what helps: of the symptoms, taken apart by line and by what findings
/// on them ask for, each that has findings; and of the findings, each on bytes of such a symptom.
///
/// A read of what may be destroyed too is not asked about: what destroys it for sure makes the read
/// unambiguous, which is no help, and the loss is asked about itself. Nor is a loss that nobody
/// reads.
///
/// # Errors
/// [`Error`] if the domain cannot judge another order of the program.
pub fn agreement(
    known: &Known<'_>,
    program: &Program,
    answer: &Answer,
    found: &[Found],
) -> Result<Agreement, Error> {
    Ok(compare(known, program, answer, found)?.0)
}

/// As [`agreement`], and how many symptoms were compared.
///
/// # Errors
/// [`Error`] if the domain cannot judge another order of the program.
pub fn compare(
    known: &Known<'_>,
    program: &Program,
    answer: &Answer,
    found: &[Found],
) -> Result<(Agreement, usize), Error> {
    let all = &Symptom::all(answer);
    let lost = answer.lost.iter().filter(|l| l.missed);
    let lost = lost.fold(Granules::NONE, |all, l| all.or(l.bytes));
    let mut agreement = Agreement::Agrees;
    let mut compared = 0;
    // Parts of symptoms on which findings ask for several operations, and which of them help.
    let mut several: Vec<(Symptom, Operations)> = Vec::new();
    for symptom in all {
        let mut bytes = symptom.bytes(program);
        match symptom {
            Symptom::Ambiguous { .. } => bytes = bytes.without(lost),
            Symptom::Lost { write, .. } => {
                let read = answer.lost.iter().filter(|l| l.write == *write && l.read);
                bytes = bytes.and(read.fold(Granules::NONE, |all, l| all.or(l.bytes)));
            }
            Symptom::Stuck { .. } => {}
        }
        let mut parts: BTreeMap<(u8, Operations), Granules> = BTreeMap::new();
        for granule in bytes.iter() {
            let one = Granules::one(granule);
            let operations = asked(program, found, symptom, one);
            let part = parts.entry((granule / 8, operations)).or_default();
            *part = part.or(one);
        }
        for ((_, operations), bytes) in parts {
            if operations.is_empty() {
                continue;
            }
            compared += 1;
            let symptom = part(symptom, bytes);
            let this = of_part(known, program, all, &symptom, &operations)?;
            if this == Agreement::Agrees {
                let right = match operations.len() {
                    1 => operations,
                    _ => right_ones(program, all, &symptom, operations),
                };
                several.push((symptom, right));
            }
            agreement = agreement.and(this);
        }
    }
    for finding in found {
        let this = beside(known, program, all, &several, found, finding)?;
        agreement = agreement.and(this);
    }
    Ok((agreement, compared))
}

/// Which of several operations help, each by itself; all, if only together.
fn right_ones(
    program: &Program,
    all: &[Symptom],
    symptom: &Symptom,
    operations: Operations,
) -> Operations {
    let helpful = Helpful::against(program, symptom, all);
    let excused = maintenance_is_right(program, symptom);
    let right = operations.iter().filter(|o| helpful.is(**o, excused));
    let right: Operations = right.copied().collect();
    if right.is_empty() { operations } else { right }
}

/// Whether a finding asks for what helps against any of the symptoms on its bytes, not only another
/// one beside it. `several`: parts of symptoms, with the operations that help.
fn beside(
    known: &Known<'_>,
    program: &Program,
    all: &[Symptom],
    several: &[(Symptom, Operations)],
    found: &[Found],
    finding: &Found,
) -> Result<Agreement, Error> {
    let operation = Operation::of(program, finding);
    let here = several.iter().filter(|(symptom, _)| {
        finding.bytes.meets(symptom.bytes(program)) && concerns(finding, symptom)
    });
    let here: Vec<&(Symptom, Operations)> = here.collect();
    if here.is_empty() || here.iter().any(|(_, right)| right.contains(&operation)) {
        return Ok(Agreement::Agrees);
    }
    let waits = |f: &&Found| f.kind == HazardKind::Ownership && f.bytes.meets(finding.bytes);
    if finding.why == Why::Early && found.iter().any(|f| waits(&f)) {
        return Ok(Agreement::Known(BTreeSet::from([Class::Early])));
    }
    let mut last = Agreement::Agrees;
    for (symptom, _) in here {
        last = of_part(known, program, all, symptom, &Operations::from([operation]))?;
        if !matches!(last, Agreement::Differs(_)) {
            break;
        }
    }
    Ok(last)
}

/// All ways to put in an operation.
fn ways(program: &Program, symptom: &Symptom, operation: Operation) -> Vec<Repair> {
    match operation {
        Operation::Clean => repair::maintenance(program, symptom, &[Dc::Cvac]),
        Operation::Invalidate => repair::maintenance(program, symptom, &[Dc::Ivac]),
        Operation::Barrier => repair::single_barriers(program),
        Operation::Order => Vec::new(),
    }
}

/// Whether, with an operation put in, what is asked for then helps.
fn leads_on(program: &Program, symptom: &Symptom, operation: Operation) -> bool {
    let next = |way: Repair| -> Option<bool> {
        let repaired = way.apply(program)?;
        let answer = explore(&repaired).ok()?;
        let all = Symptom::all(&answer);
        let found = findings(&repaired, Policy::Lazy, 1).ok()?;
        let same = all.iter().find(|s| {
            let original = s.renumbered(|i| way.original(i));
            original.is_some_and(|o| !symptom.left(program, &[o]).is_empty())
        })?;
        let helpful = Helpful::against(&repaired, same, &all);
        let asked = asked(&repaired, &found, same, same.bytes(&repaired));
        Some(asked.iter().any(|o| helpful.is(*o, true)))
    };
    let ways = ways(program, symptom, operation);
    ways.into_iter().any(|way| next(way).unwrap_or(false))
}

/// Whether two operations help together, of which one is asked for: true if both are.
fn help_together(
    program: &Program,
    symptom: &Symptom,
    operations: &Operations,
    all: &[Symptom],
    assume: Assume<'_>,
) -> Option<bool> {
    let help = |first: Operation, second: Operation| {
        let (first, second) = (
            ways(program, symptom, first),
            ways(program, symptom, second),
        );
        first.iter().any(|a| {
            let both = second.iter().map(|b| a.and(b));
            both.into_iter()
                .any(|r| r.works_assuming(program, symptom, all, assume))
        })
    };
    let some = [Operation::Clean, Operation::Invalidate, Operation::Barrier];
    let both = |second: &Operation| operations.iter().any(|first| help(*first, *second));
    if operations.iter().any(both) {
        return Some(true);
    }
    some.iter().any(both).then_some(false)
}

/// Whether an operation helps against what a master reads, or what it writes and may be lost, once its
/// accesses are taken apart: the CPU waits before the access, does it, and starts the master on.
fn helps_apart(program: &Program, symptom: &Symptom, operation: Operation) -> bool {
    let (access, bytes) = match *symptom {
        Symptom::Ambiguous { read, bytes } => (read, bytes),
        Symptom::Lost {
            write: Some(write),
            bytes,
            ..
        } => (write, bytes),
        _ => return false,
    };
    let op = match operation {
        Operation::Clean => Dc::Cvac,
        Operation::Invalidate => Dc::Ivac,
        Operation::Barrier | Operation::Order => return false,
    };
    let Observer::Dev(dev) = program.events[access].by else {
        return false;
    };
    let (apart, access) = variants::apart(program, access, dev, bytes, op);
    explore(&apart).is_ok_and(|answer| match symptom {
        Symptom::Lost { .. } => {
            let mut lost = answer.lost.iter().filter(|l| l.write == Some(access));
            !lost.any(|l| l.missed && l.bytes.meets(bytes))
        }
        _ => !answer.ambiguous(access).meets(bytes),
    })
}

/// The classes that cover what is asked for once each master is told what to do, if there is a master that
/// nobody has told: what stands before its access is not before it for the explorer, and nothing helps there.
fn once_told(
    program: &Program,
    symptom: &Symptom,
    operations: &Operations,
) -> Result<Option<BTreeSet<Class>>, Error> {
    let Some((told, places)) = variants::all_told_at(program) else {
        return Ok(None);
    };
    let Ok(answer) = explore(&told) else {
        return Ok(None);
    };
    let all = Symptom::all(&answer);
    let known = Known::new(&told, &answer, Policy::Lazy, 1);
    let original = |event| places.iter().position(|place| *place == event);
    for other in &all {
        let same = other.renumbered(original);
        if same.is_none_or(|same| symptom.left(program, &[same]).is_empty()) {
            continue;
        }
        // There, everybody is told: it does not come back here.
        let mut classes = match of_part(&known, &told, &all, other, operations)? {
            Agreement::Agrees => BTreeSet::new(),
            Agreement::Known(classes) => classes,
            Agreement::Differs(_) => continue,
        };
        classes.insert(Class::Unprompted);
        return Ok(Some(classes));
    }
    Ok(None)
}

fn of_part(
    known: &Known<'_>,
    program: &Program,
    all: &[Symptom],
    symptom: &Symptom,
    operations: &Operations,
) -> Result<Agreement, Error> {
    let helpful = Helpful::against(program, symptom, all);
    let excused = maintenance_is_right(program, symptom);
    let right = |operation: &Operation| helpful.is(*operation, excused);
    if operations.iter().any(right) {
        return Ok(Agreement::Agrees);
    }
    let mut others = Operations::new();
    for other in variants::other_orders(program) {
        let found = findings(&other, Policy::Lazy, 1)?;
        others.extend(asked(&other, &found, symptom, symptom.bytes(program)));
    }
    if others.iter().any(right) {
        return Ok(Agreement::Known(BTreeSet::from([Class::OtherOrder])));
    }
    if let Some(classes) = known.classes_of(symptom)? {
        return Ok(Agreement::Known(classes));
    }
    for (classes, assumed) in known::ASSUMED {
        let all = known.symptoms_if(assumed);
        let helpful = Helpful::assuming(program, symptom, &all, &|a, b| {
            assumed(program, a, b).then_some(true)
        });
        if operations.iter().any(|o| helpful.is(*o, excused)) {
            return Ok(Agreement::Known(classes.iter().copied().collect()));
        }
    }
    if known.uncacheable(symptom) {
        return Ok(Agreement::Known(BTreeSet::from([Class::NoCacheableView])));
    }
    if helpful == Helpful::default() {
        if operations.iter().any(|o| helps_apart(program, symptom, *o)) {
            return Ok(Agreement::Known(BTreeSet::from([Class::NoPlace])));
        }
        for (classes, assumed) in known::ASSUMED {
            match help_together(
                program,
                symptom,
                operations,
                &known.symptoms_if(assumed),
                &|a, b| assumed(program, a, b).then_some(true),
            ) {
                Some(true) if classes.is_empty() => return Ok(Agreement::Agrees),
                Some(true) => return Ok(Agreement::Known(classes.iter().copied().collect())),
                Some(false) => {
                    let classes = classes.iter().copied().chain([Class::Several]);
                    return Ok(Agreement::Known(classes.collect()));
                }
                None => {}
            }
        }
        let event = program.events.get(symptom.at());
        if event.is_some_and(variants::is_prefetch) {
            return Ok(Agreement::Known(BTreeSet::from([Class::Race])));
        }
        if known.raced(symptom) {
            return Ok(Agreement::Known(BTreeSet::from([Class::Operation])));
        }
    }
    if operations.iter().any(|o| leads_on(program, symptom, *o)) {
        return Ok(Agreement::Known(BTreeSet::from([Class::Several])));
    }
    if let Some(classes) = once_told(program, symptom, operations)? {
        return Ok(Agreement::Known(classes));
    }
    let asked: Vec<&str> = operations.iter().map(|o| o.name()).collect();
    Ok(Agreement::Differs(format!(
        "{} asked for on {}, where {} helps",
        asked.join(", "),
        program.ranges(symptom.bytes(program)),
        helpful.describe(),
    )))
}
