// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The sanitizer against explorer and corpus, under all policies.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use staleline_devices::coherency::Policy;
use staleline_judge::known::{Class, Known};
use staleline_judge::operation::{Operation, compare};
use staleline_judge::{Agreement, Found, domain, findings, judge};
use staleline_litmus::builtin;
use staleline_litmus::case::Case;
use staleline_litmus::explore::explore;

/// The cases on which they differ, upwards, each by its mechanism.
const DIFFER: &[(&str, &[Class])] = &[
    (
        "allocating-write-while-data-is-invalidated",
        &[Class::OtherOrder],
    ),
    ("atomic-on-a-stale-word", &[Class::Unread]),
    (
        "coherent-memory-becomes-streaming-no-barrier",
        &[Class::SameLine],
    ),
    ("freed-while-the-master-still-writes", &[Class::OtherOrder]),
    (
        "from-device-invalidated-dirty-buffer",
        &[Class::Overwritten],
    ),
    (
        "from-device-invalidated-dirty-buffer-short-transfer",
        &[Class::Overwritten],
    ),
    ("from-device-nobody-waits", &[Class::Early]),
    ("no-fence-between-two-masters", &[Class::Race]),
    ("polled-flag-dma-rmb-then-invalidate", &[Class::Dependency]),
    ("prefetched-descriptor", &[Class::Race]),
    (
        "recycled-descriptor-no-barrier-behind-the-load",
        &[Class::Dependency],
    ),
    (
        "recycled-descriptor-store-barrier-behind-the-load",
        &[Class::Dependency],
    ),
    ("stale-flag-polled-for-ever", &[Class::OtherOrder]),
    (
        "uncached-only-memory-snooping-reader",
        &[Class::NoCacheableView],
    ),
    (
        "word-left-in-the-cache",
        &[Class::OtherOrder, Class::BehindStuck],
    ),
    ("wt-store-nc-load-no-barrier", &[Class::SameLine]),
    ("zva-then-ivac", &[Class::Overwritten]),
];

/// The cases that the domain takes.
fn cases() -> Vec<Case> {
    let mut cases = builtin::cases().unwrap();
    cases.retain(|case| domain::takes(&case.program));
    cases
}

fn texts(case: &Case, found: &[Found]) -> String {
    let texts: Vec<String> = (found.iter())
        .map(|f| {
            let operation = Operation::of(&case.program, f).name();
            let (kind, bytes) = (f.kind.name(), case.program.ranges(f.bytes));
            format!("{kind} ({:?}, {operation}) at {:?} {bytes}", f.why, f.at)
        })
        .collect();
    texts.join("; ")
}

#[test]
fn sanitizer_and_explorer_agree_on_every_case() {
    let mut differ: BTreeMap<String, Vec<Class>> = BTreeMap::new();
    let mut new = Vec::new();
    let (mut runs, mut agree) = (0, 0);
    for case in cases() {
        let answer = explore(&case.program).unwrap();
        let judgement = judge(&case.program, &answer).unwrap();
        runs += judgement.runs;
        match judgement.agreement {
            Agreement::Agrees => agree += 1,
            Agreement::Known(classes) => {
                differ.insert(case.id, classes.into_iter().collect());
            }
            Agreement::Differs(how) => {
                let found = texts(&case, &judgement.found);
                new.push(format!("{}: {how}; found {found}", case.id));
            }
        }
    }
    println!(
        "{runs} runs, {agree} cases agree, {} differ as is known",
        differ.len()
    );
    assert!(new.is_empty(), "\n{}", new.join("\n"));
    let differ: Vec<(&str, &[Class])> = (differ.iter())
        .map(|(case, classes)| (case.as_str(), classes.as_slice()))
        .collect();
    assert_eq!(differ, DIFFER);
}

#[test]
fn findings_are_of_the_kind_that_is_due() {
    let mut other = Vec::new();
    let mut compared = 0;
    for case in cases() {
        for replacement in Policy::ALL {
            let found = findings(&case.program, replacement, 1).unwrap();
            for due in &case.expected.as_ref().unwrap().due {
                let here: Vec<&Found> = found.iter().filter(|f| f.bytes.meets(due.bytes)).collect();
                let same = |f: &&Found| {
                    let kind = f.kind.name();
                    kind == due.kind || due.alt.iter().any(|alt| alt == kind)
                };
                compared += 1;
                if !here.is_empty() && !here.iter().any(same) {
                    let found = texts(&case, &found);
                    other.push(format!("{}: due {}, found {found}", case.id, due.kind));
                }
            }
        }
    }
    other.dedup();
    println!("{compared} findings due compared");
    assert!(other.is_empty(), "\n{}", other.join("\n"));
    assert!(compared > 300);
}

#[test]
fn repaired_cases_have_no_findings() {
    let mut wrong = Vec::new();
    let mut judged = 0;
    for case in cases() {
        let Some(fixed) = &case.fixed else { continue };
        judged += 1;
        for replacement in Policy::ALL {
            let found = findings(fixed, replacement, 1).unwrap();
            if !found.is_empty() {
                wrong.push(format!("{}: {}", case.id, texts(&case, &found)));
            }
        }
    }
    wrong.dedup();
    println!("{judged} repaired cases");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(judged > 40);
}

#[test]
fn findings_ask_for_the_operation_that_helps() {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for case in cases() {
        let program = &case.program;
        let answer = explore(program).unwrap();
        for replacement in Policy::ALL {
            let found = findings(program, replacement, 1).unwrap();
            let known = Known::new(program, &answer, replacement, 1);
            let (agreement, asked) = compare(&known, program, &answer, &found).unwrap();
            compared += asked;
            if let Agreement::Differs(how) = agreement {
                wrong.push(format!("{}: {how}; {}", case.id, texts(&case, &found)));
            }
        }
    }
    wrong.dedup();
    println!("{compared} operations compared");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(compared > 80);
}
