// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! One cell by two engines: what differs, and whether that is because one of them sees less.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use staleline_devices::fidelity::Sight;
use staleline_devices::hazard::HazardKind;
use staleline_results::Verdict;

use crate::engine::EngineKind;
use crate::matrix::outcome::{CPU, Outcome};
use crate::names;

/// A cell's outcome, and who ran it.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The engine.
    pub engine: EngineKind,
    /// Whether its caches kept all that was stored until it was cleaned.
    pub keeps: bool,
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

/// What was found, as far as engines can be expected to agree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding<'a> {
    kind: &'a str,
    /// Who reads, where it depends on that whether an engine judges it, and if it is known.
    reader: Option<&'a str>,
}

impl Finding<'_> {
    /// Of the sanitizer's, not of the guest's kernel.
    fn is_hazard(&self) -> bool {
        named(self.kind).is_some()
    }

    fn is_of(&self, other: &Finding<'_>) -> bool {
        let unknown = self.reader.is_none() || other.reader.is_none();
        self.kind == other.kind && (unknown || self.reader == other.reader)
    }
}

impl fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reader {
            Some(CPU) => write!(f, "{} where CPUs read", self.kind),
            Some(master) => write!(f, "{} where {master} reads", self.kind),
            None => f.write_str(self.kind),
        }
    }
}

/// What a run has found, each once.
fn findings<'a>(outcome: &'a Outcome, engines: [EngineKind; 2]) -> BTreeSet<Finding<'a>> {
    let depends = |kind: &str| {
        let kind = named(kind);
        let differs = |engine: &EngineKind, kind| {
            engine.unseen(kind, true).is_empty() != engine.unseen(kind, false).is_empty()
        };
        kind.is_some_and(|kind| engines.iter().any(|engine| differs(engine, kind)))
    };
    let told = outcome.found.iter().map(|found| Finding {
        kind: &found.kind,
        reader: found.reader.as_deref().filter(|_| depends(&found.kind)),
    });
    let mut all: BTreeSet<Finding<'a>> = told.collect();
    for kind in &outcome.findings {
        // One that an earlier version has written says no more.
        if !all.iter().any(|finding| finding.kind == kind) {
            all.insert(Finding { kind, reader: None });
        }
    }
    all
}

/// What differs between two runs of a cell by different engines. Costs are not looked at: how often the guest
/// does something may hang on how fast it is.
pub fn differences(a: &Ran, b: &Ran) -> Vec<Difference> {
    let mut all = Vec::new();
    let engines = [a.engine, b.engine];
    let (in_a, in_b) = (findings(&a.outcome, engines), findings(&b.outcome, engines));
    let mut only = |(with, own): (&Ran, &BTreeSet<Finding<'_>>),
                    (without, theirs): (&Ran, &BTreeSet<Finding<'_>>)| {
        let mut explained = true;
        let alone = |one: &&Finding<'_>| !theirs.iter().any(|other| other.is_of(one));
        for finding in own.iter().filter(alone) {
            let reason = not_judged(without.engine, finding);
            let reason = reason.or_else(|| not_changed(without.engine, with, finding));
            let reason = reason.or_else(|| the_other_end(with, without, finding));
            // What the guest makes of wrong data, such as a device's tables.
            let reason = reason.or_else(|| match finding.is_hazard() {
                true => None,
                false => why_wrong(with, own, theirs),
            });
            explained &= reason.is_some();
            let what = format!("{finding} only with {}", with.engine);
            all.push(Difference { what, reason });
        }
        // All that the one has found the other cannot judge, and it has found nothing.
        explained && theirs.is_empty()
    };
    let blind = (only((a, &in_a), (b, &in_b)), only((b, &in_b), (a, &in_a)));
    let (va, vb) = (a.outcome.verdict, b.outcome.verdict);
    if va != vb {
        let (passed, was_blind) = match (va, vb) {
            (Verdict::Fail, Verdict::Pass) => (b, blind.0 && !in_a.is_empty()),
            (Verdict::Pass, Verdict::Fail) => (a, blind.1 && !in_b.is_empty()),
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
    }
    if (a.outcome.corrupt_bytes == 0) != (b.outcome.corrupt_bytes == 0) {
        let (with, own, theirs) = match a.outcome.corrupt_bytes == 0 {
            true => (b, &in_b, &in_a),
            false => (a, &in_a, &in_b),
        };
        all.push(Difference {
            what: format!("wrong data only with {}", with.engine),
            reason: why_wrong(with, own, theirs),
        });
    }
    all
}

/// Why data may be wrong in that run and not in the other; none if nothing that was found explains it.
fn why_wrong(
    with: &Ran,
    own: &BTreeSet<Finding<'_>>,
    theirs: &BTreeSet<Finding<'_>>,
) -> Option<String> {
    // Some data is wrong by it there. One that an earlier version has written does not say: it may be, if the other
    // has it, too.
    let found = &with.outcome.found;
    let manifested = |finding: &&Finding<'_>| {
        let mut found = found.iter();
        found.any(|f| f.kind == finding.kind && f.manifested)
    };
    let in_both = |finding: &&Finding<'_>| {
        found.is_empty() && theirs.iter().any(|other| other.is_of(finding))
    };
    let mut hazards = own.iter().filter(|finding| finding.is_hazard());
    if let Some(finding) = hazards.find(|f| manifested(f) || in_both(f)) {
        return Some(format!(
            "{finding} may make it so, and whether it does hangs on what a cache happened to keep"
        ));
    }
    // It has the other's, and does not see it.
    let unseen = |finding: &&Finding<'_>| not_judged(with.engine, finding).is_some();
    let finding = theirs.iter().find(unseen)?;
    Some(format!(
        "{finding}, which {} does not judge, may make it so",
        with.engine
    ))
}

