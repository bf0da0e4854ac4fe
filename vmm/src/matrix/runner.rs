// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Runs the cells of a matrix, several at a time.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Mutex;

use staleline_support::progress::{Counted, Progress};

use super::Cell;
use super::outcome::{MadeOf, Outcome};
use super::record::Begun;
use crate::evidence::Artifacts;
use crate::exit::{Error, USAGE};
use crate::result::build;
use crate::run::backend::Backend;
use crate::run::directory::{self, RunDir};
use crate::run::logbook;
use crate::run::orchestrate::Runner;
use crate::run::several;
use crate::spec::GuestKey;
use staleline_results::{RunResult, Verdict};

/// A cell and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CellResult {
    /// The cell.
    pub cell: Cell,
    /// What came of it.
    pub outcome: Outcome,
    /// That it is not as expected is known.
    pub known: bool,
}

impl CellResult {
    /// Why it is not as expected, if that is not known.
    pub fn unexpected(&self) -> Option<&str> {
        let unexpected = self.outcome.unexpected.as_deref();
        unexpected.filter(|_| !self.known)
    }
}

/// A guest that is ready, or why it is not.
type Prepared = Result<Artifacts, String>;

/// What came of all cells.
#[derive(Debug, Default)]
pub struct Ran {
    /// Of those that were run, in order.
    pub results: Vec<CellResult>,
    /// Names of those that are left because the user wanted no more.
    pub left: Vec<String>,
}

/// How cells are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Guests at a time, at most.
    pub jobs: usize,
    /// Whether a run with findings is done twice, for call chains of loads and stores.
    pub trace: bool,
}

/// Runs all cells that are not done, each in its own directory. A run that says nothing is done once more.
/// Kernels are prepared first, one after the other: each build uses all processors itself.
///
/// # Errors
/// The first usage error, before any guest runs; or trouble with writing results.
pub fn run(
    begun: &Begun,
    manner: Manner,
    backend: &dyn Backend,
    progress: &dyn Progress,
) -> Result<Ran, Error> {
    let cells = &begun.cells;
    for cell in cells {
        backend.check(&cell.spec)?;
    }
    let prepared = prepare(cells, backend, progress)?;
    let results: Mutex<Vec<(usize, Outcome)>> = Mutex::new(done(begun, &prepared)?);
    let known: Vec<usize> = lock(&results).iter().map(|(index, _)| *index).collect();
    let one = One {
        begun,
        prepared: &prepared,
        backend,
        progress,
        trace: manner.trace,
    };
    let go_on = || !progress.cancelled();
    several::each(manner.jobs, Some(cells.len()), go_on, |index| {
        let Some(cell) = cells.get(index) else {
            return Ok(ControlFlow::Break(()));
        };
        if known.binary_search(&index).is_ok() {
            return Ok(ControlFlow::Continue(()));
        }
        let Some(outcome) = one.outcome(cell)? else {
            return Ok(ControlFlow::Break(()));
        };
        let mut results = lock(&results);
        results.push((index, outcome));
        let (done, all) = (results.len(), cells.len());
        progress.step(&format!("{done} of {all} cells: {}", cell.name));
        Ok(ControlFlow::Continue(()))
    })?;
    let mut results = std::mem::take(&mut *lock(&results));
    results.sort_by_key(|(index, _)| *index);
    let has = |index: usize| results.binary_search_by_key(&index, |(i, _)| *i).is_ok();
    let left = cells.iter().enumerate().filter(|(index, _)| !has(*index));
    let left = left.map(|(_, cell)| cell.name.clone()).collect();
    let results = results.into_iter().filter_map(|(index, outcome)| {
        let cell = cells.get(index)?.clone();
        Some(CellResult {
            cell,
            outcome,
            known: false,
        })
    });
    Ok(Ran {
        results: results.collect(),
        left,
    })
}

