// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The sanitizer against explorer and corpus, under all policies.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use staleline_devices::coherency::Policy;
use staleline_judge::known;
use staleline_judge::operation::{Operation, disagreements};
use staleline_judge::{Agreement, Found, domain, findings, judge};
use staleline_litmus::builtin;
use staleline_litmus::case::Case;
use staleline_litmus::explore::explore;

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
fn findings_are_where_they_are_due() {
    let mut differ: BTreeMap<String, &str> = BTreeMap::new();
    let mut new = Vec::new();
    let mut runs = 0;
    for case in cases() {
        let answer = explore(&case.program).unwrap();
        let judgement = judge(Some(&case.id), &case.program, &answer).unwrap();
        runs += judgement.runs;
        match judgement.agreement {
            Agreement::Agrees => {}
            Agreement::Known(reason) => {
                differ.insert(case.id, reason);
            }
            Agreement::Differs(how) => {
                let found = texts(&case, &judgement.found);
                new.push(format!("{}: {how}; found {found}", case.id));
            }
        }
    }
    println!("{runs} runs, {} cases differ as is known", differ.len());
    assert!(new.is_empty(), "\n{}", new.join("\n"));
    let differ: Vec<(&str, &str)> = differ.iter().map(|(c, r)| (c.as_str(), *r)).collect();
    assert_eq!(differ, known::CORPUS);
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
            let (all, asked) = disagreements(program, &answer, &found).unwrap();
            compared += asked;
            for w in all {
                let helps = w.helpful.describe();
                let found = texts(&case, &found);
                let symptom = w.symptom;
                wrong.push(format!("{}: {symptom:?}: helps {helps}; {found}", case.id));
            }
        }
    }
    wrong.dedup();
    println!("{compared} operations compared");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(compared > 80);
}
