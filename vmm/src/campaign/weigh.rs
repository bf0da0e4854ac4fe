// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What can be said of all faults by those that were run.

use std::collections::HashMap;

use super::file::Mode;
use super::judge::Outcome;
use super::plan::{self, Planned};
use super::store::Entry;

/// A share of a population that was looked at in part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The share.
    pub share: f64,
    /// Where it is, with the confidence that was asked for.
    pub from: f64,
    /// Likewise.
    pub to: f64,
}

impl Estimate {
    /// Nothing but the share is known, and that for sure.
    fn exact(share: f64) -> Self {
        Estimate {
            share,
            from: share,
            to: share,
        }
    }
}

/// Wilson's interval, for `found` of `looked` things at, of `all` there are.
pub fn estimate(found: usize, looked: usize, all: usize, confidence: f64) -> Estimate {
    let (x, n, all) = (found as f64, looked as f64, all as f64);
    if looked == 0 {
        return Estimate {
            share: 0.0,
            from: 0.0,
            to: 1.0,
        };
    }
    let share = x / n;
    if n >= all {
        return Estimate::exact(share);
    }
    // What is left to be looked at makes an uncertain thing of it: as much as that many draws with replacement.
    let n = n * (all - 1.0) / (all - n);
    let z = plan::deviate(confidence);
    let z2 = z * z;
    let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    Estimate {
        share,
        from: (middle - half).max(0.0),
        to: (middle + half).min(1.0),
    }
}

/// Of all faults, how many come to something.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighed {
    /// Faults that are spoken of: those whose group, or of a sample who, was run.
    pub of: usize,
    /// Runs that came to it.
    pub seen: usize,
    /// Of the faults, how many do.
    pub count: f64,
    /// How many at least, with the confidence that was asked for.
    pub from: f64,
    /// How many at most, likewise.
    pub to: f64,
}

impl Weighed {
    /// A number of faults as a share of them, in percent.
    pub fn percent(&self, count: f64) -> f64 {
        100.0 * count / (self.of.max(1) as f64)
    }
}

/// A plan and what came of it, by number and group.
pub struct Outcomes<'a> {
    mode: Mode,
    plan: &'a [Planned],
    entries: HashMap<u32, &'a Entry>,
    pilots: HashMap<(u32, &'a str), u32>,
}

impl<'a> Outcomes<'a> {
    /// Of a campaign.
    pub fn new(mode: Mode, plan: &'a [Planned], entries: &'a [Entry]) -> Self {
        Outcomes {
            mode,
            plan,
            entries: entries.iter().map(|entry| (entry.id, entry)).collect(),
            pilots: plan::pilots(plan),
        }
    }

