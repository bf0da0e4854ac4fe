// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A try is a run: each from boot, as scenarios differ in what the guest is told there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use staleline_devices::faults::{Fault, MAX_FAULTS, OperationFault};
use staleline_results::{GuestEnd, RunResult, Verdict};
use staleline_support::progress::{Counted, Progress};

use super::outcome::{Keep, Outcome, says_nothing};
use super::parts;
use super::search::{self, Judge, Stopped};
use crate::evidence::Artifacts;
use crate::exit::{Error, USAGE};
use crate::result::fold::Fold;
use crate::run::once::{Once, hangs_after};
use crate::scenario::{DropMaintenance, Scenario, limits};
use crate::spec::RunSpec;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// What has to stay.
    pub keep: Keep,
    /// Guests that may be run.
    pub runs: usize,
    /// Host time that it may take.
    pub time: Option<Duration>,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The outcome, from the first run on.
    pub outcome: Outcome,
    /// The run to begin with, with whatever was suppressed as a fault.
    pub from: Scenario,
    /// The smallest.
    pub smallest: Scenario,
    /// Guests that were run.
    pub runs: usize,
    /// Tries of which the outcome was known.
    pub known: usize,
    /// Why there may be a smaller one.
    pub stopped: Option<Stopped>,
    /// What has failed.
    pub failure: Option<Error>,
}

/// Looks for the smallest run with the same outcome.
///
/// # Errors
/// [`Error::NothingToMinimise`] if it passes, [`Error::Minimise`] if it says nothing, or an infrastructure error.
pub fn minimise(
    spec: &RunSpec,
    artifacts: &Artifacts,
    once: Once<'_>,
    wanted: Wanted,
    progress: &dyn Progress,
) -> Result<Found, Error> {
    progress.begin("looking for the smallest run", Counted::of("runs", None));
    let mut tries = Tries {
        spec: spec.clone(),
        artifacts,
        once,
        wanted,
        progress,
        outcome: Outcome {
            verdict: Verdict::Pass,
            told: Default::default(),
        },
        known: HashMap::new(),
        begun: Instant::now(),
        runs: 0,
        again: 0,
        failure: None,
    };
    let from = tries.begin()?;
    let (smallest, ended) = search::smallest(&from, &mut tries);
    Ok(Found {
        outcome: tries.outcome,
        from,
        smallest,
        runs: tries.runs,
        known: tries.again,
        stopped: ended.err(),
        failure: tries.failure,
    })
}

struct Tries<'a> {
    /// The run; of it, the scenario differs from try to try.
    spec: RunSpec,
    artifacts: &'a Artifacts,
    once: Once<'a>,
    wanted: Wanted,
    progress: &'a dyn Progress,
    outcome: Outcome,
    /// By scenario, whether it comes to the same.
    known: HashMap<String, bool>,
    begun: Instant,
    runs: usize,
    again: usize,
    failure: Option<Error>,
}

