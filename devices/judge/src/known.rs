// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where sanitizer and explorer are known to differ, and why.

use staleline_devices::coherency::Policy;
use staleline_devices::coherency::hazard::{HazardKind, Why};
use staleline_litmus::bounds::{Bounds, Difference};
use staleline_litmus::explore::explore;
use staleline_litmus::order::Parts;
use staleline_litmus::program::{Event, Granules, Op, Program, View};

use crate::agree::bytes;
use crate::domain::{Error, Found, findings};

const LOAD_SIDE: &str = "maintenance or a store that depends on a load by control is ordered behind \
                         it in practice, which events do not express and Linux rests on";
const OTHER_ORDER: &str = "observers race, and the sanitizer judges the order in which they acted: in \
                           another order of the same events it finds it";
const IN_FLIGHT: &str = "the explorer's simplification: a store behind a clean of its line finds the \
                         clean done for everybody, while what it cleaned may still be on its way to \
                         memory when only the store is ordered before what follows";

/// Cases of the corpus that differ, upwards, and the reason.
pub const CORPUS: &[(&str, &str)] = &[
    ("polled-flag-dma-rmb-then-invalidate", LOAD_SIDE),
    ("recycled-descriptor-no-barrier-behind-the-load", LOAD_SIDE),
    (
        "recycled-descriptor-store-barrier-behind-the-load",
        LOAD_SIDE,
    ),
];

/// The known reason for a difference, if there is one.
///
/// # Errors
/// [`Error`] if the domain cannot judge another order of the program.
pub fn class(
    program: &Program,
    replacement: Policy,
    seed: u64,
    difference: Difference,
) -> Result<Option<&'static str>, Error> {
    let Difference {
        missed,
        false_alarm,
    } = difference;
    if !false_alarm.is_empty() {
        let found = findings(program, replacement, seed)?;
        let reason = missed.is_empty() && in_flight(program, &found, false_alarm);
        return Ok(reason.then_some(IN_FLIGHT));
    }
    let mut found = Granules::NONE;
    for other in other_orders(program) {
        found = found.or(bytes(&findings(&other, replacement, seed)?));
    }
    Ok(missed.without(found).is_empty().then_some(OTHER_ORDER))
}

/// Whether it is as [`IN_FLIGHT`] says: without the stores that follow a clean of their line, the
/// explorer finds what the sanitizer finds, a clean that is not complete.
fn in_flight(program: &Program, found: &[Found], wrong: Granules) -> bool {
    let incomplete = |f: &&Found| {
        (f.kind, f.why) == (HazardKind::MissingBarrier, Why::Incomplete) && f.bytes.meets(wrong)
    };
    let told: Vec<Found> = found.iter().filter(incomplete).copied().collect();
    let mut cleaned = Granules::NONE;
    let mut without = program.clone();
    without.events.retain(|e| {
        if let Some((dc, line)) = e.maintains()
            && dc.cleans()
        {
            cleaned = cleaned.or(Granules::line(line));
        }
        let stored = matches!(e.write(), Some((View::WriteBack, _)));
        !(stored && e.bytes().meets(cleaned))
    });
    let defensible = explore(&without).is_ok_and(|answer| {
        let bounds = Bounds::of(&without, &answer);
        wrong.without(bounds.defensible).is_empty()
    });
    wrong.without(bytes(&told)).is_empty() && defensible
}

/// The same events in other orders that are as possible: one, and what its observer does after it,
/// comes later than what others do.
pub(crate) fn other_orders(program: &Program) -> Vec<Program> {
    let order = Parts::of(program).on(u8::MAX);
    let events = &program.events;
    let mut all = Vec::new();
    for (i, moved) in events.iter().enumerate() {
        // What tells or waits is the order itself.
        if matches!(moved.op, Op::Doorbell(_) | Op::Wait(_) | Op::Acquire(_)) {
            continue;
        }
        for j in i + 1..events.len() {
            let (late, early): (Vec<usize>, Vec<usize>) =
                (i..=j).partition(|k| events[*k].by == moved.by);
            let may = |late: &usize| !early.iter().any(|e| order.is_before(*late, *e));
            if early.last() != Some(&j) || !late.iter().all(may) {
                continue;
            }
            let mut other = program.clone();
            let mut reordered: Vec<Event> = events[..i].to_vec();
            reordered.extend(early.iter().chain(&late).map(|k| events[*k].clone()));
            reordered.extend_from_slice(&events[j + 1..]);
            other.events = reordered;
            all.push(other);
        }
    }
    all
}