fn named(kind: &str) -> Option<HazardKind> {
    HazardKind::ALL.into_iter().find(|k| k.name() == kind)
}

/// Why an engine does not find that; none if it does, or if nobody knows.
fn not_judged(engine: EngineKind, finding: &Finding<'_>) -> Option<String> {
    let kind = named(finding.kind)?;
    // If nobody says who reads, it is no reason that it might have been a CPU.
    let by_master = finding.reader != Some(CPU);
    let unseen = engine.unseen(kind, by_master);
    if unseen.is_empty() {
        return None;
    }
    let unseen: Vec<String> = unseen.iter().map(names::name).collect();
    Some(format!(
        "{engine} does not see each of: {}",
        unseen.join(", ")
    ))
}

/// Whether an engine may not have found that because it finds no stores of what was there already: such a store makes
/// no data wrong. None if it finds all, if the run with the finding has data that is wrong by it, or if that may have
/// another reason: a cache may have written back in time what had changed; and what a cache that keeps all would write
/// over a device's data (`writeback-clobber`), it never does.
fn not_changed(engine: EngineKind, with: &Ran, finding: &Finding<'_>) -> Option<String> {
    let kind = named(finding.kind)?;
    let found = &with.outcome.found;
    let mut of_it = found.iter().filter(|f| f.kind == finding.kind).peekable();
    let is_told = of_it.peek().is_some();
    let is_latent = is_told && of_it.all(|f| !f.manifested);
    let hangs_on_stores =
        engine.finds_later(Sight::Stores) && kind.needs().contains(&Sight::Stores);
    let is_of_bytes = kind != HazardKind::WritebackClobber;
    (is_latent && hangs_on_stores && is_of_bytes && with.keeps).then(|| {
        format!(
            "{engine} finds no stores of what memory held already, and by this no byte was wrong, though no cache \
             had written it back"
        )
    })
}

/// Whether it is what the other run has found, by its other end: what a CPU writes while a device writes the same lines
/// is lost to the device's write or to the invalidate behind it, and which of both is a matter of what came first. None
/// if the two don't miss the same.
fn the_other_end(with: &Ran, without: &Ran, finding: &Finding<'_>) -> Option<String> {
    let other = match named(finding.kind)? {
        HazardKind::WritebackClobber => HazardKind::DiscardedWrite,
        HazardKind::DiscardedWrite => HazardKind::WritebackClobber,
        _ => return None,
    };
    let own = missing(with, finding.kind);
    // The same wherever it was found.
    let missing_in_both = own
        .intersection(&missing(without, other.name()))
        .next()
        .copied();
    let what = missing_in_both.filter(|what| own.len() == 1 && !what.is_empty())?;
    Some(format!(
        "{} has found {} for want of the same ({what}): which of the two it comes to hangs on whether the CPU or the \
         device wrote first",
        without.engine,
        other.name()
    ))
}

