// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The evidence of a run: into its log, and into its result.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use staleline_events::LogError;
use staleline_protocol::report::Report;
use staleline_results::RunResult;

use super::directory::{self, RunDir};
use crate::evidence::Execution;
use crate::evidence::record::{self, Evidence};
use crate::exit::Error;
use crate::report::RunEvent;
use crate::result::fold::Fold;
use crate::spec::RunSpec;

/// Where a run's evidence goes.
pub struct Ledger {
    log: Option<(PathBuf, File)>,
    fold: Fold,
}

impl Ledger {
    /// Begins with what is to be run. A directory whose log nobody has begun has none.
    ///
    /// # Errors
    /// [`Error::Output`] and those of [`Ledger::enter`].
    pub fn begin(spec: &RunSpec, dir: &RunDir) -> Result<Self, Error> {
        let path = dir.file(directory::LOG);
        // The machine and the reporter of steps append to it, too.
        let log = match File::options().append(true).open(&path) {
            Ok(file) => Some((path, file)),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(source) => return Err(Error::Output { path, source }),
        };
        let spec = Box::new(spec.clone());
        let fold = Fold::new(spec.clone());
        let mut ledger = Ledger { log, fold };
        ledger.enter(Evidence::Spec(spec))?;
        Ok(ledger)
    }

    /// Enters a piece. The machine must not be running.
    ///
    /// # Errors
    /// [`Error::Host`] if the log cannot be written.
    pub fn enter(&mut self, evidence: Evidence) -> Result<(), Error> {
        if let Some((path, log)) = &mut self.log {
            record::append(log, &evidence)
                .map_err(|e| Error::host(format!("cannot write {}", path.display()), e))?;
        }
        self.fold.take(evidence);
        Ok(())
    }

    /// How the guest ended, once that is entered.
    pub fn execution(&self) -> Option<&Execution> {
        self.fold.execution()
    }

    /// What the agent has told, once that is entered.
    pub fn reports(&self) -> &[Report] {
        self.fold.reports()
    }

    /// What follows from it all.
    pub fn result(&self) -> RunResult {
        self.fold.result()
    }
}

/// The evidence of an earlier run, by its directory or its log.
///
/// # Errors
/// [`Error::NotARun`] and [`Error::Log`].
pub fn of(run: &Path) -> Result<Fold, Error> {
    let path = directory::log_of(run)?;
    let (mut fold, end) = Fold::so_far(&path);
    match end {
        Ok(()) => {}
        // Whoever wrote it was stopped there, as any run may be.
        Err(cut @ LogError::CutShort { .. }) => {
            fold.iter_mut().for_each(|fold| fold.cut_short(&cut))
        }
        Err(source) => return Err(Error::Log { path, source }),
    }
    fold.ok_or_else(|| Error::NotARun {
        path: run.to_owned(),
        why: "its log holds no evidence: its run is too old, or was not begun".into(),
    })
}

/// What reporters make text of an earlier run from.
pub fn events(fold: &Fold, result: &RunResult) -> Vec<RunEvent> {
    let guest = fold.guest().map(RunEvent::prepared);
    let end = fold.execution().map(RunEvent::ended);
    let begin = [RunEvent::started(fold.spec())];
    let before = begin.into_iter().chain(guest).chain(end);
    let before = before.chain(RunEvent::outputs(fold.reports()));
    before.chain(RunEvent::of_result(result)).collect()
}
