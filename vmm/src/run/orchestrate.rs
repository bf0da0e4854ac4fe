// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Carries out one run: prepare, pilot if one is needed, run, judge, report.

use staleline_support::progress::Progress;

use super::backend::{Attempt, Backend};
use super::directory::{self, RunDir};
use super::logbook;
use crate::engine::TRACE_LIMIT;
use crate::engine::chains::Forgotten;
use crate::evidence::console::Console;
use crate::evidence::{Artifacts, Execution};
use crate::exit::{Error, USAGE};
use crate::report::{Reporters, RunEvent};
use crate::result::{build, diagnostic};
use crate::scenario::DropMaintenance;
use crate::spec::RunSpec;
use staleline_results::GuestEnd;
use staleline_results::{Dropped, Hex, Log, RunResult, Tracing};

/// Carries out runs.
#[derive(Clone, Copy)]
pub struct Runner<'a> {
    /// The rest of the program.
    pub backend: &'a dyn Backend,
    /// Told what is being done.
    pub progress: &'a dyn Progress,
    /// Whether a run with findings is done a second time, for the call chains of their loads and
    /// stores.
    pub trace: bool,
}

/// What is left of the guest's run.
struct Attempted {
    execution: Execution,
    console: Console,
    dropped: Option<Dropped>,
    log: Option<Log>,
}

/// What the pilot found out about `drop-maintenance=K`.
struct Pilot {
    number: u32,
    nth: u32,
    of: usize,
}