impl Tries<'_> {
    /// The run as it is, with whatever was to be suppressed as a fault among others.
    fn begin(&mut self) -> Result<Scenario, Error> {
        let name = self.spec.scenario.name.clone();
        let says_not = |why: String| Error::Minimise {
            what: name.clone(),
            why,
        };
        if let Some(drop) = self.spec.scenario.faults.drop_maintenance.take() {
            let number = match drop {
                DropMaintenance::Number(number) => number,
                DropMaintenance::Nth(nth) => self.nth(nth)?,
            };
            let fault = Fault::Operation(number, OperationFault::Drop);
            let inject = &mut self.spec.scenario.faults.inject;
            if !inject.contains(&fault) {
                inject.insert(0, fault);
            }
            if inject.len() > MAX_FAULTS {
                return Err(says_not(format!("it has more than {MAX_FAULTS} faults")));
            }
        }
        let begun = Instant::now();
        let result = self.run(&self.spec.scenario.clone())?.result();
        if self.progress.cancelled() {
            return Err(says_not("interrupted in the first run".into()));
        }
        if let Some(why) = says_nothing(&result) {
            return Err(says_not(why));
        }
        if result.verdict == Verdict::Pass {
            return Err(Error::NothingToMinimise { what: name });
        }
        self.outcome = Outcome::of(&result, self.wanted.keep);
        self.note(&format!("to stay: {}", self.outcome.text()));
        let from = self.spec.scenario.clone();
        if result.guest.end != Some(GuestEnd::TimedOut) {
            let seconds = &mut self.spec.scenario.timeout_seconds;
            *seconds = hangs_after(begun.elapsed(), *seconds);
        }
        Ok(from)
    }

    /// The number of the operation that is the K-th on memory used for DMA.
    fn nth(&mut self, nth: u32) -> Result<u32, Error> {
        let fold = self.run(&self.spec.scenario.clone())?;
        let report = fold.execution().and_then(|e| e.report.as_ref());
        let operations = report.map_or(&[][..], |r| &r.domain.maintenance.operations);
        let mut operations = operations.iter().filter(|op| op.touched_dma());
        let available = operations.clone().count();
        let at = usize::try_from(nth).unwrap_or(usize::MAX).saturating_sub(1);
        let found = operations.nth(at).map(|op| op.number);
        found.ok_or_else(|| Error::DropOutOfRange {
            asked: nth.to_string(),
            available,
            numbers: None,
        })
    }

    fn run(&mut self, case: &Scenario) -> Result<Fold, Error> {
        let mut spec = self.spec.clone();
        let seconds = spec.scenario.timeout_seconds;
        spec.scenario = case.clone();
        spec.scenario.timeout_seconds = seconds;
        self.runs += 1;
        let named = (self.artifacts, self.artifacts);
        let fold = self.once.run(&spec, named, (false, None));
        self.progress.advance(&parts::told(case));
        fold
    }

    fn note(&self, text: &str) {
        self.progress.note(text);
    }

    /// What a try comes to; one of which nothing can be learnt is made once more.
    fn result(&mut self, case: &Scenario) -> Result<Option<RunResult>, Stopped> {
        for _ in 0..2 {
            match self.run(case) {
                _ if self.progress.cancelled() => return Err(Stopped::Interrupted),
                Ok(fold) => {
                    let result = fold.result();
                    if says_nothing(&result).is_none() {
                        return Ok(Some(result));
                    }
                    // A fault that the run does not come to, it does not come to the next time.
                    if result.guest.end == Some(GuestEnd::PoweredOff) {
                        return Ok(None);
                    }
                }
                Err(e) if e.exit_code() == USAGE => return Ok(None),
                Err(e) => self.failure = Some(e),
            }
        }
        match self.failure {
            Some(_) => Err(Stopped::Failed),
            None => Ok(None),
        }
    }
}

impl Judge for Tries<'_> {
    fn same(&mut self, case: &Scenario) -> Result<bool, Stopped> {
        let own = self.spec.kernel.path().is_some();
        if !own && limits::check_pool(case, "").is_err() {
            return Ok(false);
        }
        // A scenario is text to the last of its keys.
        let key = serde_json::to_string(case).unwrap_or_default();
        if let Some(known) = self.known.get(&key) {
            self.again += 1;
            return Ok(*known);
        }
        if self.progress.cancelled() {
            return Err(Stopped::Interrupted);
        }
        let late = self
            .wanted
            .time
            .is_some_and(|time| self.begun.elapsed() >= time);
        if late || self.runs >= self.wanted.runs {
            return Err(Stopped::Budget);
        }
        self.failure = None;
        let result = self.result(case)?;
        let same = result.is_some_and(|r| Outcome::of(&r, self.wanted.keep) == self.outcome);
        self.known.insert(key, same);
        Ok(same)
    }

    fn found(&mut self, case: &Scenario) {
        self.note(&format!("{} runs: {}", self.runs, parts::told(case)));
    }
}