/// What is missing to what a run has found of a kind, each once.
fn missing<'a>(ran: &'a Ran, kind: &str) -> BTreeSet<&'a str> {
    let found = ran.outcome.found.iter().filter(|f| f.kind == kind);
    found.map(|f| &*f.missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::outcome::{Found, Lines, MadeOf};

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
        Ran {
            engine,
            keeps: true,
            outcome,
        }
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

    /// The same with who reads, and whether bytes were wrong.
    fn with(mut ran: Ran, found: &[(&str, &str, bool)]) -> Ran {
        ran.outcome.found = found
            .iter()
            .map(|(kind, reader, manifested)| Found {
                kind: (*kind).into(),
                place: String::new(),
                missing: String::new(),
                lines: 1,
                manifested: *manifested,
                reader: Some((*reader).into()),
            })
            .collect();
        ran
    }

    #[test]
    fn that_it_sees_no_loads_does_not_explain_what_a_device_has_read() {
        let [exact, kvm] = EngineKind::ALL;
        let stale = "missing-invalidate";
        let go = |engine, readers: &[&str]| {
            let (verdict, kinds): (_, &[&str]) = match readers.is_empty() {
                true => (Verdict::Pass, &[]),
                false => (Verdict::Fail, &[stale]),
            };
            let found: Vec<_> = readers.iter().map(|r| (stale, *r, false)).collect();
            with(ran(engine, verdict, kinds, 0), &found)
        };
        let cases: [(&[&str], &[&str], Option<bool>); 8] = [
            (&[CPU], &[], Some(true)),
            (&["dwc3"], &[], Some(false)),
            (&[CPU, "dwc3"], &["dwc3"], Some(true)),
            (&[CPU, "dwc3"], &[], Some(false)),
            (&["dwc3"], &["dwc3"], None),
            (&["dwc3"], &["gdma"], Some(false)),
            (&["dwc3"], &[CPU, "dwc3"], Some(false)),
            (&[], &["dwc3"], Some(false)),
        ];
        for (a, b, expected) in cases {
            let told = explained(&go(exact, a), &go(kvm, b));
            assert_eq!(told, expected, "{a:?} {b:?}");
        }
        // A result that does not say who reads explains nothing, and is the same as one that does.
        let old = ran(exact, Verdict::Fail, &[stale], 0);
        assert_eq!(explained(&old, &go(kvm, &[])), Some(false));
        assert_eq!(explained(&old, &go(kvm, &["dwc3"])), None);
        // Where it makes no difference, engines need not agree on who it was.
        let clean = |engine, reader| {
            let ran = ran(engine, Verdict::Fail, &["missing-clean"], 0);
            with(ran, &[("missing-clean", reader, false)])
        };
        assert_eq!(explained(&clean(exact, "a"), &clean(kvm, "b")), None);
    }

    /// Such as a page that is filled with zeros, and held these.
    #[test]
    fn a_store_of_what_was_there_makes_no_data_wrong() {
        let [exact, kvm] = EngineKind::ALL;
        let go = |wrong| {
            let kind = "discarded-write";
            let a = with(ran(exact, Verdict::Fail, &[kind], 0), &[(kind, CPU, wrong)]);
            explained(&a, &ran(kvm, Verdict::Pass, &[], 0))
        };
        assert_eq!((go(false), go(true)), (Some(true), Some(false)));
        // What a cache that keeps all would write over a device's data it never does.
        let kind = "writeback-clobber";
        let latent = [(kind, "dwc3", false)];
        let a = with(ran(exact, Verdict::Fail, &[kind], 0), &latent);
        assert_eq!(explained(&a, &ran(kvm, Verdict::Pass, &[], 0)), Some(false));
        // What a cache has written back is right in memory, whatever was there before.
        let kind = "missing-clean";
        let mut a = with(
            ran(exact, Verdict::Fail, &[kind], 0),
            &[(kind, "dwc3", false)],
        );
        let passes = ran(kvm, Verdict::Pass, &[], 0);
        assert_eq!(explained(&a, &passes), Some(true));
        a.keeps = false;
        assert_eq!(explained(&a, &passes), Some(false));
        // The exact engine sees each store.
        let kind = "missing-clean";
        let b = with(
            ran(kvm, Verdict::Fail, &[kind], 0),
            &[(kind, "dwc3", false)],
        );
        let a = ran(exact, Verdict::Pass, &[], 0);
        assert_eq!(explained(&a, &b), Some(false));
    }

    /// The CPU writes behind a device's data, in the same line, while the device is at work.
    #[test]
    fn what_is_lost_in_a_race_is_lost_to_who_comes_last() {
        let [exact, kvm] = EngineKind::ALL;
        let (discarded, clobber) = ("discarded-write", "writeback-clobber");
        let go = |kinds: &[(&str, &str)], of: &[(&str, &str)]| {
            let run = |engine, found: &[(&str, &str)]| {
                let kinds: Vec<&str> = found.iter().map(|(kind, _)| *kind).collect();
                let told: Vec<_> = kinds.iter().map(|kind| (*kind, "dwc3", true)).collect();
                let mut ran = with(ran(engine, Verdict::Fail, &kinds, 9), &told);
                for (f, (_, missing)) in ran.outcome.found.iter_mut().zip(found) {
                    f.missing = (*missing).into();
                }
                ran
            };
            explained(&run(exact, kinds), &run(kvm, of))
        };
        let (line, clean) = ("a line of its own", "a clean");
        let both = [(discarded, line), (clobber, line)];
        assert_eq!(go(&both[..1], &both), Some(true));
        assert_eq!(go(&both, &both[1..]), Some(true));
        assert_eq!(go(&both[..1], &both[1..]), Some(true));
        // Something else is missing, somewhere.
        assert_eq!(go(&both[..1], &[both[0], (clobber, clean)]), Some(false));
        let three = [both[0], both[1], (clobber, clean)];
        assert_eq!(go(&both[..1], &three), Some(false));
        assert_eq!(go(&[(discarded, "")], &[(clobber, "")]), Some(false));
        // Not of the pair.
        let stale = [("missing-clean", line)];
        assert_eq!(go(&stale, &[stale[0], both[1]]), Some(false));
    }

    /// It has seen wrong data, or it has not: of that alone the other may have seen none.
    #[test]
    fn what_a_kernel_reports_is_explained_by_wrong_data_that_both_could_have() {
        let [exact, kvm] = EngineKind::ALL;
        let kind = "missing-clean";
        let go = |manifested, theirs: &[&str]| {
            let a = ran(exact, Verdict::Fail, theirs, 0);
            let b = ran(kvm, Verdict::Fail, &[kind, "kernel-report"], 0);
            explained(&a, &with(b, &[(kind, "smmu", manifested)]))
        };
        assert_eq!(go(true, &[kind]), Some(true));
        assert_eq!(go(false, &[kind]), Some(false));
        assert_eq!(
            go(true, &[]),
            Some(false),
            "the hazard itself is not explained"
        );
    }

    #[test]
    fn wrong_data_is_explained_by_what_was_found_and_by_nothing_else() {
        let [exact, kvm] = EngineKind::ALL;
        let (fail, pass) = (Verdict::Fail, Verdict::Pass);
        let a = ran(exact, fail, &["missing-clean"], 64);
        let b = ran(kvm, fail, &["missing-clean"], 0);
        assert_eq!(explained(&a, &b), Some(true));
        let c = ran(kvm, fail, &["missing-clean"], 1);
        assert_eq!(explained(&a, &c), None);
        // Both fail, and nothing that was found makes data wrong.
        for kind in [&["kernel-report"][..], &[]] {
            let (a, b) = (ran(exact, fail, kind, 64), ran(kvm, fail, kind, 0));
            assert_eq!(explained(&a, &b), Some(false), "{kind:?}");
        }
        // What the one does not judge explains its verdict, but no bytes that nothing has made wrong.
        let latent = [("ownership", "dwc3", false)];
        let wrong = [("ownership", "dwc3", true)];
        let a = with(ran(exact, fail, &["ownership"], 64), &latent);
        assert_eq!(explained(&a, &ran(kvm, pass, &[], 0)), Some(false));
        let a = with(ran(exact, fail, &["ownership"], 64), &wrong);
        assert_eq!(explained(&a, &ran(kvm, pass, &[], 0)), Some(true));
        // Both have it, and by its own account no data is wrong by it.
        let latent = [("missing-clean", "dwc3", false)];
        let a = with(ran(exact, fail, &["missing-clean"], 64), &latent);
        let b = with(ran(kvm, fail, &["missing-clean"], 0), &latent);
        assert_eq!(explained(&a, &b), Some(false));
        // It has the data of a CPU's load that it does not see.
        let stale = [("missing-invalidate", CPU, false)];
        let a = with(ran(exact, fail, &["missing-invalidate"], 0), &stale);
        assert_eq!(explained(&a, &ran(kvm, fail, &[], 64)), Some(true));
        let stale = [("missing-invalidate", "dwc3", false)];
        let a = with(ran(exact, fail, &["missing-invalidate"], 0), &stale);
        assert_eq!(explained(&a, &ran(kvm, fail, &[], 64)), Some(false));
    }
}
