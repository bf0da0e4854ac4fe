// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whose memory is, by a program's text: from the moment a master is told to make a transfer that does
//! not snoop until the CPU knows that it is done, its memory is that master's.
//!
//! What this says of accesses by others, the sanitizer has to say too, no more and no less. A race that
//! the explorer finds has no such rule to it; this one is as plain as the definition.

use staleline_devices::coherency::hazard::HazardKind;
use staleline_litmus::program::{Does, Event, Granules, Observer, Op, Program, View};

use crate::domain::Found;
use crate::translate::{is_data, port};

/// Memory of a master.
#[derive(Debug, Clone, Copy)]
struct Owned {
    dev: u8,
    writes: bool,
    bytes: Granules,
}

/// A transfer is of one range, whatever holes its accesses leave.
fn range(bytes: Granules) -> Granules {
    let mut all = bytes.iter();
    let first = all.next().unwrap_or(0);
    let last = all.last().unwrap_or(first);
    let within = (first..=last).map(Granules::one);
    within.fold(Granules::NONE, Granules::or)
}

/// The memory that a master is told to use by a doorbell: of each data transfer to come, until it is told
/// again, or polls.
fn started(program: &Program, doorbell: usize, dev: u8) -> Vec<Owned> {
    let by = Observer::Dev(dev);
    let until = |e: &&Event| e.op != Op::Doorbell(dev) && !(e.by == by && e.poll().is_some());
    let to_come = program.events[doorbell + 1..].iter().take_while(until);
    let mine = to_come.filter(|e| e.by == by && is_data(program, dev, e));
    let owned = mine.filter_map(|e| {
        let writes = e.write().is_some();
        let reads = matches!(&e.op, Op::Access { does, .. } if *does == Does::Read);
        (writes || reads).then(|| Owned {
            dev,
            writes,
            bytes: range(e.bytes()),
        })
    });
    owned.collect()
}

/// For each access of somebody else to what a master owns: its index, and the bytes.
pub fn touched(program: &Program) -> Vec<(usize, Granules)> {
    let events = &program.events;
    let says_when = |dev: u8| {
        let begins = |e: &Event| e.by == Observer::Dev(dev) && matches!(e.op, Op::Begin { .. });
        events.iter().any(begins)
    };
    let mut owned: Vec<Owned> = Vec::new();
    let mut all = Vec::new();
    for (i, e) in events.iter().enumerate() {
        match (&e.by, &e.op) {
            (_, Op::Doorbell(dev)) => {
                owned.retain(|o| o.dev != *dev);
                if !says_when(*dev) {
                    owned.extend(started(program, i, *dev));
                }
            }
            (_, Op::Wait(dev)) => owned.retain(|o| o.dev != *dev),
            (
                Observer::Dev(dev),
                Op::Begin {
                    direction, bytes, ..
                },
            ) => {
                for (writes, other) in [(false, "from"), (true, "to")] {
                    if *direction != other {
                        let bytes = range(*bytes);
                        let dev = *dev;
                        owned.push(Owned { dev, writes, bytes });
                    }
                }
            }
            _ => {}
        }
        // A port that snoops owns nothing.
        owned.retain(|o| {
            let port = port(program, o.dev);
            !(if o.writes {
                port.snoops_writes()
            } else {
                port.snoops_reads()
            })
        });
        let writes = e.write().map(|(view, _)| view);
        let polls = e.poll().map(|(view, _)| view);
        let Some(view) = writes.or(e.read()).or(polls) else {
            continue;
        };
        let through_caches = matches!(view, View::WriteBack | View::Snooping);
        let others = owned.iter().filter(|o| e.by != Observer::Dev(o.dev));
        let met = others.filter(|o| o.writes || writes.is_some());
        let bytes = met.fold(Granules::NONE, |all, o| all.or(o.bytes.and(e.bytes())));
        if through_caches && !bytes.is_empty() {
            all.push((i, bytes));
        }
        if let (Observer::Cpu(_), Some(_)) = (e.by, polls) {
            // Whoever has written the word is done.
            let done = |dev: u8| {
                let wrote = |e: &Event| e.by == Observer::Dev(dev) && e.write().is_some();
                let mut before = events[..i].iter();
                before.any(|b| wrote(b) && b.bytes().meets(e.bytes()))
            };
            owned.retain(|o| !done(o.dev));
        }
    }
    all
}

/// How findings of accesses to a master's memory differ from that; none: they do not.
pub fn difference(program: &Program, found: &[Found]) -> Option<String> {
    let due = touched(program);
    for (i, _) in program.events.iter().enumerate() {
        let here = found
            .iter()
            .filter(|f| f.kind == HazardKind::Ownership && f.at == Some(i));
        let found = here.fold(Granules::NONE, |all, f| all.or(f.bytes));
        let due = due.iter().find(|(at, _)| *at == i);
        let due = due.map_or(Granules::NONE, |(_, bytes)| *bytes);
        let what = match (due.without(found), found.without(due)) {
            (missed, _) if !missed.is_empty() => ("no finding", missed),
            (_, extra) if !extra.is_empty() => ("a finding", extra),
            _ => continue,
        };
        let event = program.describe(&program.events[i]);
        let (what, bytes) = (what.0, program.ranges(what.1));
        return Some(format!("{what} that {event} meets a transfer on {bytes}"));
    }
    None
}
