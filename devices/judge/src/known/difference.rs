// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! How findings differ from what is due.

use staleline_devices::coherency::hazard::HazardKind;
use staleline_litmus::explore::Answer;
use staleline_litmus::program::{Granules, Program};
use staleline_litmus::symptom::Symptom;

use crate::domain::Found;

/// How findings differ from what is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Bytes with something wrong that has not been found.
    pub missed: Granules,
    /// Bytes with a finding where nothing is wrong.
    pub extra: Granules,
}

impl Difference {
    /// Between what is wrong with a program and findings; none: each tells of the other.
    pub fn of(program: &Program, answer: &Answer, found: &[Found]) -> Option<Self> {
        let all = Symptom::all(answer);
        let missed = all.iter().map(|s| unexplained(program, answer, s, found));
        let extra = found.iter().map(|f| groundless(program, answer, f));
        let difference = Difference {
            missed: missed.fold(Granules::NONE, Granules::or),
            extra: extra.fold(Granules::NONE, Granules::or),
        };
        let some = !difference.missed.or(difference.extra).is_empty();
        some.then_some(difference)
    }

    /// As a sentence without an end.
    pub fn describe(self, program: &Program) -> String {
        let part = |what: &str, bytes: Granules| {
            (!bytes.is_empty()).then(|| format!("{what} on {}", program.ranges(bytes)))
        };
        let parts = [
            part("nothing found", self.missed),
            part("a false alarm", self.extra),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        parts.join(" and ")
    }
}

/// Bytes with findings.
pub fn bytes(found: &[Found]) -> Granules {
    found.iter().fold(Granules::NONE, |all, f| all.or(f.bytes))
}

/// Whether a finding is about the read alone at which it came up, not about what happens to memory.
pub(super) fn about_a_read(program: &Program, found: &Found) -> bool {
    let event = found.at.and_then(|at| program.events.get(at));
    event.is_some_and(|e| e.read().is_some()) && found.kind != HazardKind::Ownership
}

/// Whether a finding is of a write that may be destroyed.
pub(super) fn about_a_loss(found: &Found) -> bool {
    matches!(
        found.kind,
        HazardKind::WritebackClobber | HazardKind::DiscardedWrite
    )
}

/// Bytes with findings in another order of a program that may be the same as one in this: what is found
/// of a read is the same only at that read.
pub(super) fn same_in(
    program: &Program,
    finding: &Found,
    other: &Program,
    found: &[Found],
) -> Granules {
    let of = |program: &Program, f: &Found| f.at.and_then(|at| program.events.get(at).cloned());
    let read = of(program, finding).filter(|e| {
        let reads = e.read().is_some() || e.poll().is_some();
        reads && finding.kind != HazardKind::Ownership
    });
    let same = |f: &&Found| read.is_none() || of(other, f) == read;
    let found = found.iter().filter(same);
    found.fold(Granules::NONE, |all, f| all.or(f.bytes))
}

/// Bytes of a symptom that no finding tells of: what is found of one read says nothing of another; that
/// a write may be destroyed, of a read only where that is so; and that memory in flight is accessed, of
/// nothing but races.
pub(super) fn unexplained(
    program: &Program,
    answer: &Answer,
    symptom: &Symptom,
    found: &[Found],
) -> Granules {
    let read = match *symptom {
        Symptom::Ambiguous { read, .. } => Some(read),
        _ => None,
    };
    let lost = answer
        .lost
        .iter()
        .fold(Granules::NONE, |all, l| all.or(l.bytes));
    let told = found.iter().map(|f| match f.kind {
        HazardKind::Ownership => Granules::NONE,
        _ if read.is_none() || f.at == read => f.bytes,
        _ if about_a_read(program, f) => Granules::NONE,
        _ if about_a_loss(f) => f.bytes.and(lost),
        _ => f.bytes,
    });
    let told = told.fold(Granules::NONE, Granules::or);
    symptom.bytes(program).without(told)
}

/// Bytes of a finding on which nothing is wrong that it may be about.
pub(super) fn groundless(program: &Program, answer: &Answer, found: &Found) -> Granules {
    let read = found.at.filter(|_| about_a_read(program, found));
    let grounds = Symptom::all(answer);
    let other = |s: &&Symptom| !matches!(s, Symptom::Ambiguous { read: at, .. } if read.is_some_and(|read| read != *at));
    let grounds = grounds.iter().filter(other).map(|s| s.bytes(program));
    found
        .bytes
        .without(grounds.fold(Granules::NONE, Granules::or))
}

/// Bytes with something wrong.
pub fn wrong(program: &Program, answer: &Answer) -> Granules {
    let all = Symptom::all(answer);
    let all = all.iter().map(|s| s.bytes(program));
    all.fold(Granules::NONE, Granules::or)
}
