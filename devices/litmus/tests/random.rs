// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Random programs against what must hold of any explorer: more order, fewer behaviours.
//!
//! `STALELINE_LITMUS_CASES` sets how many are explored.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use staleline_litmus::due::{Kind, findings};
use staleline_litmus::explore::explore;
use staleline_litmus::generate::{Shape, program};
use staleline_litmus::program::{Barrier, Dc, Event, Observer, Op, Orders, Scope};
use staleline_litmus::repair::Repair;

fn count() -> u64 {
    let given = std::env::var("STALELINE_LITMUS_CASES").ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

#[test]
fn a_barrier_more_allows_nothing_new() {
    let (mut safe, mut states) = (0_u64, 0);
    for seed in 0..count() {
        let shape = Shape {
            events: 3 + (seed % 10) as usize,
            lines: 2,
            cpus: 1 + u8::from(seed % 4 == 0),
            words: true,
            wild: seed % 2 == 0,
        };
        let before = program(shape, seed);
        let answer = explore(&before).unwrap();
        states += answer.states;
        safe += u64::from(answer.safe());
        if seed % 8 != 0 {
            continue;
        }
        let at = (seed / 8) as usize % before.events.len();
        let barrier = Barrier {
            completes: true,
            orders: Orders::Full,
            scope: Scope::Everyone { outer: false },
        };
        let after = explore(&before.with(
            at,
            Event {
                by: Observer::Cpu(0),
                op: Op::Barrier(barrier),
            },
        ))
        .unwrap();
        for r in &after.reads {
            let original = r.event - usize::from(r.event > at);
            for g in r.bytes.iter() {
                let had = (answer.reads.iter()).find(|o| o.event == original && o.bytes.has(g));
                let had = had.unwrap().all;
                assert_eq!(r.all.0 & !had.0, 0, "seed {seed}, event {original}");
            }
        }
    }
    println!("{} cases explored, {safe} safe, {states} states", count());
    assert!(safe > count() / 50 && safe < count() / 2);
}

/// A kind names what helps: no `missing-clean` without a clean in its repair, or any operation that
/// would help where nothing orders two observers.
#[test]
fn kinds_are_what_repairs_them() {
    let mut seen: BTreeMap<Kind, u32> = BTreeMap::new();
    let mut wrong = Vec::new();
    for seed in 0..600 {
        let shape = Shape {
            events: 3 + (seed % 8) as usize,
            lines: 1,
            cpus: 1,
            words: seed % 3 == 0,
            wild: seed % 2 == 0,
        };
        let program = program(shape, seed);
        let Ok(answer) = explore(&program) else {
            continue;
        };
        for finding in findings(&program, &answer) {
            *seen.entry(finding.kind).or_default() += 1;
            let some = |helps: &dyn Fn(Dc) -> bool| {
                let all = finding.repair.iter().flat_map(Repair::operations);
                finding.repair.is_none()
                    || all
                        .into_iter()
                        .any(|e| matches!(e.op, Op::Dc { op, .. } if helps(op)))
            };
            let right = match finding.kind {
                Kind::MissingBarrier => finding.repair.as_ref().is_some_and(Repair::barriers_only),
                Kind::Ownership => finding.repair.is_none(),
                Kind::MissingClean => some(&Dc::cleans),
                Kind::MissingInvalidate => some(&Dc::invalidates),
                _ => !finding.repair.as_ref().is_some_and(Repair::barriers_only),
            };
            if !right {
                let events: Vec<String> =
                    program.events.iter().map(|e| program.describe(e)).collect();
                let repair = finding.repair.map(|r| r.describe(&program));
                wrong.push(format!(
                    "seed {seed}: {} at {}: {repair:?}\n{}",
                    finding.kind,
                    finding.at,
                    events.join("\n")
                ));
            }
        }
    }
    println!("{seen:?}");
    assert!(wrong.is_empty(), "{seen:?}: {}", wrong.join("\n"));
    assert!(seen.len() == Kind::ALL.len(), "{seen:?}");
}
