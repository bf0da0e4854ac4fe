// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The sanitizer against the explorer: on the corpus, and on random programs.
//!
//! `STALELINE_LITMUS_CASES` sets how many random ones; `STALELINE_LITMUS_SEED` where they start.

#![allow(clippy::unwrap_used)]

mod adapter;
mod known;

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

/// How the domain's findings differ from what is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Difference {
    missed: Granules,
    wrong: Granules,
}

fn difference(program: &Program, found: &[Found]) -> Option<Difference> {
    let bounds = Bounds::of(program, &explore(program).ok()?);
    let all = found.iter().fold(Granules::NONE, |all, f| all.or(f.bytes));
    let difference = Difference {
        missed: bounds.due.without(all),
        wrong: all.without(bounds.defensible),
    };
    let agree = difference.missed.is_empty() && difference.wrong.is_empty();
    (!agree).then_some(difference)
}

impl Difference {
    fn text(&self, program: &Program) -> String {
        let (missed, wrong) = (program.ranges(self.missed), program.ranges(self.wrong));
        format!("missed `{missed}`, false alarm `{wrong}`")
    }
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
    let mut other_kinds: BTreeMap<String, String> = BTreeMap::new();
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
            for due in &case.expected.as_ref().unwrap().due {
                let here: Vec<&Found> = found.iter().filter(|f| f.bytes.meets(due.bytes)).collect();
                let same = |f: &&Found| f.kind == due.kind || due.alt.contains(&f.kind);
                if !here.is_empty() && !here.iter().any(same) {
                    let kinds: Vec<&str> = here.iter().map(|f| f.kind.as_str()).collect();
                    let text = format!("due {}, found {}", due.kind, kinds.join(", "));
                    other_kinds.insert(case.id.clone(), text);
                }
            }
            if let Some(how) = difference(&case.program, &found) {
                let answer = explore(&case.program).unwrap();
                let due: Vec<String> = findings(&case.program, &answer)
                    .iter()
                    .map(|f| format!("{} at {} {}", f.kind, f.at, case.program.ranges(f.bytes)))
                    .collect();
                differ.entry(case.id.clone()).or_default().push(format!(
                    "{replacement:?}: {}\n    due {due:?}\n    found {:?}",
                    how.text(&case.program),
                    texts(&case.program, &found)
                ));
            }
        }
    }
    println!("{judged} runs, {} cases differ", differ.len());
    for (case, kinds) in &other_kinds {
        println!("other kind: {case}: {kinds}");
    }
    for (case, how) in &differ {
        println!("{case} ({})\n  {}", how.len(), how[0]);
    }
    let differ: Vec<&str> = differ.keys().map(String::as_str).collect();
    let listed: Vec<&str> = known::CORPUS.iter().map(|(case, _)| *case).collect();
    assert_eq!(differ, listed);
}

#[test]
fn the_domain_agrees_on_random_programs() {
    let number = |name: &str, otherwise: u64| {
        let given = std::env::var(name).ok();
        given.and_then(|n| n.parse().ok()).unwrap_or(otherwise)
    };
    let count = number("STALELINE_LITMUS_CASES", 20_000);
    let start = number("STALELINE_LITMUS_SEED", 0);
    let mut classes = BTreeMap::new();
    let mut unknown = 0;
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
        let mut new = |p: &Program| {
            let found = judge.run_program(p);
            difference(p, &found)
                .is_some_and(|d| known::class(p, &found, d.missed, d.wrong).is_none())
        };
        if new(&p) {
            unknown += 1;
            if unknown <= 20 {
                let small = shrink(&p, &mut new);
                let found = DomainJudge { replacement, seed }.run_program(&small);
                let how = difference(&small, &found).map(|d| d.text(&small));
                let events: Vec<String> = small.events.iter().map(|e| small.describe(e)).collect();
                println!(
                    "--- seed {seed} {replacement:?} {:?} {}\n  {}\n  {}\n  found {:?}",
                    small.policy,
                    if small.dirty_at_first(0) { "dirty" } else { "" },
                    events.join("\n  "),
                    how.unwrap_or_default(),
                    texts(&small, &found)
                );
            }
        } else {
            let found = DomainJudge { replacement, seed }.run_program(&p);
            if let Some(d) = difference(&p, &found) {
                let class = known::class(&p, &found, d.missed, d.wrong).unwrap_or("");
                *classes.entry(class).or_insert(0_u32) += 1;
            }
        }
    }
    println!("{count} cases explored, {unknown} differ");
    for (class, n) in &classes {
        println!("{n:6} known: {class}");
    }
    assert_eq!(unknown, 0);
}
