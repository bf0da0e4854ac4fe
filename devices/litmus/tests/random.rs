// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Random programs against what must hold of any explorer: more order, fewer behaviours.
//!
//! `STALELINE_LITMUS_CASES` sets how many are explored.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use staleline_litmus::directed;
use staleline_litmus::due::{Finding, Kind, findings};
use staleline_litmus::explore::explore;
use staleline_litmus::generate::{Shape, program, setting};
use staleline_litmus::program::{Barrier, Dc, Event, Observer, Op, Orders, Program, Scope};
use staleline_litmus::repair::Repair;
use staleline_litmus::symptom::Symptom;

fn count() -> u64 {
    setting("STALELINE_LITMUS_CASES", 20_000).unwrap()
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
            unprompted: false,
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

/// What is left of a symptom in a repaired program, straight from the explorer.
fn left(program: &Program, repair: &Repair, symptom: &Symptom) -> Option<String> {
    let repaired = repair.apply(program).unwrap();
    let answer = explore(&repaired).unwrap();
    match *symptom {
        Symptom::Ambiguous { read, bytes } => {
            let mine = |event| repair.original(event) == Some(read);
            let here = answer.reads.iter().filter(|r| mine(r.event));
            let left = (here.filter(|r| r.bytes.meets(bytes)))
                .find(|r| r.all.len() != 1 || r.intact.is_empty());
            left.map(|r| format!("reads {:?}", repaired.values(r.all)))
        }
        Symptom::Lost { write, bytes, .. } => {
            let mine = |event: Option<usize>| match event {
                Some(event) => repair.original(event) == write && write.is_some(),
                None => write.is_none(),
            };
            let mut lost = answer.lost.iter().filter(|l| l.missed && mine(l.write));
            let left = lost.any(|l| l.bytes.meets(bytes));
            left.then(|| "is still destroyed".to_owned())
        }
        Symptom::Stuck { poll } => {
            let mut waits =
                (0..repaired.events.len()).filter(|e| (answer.stuck | answer.never) >> e & 1 != 0);
            let left = waits.any(|e| repair.original(e) == Some(poll));
            left.then(|| "still waits".to_owned())
        }
    }
}

/// Whoever does what is told as the repair of a finding is rid of it: a read has one value left, which is
/// not one that is there only because another is destroyed.
#[test]
fn nothing_is_left_of_what_a_repair_is_told_for() {
    let (mut repairs, mut several, mut wrong) = (0, 0, Vec::new());
    for seed in 0..count() / 10 {
        let shape = Shape {
            events: 3 + (seed % 9) as usize,
            lines: 2,
            cpus: 1 + u8::from(seed % 3 == 0),
            words: seed % 2 == 0,
            wild: seed % 4 == 0,
            unprompted: false,
        };
        let program = match seed % 2 {
            0 => program(shape, seed / 2),
            _ => directed::program(seed / 2),
        };
        let Ok(answer) = explore(&program) else {
            continue;
        };
        let findings = findings(&program, &answer);
        let told: usize = findings.iter().map(|f| f.symptoms.len()).sum();
        assert_eq!(told, Symptom::all(&answer).len(), "seed {seed}");
        for Finding {
            at,
            symptoms,
            repair,
            ..
        } in &findings
        {
            let Ok(repair) = repair else { continue };
            repairs += 1;
            several += u32::from(symptoms.len() > 1);
            let all = symptoms.iter().filter_map(|s| left(&program, repair, s));
            wrong.extend(all.map(|left| {
                let repair = repair.describe(&program);
                let events = program.events.iter().map(|e| program.describe(e));
                let events: Vec<String> = events.collect();
                format!(
                    "seed {seed}, event {at} {left}: {repair}\n{}",
                    events.join("\n")
                )
            }));
        }
    }
    println!("{repairs} repairs, {several} of several symptoms");
    assert!(wrong.is_empty(), "{}: {}", wrong.len(), wrong.join("\n"));
    assert!(repairs > 500 && several > 5);
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
            unprompted: false,
        };
        let program = program(shape, seed);
        let Ok(answer) = explore(&program) else {
            continue;
        };
        let all = findings(&program, &answer);
        for finding in &all {
            *seen.entry(finding.kind).or_default() += 1;
            let some = |helps: &dyn Fn(Dc) -> bool| {
                let all = finding.repair.iter().flat_map(Repair::operations);
                finding.repair.is_err()
                    || all
                        .into_iter()
                        .any(|e| matches!(e.op, Op::Dc { op, .. } if helps(op)))
            };
            let right = match finding.kind {
                Kind::MissingBarrier => {
                    // Beside what keeps other data from being destroyed that the read may miss.
                    let others = all.iter().filter(|f| f.bytes.meets(finding.bytes));
                    let others = others.filter(|f| matches!(f.symptoms[0], Symptom::Lost { .. }));
                    let others = others.flat_map(|f| f.repair.iter().flat_map(Repair::operations));
                    let others: Vec<&Event> = others.collect();
                    let more = |e: &Event| !matches!(e.op, Op::Barrier(_)) && !others.contains(&e);
                    (finding.repair.as_ref()).is_ok_and(|r| !r.operations().any(more))
                }
                Kind::Ownership => finding.repair.is_err(),
                Kind::MissingClean => some(&Dc::cleans),
                Kind::MissingInvalidate => some(&Dc::invalidates),
                _ => !finding.repair.as_ref().is_ok_and(Repair::barriers_only),
            };
            if !right {
                let events: Vec<String> =
                    program.events.iter().map(|e| program.describe(e)).collect();
                let repair = finding.repair.as_ref().ok().map(|r| r.describe(&program));
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
