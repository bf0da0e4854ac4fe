// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Every case of the corpus is as its file says, and says enough.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use staleline_litmus::builtin;
use staleline_litmus::case::{Case, parse};
use staleline_litmus::caveat::Caveat;
use staleline_litmus::due::Kind;
use staleline_litmus::explore::explore;
use staleline_litmus::program::{Dc, Event, Op};
use staleline_litmus::repair::{Repair, single_barriers, single_maintenance};
use staleline_litmus::symptom::Symptom;
use staleline_litmus::verdict::Verdict;

fn cases() -> Vec<Case> {
    builtin::cases().unwrap()
}

#[test]
fn the_explorer_agrees_with_every_case() {
    let mut wrong = Vec::new();
    let cases = cases();
    for case in &cases {
        let verdict = Verdict::of(case).unwrap();
        for difference in verdict.differences {
            wrong.push(format!("{}: {difference}", case.id));
        }
    }
    println!("{} cases", cases.len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_file_is_built_in_and_every_case_is_argued() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ci/litmus");
    let files: BTreeSet<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    let built_in = builtin::files().iter().map(|(f, _)| format!("{f}.toml"));
    assert_eq!(files, built_in.collect());
    let cases = cases();
    assert!(cases.len() >= 102);
    let ids: BTreeSet<&str> = cases.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids.len(), cases.len());
    let kinds: Vec<&str> = Kind::ALL.iter().map(|k| k.name()).collect();
    for case in &cases {
        let expected = case.expected.as_ref().unwrap();
        assert!(!case.cite.is_empty() && !case.why.is_empty(), "{}", case.id);
        for due in &expected.due {
            assert!(kinds.contains(&due.kind.as_str()), "{}", case.id);
        }
        let repair = !case.fix.is_empty();
        assert_eq!(repair, !expected.due.is_empty(), "{}", case.id);
    }
}

#[test]
fn every_kind_of_finding_and_no_finding_occur() {
    let mut seen = BTreeSet::new();
    for case in cases() {
        for due in case.expected.unwrap().due {
            seen.insert(due.kind);
        }
    }
    assert_eq!(seen.len(), Kind::ALL.len(), "{seen:?}");
}

/// What a kind says is missing is what helps, and other operations do not.
#[test]
fn only_what_is_missing_helps() {
    let mut judged = 0;
    // Maintenance helps too where it orders two cacheable accesses of its line as a barrier would,
    // or where a DSB that is there already completes it.
    let mut by_order = BTreeSet::new();
    for case in cases() {
        let p = &case.program;
        let answer = explore(p).unwrap();
        let symptoms = Symptom::all(&answer);
        for finding in Verdict::of(&case).unwrap().findings {
            let Ok(repair) = &finding.repair else {
                continue;
            };
            let works = |r: &Repair| (finding.symptoms.iter()).all(|s| r.works(p, s, &symptoms));
            assert!(works(repair), "{}", case.id);
            let barrier = single_barriers(p).iter().any(&works);
            let maintenance = |helpful: &[Dc]| {
                let all = finding
                    .bytes
                    .lines()
                    .flat_map(|l| single_maintenance(p, l, &[Dc::Cvac, Dc::Ivac, Dc::Civac]));
                all.filter(|r| works(r)).all(|r| {
                    r.operations().all(|e: &Event| match e.op {
                        Op::Dc { op, .. } => helpful.contains(&op),
                        _ => false,
                    })
                })
            };
            match finding.kind {
                Kind::MissingClean => {
                    assert!(
                        !barrier && maintenance(&[Dc::Cvac, Dc::Civac]),
                        "{}",
                        case.id
                    );
                }
                Kind::MissingInvalidate => {
                    assert!(
                        !barrier && maintenance(&[Dc::Ivac, Dc::Civac]),
                        "{}",
                        case.id
                    );
                }
                Kind::MissingBarrier if maintenance(&[]) => {}
                Kind::MissingBarrier => {
                    by_order.insert(case.id.clone());
                }
                _ => assert!(!barrier, "{}", case.id),
            }
            judged += 1;
        }
    }
    println!("{judged} findings with repairs");
    let by_order: Vec<&str> = by_order.iter().map(String::as_str).collect();
    let argued = [
        "cacheable-ring-coherent-master-no-barrier",
        "coherent-completion-flag-no-barrier",
        "data-behind-a-dmb-of-the-inner-domain",
        "dsb-between-two-cleans",
        "store-behind-a-write-through",
        "uncached-store-behind-a-write-through",
        "word-and-descriptor-in-one-line-no-barrier",
    ];
    assert_eq!(by_order, argued);
    assert!(judged > 100);
}

/// What an answer rests on that the text leaves open, the case says too.
#[test]
fn doubts_about_barriers_are_argued() {
    let mut in_doubt = Vec::new();
    for case in cases() {
        let mut doubts = Caveat::of(&case.program);
        doubts.retain(|c| *c != Caveat::WriteThrough);
        for doubt in doubts {
            assert!(case.unsure.contains("judged leniently"), "{}", case.id);
            in_doubt.push((case.id.clone(), doubt));
        }
    }
    let in_doubt: Vec<(&str, Caveat)> = in_doubt.iter().map(|(id, c)| (id.as_str(), *c)).collect();
    let argued = [
        ("clean-dmb-sy-doorbell", Caveat::DmbBeforeDoorbell),
        ("clean-dmb-osh-doorbell", Caveat::DmbBeforeDoorbell),
        ("dmb-on-one-dsb-on-another", Caveat::HandedOver),
    ];
    assert_eq!(in_doubt, argued);
}

#[test]
fn a_file_that_says_something_else_is_told() {
    let text = builtin::files().iter().find(|(f, _)| *f == "streaming");
    let text = text.unwrap().1;
    let case = |text: &str| {
        let cases = parse(text, "changed").unwrap();
        cases
            .into_iter()
            .find(|c| c.id == "to-device-no-clean")
            .unwrap()
    };
    let good = case(text);
    assert_eq!(
        Verdict::of(&good).unwrap().differences,
        Vec::<String>::new()
    );
    let mut wrong = good.clone();
    let expected = wrong.expected.as_mut().unwrap();
    expected.allowed.clear();
    expected.due[0].kind = "missing-invalidate".to_owned();
    let told = Verdict::of(&wrong).unwrap().differences.join("; ");
    for part in [
        "event 4: A+0..64 may read m0 or v1, the file does not say",
        "not found: missing-invalidate at event 4, A+0..64",
        "not expected: missing-clean at event 4, A+0..64",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let mut wrong = good;
    wrong.fixed = Some(wrong.program.clone());
    let told = Verdict::of(&wrong).unwrap().differences;
    assert_eq!(told, ["the repaired events are not safe"]);
}
