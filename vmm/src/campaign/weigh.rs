// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What can be said of all faults by those that were run.

use std::collections::HashMap;

use statrs::function::factorial::ln_binomial;

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

/// The interval for `found` of `looked` things at, of `all` there are (Clopper and Pearson's, of draws without
/// replacement): the shares that leave what was found, and what is further off, a chance. It is exact where little
/// or nothing was found, too, which is where it matters.
pub fn estimate(found: usize, looked: usize, all: usize, confidence: f64) -> Estimate {
    if looked == 0 {
        return Estimate {
            share: 0.0,
            from: 0.0,
            to: 1.0,
        };
    }
    let share = found as f64 / looked as f64;
    if looked >= all {
        return Estimate::exact(share);
    }
    let (found, looked, all) = (found as u64, looked as u64, all as u64);
    let sample = Sample { looked, all };
    let chance = (1.0 - confidence) / 2.0;
    // What was seen is there, and what was seen to be otherwise is not.
    let (least, most) = (found, all - (looked - found));
    let from = first(least, most, |are| sample.at_least(found, are) > chance);
    let beyond = first(least, most + 1, |are| sample.at_most(found, are) <= chance);
    let of_all = |are: u64| are as f64 / all as f64;
    Estimate {
        share,
        from: of_all(from).min(share),
        to: of_all(beyond.saturating_sub(1)).max(share),
    }
}

/// The first from `least` on of which that is so, as it is then of all that follow; `most` if it is of none before.
fn first(least: u64, most: u64, is: impl Fn(u64) -> bool) -> u64 {
    let (mut from, mut to) = (least, most);
    while from < to {
        let middle = from.midpoint(to);
        match is(middle) {
            true => to = middle,
            false => from = middle + 1,
        }
    }
    from
}

/// So many things are drawn of all, none twice.
struct Sample {
    looked: u64,
    all: u64,
}

impl Sample {
    /// The chance that `seen` of those drawn are of the `are` of all.
    fn exactly(&self, seen: u64, are: u64) -> f64 {
        let others = self.all - are;
        if seen > are || seen > self.looked || self.looked - seen > others {
            return 0.0;
        }
        let ways = ln_binomial(are, seen) + ln_binomial(others, self.looked - seen);
        (ways - ln_binomial(self.all, self.looked)).exp()
    }

    /// Whether fewer than that are to be expected.
    fn is_many(&self, seen: u64, are: u64) -> bool {
        seen as f64 * self.all as f64 > self.looked as f64 * are as f64
    }

    fn at_most(&self, seen: u64, are: u64) -> f64 {
        match self.is_many(seen, are) {
            true => 1.0 - self.above(seen + 1, are),
            false => self.below(seen, are),
        }
    }

    fn at_least(&self, seen: u64, are: u64) -> f64 {
        match seen.checked_sub(1) {
            None => 1.0,
            Some(less) if !self.is_many(seen, are) => 1.0 - self.below(less, are),
            Some(_) => self.above(seen, are),
        }
    }

    /// That many or fewer, where more are to be expected: each less has less of a chance.
    fn below(&self, seen: u64, are: u64) -> f64 {
        let mut chance = self.exactly(seen, are);
        let mut sum = chance;
        for n in (1..=seen).rev() {
            let gone = (self.all + n) as f64 - (are + self.looked) as f64;
            chance *= n as f64 * gone / ((are - n + 1) as f64 * (self.looked - n + 1) as f64);
            sum += chance;
            if chance <= sum * f64::EPSILON {
                break;
            }
        }
        sum
    }

    /// That many or more, where fewer are to be expected.
    fn above(&self, seen: u64, are: u64) -> f64 {
        let mut chance = self.exactly(seen, are);
        let mut sum = chance;
        for n in seen..are.min(self.looked) {
            let gone = (self.all + n + 1) as f64 - (are + self.looked) as f64;
            chance *= (are - n) as f64 * (self.looked - n) as f64 / ((n + 1) as f64 * gone);
            sum += chance;
            if chance <= sum * f64::EPSILON {
                break;
            }
        }
        sum
    }
}

/// How many draws with replacement tell as much of `all` as `looked` that were looked at, all of them different ones.
fn draws(looked: f64, all: f64) -> f64 {
    looked * (all - 1.0) / (all - looked)
}

/// Halvings of an interval of which an end is sought.
const HALVINGS: u32 = 60;

