// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where sanitizer and explorer are known to differ, and why.

use staleline_devices::coherency::Policy;
use staleline_litmus::bounds::Difference;
use staleline_litmus::order::Parts;
use staleline_litmus::program::{Event, Granules, Op, Program};

use crate::agree::bytes;
use crate::domain::findings;

const LOAD_SIDE: &str = "maintenance or a store that depends on a load by control is ordered behind \
                         it in practice, which events do not express and Linux rests on";
const OTHER_ORDER: &str = "observers race, and the sanitizer judges the order in which they acted: in \
                           another order of the same events it finds it";

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
pub fn class(
    program: &Program,
    replacement: Policy,
    seed: u64,
    difference: Difference,
) -> Option<&'static str> {
    if !difference.false_alarm.is_empty() {
        return None;
    }
    let mut found = Granules::NONE;
    for other in other_orders(program) {
        let all = findings(&other, replacement, seed).unwrap_or_default();
        found = found.or(bytes(&all));
    }
    difference
        .missed
        .without(found)
        .is_empty()
        .then_some(OTHER_ORDER)
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