    /// What came of a run, if it was made.
    pub fn ran(&self, planned: &Planned) -> Option<&'a Entry> {
        self.entries.get(&planned.id).copied()
    }

    /// What came of the first of its group.
    pub fn pilot(&self, planned: &'a Planned) -> Option<&'a Entry> {
        let pilot = self.pilots.get(&(planned.target, &*planned.group))?;
        self.entries.get(pilot).copied()
    }

    /// What came of a run, or is taken to: what came of the first of its group. Of a sample, nothing is taken.
    pub fn taken(&self, planned: &'a Planned) -> Option<&'a Entry> {
        let pilot = || match self.mode {
            Mode::Sampled => None,
            Mode::Pruned | Mode::Exhaustive => self.pilot(planned),
        };
        self.ran(planned).or_else(pilot)
    }

    /// How many of all faults come to what `is` says.
    ///
    /// The first of a group speaks for all of it, so its outcome weighs as much as the group is large. How often
    /// the first is wrong, the others that were run tell, which were drawn by chance, each with the same: their
    /// shares of those that do although the first did not, and of those that do not although it did, correct the
    /// sum (a difference estimator, without bias whatever the groups are). Both shares have Wilson's interval
    /// for what of a finite population was looked at; that of their difference is put together from both as
    /// Newcombe does (his method 10). It is within what was seen; and where all was run, it is a count.
    ///
    /// A sample (`mode = "sampled"`) is one by chance of all, and its share theirs.
    pub fn weighed(&self, confidence: f64, is: impl Fn(Outcome) -> bool) -> Weighed {
        let is = |entry: &Entry| is(entry.judged.outcome);
        let ran = || self.plan.iter().filter_map(|planned| self.ran(planned));
        let looked = ran().count();
        let seen = ran().filter(|entry| is(entry)).count();
        if self.mode == Mode::Sampled {
            let all = self.plan.len();
            let share = estimate(seen, looked, all, confidence);
            return Weighed {
                of: all,
                seen,
                count: share.share * all as f64,
                from: share.from * all as f64,
                to: share.to * all as f64,
            };
        }
        let (mut of, mut others, mut drawn) = (0, 0, 0);
        let (mut predicted, mut over, mut under) = (0, 0, 0);
        let (mut sure, mut sure_not) = (0, 0);
        for planned in self.plan {
            let Some(pilot) = self.pilot(planned).map(is) else {
                continue;
            };
            of += 1;
            predicted += usize::from(pilot);
            let own = self.ran(planned).map(is);
            sure += usize::from(own == Some(true));
            sure_not += usize::from(own == Some(false));
            if planned.pilot {
                continue;
            }
            others += 1;
            if let Some(own) = own {
                drawn += 1;
                over += usize::from(pilot && !own);
                under += usize::from(!pilot && own);
            }
        }
        let over = estimate(over, drawn, others, confidence);
        let under = estimate(under, drawn, others, confidence);
        let within = |count: f64| count.clamp(sure as f64, (of - sure_not) as f64);
        let at = |share: f64| within(predicted as f64 + others as f64 * share);
        let middle = under.share - over.share;
        let apart = |one: f64, other: f64| one.hypot(other);
        Weighed {
            of,
            seen,
            count: at(middle),
            from: at(middle - apart(under.share - under.from, over.to - over.share)),
            to: at(middle + apart(under.to - under.share, over.share - over.from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::file::Campaign;
    use crate::campaign::heard::Heard;
    use crate::campaign::judge::Judged;
    use crate::campaign::points::Point;
    use rand_xoshiro::SplitMix64;
    use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};
    use staleline_devices::faults::{Fault, OperationFault};

    #[test]
    fn an_estimate_holds_the_share_and_is_exact_where_all_was_looked_at() {
        let all = estimate(3, 100, 100, 0.95);
        assert_eq!((all.share, all.from, all.to), (0.03, 0.03, 0.03));
        // Wilson without correction, from the literature: 0 of 10 is at most 27.75 %.
        let some = estimate(0, 10, usize::MAX, 0.95);
        assert!((some.to - 0.2775).abs() < 0.0005, "{some:?}");
        assert_eq!(some.from, 0.0);
        let nearly = estimate(0, 10, 11, 0.95);
        assert!(nearly.to < 0.05, "{nearly:?}");
        assert_eq!(estimate(0, 0, 10, 0.95).to, 1.0);
    }

    fn entry(id: u32, outcome: Outcome) -> Entry {
        Entry {
            judged: Judged {
                outcome,
                found: Vec::new(),
                corrupt: 0,
                why: None,
            },
            id,
            heard: Heard::default(),
            run_hash: None,
            same: None,
            wall_us: 0,
            after_us: 0,
            rss_kib: 0,
            hung: 0,
        }
    }

    const GROUPS: u32 = 40;

    /// Faults of groups of all sizes, most of which agree in what they come to, and some do not.
    fn population(seed: u64) -> (Vec<Point>, Vec<Outcome>) {
        let mut rng = SplitMix64::seed_from_u64(seed);
        let mut points = Vec::new();
        let mut truth = Vec::new();
        for group in 0..GROUPS {
            let size = 1 + rng.next_u64() % 60;
            let most = match group % 3 {
                0 => Outcome::HardwareCorruption,
                _ => Outcome::NoEffect,
            };
            let unlike = match group % 5 {
                0 => 30,
                1 => 5,
                _ => 0,
            };
            for _ in 0..size {
                let fault = Fault::Operation(points.len() as u32 + 1, OperationFault::Drop);
                points.push(Point {
                    fault,
                    group: format!("group {group}"),
                });
                truth.push(match (rng.next_u64() % 100 < unlike, most) {
                    (true, Outcome::NoEffect) => Outcome::HardwareCorruption,
                    (true, _) => Outcome::NoEffect,
                    (false, most) => most,
                });
            }
        }
        (points, truth)
    }

    fn weighed(mode: &str, seed: u64, points: &[Point], truth: &[Outcome]) -> (Weighed, usize) {
        let campaign = Campaign::parse(
            &format!(
                "schema = 1\n[sample]\nmode = \"{mode}\"\ncheck = 0.2\nseed = {seed}\n[[target]]\n\
                 scenarios = [\"iio-capture\"]\nkernels = [\"base\"]\n"
            ),
            "a test",
        )
        .unwrap();
        let plan = plan::plan(&campaign, &[points.to_vec()]);
        let entries: Vec<Entry> = plan
            .iter()
            .filter(|planned| planned.run)
            .map(|planned| entry(planned.id, truth[planned.id as usize]))
            .collect();
        let outcomes = Outcomes::new(campaign.sample.mode, &plan, &entries);
        let is = |outcome| outcome == Outcome::HardwareCorruption;
        (outcomes.weighed(0.95, is), entries.len())
    }

    /// What pruned campaigns say of all faults, beside what running all of them says.
    #[test]
    fn a_part_of_the_runs_tells_of_all_what_all_tell() {
        let (points, truth) = population(1);
        let is = |outcome: &&Outcome| **outcome == Outcome::HardwareCorruption;
        let all = truth.iter().filter(is).count();
        let (exact, ran) = weighed("exhaustive", 1, &points, &truth);
        assert_eq!((exact.of, exact.seen, ran), (truth.len(), all, truth.len()));
        assert_eq!(
            (exact.count, exact.from, exact.to),
            (all as f64, all as f64, all as f64)
        );
        for (mode, least) in [("pruned", 0.93), ("sampled", 0.93)] {
            // 0.95, but for three standard errors of so many draws.
            let seeds = 1000;
            let (mut held, mut sum) = (0, 0.0);
            for seed in 0..seeds {
                let (one, ran) = weighed(mode, seed, &points, &truth);
                assert!(ran < truth.len() / 2, "{mode}: {ran} of {}", truth.len());
                assert_eq!(one.of, truth.len());
                assert!(one.from <= one.count && one.count <= one.to, "{one:?}");
                held += u32::from((one.from..=one.to).contains(&(all as f64)));
                sum += one.count;
            }
            let share = f64::from(held) / seeds as f64;
            assert!(share >= least, "{mode}: {share}");
            let mean = sum / seeds as f64;
            assert!(
                (mean / all as f64 - 1.0).abs() < 0.03,
                "{mode}: {mean}, {all}"
            );
        }
    }

    #[test]
    fn who_tests_no_prediction_knows_little() {
        let (points, _) = population(2);
        let campaign = Campaign::parse(
            "schema = 1\n[sample]\ncheck = 0.0\n[[target]]\nscenarios = [\"iio-capture\"]\n\
             kernels = [\"base\"]\n",
            "a test",
        )
        .unwrap();
        let plan = plan::plan(&campaign, &[points]);
        let ran = plan.iter().filter(|planned| planned.run);
        let entries: Vec<Entry> = ran.map(|p| entry(p.id, Outcome::NoEffect)).collect();
        assert_eq!(entries.len(), GROUPS as usize);
        let outcomes = Outcomes::new(Mode::Pruned, &plan, &entries);
        let missed = outcomes.weighed(0.95, |outcome| outcome == Outcome::Miss);
        assert_eq!((missed.count, missed.from), (0.0, 0.0));
        assert_eq!(missed.to, (plan.len() - entries.len()) as f64);
        // Of groups whose first was not run, nothing is said.
        let outcomes = Outcomes::new(Mode::Pruned, &plan, &entries[..1]);
        let of = outcomes.weighed(0.95, |_| true).of;
        assert_eq!(of, plan.iter().filter(|p| p.group == plan[0].group).count());
    }
}
