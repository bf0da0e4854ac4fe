// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! One cell by two engines: what differs, and whether that is because one of them sees less.

use std::collections::BTreeSet;

use serde::Serialize;
use staleline_devices::hazard::HazardKind;
use staleline_results::Verdict;

use crate::engine::EngineKind;
use crate::matrix::outcome::Outcome;
use crate::names;

/// A cell's outcome, and who ran it.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The engine.
    pub engine: EngineKind,
    /// What came of it.
    pub outcome: Outcome,
}

/// A difference between two engines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Difference {
    /// What differs.
    pub what: String,
    /// Why that is to be expected; none if it is not.
    pub reason: Option<String>,
}

/// What differs between two runs of a cell by different engines. Costs are not looked at: how often the guest
/// does something may hang on how fast it is.
pub fn differences(a: &Ran, b: &Ran) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut is_blind = |with: &Ran, without: &Ran| {
        let theirs: BTreeSet<_> = without.outcome.findings.iter().collect();
        let only = with.outcome.findings.iter().filter(|k| !theirs.contains(k));
        let mut explained = true;
        for kind in only {
            let reason = not_judged(without.engine, kind);
            explained &= reason.is_some();
            let what = format!("{kind} only with {}", with.engine);
            all.push(Difference { what, reason });
        }
        explained && theirs.is_empty()
    };
    // All that the one has found the other cannot judge, and it has found nothing.
    let blind = (is_blind(a, b), is_blind(b, a));
    let (va, vb) = (a.outcome.verdict, b.outcome.verdict);
    if va != vb {
        let (passed, was_blind) = match (va, vb) {
            (Verdict::Fail, Verdict::Pass) => (b, blind.0 && !a.outcome.findings.is_empty()),
            (Verdict::Pass, Verdict::Fail) => (a, blind.1 && !b.outcome.findings.is_empty()),
            _ => (a, false),
        };
        let reason = "all that the other has found is what it does not judge";
        all.push(Difference {
            what: format!(
                "{} with {}, {} with {}",
                va.name(),
                a.engine,
                vb.name(),
                b.engine
            ),
            reason: was_blind.then(|| format!("{}: {reason}", passed.engine)),
        });
    } else if (a.outcome.corrupt_bytes == 0) != (b.outcome.corrupt_bytes == 0) {
        let with = if a.outcome.corrupt_bytes == 0 { b } else { a };
        all.push(Difference {
            what: format!("wrong data only with {}", with.engine),
            reason: Some(
                "the verdict hangs on what software did, not on what a cache happened to keep"
                    .into(),
            ),
        });
    }
    all
}

/// Why an engine does not find a hazard of that kind everywhere; none if it does.
fn not_judged(engine: EngineKind, kind: &str) -> Option<String> {
    let kind = HazardKind::ALL.into_iter().find(|k| k.name() == kind)?;
    let fidelity = engine.fidelity();
    if !fidelity.not_judged.contains(&kind) {
        return None;
    }
    let unseen = kind.needs().iter().filter(|s| !fidelity.sees.contains(s));
    let unseen: Vec<String> = unseen.map(names::name).collect();
    Some(format!(
        "{engine} does not see each of: {}",
        unseen.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::outcome::{Lines, MadeOf};

    fn ran(engine: EngineKind, verdict: Verdict, findings: &[&str], corrupt_bytes: u64) -> Ran {
        let outcome = Outcome {
            cell: "cell".into(),
            verdict,
            reasons: Vec::new(),
            findings: findings.iter().map(|f| (*f).to_owned()).collect(),
            found: Vec::new(),
            unexpected: None,
            second_attempt: None,
            guest: MadeOf::default(),
            corrupt_bytes,
            maintenance: Lines::default(),
            cost: None,
            run_hash: None,
            wall_ms: 0,
            replay: String::new(),
        };
        Ran { engine, outcome }
    }

    /// Whether all that differs is explained; none if nothing differs.
    fn explained(a: &Ran, b: &Ran) -> Option<bool> {
        let all = differences(a, b);
        let mirrored = differences(b, a);
        assert_eq!(all.len(), mirrored.len());
        (!all.is_empty()).then(|| all.iter().all(|d| d.reason.is_some()))
    }

    #[test]
    fn what_one_does_not_judge_explains_that_it_finds_less_and_nothing_else_does() {
        let [exact, kvm] = EngineKind::ALL;
        let (fail, pass) = (Verdict::Fail, Verdict::Pass);
        const BOTH: &[&str] = &["missing-clean", "ownership"];
        /// Findings and verdict of a run.
        type Found = (&'static [&'static str], Verdict);
        let cases: [(Found, Found, Option<bool>); 8] = [
            ((&["missing-clean"], fail), (&["missing-clean"], fail), None),
            ((BOTH, fail), (&["missing-clean"], fail), Some(true)),
            ((&["ownership"], fail), (&[], pass), Some(true)),
            ((BOTH, fail), (&[], pass), Some(false)),
            ((&["missing-clean"], fail), (&[], pass), Some(false)),
            (
                (&["missing-clean"], fail),
                (&["writeback-clobber"], fail),
                Some(false),
            ),
            // Data that is wrong without a finding.
            ((&[], fail), (&[], pass), Some(false)),
            ((&[], pass), (&["ownership"], fail), Some(false)),
        ];
        for ((a, va), (b, vb), expected) in cases {
            let (a, b) = (ran(exact, va, a, 0), ran(kvm, vb, b, 0));
            assert_eq!(explained(&a, &b), expected, "{a:?} {b:?}");
        }
    }

    #[test]
    fn wrong_data_is_told_and_explained_where_the_verdict_is_the_same() {
        let [exact, kvm] = EngineKind::ALL;
        let a = ran(exact, Verdict::Fail, &["missing-clean"], 64);
        let b = ran(kvm, Verdict::Fail, &["missing-clean"], 0);
        assert_eq!(explained(&a, &b), Some(true));
        let c = ran(kvm, Verdict::Fail, &["missing-clean"], 1);
        assert_eq!(explained(&a, &c), None);
    }
}
