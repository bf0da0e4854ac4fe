// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The sanitizer against the explorer on random programs.
//!
//! `STALELINE_LITMUS_CASES` sets how many; `STALELINE_LITMUS_SEED` where they start.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use staleline_devices::coherency::Policy;
use staleline_judge::agree::{Agreement, on_bytes};
use staleline_judge::findings;
use staleline_judge::known::{Class, Known};
use staleline_judge::operation::{Operation, compare};
use staleline_litmus::explore::{Answer, explore_in};
use staleline_litmus::generate::{Shape, program};
use staleline_litmus::order::Parts;
use staleline_litmus::program::Program;
use staleline_litmus::shrink::shrink;

/// Of so many programs, one is asked for the missing operation too: that takes many explorations.
const OPERATIONS_EVERY: u64 = 4;

/// States of one granule beyond which a random program is left out, and counted.
const MAX_STATES: usize = 1 << 12;

fn number(name: &str, otherwise: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

fn explore(program: &Program) -> Option<Answer> {
    let answer = explore_in(program, &Parts::of(program), MAX_STATES).ok()?;
    (answer.never == 0).then_some(answer)
}

/// Finding or no finding, and bytes; the missing operation if asked for: how many were compared.
fn judge(p: &Program, seed: u64, operations: bool) -> Option<(Agreement, usize)> {
    let answer = explore(p)?;
    let replacement = Policy::ALL[seed as usize % 4];
    let found = findings(p, replacement, seed).unwrap();
    let known = Known::new(p, &answer, replacement, seed);
    let bytes = on_bytes(&known, p, &answer, &found).unwrap();
    if !operations {
        return Some((bytes, 0));
    }
    let (operations, compared) = compare(&known, p, &answer, &found).unwrap();
    Some((bytes.and(operations), compared))
}

fn print(seed: u64, program: &Program, how: &str) {
    let events: Vec<String> = (program.events.iter())
        .map(|e| program.describe(e))
        .collect();
    let dirty: Vec<String> = (0..program.lines())
        .filter(|l| program.dirty_at_first(*l))
        .map(|l| program.line_name(l))
        .collect();
    let uncached: Vec<&str> = program
        .names
        .iter()
        .filter(|n| !n.cacheable)
        .map(|n| n.text.as_str())
        .collect();
    let replacement = Policy::ALL[seed as usize % 4];
    println!(
        "--- seed {seed} {replacement:?} {:?} dirty {dirty:?} not cacheable {uncached:?}\n  {}\n  {how}",
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
    let show = number("STALELINE_LITMUS_SHOW", 99);
    let mut classes: BTreeMap<Class, u64> = BTreeMap::new();
    let (mut agree, mut differ, mut asked, mut safe, mut large) = (0_u64, 0, 0, 0_u64, 0);
    let (mut explored, mut seed) = (0_u64, start);
    while explored < count {
        let shape = Shape {
            events: 3 + (seed % 10) as usize,
            lines: 2,
            cpus: 1,
            words: true,
            wild: seed % 2 == 0,
        };
        let p = program(shape, seed);
        let operations = seed / 8 % OPERATIONS_EVERY == 0;
        let judged = judge(&p, seed, operations);
        seed += 1;
        let Some((agreement, compared)) = judged else {
            large += 1;
            continue;
        };
        explored += 1;
        asked += compared as u64;
        let seed = seed - 1;
        safe += u64::from(explore(&p).unwrap().safe());
        match agreement {
            Agreement::Agrees => agree += 1,
            Agreement::Known(all) => {
                for class in all {
                    *classes.entry(class).or_default() += 1;
                    if Class::ALL.iter().position(|c| *c == class) == Some(show as usize)
                        && classes[&class] < 12
                    {
                        let same = |p: &Program| matches!(judge(p, seed, operations), Some((Agreement::Known(all), _)) if all.contains(&class));
                        print(seed, &shrink(&p, &mut |p: &Program| same(p)), "known");
                    }
                }
            }
            Agreement::Differs(_) => {
                differ += 1;
                if differ <= 12 {
                    let differs = |p: &Program| match judge(p, seed, operations) {
                        Some((Agreement::Differs(how), _)) => Some(how),
                        _ => None,
                    };
                    let small = shrink(&p, &mut |p: &Program| differs(p).is_some());
                    print(seed, &small, &differs(&small).unwrap_or_default());
                }
            }
        }
    }
    println!(
        "{explored} cases explored from seed {start}: {safe} safe, {agree} agree, {differ} differ \
         for no known reason; {large} more left out, too large or with a poll that never ends"
    );
    println!("{asked} missing operations compared");
    for (class, n) in &classes {
        println!("{n:8} differ as known: {}", class.reason());
    }
    assert!(safe > count / 20 && safe < count / 10 * 9);
    assert_eq!(differ, 0);
}
