// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Faults counted by what they are of: how many did harm, how much of that nobody would notice, and how much the
//! sanitizer has found.

use std::collections::BTreeMap;

use super::heard::Diagnosis;
use super::judge::Outcome;
use super::plan::Planned;
use super::sites::Site;
use super::store::Entry;
use super::weigh::Outcomes;

/// Some faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that there can be.
    pub possible: usize,
    /// Of these, those of which it is known what they come to: by a run, or by the first of their group.
    pub known: usize,
    /// Of these, those that did harm: data were wrong or at risk, or somebody has told of an error.
    pub harm: usize,
    /// Of these, silent ones.
    pub silent: usize,
    /// Of those that did harm, what the sanitizer has found.
    pub found: usize,
    /// Misses of the sanitizer.
    pub missed: usize,
    /// What it has named wrongly.
    pub misnamed: usize,
}

/// Whether it says anything about the guest.
fn says(entry: &Entry) -> bool {
    !matches!(
        entry.judged.outcome,
        Outcome::InfraError | Outcome::NotReached
    )
}

/// Whether harm was done that nobody but the sanitizer would notice: the sanitizer has found something, which is
/// data at risk if not wrong, or wrong bytes were seen; and neither the guest, nor a device, nor the host at the
/// other end of the bus has told of an error (see [`Heard::told`](super::heard::Heard::told)). So on a machine
/// without a sanitizer it would have gone by in silence.
pub fn is_silent(entry: &Entry) -> bool {
    let Entry { judged, heard, .. } = entry;
    let wrong = !judged.found.is_empty() || judged.outcome.is_silent();
    says(entry) && wrong && !heard.told
}

impl Tally {
    /// Takes one more.
    pub fn add(&mut self, entry: Option<&Entry>) {
        self.possible += 1;
        let Some(entry) = entry.filter(|entry| says(entry)) else {
            return;
        };
        let outcome = entry.judged.outcome;
        self.known += 1;
        self.harm += usize::from(outcome != Outcome::NoEffect);
        self.silent += usize::from(is_silent(entry));
        self.found += usize::from(!entry.judged.found.is_empty());
        self.missed += usize::from(outcome == Outcome::Miss);
        self.misnamed += usize::from(outcome == Outcome::Misdiagnosed);
    }

    /// Silent ones, of those that are known.
    pub fn silent_share(&self) -> f64 {
        self.silent as f64 / self.known.max(1) as f64
    }
}

/// Faults by something, those with most in silence first.
pub fn by<'a, K: Ord>(
    plan: &'a [Planned],
    outcomes: &Outcomes<'a>,
    key: impl Fn(&'a Planned) -> K,
) -> Vec<(K, Tally)> {
    let mut all: BTreeMap<K, Tally> = BTreeMap::new();
    for planned in plan {
        let tally = all.entry(key(planned)).or_default();
        tally.add(outcomes.taken(planned));
    }
    let mut all: Vec<(K, Tally)> = all.into_iter().collect();
    // Share times count is the count; of as many, those first of which most are.
    all.sort_by(|(_, a), (_, b)| {
        let share = b.silent_share().total_cmp(&a.silent_share());
        (b.silent.cmp(&a.silent))
            .then(share)
            .then(b.harm.cmp(&a.harm))
    });
    all
}

/// Faults of a diagnosis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Diagnosed {
    /// So many were found by it.
    pub faults: usize,
    /// Of these, silent ones.
    pub silent: usize,
    /// Of these, those of which wrong bytes were seen.
    pub visible: usize,
}

/// What was found, by diagnosis and where the fault was, most first. One with two causes counts for both.
pub fn diagnosed<'a>(
    plan: &'a [Planned],
    outcomes: &Outcomes<'a>,
) -> Vec<((&'a Diagnosis, &'a Site), Diagnosed)> {
    let mut all: BTreeMap<(&Diagnosis, &Site), Diagnosed> = BTreeMap::new();
    for planned in plan {
        let Some(entry) = outcomes.taken(planned).filter(|entry| says(entry)) else {
            continue;
        };
        for diagnosis in &entry.heard.diagnoses {
            let one = all.entry((diagnosis, &planned.site)).or_default();
            one.faults += 1;
            one.silent += usize::from(is_silent(entry));
            one.visible += usize::from(entry.judged.corrupt > 0);
        }
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(_, one)| std::cmp::Reverse(one.faults));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::heard::Heard;
    use crate::campaign::judge::Judged;
    use staleline_results::HazardKind;

    #[test]
    fn silence_is_harm_that_nobody_else_tells_of() {
        use Outcome::*;
        for (outcome, found, told, silent) in [
            (DetectedVisible, true, false, true),
            (DetectedLatent, true, false, true),
            (Misdiagnosed, true, false, true),
            (DetectedVisible, true, true, false),
            (Miss, false, false, true),
            (HardwareCorruption, false, false, true),
            (HardwareCorruption, false, true, false),
            (Noticed, false, true, false),
            (Crash, false, true, false),
            (Hang, false, true, false),
            (NoEffect, false, false, false),
            (NotReached, false, false, false),
            (InfraError, false, true, false),
        ] {
            let entry = Entry {
                id: 0,
                judged: Judged {
                    outcome,
                    found: found
                        .then_some(HazardKind::MissingClean)
                        .into_iter()
                        .collect(),
                    corrupt: 0,
                    why: None,
                },
                heard: Heard {
                    told,
                    ..Heard::default()
                },
                run_hash: None,
                same: None,
                wall_us: 0,
                after_us: 0,
                rss_kib: 0,
                hung: 0,
            };
            assert_eq!(is_silent(&entry), silent, "{outcome:?} {told}");
            let mut tally = Tally::default();
            tally.add(Some(&entry));
            tally.add(None);
            let nothing = matches!(outcome, NotReached | InfraError);
            assert_eq!((tally.possible, tally.known), (2, usize::from(!nothing)));
            assert!(
                tally.silent <= tally.harm && tally.found <= tally.harm,
                "{tally:?}"
            );
        }
    }
}
