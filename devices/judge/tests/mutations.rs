// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A sanitizer that lacks a rule is noticed, by the corpus or by random programs: whatever rule that
//! is.
//!
//! `STALELINE_LITMUS_CASES` sets how many random programs are tried, `STALELINE_LITMUS_SEED` where they
//! start, `STALELINE_LITMUS_ENOUGH` how many times a mutation is to be noticed before the next one.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use staleline_devices::coherency::Policy;
use staleline_devices::coherency::mutate::{Rule, turn_off};
use staleline_judge::known::Class;
use staleline_judge::sample::Sample;
use staleline_judge::{Agreement, Found, domain, findings, judge};
use staleline_litmus::builtin;
use staleline_litmus::case::Case;
use staleline_litmus::explore::{Answer, explore};
use staleline_litmus::generate::setting;

/// So many rules random programs are to notice, of those that are tried by default.
const BY_RANDOM: usize = 31;

/// A random program, what it is compared with, and what all rules together find.
struct Random {
    sample: Sample,
    answer: Answer,
    found: Vec<Found>,
}

/// A case of the corpus, and how all rules together agree.
struct Listed {
    case: Case,
    answer: Answer,
    agreement: Agreement,
}

/// How a mutation is noticed.
#[derive(Default)]
struct Noticed {
    tried: u64,
    /// Random programs whose findings are others.
    others: u64,
    /// Of these, programs on which they do not agree.
    random: u64,
    /// The first of these.
    first: Option<u64>,
    corpus: Vec<String>,
    /// Reasons for which programs with other findings are let pass.
    passed: BTreeMap<Option<Class>, u64>,
}

/// By the corpus: other agreement, or findings on what is repaired.
fn by_corpus(listed: &[Listed], noticed: &mut Noticed) {
    for Listed {
        case,
        answer,
        agreement,
    } in listed
    {
        let fixed = |replacement| {
            let found = case.fixed.as_ref().map(|p| findings(p, replacement, 1));
            found.is_some_and(|found| !found.unwrap().is_empty())
        };
        if judge(&case.program, answer).unwrap().agreement != *agreement
            || Policy::ALL.into_iter().any(fixed)
        {
            noticed.corpus.push(case.id.clone());
        }
    }
}

fn by_random(random: &[Random], enough: u64, noticed: &mut Noticed) {
    for r in random {
        noticed.tried += 1;
        let found = r.sample.findings().unwrap();
        if found == r.found {
            continue;
        }
        noticed.others += 1;
        match r.sample.agreement(&r.answer, &found).unwrap().0 {
            Agreement::Differs(_) => {
                noticed.random += 1;
                noticed.first.get_or_insert(r.sample.seed);
            }
            Agreement::Agrees => *noticed.passed.entry(None).or_default() += 1,
            Agreement::Known(classes) => {
                for class in classes {
                    *noticed.passed.entry(Some(class)).or_default() += 1;
                }
            }
        }
        if noticed.random >= enough {
            return;
        }
    }
}

/// Does `work` on 0 to `count` in two threads, and puts the results in order.
fn in_threads<T: Send>(count: usize, work: &(dyn Fn(usize) -> T + Sync)) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let (send, receive) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    let _ = send.send((n, work(n)));
                }
            });
        }
    });
    drop(send);
    let all: BTreeMap<usize, T> = receive.into_iter().collect();
    all.into_values().collect()
}

#[test]
fn a_rule_that_is_missing_is_noticed() {
    let count = setting("STALELINE_LITMUS_CASES", 20_000).unwrap() as usize;
    let start = setting("STALELINE_LITMUS_SEED", 0).unwrap();
    let enough = setting("STALELINE_LITMUS_ENOUGH", 20).unwrap();
    let random = in_threads(count, &|n| {
        let sample = Sample::of(start + n as u64);
        let answer = sample.explore()?;
        let found = sample.findings().unwrap();
        Some(Random {
            sample,
            answer,
            found,
        })
    });
    let random: Vec<Random> = random.into_iter().flatten().collect();
    let cases: Vec<Case> = builtin::cases().unwrap();
    let cases = cases
        .into_iter()
        .filter(|case| domain::takes(&case.program));
    let listed: Vec<Listed> = cases
        .map(|case| {
            let answer = explore(&case.program).unwrap();
            let agreement = judge(&case.program, &answer).unwrap().agreement;
            Listed {
                case,
                answer,
                agreement,
            }
        })
        .collect();
    let all = in_threads(Rule::ALL.len(), &|n| {
        let mut noticed = Noticed::default();
        turn_off(Some(Rule::ALL[n].0));
        by_corpus(&listed, &mut noticed);
        by_random(&random, enough, &mut noticed);
        turn_off(None);
        noticed
    });
    println!("without the rule            tried  other random corpus");
    let mut unnoticed = Vec::new();
    for ((rule, false_alarms), n) in Rule::ALL.iter().zip(&all) {
        let passed: Vec<String> = n
            .passed
            .iter()
            .map(|(class, n)| format!("{} {n}", class.map_or("agrees", Class::name)))
            .collect();
        println!(
            "{:<26} {:6} {:6} {:6} {:6} {}; seed {}, {}; passed: {}",
            format!("{rule:?}"),
            n.tried,
            n.others,
            n.random,
            n.corpus.len(),
            if *false_alarms {
                "false alarms"
            } else {
                "missed"
            },
            n.first.map_or("-".to_owned(), |seed| seed.to_string()),
            n.corpus.first().map_or("-", String::as_str),
            passed.join(", "),
        );
        // What random programs show too rarely, the corpus has to.
        if n.corpus.is_empty() {
            unnoticed.push(rule);
        }
    }
    assert!(unnoticed.is_empty(), "not by the corpus: {unnoticed:?}");
    let by_random = all.iter().filter(|n| n.random > 0).count();
    println!("{by_random} of {} by random programs", Rule::ALL.len());
    assert!(by_random >= BY_RANDOM);
}
