// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What another judge must find of a program, and what it may: how the sanitizer is compared with
//! the explorer.

use crate::explore::Answer;
use crate::order::Parts;
use crate::program::{Event, Granules, Observer, Op, Program, View};
use crate::repair;
use crate::symptom::Symptom;

/// What a judge must find, and what it may.
///
/// Where observers are not ordered, and no barrier could order them, who may touch what and when is
/// the question, not what is in a cache: a judge may find something there, or not. Likewise where a
/// CPU accesses the same bytes through two aliases with no barrier between, where what is destroyed
/// is not read within the case, and where one finding is the consequence of another. And a load
/// before memory is handed to a master that then writes it: DMB OSHST, all that writel() has, does
/// not order it, and Linux rests on dependencies that events do not express.
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
        let races = Races::of(program);
        let raced = races.observers.or(races.aliases);
        let mut bounds = Bounds::default();
        let symptoms = Symptom::all(answer);
        for symptom in &symptoms {
            let bytes = match *symptom {
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
            let mut exempt = races.aliases;
            if bytes.meets(races.observers) {
                let barriers = repair::single_barriers(program);
                let helps = |r: &repair::Repair| r.works(program, symptom, &symptoms);
                if load_before_release(program, symptom) || !barriers.iter().any(helps) {
                    exempt = raced;
                }
            }
            bounds.due = bounds.due.or(bytes.without(exempt));
            bounds.defensible = bounds.defensible.or(bytes).or(raced);
        }
        let ambiguous = answer.reads.iter().filter(|r| r.all.len() > 1);
        let lost = answer.lost.iter().map(|l| l.bytes);
        let more = ambiguous.map(|r| r.bytes).chain(lost);
        bounds.defensible = more.fold(bounds.defensible.or(raced), Granules::or);
        bounds
    }
}

/// A CPU's load that a master's write may overtake which the same CPU asks for later.
fn load_before_release(program: &Program, symptom: &Symptom) -> bool {
    let (read, bytes) = match *symptom {
        Symptom::Ambiguous { read, bytes } => (Some(read), bytes),
        Symptom::Lost { bytes, .. } => (None, bytes),
        Symptom::Stuck { .. } => return false,
    };
    let overtaken = |load: usize, by: Observer| {
        let mut later = program.events.iter().enumerate().skip(load + 1);
        later.any(|(i, e)| {
            let told = |d: u8| {
                let mut between = program.events[load..i].iter();
                between.any(|e| e.by == by && e.op == Op::Doorbell(d))
            };
            let master = matches!(e.by, Observer::Dev(d) if told(d));
            master && e.write().is_some() && e.bytes().meets(bytes)
        })
    };
    program.events.iter().enumerate().any(|(load, e)| {
        matches!(e.by, Observer::Cpu(_))
            && e.read().is_some()
            && e.bytes().meets(bytes)
            && read.is_none_or(|read| read == load)
            && overtaken(load, e.by)
    })
}

/// The whole lines of some bytes.
fn lines(bytes: Granules) -> Granules {
    let lines = bytes.lines().map(Granules::line);
    lines.fold(Granules::NONE, Granules::or)
}

/// How an event accesses memory.
fn view(event: &Event) -> Option<View> {
    event.read().or(event.write().map(|(view, _)| view))
}

/// Lines with two accesses, one of them a write, that nothing orders.
struct Races {
    /// Of different observers.
    observers: Granules,
    /// Of one CPU, through two aliases.
    aliases: Granules,
}

impl Races {
    fn of(program: &Program) -> Self {
        let order = Parts::of(program);
        let mut races = Races {
            observers: Granules::NONE,
            aliases: Granules::NONE,
        };
        for line in 0..program.lines() {
            let order = order.on(1 << line);
            let line = Granules::line(line);
            let here =
                || (program.events.iter().enumerate()).filter(|(_, e)| e.bytes().meets(line));
            for (i, a) in here().filter(|(_, a)| a.write().is_some()) {
                for (_, b) in here().filter(|(j, _)| order.race(i, *j)) {
                    if a.by != b.by {
                        races.observers = races.observers.or(line);
                    } else if view(a) != view(b) {
                        races.aliases = races.aliases.or(line);
                    }
                }
            }
        }
        races
    }
}

/// How findings differ from what is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Bytes with a finding due that has not been found.
    pub missed: Granules,
    /// Bytes with a finding that cannot be defended.
    pub false_alarm: Granules,
}

impl Bounds {
    /// How findings on these bytes differ; `None`: they agree.
    pub fn difference(self, found: Granules) -> Option<Difference> {
        let difference = Difference {
            missed: self.due.without(found),
            false_alarm: found.without(self.defensible),
        };
        let agree = difference.missed.is_empty() && difference.false_alarm.is_empty();
        (!agree).then_some(difference)
    }
}

impl Difference {
    /// As a sentence without an end.
    pub fn describe(self, program: &Program) -> String {
        let part = |what: &str, bytes: Granules| {
            (!bytes.is_empty()).then(|| format!("{what} on {}", program.ranges(bytes)))
        };
        let parts = [
            part("nothing found", self.missed),
            part("a false alarm", self.false_alarm),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        parts.join(" and ")
    }
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
