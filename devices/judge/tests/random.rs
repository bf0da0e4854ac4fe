// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The sanitizer against the explorer on random programs.
//!
//! `STALELINE_LITMUS_CASES` sets how many have to agree; those that differ as is known come on top.
//! `STALELINE_LITMUS_SEED` sets where they start.

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
const OPERATIONS_EVERY: u64 = 16;

/// States of one granule beyond which a random program is left out, and counted.
const MAX_STATES: usize = 1 << 12;

fn number(name: &str, otherwise: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

/// One of `of` choices for a seed, by `what`: choices of different things do not go together.
fn choice(seed: u64, what: u64, of: u64) -> u64 {
    // Fibonacci hashing; the upper bits are the mixed ones.
    let mixed = (seed ^ what << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % of
}

fn policy(seed: u64) -> Policy {
    Policy::ALL[choice(seed, 1, 4) as usize]
}

fn explore(program: &Program) -> Option<Answer> {
    let answer = explore_in(program, &Parts::of(program), MAX_STATES).ok()?;
    (answer.never == 0).then_some(answer)
}

/// Finding or no finding, and bytes; the missing operation if asked for: how many were compared.
fn judge(p: &Program, seed: u64, operations: bool) -> Option<Judged> {
    let answer = explore(p)?;
    let replacement = policy(seed);
    let found = findings(p, replacement, seed).unwrap();
    let known = Known::new(p, &answer, replacement, seed);
    let bytes = on_bytes(&known, p, &answer, &found).unwrap();
    let (agreement, asked) = if operations {
        let (operations, asked) = compare(&known, p, &answer, &found).unwrap();
        (bytes.and(operations), asked)
    } else {
        (bytes, 0)
    };
    Some(Judged {
        agreement,
        asked: asked as u64,
        safe: answer.safe(),
    })
}

/// What comes of one program.
struct Judged {
    agreement: Agreement,
    /// Missing operations compared.
    asked: u64,
    safe: bool,
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
    let replacement = policy(seed);
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

/// Differences that are shrunk and printed.
const SHOWN: u64 = 12;

#[test]
fn sanitizer_and_explorer_agree() {
    let count = number("STALELINE_LITMUS_CASES", 20_000);
    let start = number("STALELINE_LITMUS_SEED", 0);
    let mut classes: BTreeMap<Class, u64> = BTreeMap::new();
    let (mut agree, mut known, mut differ) = (0_u64, 0_u64, 0_u64);
    let (mut explored, mut safe, mut asked, mut left_out) = (0, 0, 0, 0);
    let mut seeds = start..;
    while agree + differ < count {
        let seed = seeds.next().unwrap();
        let shape = Shape {
            events: 3 + choice(seed, 2, 10) as usize,
            lines: 2,
            cpus: 1,
            words: true,
            wild: choice(seed, 3, 2) == 0,
        };
        let p = program(shape, seed);
        let operations = choice(seed, 4, OPERATIONS_EVERY) == 0;
        let Some(judged) = judge(&p, seed, operations) else {
            left_out += 1;
            continue;
        };
        explored += 1;
        asked += judged.asked;
        safe += u64::from(judged.safe);
        match judged.agreement {
            Agreement::Agrees => agree += 1,
            Agreement::Known(all) => {
                known += 1;
                for class in all {
                    *classes.entry(class).or_default() += 1;
                }
            }
            Agreement::Differs(_) => {
                differ += 1;
                if differ <= SHOWN {
                    let differs = |p: &Program| match judge(p, seed, operations)?.agreement {
                        Agreement::Differs(how) => Some(how),
                        _ => None,
                    };
                    let small = shrink(&p, &mut |p: &Program| differs(p).is_some());
                    print(seed, &small, &differs(&small).unwrap_or_default());
                }
            }
        }
    }
    println!(
        "{explored} cases explored, from seed {start}: {safe} safe; {agree} agree, {known} differ as \
         is known, {differ} otherwise; {left_out} more left out (too large, or a poll never ends)"
    );
    println!("{asked} missing operations compared");
    for (class, n) in &classes {
        println!("{n:8} known: {}", class.reason());
    }
    assert_eq!(differ, 0);
    // Not for want of findings, nor of programs without, nor because the list swallows them.
    assert!(safe > explored / 20 && safe < explored / 10 * 9);
    assert!(agree > explored / 2);
}