impl Runner<'_> {
    /// Prepares and carries out a run. Infrastructure trouble ends in a result with that verdict.
    ///
    /// # Errors
    /// Usage errors, and trouble with writing the run's directory.
    pub fn run(
        &self,
        spec: &RunSpec,
        dir: &RunDir,
        reporters: &mut Reporters,
    ) -> Result<RunResult, Error> {
        reporters.event(&RunEvent::started(spec))?;
        dir.write_json(directory::SPEC, spec)?;
        self.progress.step("preparing the guest");
        match self.backend.prepare(spec, self.progress) {
            Ok(artifacts) => self.carry_out(spec, &artifacts, dir, reporters),
            Err(e) => finish(build::infra(spec, None, &infra_only(e)?), dir, reporters),
        }
    }

    /// Carries out a run with a guest that is prepared already.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn run_prepared(
        &self,
        spec: &RunSpec,
        artifacts: &Artifacts,
        dir: &RunDir,
        reporters: &mut Reporters,
    ) -> Result<RunResult, Error> {
        reporters.event(&RunEvent::started(spec))?;
        dir.write_json(directory::SPEC, spec)?;
        self.carry_out(spec, artifacts, dir, reporters)
    }

    fn carry_out(
        &self,
        spec: &RunSpec,
        artifacts: &Artifacts,
        dir: &RunDir,
        reporters: &mut Reporters,
    ) -> Result<RunResult, Error> {
        reporters.event(&RunEvent::prepared(artifacts))?;
        let attempt = self.attempt(spec, artifacts, dir, reporters);
        let result = match attempt {
            Ok(Attempted {
                mut execution,
                console,
                dropped,
                log,
            }) => {
                let wall_ms = u64::try_from(execution.wall.as_millis()).unwrap_or(u64::MAX);
                reporters.event(&RunEvent::GuestEnded {
                    end: execution.end.clone(),
                    kernel_at: execution.loaded.as_ref().map(|l| Hex(l.kernel_at)),
                    wall_ms,
                })?;
                let drop = dropped.as_ref().map(|d| d.number);
                let tracing = self.traced(spec, artifacts, drop, dir, reporters, &mut execution)?;
                self.progress.step("analysing");
                let mut result = build::build(spec, artifacts, &execution, &console, dropped);
                result.tracing = tracing;
                result.notes.extend(log.as_ref().and_then(Log::lacks));
                result.log = log;
                result
            }
            Err(e) => build::infra(spec, Some(artifacts), &infra_only(e)?),
        };
        finish(result, dir, reporters)
    }

    fn attempt(
        &self,
        spec: &RunSpec,
        artifacts: &Artifacts,
        dir: &RunDir,
        reporters: &mut Reporters,
    ) -> Result<Attempted, Error> {
        let mut spec = spec.clone();
        let mut pilot = None;
        if let Some(DropMaintenance::Nth(nth)) = spec.scenario.faults.drop_maintenance {
            let found = self.pilot(&spec, nth, artifacts, dir, reporters)?;
            // The directory holds what was really run, so that a replay needs no pilot.
            let number = DropMaintenance::Number(found.number);
            spec.scenario.faults.drop_maintenance = Some(number);
            dir.write_json(directory::SPEC, &spec)?;
            pilot = Some(found);
        }
        let dropped = match spec.scenario.faults.drop_maintenance {
            Some(DropMaintenance::Number(number)) => Some(Dropped {
                number,
                nth: pilot.as_ref().map(|p| p.nth),
                of: pilot.as_ref().map(|p| p.of),
                happened: false,
            }),
            Some(DropMaintenance::Nth(_)) | None => None,
        };
        self.step(reporters, "running the guest")?;
        let engine = dir.subdirectory(directory::ENGINE)?;
        let recording = logbook::recording(&spec.scenario.log, dir);
        let attempt = self.backend.execute(Attempt {
            spec: &spec,
            artifacts,
            drop_operation: dropped.as_ref().map(|d| d.number),
            trace: &[],
            events: recording.as_ref(),
            dir: &engine,
        });
        let log = recording.map(|r| logbook::settle(&r)).transpose()?;
        // Whatever became of the guest, users look for its console in one place.
        let console = dir.file(directory::CONSOLE);
        let said = std::fs::rename(engine.join(directory::CONSOLE), &console);
        let execution = attempt?;
        let console = said
            .and_then(|()| Console::read(&console))
            .map_err(|e| Error::host(format!("cannot read {}", execution.console.display()), e))?;
        Ok(Attempted {
            execution,
            console,
            dropped,
            log,
        })
    }

    /// The same run again, for the call chains of the findings' loads and stores: too many happen
    /// to look at the registers in each, and only after the run is it known which ones matter.
    fn traced(
        &self,
        spec: &RunSpec,
        artifacts: &Artifacts,
        drop_operation: Option<u32>,
        dir: &RunDir,
        reporters: &mut Reporters,
        execution: &mut Execution,
    ) -> Result<Option<Tracing>, Error> {
        let Some(report) = execution.report.as_ref().filter(|_| self.trace) else {
            return Ok(None);
        };
        let mut wanted = diagnostic::accesses(&report.domain);
        if wanted.is_empty() {
            return Ok(None);
        }
        if let Some(left_out) = wanted.len().checked_sub(TRACE_LIMIT).filter(|n| *n > 0) {
            wanted.truncate(TRACE_LIMIT);
            let forgotten = Forgotten::of("accesses to trace", TRACE_LIMIT, left_out as u64);
            execution.seen.forgotten.extend(forgotten);
        }
        let run_hash = report.domain.run_hash;
        self.step(reporters, "the same again, for call chains")?;
        let path = dir.subdirectory(directory::TRACE)?;
        let again = self.backend.execute(Attempt {
            spec,
            artifacts,
            drop_operation,
            trace: &wanted,
            events: None,
            dir: &path,
        });
        // Nobody needs two copies of the same run.
        if let Err(e) = std::fs::remove_dir_all(&path) {
            log::warn!("cannot remove {}: {e}", path.display());
        }
        let again = match again {
            Ok(again) => again,
            Err(e) => {
                return Ok(Some(Tracing {
                    same: false,
                    run_hash: None,
                    trouble: Some(infra_only(e)?),
                    wall_ms: 0,
                }));
            }
        };
        let wall_ms = u64::try_from(again.wall.as_millis()).unwrap_or(u64::MAX);
        let hash = again.report.map(|r| r.domain.run_hash);
        let same = hash == Some(run_hash);
        if same {
            execution.seen.accesses = again.seen.accesses;
        }
        Ok(Some(Tracing {
            same,
            run_hash: hash.map(build::hash_text),
            trouble: hash.is_none().then(|| "it left no report".into()),
            wall_ms,
        }))
    }

    /// The same run without the drop: only at its end is it known which operations touched memory
    /// used for DMA.
    fn pilot(
        &self,
        spec: &RunSpec,
        nth: u32,
        artifacts: &Artifacts,
        dir: &RunDir,
        reporters: &mut Reporters,
    ) -> Result<Pilot, Error> {
        self.step(reporters, "pilot run, to count maintenance operations")?;
        let path = dir.subdirectory(directory::PILOT)?;
        let mut spec = spec.clone();
        spec.scenario.faults.drop_maintenance = None;
        let execution = self.backend.execute(Attempt {
            spec: &spec,
            artifacts,
            drop_operation: None,
            trace: &[],
            events: None,
            dir: &path,
        })?;
        let why = match (&execution.end, &execution.report) {
            (GuestEnd::PoweredOff, Some(report)) => {
                let operations = report.domain.maintenance.operations.iter();
                let operations: Vec<_> = operations.filter(|op| op.touched_dma()).collect();
                let chosen = usize::try_from(nth - 1)
                    .ok()
                    .and_then(|i| operations.get(i));
                return chosen
                    .map(|operation| Pilot {
                        number: operation.number,
                        nth,
                        of: operations.len(),
                    })
                    .ok_or_else(|| Error::DropOutOfRange {
                        asked: nth.to_string(),
                        available: operations.len(),
                    });
            }
            (GuestEnd::PoweredOff, None) => "the engine left no report".to_owned(),
            (GuestEnd::TimedOut, _) => "the time limit was reached".to_owned(),
            (GuestEnd::Died { what }, _) => what.clone(),
        };
        Err(Error::Pilot { why })
    }

    fn step(&self, reporters: &mut Reporters, what: &str) -> Result<(), Error> {
        self.progress.step(what);
        reporters.event(&RunEvent::Step { what: what.into() })
    }
}

/// The text of infrastructure trouble; a usage error stays an error.
fn infra_only(e: Error) -> Result<String, Error> {
    if e.exit_code() == USAGE {
        Err(e)
    } else {
        log::debug!("{}", e.render());
        Ok(match e.help() {
            Some(help) => format!("{}; {help}", e.chain()),
            None => e.chain(),
        })
    }
}

fn finish(result: RunResult, dir: &RunDir, reporters: &mut Reporters) -> Result<RunResult, Error> {
    dir.write_json(directory::RESULT, &result)?;
    for event in RunEvent::of_result(&result) {
        reporters.event(&event)?;
    }
    logbook::export(dir)?;
    Ok(result)
}

#[cfg(test)]
#[path = "orchestrate_tests.rs"]
mod tests;
