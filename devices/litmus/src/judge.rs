// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What else can judge a program, and how its findings are compared with what is due.

use crate::case::Case;
use crate::explore::{Answer, TooLarge, explore};
use crate::program::{Granules, Program};
use crate::symptom::Symptom;

/// A finding of a judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Name of its kind.
    pub kind: String,
    /// Bytes.
    pub bytes: Granules,
    /// The event it came up at, by index, if the judge knows.
    pub at: Option<usize>,
    /// The operation it says is missing, in its own words.
    pub missing: Option<String>,
}

/// Something that takes a case's events in the order of the list, and finds.
pub trait Judge {
    /// Runs the whole case from its initial state; all findings.
    fn run(&mut self, case: &Case) -> Vec<Found>;
}

/// What a judge must find, and what it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Bytes with a finding that is due.
    pub due: Granules,
    /// Those, and bytes where one is a consequence of another.
    pub defensible: Granules,
}

impl Bounds {
    /// By the explorer's answer.
    pub fn of(program: &Program, answer: &Answer) -> Self {
        let mut bounds = Bounds::default();
        for symptom in Symptom::all(answer) {
            bounds.due = bounds.due.or(match symptom {
                Symptom::Ambiguous { bytes, .. } | Symptom::Lost { bytes, .. } => bytes,
                Symptom::Stuck { poll } => program.events[poll].bytes(),
            });
        }
        let ambiguous = answer.reads.iter().filter(|r| r.all.len() > 1);
        let lost = answer.lost.iter().map(|l| l.bytes);
        let more = ambiguous.map(|r| r.bytes).chain(lost);
        bounds.defensible = more.fold(bounds.due, Granules::or);
        bounds
    }
}

/// A program on which a judge and the explorer differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Bytes with a finding due that has not been found.
    pub missed: Granules,
    /// Bytes with a finding that cannot be defended.
    pub false_alarm: Granules,
}

/// Compares findings with what is due, by bytes; `None`: they agree.
///
/// # Errors
/// If the case is too large to explore.
pub fn compare(case: &Case, found: &[Found]) -> Result<Option<Difference>, TooLarge> {
    let answer = explore(&case.program)?;
    let bounds = Bounds::of(&case.program, &answer);
    let all = (found.iter()).fold(Granules::NONE, |all, f| all.or(f.bytes));
    let difference = Difference {
        missed: bounds.due.without(all),
        false_alarm: all.without(bounds.defensible),
    };
    let differ = !difference.missed.is_empty() || !difference.false_alarm.is_empty();
    Ok(differ.then_some(difference))
}

/// The smallest program made from this one by leaving out events, of which `differs` still holds.
pub fn shrink(program: &Program, differs: &mut dyn FnMut(&Program) -> bool) -> Program {
    let mut smallest = program.clone();
    let mut i = 0;
    while i < smallest.events.len() {
        let mut smaller = smallest.clone();
        smaller.events.remove(i);
        if !smaller.events.is_empty() && differs(&smaller) {
            smallest = smaller;
            i = 0;
        } else {
            i += 1;
        }
    }
    smallest
}