/// The cells that are done, if their guests are still made of the same.
fn done(
    begun: &Begun,
    prepared: &HashMap<GuestKey<'_>, Prepared>,
) -> Result<Vec<(usize, Outcome)>, Error> {
    let mut found = Vec::new();
    for (index, cell) in begun.cells.iter().enumerate() {
        let Some(outcome) = begun.done.get(&cell.name) else {
            continue;
        };
        let now = prepared.get(&cell.spec.guest());
        let what = match now {
            Some(Ok(artifacts)) => outcome.guest.differs(&MadeOf::of_artifacts(artifacts)),
            // It cannot be told.
            Some(Err(_)) | None => None,
        };
        if let Some(what) = what {
            return Err(Error::CannotResume {
                path: begun.out.clone(),
                why: format!("{what} of cell {} has changed", cell.name),
            });
        }
        found.push((index, outcome.clone()));
    }
    Ok(found)
}

/// Shows nothing, but ends with the whole.
struct Within<'a>(&'a dyn Progress);

impl Progress for Within<'_> {
    fn begin(&self, _: &str, _: Counted) {}
    fn advance(&self, _: &str) {}
    fn detail(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// A thread that panics is our bug and ends the program by the scope; the data is still whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn prepare<'a>(
    cells: &'a [Cell],
    backend: &dyn Backend,
    progress: &dyn Progress,
) -> Result<HashMap<GuestKey<'a>, Prepared>, Error> {
    let mut prepared = HashMap::new();
    for cell in cells {
        let guest = cell.spec.guest();
        if prepared.contains_key(&guest) {
            continue;
        }
        if progress.cancelled() {
            break;
        }
        progress.step(&format!("preparing the guest of {}", cell.name));
        let outcome = match backend.prepare(&cell.spec, progress) {
            Ok(artifacts) => Ok(artifacts),
            Err(e) if e.exit_code() == USAGE => return Err(e),
            Err(e) => Err(e.chain()),
        };
        prepared.insert(guest, outcome);
    }
    Ok(prepared)
}

/// What it takes to run one cell.
struct One<'a> {
    begun: &'a Begun,
    prepared: &'a HashMap<GuestKey<'a>, Prepared>,
    backend: &'a dyn Backend,
    progress: &'a dyn Progress,
    trace: bool,
}

impl One<'_> {
    /// What comes of a cell, written down; none if the user wants no more.
    fn outcome(&self, cell: &Cell) -> Result<Option<Outcome>, Error> {
        let artifacts = match self.prepared.get(&cell.spec.guest()) {
            Some(Ok(artifacts)) => artifacts,
            Some(Err(why)) => return self.without_guest(cell, why).map(Some),
            None => {
                let why = "the kernel was not prepared";
                return self.without_guest(cell, why).map(Some);
            }
        };
        let mut result = self.run(cell, artifacts)?;
        let mut earlier = None;
        if result.verdict == Verdict::InfraError && !result.interrupted {
            let why = result.reasons.join("; ");
            let name = &cell.name;
            self.progress
                .note(&format!("{name} is run again, it said nothing: {why}"));
            earlier = Some(why);
            result = self.run(cell, artifacts)?;
        }
        if result.interrupted {
            return Ok(None);
        }
        let outcome = Outcome {
            second_attempt: earlier,
            ..Outcome::of(cell, &result)
        };
        self.begun.enter(&outcome)?;
        Ok(Some(outcome))
    }

    fn run(&self, cell: &Cell, artifacts: &Artifacts) -> Result<RunResult, Error> {
        let dir = RunDir::replace(&self.begun.out.join(&cell.name))?;
        let mut reporters = logbook::files(&dir)?;
        let runner = Runner {
            backend: self.backend,
            progress: &Within(self.progress),
            trace: self.trace,
        };
        match runner.run_prepared(&cell.spec, artifacts, &dir, &mut reporters) {
            // One cell that asks for what its run has not got shall not stop the others.
            Err(e @ Error::DropOutOfRange { .. }) => {
                let result = build::infra(&cell.spec, Some(artifacts), &e.chain());
                dir.write_json(directory::RESULT, &result)?;
                Ok(result)
            }
            other => other,
        }
    }

    fn without_guest(&self, cell: &Cell, why: &str) -> Result<Outcome, Error> {
        let dir = RunDir::replace(&self.begun.out.join(&cell.name))?;
        let result = build::infra(&cell.spec, None, why);
        dir.write_json(directory::RESULT, &result)?;
        let outcome = Outcome::of(cell, &result);
        self.begun.enter(&outcome)?;
        Ok(outcome)
    }
}
