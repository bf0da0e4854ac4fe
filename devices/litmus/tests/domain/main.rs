// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The sanitizer against the explorer: on the corpus, and on random programs.
//!
//! `STALELINE_LITMUS_CASES` sets how many random ones; `STALELINE_LITMUS_SEED` where they start.

mod adapter;

use std::collections::BTreeMap;

use adapter::DomainJudge;
use staleline_devices::coherency::Policy;
use staleline_litmus::builtin;
use staleline_litmus::due::findings;
use staleline_litmus::explore::explore;
use staleline_litmus::generate::{Shape, program};
use staleline_litmus::judge::{Bounds, Found, Judge, shrink};
use staleline_litmus::program::{Granules, Observer, Program};

fn texts(program: &Program, found: &[Found]) -> Vec<String> {
    found
        .iter()
        .map(|f| {
            let why = f.missing.as_deref().unwrap_or("");
            format!("{} at {:?} {} {why}", f.kind, f.at, program.ranges(f.bytes))
        })
        .collect()
}

/// How the domain's findings differ from what is due; empty: not at all.
fn difference(program: &Program, found: &[Found]) -> Option<String> {
    let bounds = Bounds::of(program, &explore(program).ok()?);
    let all = found.iter().fold(Granules::NONE, |all, f| all.or(f.bytes));
    let missed = bounds.due.without(all);
    let wrong = all.without(bounds.defensible);
    if missed.is_empty() && wrong.is_empty() {
        return None;
    }
    let mut text = String::new();
    if !missed.is_empty() {
        text += &format!("missed {}; ", program.ranges(missed));
    }
    if !wrong.is_empty() {
        text += &format!("false alarm {}", program.ranges(wrong));
    }
    Some(text)
}

fn one_cpu(program: &Program) -> bool {
    program
        .events
        .iter()
        .all(|e| !matches!(e.by, Observer::Cpu(n) if n > 0))
}

#[test]
fn the_domain_agrees_on_the_corpus() {
    let mut differ: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut judged = 0;
    for case in builtin::cases().unwrap() {
        if !one_cpu(&case.program) {
            continue;
        }
        for replacement in Policy::ALL {
            judged += 1;
            let found = DomainJudge {
                replacement,
                seed: 1,
            }
            .run(&case);
            if let Some(how) = difference(&case.program, &found) {
                let answer = explore(&case.program).unwrap();
                let due: Vec<String> = findings(&case.program, &answer)
                    .iter()
                    .map(|f| format!("{} at {} {}", f.kind, f.at, case.program.ranges(f.bytes)))
                    .collect();
                differ.entry(case.id.clone()).or_default().push(format!(
                    "{replacement:?}: {how}\n    due {due:?}\n    found {:?}",
                    texts(&case.program, &found)
                ));
            }
        }
    }
    println!("{judged} runs, {} cases differ", differ.len());
    for (case, how) in &differ {
        println!("{case} ({})\n  {}", how.len(), how[0]);
    }
}

#[test]
fn the_domain_agrees_on_random_programs() {
    let number = |name: &str, otherwise: u64| {
        let given = std::env::var(name).ok();
        given.and_then(|n| n.parse().ok()).unwrap_or(otherwise)
    };
    let count = number("STALELINE_LITMUS_CASES", 20_000);
    let start = number("STALELINE_LITMUS_SEED", 0);
    let mut shapes: BTreeMap<String, (u32, u64)> = BTreeMap::new();
    let mut differ = 0;
    for seed in start..start + count {
        let shape = Shape {
            events: 3 + (seed % 8) as usize,
            lines: 2,
            cpus: 1,
            wild: false,
        };
        let p = program(shape, seed);
        let replacement = Policy::ALL[seed as usize % 4];
        let mut judge = DomainJudge { replacement, seed };
        let mut differs = |p: &Program| difference(p, &judge.run_program(p)).is_some();
        if differs(&p) {
            differ += 1;
            if differ > 400 {
                continue;
            }
            let small = shrink(&p, &mut differs);
            let mut judge = DomainJudge { replacement, seed };
            let found = judge.run_program(&small);
            let how = difference(&small, &found).unwrap_or_default();
            let events: Vec<String> = small.events.iter().map(|e| small.describe(e)).collect();
            let kinds: Vec<String> = small.events.iter().map(word).collect();
            let sort = if how.contains("missed") {
                "missed"
            } else {
                "false alarm"
            };
            let dirty = if small.dirty_at_first(0) {
                "dirty; "
            } else {
                ""
            };
            let key = format!("{sort}: {dirty}{}", kinds.join("; "));
            let entry = shapes.entry(key).or_insert_with(|| {
                println!(
                    "--- seed {seed} {replacement:?} {:?} {dirty}\n  {}\n  {how}\n  found {:?}",
                    small.policy,
                    events.join("\n  "),
                    texts(&small, &found)
                );
                (0, seed)
            });
            entry.0 += 1;
        }
    }
    println!("{count} cases explored, {differ} differ");
    let mut shapes: Vec<_> = shapes.into_iter().collect();
    shapes.sort_by_key(|(_, (n, _))| std::cmp::Reverse(*n));
    for (shape, (n, seed)) in shapes {
        println!("{n:5} (seed {seed}) {shape}");
    }
}

/// An event without its bytes and values.
fn word(event: &staleline_litmus::program::Event) -> String {
    use staleline_litmus::program::{Does, Op};
    match &event.op {
        Op::Access { does, view, .. } => {
            let verb = match does {
                Does::Write(_) => "W",
                _ => "R",
            };
            format!("{}{}", verb, view.name())
        }
        Op::Dc { op, .. } => op.name().to_owned(),
        Op::Barrier(b) => b.to_string(),
        Op::Doorbell(_) => "bell".to_owned(),
        Op::Wait(_) => "wait".to_owned(),
        _ => "-".to_owned(),
    }
}
