// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Runs what failed before, and then seed after seed, until the time is over.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use staleline_results::{GuestEnd, RunResult, Verdict};
use staleline_support::progress::{Counted, Progress};

use super::draw::{Chance, Space};
use super::holds::trouble;
use super::known::{Failures, Known};
use crate::campaign::judge::{self, Golden};
use crate::campaign::points::Census;
use crate::evidence::Artifacts;
use crate::exit::Error;
use crate::run::once::Once;
use crate::run::several;
use crate::spec::RunSpec;

/// Faults of one run, and ticks by which something is late.
const FAULTS: u64 = 2;
const LATE: u32 = 5000;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The first seed.
    pub seed: u64,
    /// Seeds to be run, if that is bounded.
    pub runs: Option<u64>,
    /// Host time after which no run is begun.
    pub time: Option<Duration>,
    /// Guests at a time.
    pub jobs: usize,
    /// Whether its kernels are right, so that there is nothing to be found.
    pub right: bool,
    /// Whether runs that pass are done once more with faults.
    pub faults: bool,
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A failure of earlier is still one.
    Still(Known),
    /// It is none any more.
    Fixed(Known),
    /// A failure that was not known, or a shorter run of one.
    New(Known),
}

/// How it went.
#[derive(Debug, Default)]
pub struct Went {
    /// What there is to be told, failures of earlier first, then by seed.
    pub news: Vec<News>,
    /// Seeds that were run: so many from the first on.
    pub seeds: u64,
    /// Of these, those that failed.
    pub failed: u64,
    /// Runs that could not be carried out.
    pub trouble: Vec<(u64, String)>,
}

/// All that runs need.
pub struct Explorer<'a> {
    /// From what is drawn.
    pub space: &'a Space,
    /// Runs guests.
    pub once: Once<'a>,
    /// What guests are made of, by what decides that.
    pub guests: &'a [(RunSpec, Artifacts)],
    /// What the program is.
    pub program: &'a str,
    /// What is wanted.
    pub wanted: Wanted,
}

/// What a run came to.
struct Seen {
    spec: RunSpec,
    diagnosis: Option<String>,
    accesses: u64,
    run_hash: Option<String>,
    /// Whether it came to an end by itself, and says something.
    is_whole: bool,
}

