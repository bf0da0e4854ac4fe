// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The sanitizer against the explorer on random programs.
//!
//! `STALELINE_LITMUS_CASES` sets how many; `STALELINE_LITMUS_SEED` where they start.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use staleline_devices::coherency::Policy;
use staleline_judge::agree::bytes;
use staleline_judge::operation::{Operation, disagreements};
use staleline_judge::{Found, findings, known};
use staleline_litmus::bounds::{Bounds, Difference, shrink};
use staleline_litmus::explore::explore;
use staleline_litmus::generate::{Shape, program};
use staleline_litmus::program::Program;

/// Of so many programs, one is asked for the missing operation too: that takes many explorations.
const OPERATIONS_EVERY: u64 = 4;

fn number(name: &str, otherwise: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

fn difference(program: &Program, found: &[Found]) -> Option<Difference> {
    let bounds = Bounds::of(program, &explore(program).unwrap());
    bounds.difference(bytes(found))
}

fn print(seed: u64, replacement: Policy, program: &Program, how: &str) {
    let events: Vec<String> = (program.events.iter())
        .map(|e| program.describe(e))
        .collect();
    let dirty = if program.dirty_at_first(0) {
        "dirty"
    } else {
        ""
    };
    println!(
        "--- seed {seed} {replacement:?} {:?} {dirty}\n  {}\n  {how}",
        program.policy,
        events.join("\n  ")
    );
    for f in findings(program, replacement, seed).unwrap() {
        let operation = Operation::of(program, &f).name();
        let range = program.ranges(f.bytes);
        println!(
            "  found {} ({:?}, {operation}) at {:?} {range}",
            f.kind.name(),
            f.why,
            f.at
        );
    }
}

#[test]
fn sanitizer_and_explorer_agree() {
    let count = number("STALELINE_LITMUS_CASES", 20_000);
    let start = number("STALELINE_LITMUS_SEED", 0);
    let mut classes = BTreeMap::new();
    let (mut unknown, mut wrong, mut asked, mut unsafe_ones) = (0, 0, 0_u64, 0_u64);
    for seed in start..start + count {
        let shape = Shape {
            events: 3 + (seed % 8) as usize,
            lines: 2,
            cpus: 1,
            wild: false,
        };
        let p = program(shape, seed);
        let replacement = Policy::ALL[seed as usize % 4];
        let found = findings(&p, replacement, seed).unwrap();
        unsafe_ones += u64::from(!found.is_empty());
        if let Some(d) = difference(&p, &found) {
            if let Some(class) = known::class(&p, replacement, seed, d).unwrap() {
                *classes.entry(class).or_insert(0_u32) += 1;
                continue;
            }
            unknown += 1;
            if unknown <= 20 {
                let small = shrink(&p, &mut |p: &Program| {
                    let found = findings(p, replacement, seed).unwrap();
                    difference(p, &found)
                        .is_some_and(|d| known::class(p, replacement, seed, d).unwrap().is_none())
                });
                let found = findings(&small, replacement, seed).unwrap();
                let how = difference(&small, &found).map(|d| d.describe(&small));
                print(seed, replacement, &small, &how.unwrap_or_default());
            }
        } else if seed / 8 % OPERATIONS_EVERY == 0 {
            let differ = |p: &Program| {
                let found = findings(p, replacement, seed).unwrap();
                let answer = explore(p).unwrap();
                let (wrong, asked) = disagreements(p, &answer, &found).unwrap();
                (asked, wrong.into_iter().next())
            };
            let (compared, how) = differ(&p);
            asked += compared as u64;
            if how.is_some() {
                wrong += 1;
                if wrong <= 20 {
                    let small = shrink(&p, &mut |p: &Program| differ(p).1.is_some());
                    if let Some(how) = differ(&small).1 {
                        let (symptom, helps) = (how.symptom, how.helpful.describe());
                        print(
                            seed,
                            replacement,
                            &small,
                            &format!("{symptom:?}: helps {helps}"),
                        );
                    }
                }
            }
        }
    }
    println!("{count} cases explored, {unsafe_ones} with findings, {unknown} differ");
    println!("{asked} missing operations compared, {wrong} cases differ");
    for (class, n) in &classes {
        println!("{n:6} known: {class}");
    }
    assert!(unsafe_ones > count / 4);
    assert_eq!((unknown, wrong), (0, 0));
}
