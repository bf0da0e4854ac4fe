// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Runs the cells of a matrix, several at a time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use staleline_support::progress::{Counted, Progress};

use super::Cell;
use super::record::{self, Begun};
use crate::evidence::Artifacts;
use crate::exit::{Error, USAGE};
use crate::result::build;
use crate::run::backend::Backend;
use crate::run::directory::RunDir;
use crate::run::logbook;
use crate::run::orchestrate::Runner;
use crate::spec::GuestKey;
use staleline_results::RunResult;

/// A cell and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CellResult {
    /// The cell.
    pub cell: Cell,
    /// What came of it.
    pub result: RunResult,
    /// Why that is not as expected; none if it is.
    pub unexpected: Option<String>,
}

/// A guest that is ready, or why it is not.
type Prepared = Result<Artifacts, String>;

/// What came of all cells.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Of those that were run, in order.
    pub results: Vec<CellResult>,
    /// Names of those that are left because the user wanted no more.
    pub left: Vec<String>,
}

/// Runs all cells that are not done, at most `jobs` guests at a time, each in its own directory.
/// Kernels are prepared first, one after the other: each build uses all processors itself.
///
/// # Errors
/// The first usage error, before any guest runs; or trouble with writing results.
pub fn run(
    begun: &Begun,
    jobs: usize,
    backend: &dyn Backend,
    progress: &dyn Progress,
) -> Result<Outcome, Error> {
    let Begun { cells, out, .. } = begun;
    for cell in cells {
        backend.check(&cell.spec)?;
    }
    let prepared = prepare(cells, backend, progress)?;
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, CellResult)>> = Mutex::new(done(begun, &prepared)?);
    let failure: Mutex<Option<Error>> = Mutex::default();
    let known: Vec<usize> = lock(&results).iter().map(|(index, _)| *index).collect();
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, cells.len().max(1)) {
            scope.spawn(|| {
                while lock(&failure).is_none() && !progress.cancelled() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(cell) = cells.get(index) else { break };
                    if known.binary_search(&index).is_ok() {
                        continue;
                    }
                    match run_cell(cell, &prepared, out, backend, progress) {
                        Ok(result) if result.interrupted => break,
                        Ok(result) => {
                            let result = judge(cell, result);
                            let mut results = lock(&results);
                            results.push((index, result));
                            let (done, all) = (results.len(), cells.len());
                            progress.step(&format!("{done} of {all}: {}", cell.name));
                        }
                        Err(e) => {
                            lock(&failure).get_or_insert(e);
                        }
                    }
                }
            });
        }
    });
    if let Some(e) = lock(&failure).take() {
        return Err(e);
    }
    let mut results = std::mem::take(&mut *lock(&results));
    results.sort_by_key(|(index, _)| *index);
    let has = |index: usize| results.binary_search_by_key(&index, |(i, _)| *i).is_ok();
    let left = cells.iter().enumerate().filter(|(index, _)| !has(*index));
    let left = left.map(|(_, cell)| cell.name.clone()).collect();
    Ok(Outcome {
        results: results.into_iter().map(|(_, result)| result).collect(),
        left,
    })
}

/// The cells that are done, if their guests are still made of the same.
fn done(
    begun: &Begun,
    prepared: &HashMap<GuestKey<'_>, Prepared>,
) -> Result<Vec<(usize, CellResult)>, Error> {
    let mut found = Vec::new();
    for (index, cell) in begun.cells.iter().enumerate() {
        let Some(result) = begun.done.get(&cell.name) else {
            continue;
        };
        let now = prepared.get(&cell.spec.guest());
        let what = match now {
            Some(Ok(artifacts)) => record::differs(result, artifacts),
            // It cannot be told.
            Some(Err(_)) | None => None,
        };
        if let Some(what) = what {
            return Err(Error::CannotResume {
                path: begun.out.clone(),
                why: format!("{what} of cell {} has changed", cell.name),
            });
        }
        found.push((index, judge(cell, result.clone())));
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

fn run_cell(
    cell: &Cell,
    prepared: &HashMap<GuestKey<'_>, Prepared>,
    out: &Path,
    backend: &dyn Backend,
    progress: &dyn Progress,
) -> Result<RunResult, Error> {
    let artifacts = match prepared.get(&cell.spec.guest()) {
        Some(Ok(artifacts)) => artifacts,
        Some(Err(why)) => return Ok(build::infra(&cell.spec, None, why)),
        None => {
            return Ok(build::infra(
                &cell.spec,
                None,
                "the kernel was not prepared",
            ));
        }
    };
    let dir = RunDir::replace(&out.join(&cell.name))?;
    let mut reporters = logbook::files(&dir)?;
    let runner = Runner {
        backend,
        progress: &Within(progress),
        // Its cells are many, and who wants to know more about one can run it alone.
        trace: false,
    };
    match runner.run_prepared(&cell.spec, artifacts, &dir, &mut reporters) {
        // One cell that asks for what its run has not got shall not stop the others.
        Err(e @ Error::DropOutOfRange { .. }) => {
            Ok(build::infra(&cell.spec, Some(artifacts), &e.chain()))
        }
        other => other,
    }
}

fn judge(cell: &Cell, result: RunResult) -> CellResult {
    CellResult {
        unexpected: cell.unexpected(&result),
        cell: cell.clone(),
        result,
    }
}