impl Explorer<'_> {
    /// Explores.
    ///
    /// # Errors
    /// Trouble with what was written down.
    pub fn explore(&self, failures: &mut Failures, progress: &dyn Progress) -> Result<Went, Error> {
        let mut went = Went::default();
        let begun = Instant::now();
        self.old(failures, &mut went, progress)?;
        let total = self.wanted.runs;
        progress.begin("exploring", Counted::of("seeds", total));
        let shared = Mutex::new((failures, &mut went));
        let go_on = || {
            let over = self.wanted.time.is_some_and(|time| begun.elapsed() >= time);
            !over && !progress.cancelled()
        };
        let count = total.map(|total| usize::try_from(total).unwrap_or(usize::MAX));
        several::each(self.wanted.jobs, count, go_on, |n| {
            let seed = self.wanted.seed.wrapping_add(n as u64);
            let seen = self.space.draw(seed).and_then(|spec| self.sure(spec, seed));
            if progress.cancelled() {
                return Ok(ControlFlow::Break(()));
            }
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let (failures, went) = &mut *shared;
            went.seeds += 1;
            self.enter(seed, seen, failures, went)?;
            progress.advance(&format!("seed {seed}"));
            Ok(ControlFlow::Continue(()))
        })?;
        let seed = |news: &News| match news {
            News::Still(_) | News::Fixed(_) => (0, 0),
            News::New(known) => (1, known.seed.wrapping_sub(self.wanted.seed)),
        };
        went.news.sort_by_key(seed);
        went.trouble.sort_unstable();
        Ok(went)
    }

    /// What failed before comes first.
    fn old(
        &self,
        failures: &mut Failures,
        went: &mut Went,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let old = failures.open_ones();
        progress.begin("what failed before", Counted::of("runs", old.len() as u64));
        for known in old {
            let seen = self.plain(known.spec.as_ref().clone());
            if progress.cancelled() {
                return Ok(());
            }
            progress.advance(&known.diagnosis);
            let now = match seen {
                Ok(seen) => seen,
                Err(e) => {
                    went.trouble.push((known.seed, e.chain()));
                    continue;
                }
            };
            if now.diagnosis.as_ref() == Some(&known.diagnosis) {
                went.news.push(News::Still(known));
                continue;
            }
            if !now.is_whole {
                let why = "it did not come to its end, so nobody knows whether that is fixed";
                went.trouble
                    .push((known.seed, format!("{}: {why}", known.diagnosis)));
                continue;
            }
            let over = Known {
                fixed: true,
                program: self.program.to_owned(),
                ..known.clone()
            };
            failures.add(over)?;
            went.news.push(News::Fixed(known.clone()));
            // It may fail in another way now; it is none of the seeds that are counted.
            let failed = went.failed;
            self.enter(known.seed, Ok(now), failures, went)?;
            went.failed = failed;
        }
        Ok(())
    }

    fn enter(
        &self,
        seed: u64,
        seen: Result<Seen, Error>,
        failures: &mut Failures,
        went: &mut Went,
    ) -> Result<(), Error> {
        let seen = match seen {
            Ok(seen) => seen,
            Err(e) => {
                went.trouble.push((seed, e.chain()));
                return Ok(());
            }
        };
        let Some(diagnosis) = seen.diagnosis else {
            return Ok(());
        };
        went.failed += 1;
        let known = Known {
            seed,
            diagnosis,
            fixed: false,
            accesses: seen.accesses,
            program: self.program.to_owned(),
            spec: Box::new(seen.spec),
        };
        if failures.add(known.clone())? {
            went.news.push(News::New(known));
        }
        Ok(())
    }

    /// A run; of one that fails, also whether it does so twice.
    fn sure(&self, spec: RunSpec, seed: u64) -> Result<Seen, Error> {
        let mut seen = self.drawn(spec, seed)?;
        if seen.diagnosis.is_some() {
            let again = self.plain(seen.spec.clone())?;
            if !seen.is_whole && again.is_whole {
                // It was the host that took the time.
                return Ok(again);
            }
            // One that was stopped by the time is so somewhere else each time.
            let hashes = seen.run_hash.is_some() && again.run_hash.is_some();
            if hashes && again.run_hash != seen.run_hash {
                seen.diagnosis = Some("it comes to something else the second time".into());
            }
        }
        Ok(seen)
    }

    /// A run, and if it passes and faults are wanted, that with some.
    fn drawn(&self, spec: RunSpec, seed: u64) -> Result<Seen, Error> {
        let fold = self
            .once
            .run(&spec, self.guest(&spec)?, (self.wanted.faults, None))?;
        let result = fold.result();
        let report = fold.execution().and_then(|e| e.report.as_ref());
        let report = report.filter(|_| self.wanted.faults && result.verdict == Verdict::Pass);
        let Some(report) = report else {
            return Ok(self.seen(spec, &result, None));
        };
        let points = Census::new(&result, report).points(&spec.scenario, LATE, seed);
        // Another stream of numbers than that of the settings.
        let mut chance = Chance::new(!seed);
        let mut faults: Vec<_> = (0..=chance.below(FAULTS))
            .filter_map(|_| points.get(chance.below(points.len() as u64) as usize))
            .map(|point| point.fault)
            .collect();
        faults.dedup();
        if faults.is_empty() {
            return Ok(self.seen(spec, &result, None));
        }
        let text: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let mut with = spec.clone();
        with.scenario.faults.inject = faults;
        with.invocation = format!("{} --set inject={}", spec.invocation, text.join(","));
        let fold = self.once.run(&with, self.guest(&with)?, (false, None))?;
        Ok(self.seen(with, &fold.result(), Some(&Golden::new(report))))
    }

    /// A run as it is, with the run without faults beside it if it has some.
    fn plain(&self, spec: RunSpec) -> Result<Seen, Error> {
        let guest = self.guest(&spec)?;
        let result = self.once.run(&spec, guest, (false, None))?.result();
        if spec.scenario.faults.inject.is_empty() {
            return Ok(self.seen(spec, &result, None));
        }
        let mut without = spec.clone();
        without.scenario.faults.inject.clear();
        let fold = self.once.run(&without, guest, (true, None))?;
        let right = fold.result();
        if right.verdict != Verdict::Pass {
            let why = right.reasons.first();
            return Err(Error::Campaign {
                what: "the run without its faults".into(),
                why: format!(
                    "nothing can be said of a run with faults: without, it comes to {} ({})",
                    right.verdict.name(),
                    why.map_or("no reason is known", |why| why)
                ),
            });
        }
        let report = fold.execution().and_then(|e| e.report.as_ref());
        Ok(self.seen(spec, &result, report.map(Golden::new).as_ref()))
    }

    fn seen(&self, spec: RunSpec, result: &RunResult, golden: Option<&Golden>) -> Seen {
        let diagnosis = match golden {
            None => trouble(result, self.wanted.right),
            // Of a run with faults, only that is wrong for which a campaign would blame us.
            Some(golden) => {
                let faults = &spec.scenario.faults.inject;
                let judged = judge::judge(faults, golden, result);
                let classes: Vec<&str> = faults.iter().map(|fault| fault.class()).collect();
                judged
                    .outcome
                    .is_ours()
                    .then(|| format!("{} of {}", judged.outcome.name(), classes.join(" and ")))
            }
        };
        Seen {
            diagnosis,
            accesses: result.accesses,
            run_hash: result.run_hash.clone(),
            is_whole: matches!(
                result.guest.end,
                Some(GuestEnd::PoweredOff | GuestEnd::Died { .. })
            ),
            spec,
        }
    }

    fn guest(&self, spec: &RunSpec) -> Result<(&Artifacts, &Artifacts), Error> {
        let made = self
            .guests
            .iter()
            .find(|(one, _)| one.guest() == spec.guest());
        let made = made.map(|(_, artifacts)| (artifacts, artifacts));
        made.ok_or_else(|| Error::Minimise {
            what: spec.invocation.clone(),
            why: "its guest is none of those that are explored now".into(),
        })
    }
}
