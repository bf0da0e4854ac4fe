// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Random programs against what must hold of any explorer: more order, fewer behaviours.
//!
//! `STALELINE_LITMUS_CASES` sets how many are explored.

#![allow(clippy::unwrap_used)]

use staleline_litmus::explore::explore;
use staleline_litmus::generate::{Shape, program};
use staleline_litmus::program::{Barrier, Event, Observer, Op, Orders, Scope};

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