/// Tango's interval for the difference of two shares of one sample, which exclude each other: `plus` and `minus` of
/// `looked` things, of `all` there are. What is one is not the other, so their shares are not independent, and the
/// difference varies more than as if they were. Half a thing is allowed for things being whole: without that, the
/// interval of a difference of which few were seen is too narrow.
fn difference(plus: usize, minus: usize, looked: usize, all: usize, confidence: f64) -> Estimate {
    let (n, all) = (looked as f64, all as f64);
    if looked == 0 {
        return Estimate {
            share: 0.0,
            from: -1.0,
            to: 1.0,
        };
    }
    let share = (plus as f64 - minus as f64) / n;
    if n >= all {
        return Estimate::exact(share);
    }
    let as_draws = draws(n, all) / n;
    let (plus, minus, n) = (
        plus as f64 * as_draws,
        minus as f64 * as_draws,
        n * as_draws,
    );
    let z = plan::deviate(confidence);
    // Whether so large a difference of all would leave this one of the sample to chance. How large the shares are then,
    // is what is most likely for it (the larger root of a quadratic equation): so none is nothing but small even where
    // nothing was seen.
    let may_be = |of_all: f64| {
        let a = 2.0 * n;
        let b = (2.0 * n - plus + minus) * of_all - plus - minus;
        let c = -minus * of_all * (1.0 - of_all);
        let least = ((b * b - 4.0 * a * c).max(0.0).sqrt() - b) / (2.0 * a);
        let variance = n * (2.0 * least + of_all * (1.0 - of_all));
        (plus - minus - n * of_all).abs() <= z * variance.max(0.0).sqrt() + as_draws / 2.0
    };
    let end = |limit: f64| {
        let (mut inside, mut outside) = (share, limit);
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(inside, outside);
            match may_be(middle) {
                true => inside = middle,
                false => outside = middle,
            }
        }
        outside
    };
    Estimate {
        share,
        from: end(-1.0),
        to: end(1.0),
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
        let entries: HashMap<u32, &Entry> = entries.iter().map(|entry| (entry.id, entry)).collect();
        // The first that has run: of one that is in another share, or yet to be run, any other speaks for the group.
        let mut pilots = HashMap::new();
        for planned in plan
            .iter()
            .filter(|planned| entries.contains_key(&planned.id))
        {
            let group = (planned.target, &*planned.group);
            pilots.entry(group).or_insert(planned.id);
        }
        Outcomes {
            mode,
            plan,
            entries,
            pilots,
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

    /// Whether it is by this one that its group is known.
    pub fn speaks(&self, planned: &'a Planned) -> bool {
        let pilot = self.pilots.get(&(planned.target, &*planned.group));
        pilot == Some(&planned.id)
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
    /// sum (a difference estimator, without bias whatever the groups are). Both are shares of one sample, and their
    /// difference has Tango's interval, for what of a finite population was looked at. It is within what was
    /// seen; and where all was run, it is a count.
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
            if self.speaks(planned) {
                continue;
            }
            others += 1;
            if let Some(own) = own {
                drawn += 1;
                over += usize::from(pilot && !own);
                under += usize::from(!pilot && own);
            }
        }
        let wrong = difference(under, over, drawn, others, confidence);
        let within = |count: f64| count.clamp(sure as f64, (of - sure_not) as f64);
        let at = |share: f64| within(predicted as f64 + others as f64 * share);
        Weighed {
            of,
            seen,
            count: at(wrong.share),
            from: at(wrong.from),
            to: at(wrong.to),
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
        // From the literature, of draws with replacement: 0 of 10 is at most 30.85 %.
        let some = estimate(0, 10, 1 << 30, 0.95);
        assert!((some.to - 0.3085).abs() < 0.0005, "{some:?}");
        assert_eq!(some.from, 0.0);
        let nearly = estimate(0, 10, 11, 0.95);
        assert!((nearly.to - 1.0 / 11.0).abs() < 1e-9, "{nearly:?}");
        assert_eq!(estimate(0, 0, 10, 0.95).to, 1.0);
    }

    /// By what chance each count is, of whatever there may be of all.
    #[test]
    fn estimates_hold_the_truth_as_often_as_they_say() {
        for (all, looked) in [(100, 80), (1000, 800), (1000, 278), (40, 39), (300, 10)] {
            let sample = Sample { looked, all };
            let told: Vec<Estimate> = (0..=looked)
                .map(|seen| estimate(seen as usize, looked as usize, all as usize, 0.95))
                .collect();
            for are in 0..=all {
                let truth = are as f64 / all as f64;
                let holds = |one: &Estimate| one.from <= truth + 1e-9 && truth <= one.to + 1e-9;
                let held = (0..).zip(&told).filter(|(_, one)| holds(one));
                let held: f64 = held.map(|(seen, _)| sample.exactly(seen, are)).sum();
                assert!(
                    held >= 0.95 - 1e-6,
                    "{are} of {all}, {looked} looked at: {held}"
                );
            }
        }
        // What a quarter of a million runs find is told at once, too.
        let large = estimate(60_000, 250_000, 1_000_000, 0.95);
        assert!(large.from > 0.238 && large.to < 0.242, "{large:?}");
    }

    #[test]
    fn a_difference_is_exact_where_all_was_looked_at_and_known_from_the_literature() {
        let all = difference(3, 1, 100, 100, 0.95);
        assert_eq!((all.share, all.from, all.to), (0.02, 0.02, 0.02));
        let nothing = difference(0, 0, 0, 10, 0.95);
        assert_eq!((nothing.from, nothing.to), (-1.0, 1.0));
        // Where nothing was seen, it is Wilson's with continuity correction (R's prop.test), in both directions.
        let none = difference(0, 0, 10, usize::MAX, 0.95);
        assert!((none.to - 0.3445).abs() < 0.0005, "{none:?}");
        assert!((none.from + none.to).abs() < 1e-9, "{none:?}");
        // A sample of one kind alone: no difference is larger.
        let only = difference(10, 0, 10, usize::MAX, 0.95);
        assert!(only.to > 0.999 && only.from > 0.3, "{only:?}");
        assert!(difference(10, 0, 10, 11, 0.95).from > only.from);
    }

    /// However often predictions err, and in whichever direction.
    #[test]
    fn a_difference_is_where_it_is_said_to_be_as_often_as_is_said() {
        const ALL: usize = 2000;
        const DRAWS: u32 = 2000;
        let mut rng = SplitMix64::seed_from_u64(7);
        for looked in [100, 600] {
            for (plus, minus) in [
                (1, 1),
                (1, 0),
                (0, 1),
                (10, 10),
                (10, 1),
                (1, 10),
                (30, 30),
                (30, 0),
                (30, 10),
                (50, 50),
                (50, 10),
                (10, 50),
            ] {
                let (pluses, minuses) = (ALL * plus / 100, ALL * minus / 100);
                let truth = (pluses as f64 - minuses as f64) / ALL as f64;
                let mut all: Vec<usize> = (0..ALL).collect();
                let mut held = 0;
                for _ in 0..DRAWS {
                    // The first of a shuffled population are a sample without replacement.
                    for at in 0..looked {
                        let other = at + (rng.next_u64() % (ALL - at) as u64) as usize;
                        all.swap(at, other);
                    }
                    let sample = &all[..looked];
                    let count = |from: usize, to: usize| {
                        sample
                            .iter()
                            .filter(|one| (from..to).contains(*one))
                            .count()
                    };
                    let (plus, minus) = (count(0, pluses), count(pluses, pluses + minuses));
                    let told = difference(plus, minus, looked, ALL, 0.95);
                    held += u32::from((told.from..=told.to).contains(&truth));
                }
                let share = f64::from(held) / f64::from(DRAWS);
                // But for two standard errors of so many draws.
                assert!(share >= 0.94, "{looked}: {plus} %, {minus} %: {share}");
            }
        }
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

    /// Whether the first of their groups is among them or not.
    #[test]
    fn of_a_share_that_was_run_it_is_a_count() {
        let (points, _) = population(2);
        let campaign = Campaign::parse(
            "schema = 1\n[sample]\nmode = \"exhaustive\"\n[[target]]\nscenarios = [\"iio-capture\"]\n\
             kernels = [\"base\"]\n",
            "a test",
        )
        .unwrap();
        let mut plan = plan::plan(&campaign, &[points]);
        plan.retain(|planned| planned.id % 3 == 1);
        let missed = |id: u32| match id % 5 {
            0 => Outcome::Miss,
            _ => Outcome::NoEffect,
        };
        let entries: Vec<Entry> = plan.iter().map(|p| entry(p.id, missed(p.id))).collect();
        let count = entries
            .iter()
            .filter(|e| e.judged.outcome == Outcome::Miss)
            .count();
        let outcomes = Outcomes::new(Mode::Exhaustive, &plan, &entries);
        let all = outcomes.weighed(0.95, |outcome| outcome == Outcome::Miss);
        assert_eq!((all.of, all.seen), (plan.len(), count));
        let count = count as f64;
        assert_eq!((all.count, all.from, all.to), (count, count, count));
    }
}
