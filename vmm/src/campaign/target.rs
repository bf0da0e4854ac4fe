// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Runs of a target: without faults, and with some.

use std::time::Duration;

use staleline_devices::faults::Fault;
use staleline_protocol::report::BOOTED;
use staleline_results::{RunResult, Verdict};
use staleline_support::progress::Progress;
use tempfile::NamedTempFile;

use super::file::Campaign;
use super::judge::Golden;
use super::points::{Census, Point};
use super::sites::Sites;
use crate::engine::Snapshot;
use crate::evidence::Artifacts;
use crate::exit::Error;
use crate::result::fold::Fold;
use crate::run::once::{Once, hangs_after};
use crate::spec::RunSpec;

/// A target, its guest, and how it is without faults.
pub struct Target {
    /// The run without faults.
    pub spec: RunSpec,
    /// What the guest is made of.
    pub artifacts: Artifacts,
    /// The same without names: nobody reads those of thousands of runs, and to look them up takes longer than
    /// the runs.
    nameless: Artifacts,
    /// What judging goes by.
    pub golden: Golden,
    /// All faults that there can be.
    pub points: Vec<Point>,
    /// Where they are.
    pub sites: Sites,
    /// Its run hash.
    pub run_hash: String,
    /// Right before its first step, if the engine can save it.
    snapshot: Option<NamedTempFile>,
}

/// A run, and how long it took.
pub struct Ran {
    /// What it came to.
    pub result: RunResult,
    /// Host time of the guest.
    pub wall: Duration,
}

impl Target {
    /// What people call it.
    pub fn name(&self) -> String {
        name(&self.spec)
    }
}

impl Ran {
    fn of(fold: &Fold) -> Self {
        Ran {
            result: fold.result(),
            wall: wall(fold),
        }
    }
}

/// Carries out runs.
#[derive(Clone, Copy)]
pub struct Runs<'a> {
    /// One by one.
    pub once: Once<'a>,
    /// Whether each run boots, even where the engine can go on from a guest that was saved.
    pub boot: bool,
}

impl Runs<'_> {
    /// Takes the census of a target.
    ///
    /// # Errors
    /// [`Error::Campaign`] if it does not pass without faults; or an infrastructure error.
    pub fn target(
        &self,
        mut spec: RunSpec,
        campaign: &Campaign,
        progress: &dyn Progress,
    ) -> Result<Target, Error> {
        let name = name(&spec);
        progress.step(&format!("preparing the guest of {name}"));
        let artifacts = self.once.backend.prepare(&spec, progress)?;
        progress.step(&format!("{name} without faults"));
        let invalid = |why: String| Error::Campaign {
            what: name.clone(),
            why,
        };
        let saves = spec.engine.saves() && !self.boot;
        let snapshot = saves
            .then(|| NamedTempFile::new_in(self.once.scratch.path()))
            .transpose();
        let snapshot = snapshot.map_err(|e| Error::host("cannot make a file", e))?;
        let save = snapshot.as_ref().map(|file| Snapshot::Save {
            after: BOOTED,
            file: file.path().to_owned(),
        });
        let fold = self
            .once
            .run(&spec, (&artifacts, &artifacts), (true, save.as_ref()))?;
        let result = fold.result();
        if result.verdict != Verdict::Pass {
            let why = result.reasons.join("; ");
            return Err(invalid(format!("it does not pass without faults: {why}")));
        }
        let wall = wall(&fold);
        let report = fold.execution().and_then(|e| e.report.as_ref());
        let report = report.ok_or_else(|| invalid("its machine left no report".into()))?;
        if report
            .domain
            .census
            .as_ref()
            .is_none_or(|census| census.full)
        {
            return Err(invalid(
                "more can go wrong in it than there is room for".into(),
            ));
        }
        let seconds = &mut spec.scenario.timeout_seconds;
        *seconds = hangs_after(wall, *seconds);
        let census = Census::new(&result, report);
        Ok(Target {
            golden: Golden::new(report),
            points: census.points(
                &spec.scenario,
                campaign.faults.late_ticks,
                campaign.sample.seed,
            ),
            sites: Sites::of(&fold, &result),
            run_hash: result.run_hash.clone().unwrap_or_default(),
            snapshot,
            spec,
            nameless: Artifacts {
                vmlinux: None,
                system_map: None,
                source_root: None,
                agent_elf: None,
                ..artifacts.clone()
            },
            artifacts,
        })
    }

    /// Runs a target with faults.
    ///
    /// # Errors
    /// An infrastructure error.
    pub fn with(&self, target: &Target, faults: &[Fault]) -> Result<Ran, Error> {
        let mut spec = target.spec.clone();
        spec.scenario.faults.inject = faults.to_vec();
        let guest = (&target.artifacts, &target.nameless);
        // With a host that breaks transfers off, the guest is told to move frames again before it boots.
        let is_told_more = faults.iter().any(|fault| fault.is_hosts());
        if let Some(file) = target.snapshot.as_ref().filter(|_| !is_told_more) {
            let from = Snapshot::From(file.path().to_owned());
            let ran = Ran::of(&self.once.run(&spec, guest, (false, Some(&from)))?);
            // What is to go wrong before it was saved does so only in one that boots.
            if ran.result.injected.iter().all(|one| one.at.is_some()) {
                return Ok(ran);
            }
        }
        Ok(Ran::of(&self.once.run(&spec, guest, (false, None))?))
    }
}

/// What people call a target.
fn name(spec: &RunSpec) -> String {
    format!("{} on {}", spec.scenario.name, spec.kernel.0)
}

fn wall(fold: &Fold) -> Duration {
    fold.execution().map_or(Duration::ZERO, |e| e.wall)
}
