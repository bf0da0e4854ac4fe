// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which operation is missing: what a finding of the domain says, and what the explorer finds to
//! help.

use std::collections::{BTreeMap, BTreeSet};

use staleline_devices::coherency::Policy;
use staleline_devices::coherency::hazard::{HazardKind, Why};
use staleline_litmus::bounds::Bounds;
use staleline_litmus::explore::Answer;
use staleline_litmus::program::{self, Dc, Event, Granules, Program, View};
use staleline_litmus::repair;
use staleline_litmus::symptom::Symptom;

use crate::domain::{Error, Found, findings};
use crate::known::other_orders;

/// What has to be put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// A clean of the line.
    Clean,
    /// An invalidate of the line.
    Invalidate,
    /// A barrier.
    Barrier,
    /// Nothing: the accesses have to be ordered by a wait or a doorbell.
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
            (HazardKind::Ownership, _) => Operation::Order,
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
        let helps = |ops: &[Dc]| {
            let mut tries = repair::maintenance(program, symptom, ops).into_iter();
            tries.any(|r| r.works(program, symptom, all))
        };
        let mut barriers = repair::barriers_alone(program).into_iter();
        Helpful {
            barrier: barriers.any(|r| r.works(program, symptom, all)),
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
            Operation::Order => false,
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

/// A symptom for which no finding asks for the right operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong with the program.
    pub symptom: Symptom,
    /// What helps.
    pub helpful: Helpful,
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

/// The symptoms, taken apart by line and by what findings ask for, on whose bytes findings are due
/// and there are some, none of which asks for what helps; and how many were compared.
///
/// Not compared are those that no operation helps against, losses that nobody reads, and reads of
/// what may be destroyed too: what destroys it for sure makes the read unambiguous, which is no
/// help. Where observers race, what is asked for in another order of the events counts too.
///
/// # Errors
/// [`Error`] if the domain cannot judge the program.
pub fn disagreements(
    program: &Program,
    answer: &Answer,
    found: &[Found],
) -> Result<(Vec<Wrong>, usize), Error> {
    let due = Bounds::of(program, answer).due;
    let all = &Symptom::all(answer);
    let lost = answer.lost.iter().filter(|l| l.missed);
    let lost = lost.fold(Granules::NONE, |all, l| all.or(l.bytes));
    let mut wrong = Vec::new();
    let mut compared = 0;
    for symptom in all {
        let mut bytes = symptom.bytes(program).and(due);
        match symptom {
            Symptom::Ambiguous { .. } => bytes = bytes.without(lost),
            // A loss that nobody reads is no finding's business, though others may be due there.
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
            let symptom = part(symptom, bytes);
            if operations.is_empty() {
                continue;
            }
            let helpful = Helpful::against(program, &symptom, all);
            if helpful == Helpful::default() {
                continue;
            }
            compared += 1;
            let excused = maintenance_is_right(program, &symptom);
            let right = |operation: &Operation| helpful.is(*operation, excused);
            if operations.iter().any(right) {
                continue;
            }
            let mut others = Operations::new();
            for other in other_orders(program) {
                let found = findings(&other, Policy::Lazy, 1)?;
                others.extend(asked(&other, &found, &symptom, bytes));
            }
            if !others.iter().any(right) {
                wrong.push(Wrong { symptom, helpful });
            }
        }
    }
    Ok((wrong, compared))
}
