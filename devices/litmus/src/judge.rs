// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What else can judge a program, and how its findings are compared with what is due.

use crate::case::Case;
use crate::explore::{Answer, TooLarge, explore};
use crate::order::{Order, forwards};
use crate::program::{Granules, Observer, Op, Program};
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
///
/// Where observers, or a CPU's own accesses through two aliases, are not ordered at all, who may
/// touch what and when is the question, not what is in a cache: a judge may find something there,
/// or not. Likewise where what is destroyed is not read within the case, and where one finding is
/// the consequence of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Bytes with a finding that is due.
    pub due: Granules,
    /// Those, and bytes where one can be defended.
    pub defensible: Granules,
}

impl Bounds {
    /// By the explorer's answer.
    pub fn of(program: &Program, answer: &Answer) -> Self {
        let raced = raced(program);
        let mut bounds = Bounds::default();
        for symptom in Symptom::all(answer) {
            let bytes = match symptom {
                Symptom::Ambiguous { bytes, .. } => bytes,
                Symptom::Lost { write, bytes, .. } => {
                    let read = answer.lost.iter().filter(|l| l.write == write && l.read);
                    bounds.defensible = bounds.defensible.or(bytes);
                    bytes.and(read.fold(Granules::NONE, |all, l| all.or(l.bytes)))
                }
                Symptom::Stuck { poll } => {
                    let word = program.events[poll].bytes();
                    bounds.defensible = bounds.defensible.or(lines(word));
                    word
                }
            };
            bounds.due = bounds.due.or(bytes.without(raced));
            bounds.defensible = bounds.defensible.or(bytes).or(raced);
        }
        let ambiguous = answer.reads.iter().filter(|r| r.all.len() > 1);
        let lost = answer.lost.iter().map(|l| l.bytes);
        let more = ambiguous.map(|r| r.bytes).chain(lost);
        bounds.defensible = more.fold(bounds.defensible.or(raced), Granules::or);
        bounds
    }
}

/// The whole lines of some bytes.
fn lines(bytes: Granules) -> Granules {
    let lines = bytes.lines().map(Granules::line);
    lines.fold(Granules::NONE, Granules::or)
}

/// Lines with two accesses of the same bytes, one of them a write, that nothing orders.
fn raced(program: &Program) -> Granules {
    let order = Order::of(program);
    let mut raced = Granules::NONE;
    for (i, a) in program.events.iter().enumerate() {
        for (j, b) in program.events.iter().enumerate() {
            let same = a.bytes().and(b.bytes());
            // What is dirty in the line of an uncached write matters as a whole.
            let near = if a.by == b.by {
                same
            } else {
                lines(a.bytes()).and(lines(b.bytes()))
            };
            let conflict = a.write().is_some() && !near.is_empty() && order.race(i, j);
            if conflict && !forwards(a, b) && !forwards(b, a) {
                raced = raced.or(lines(near));
            }
        }
    }
    raced
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
/// What tells a master to go, and what waits for it, stay as long as it does something.
pub fn shrink(program: &Program, differs: &mut dyn FnMut(&Program) -> bool) -> Program {
    let mut smallest = program.clone();
    let mut i = 0;
    while i < smallest.events.len() {
        let mut smaller = smallest.clone();
        let gone = smaller.events.remove(i);
        let kept = match gone.op {
            Op::Doorbell(dev) | Op::Wait(dev) => {
                smaller.events.iter().any(|e| e.by == Observer::Dev(dev))
            }
            Op::Acquire(_) => true,
            _ => false,
        };
        if !kept && !smaller.events.is_empty() && differs(&smaller) {
            smallest = smaller;
            i = 0;
        } else {
            i += 1;
        }
    }
    smallest
}
