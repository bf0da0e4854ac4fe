// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Carries out one run: prepare, pilot if one is needed, run, judge, report.

use std::io::ErrorKind;

use staleline_support::progress::Progress;

use super::backend::{Attempt, Backend};
use super::directory::{self, RunDir};
use super::ledger::Ledger;
use super::logbook;
use crate::engine::TRACE_LIMIT;
use crate::engine::chains::Forgotten;
use crate::evidence::console::ConsoleText;
use crate::evidence::record::{Evidence, Traced};
use crate::evidence::{Artifacts, Execution};
use crate::exit::{Error, USAGE};
use crate::report::{Reporters, RunEvent};
use crate::result::{build, diagnostic};
use crate::scenario::DropMaintenance;
use crate::spec::RunSpec;
use staleline_results::{Dropped, GuestEnd, RunResult, Tracing};

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
        let mut ledger = begin(spec, dir, reporters)?;
        self.progress.step("preparing the guest");
        match self.backend.prepare(spec, self.progress) {
            Ok(artifacts) => self.carry_out(spec, artifacts, ledger, dir, reporters),
            Err(e) => {
                ledger.enter(Evidence::Trouble(self.trouble(e)?))?;
                self.finish(ledger, dir, reporters)
            }
        }
    }

    /// The text of trouble, of which the user may be the cause.
    fn trouble(&self, e: Error) -> Result<String, Error> {
        match self.progress.cancelled() {
            true => Ok("interrupted before the guest had ended".into()),
            false => infra_only(e),
        }
    }

    /// What comes last in the stream and in the log.
    fn finish(
        &self,
        mut ledger: Ledger,
        dir: &RunDir,
        reporters: &mut Reporters,
    ) -> Result<RunResult, Error> {
        let ended = ledger.execution().map(|e| &e.end);
        if self.progress.cancelled() && ended.is_none_or(GuestEnd::was_stopped) {
            ledger.enter(Evidence::Interrupted)?;
        }
        finish(&ledger, dir, reporters)
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
        let ledger = begin(spec, dir, reporters)?;
        self.carry_out(spec, artifacts.clone(), ledger, dir, reporters)
    }

    fn carry_out(
        &self,
        spec: &RunSpec,
        artifacts: Artifacts,
        mut ledger: Ledger,
        dir: &RunDir,
        reporters: &mut Reporters,
    ) -> Result<RunResult, Error> {
        reporters.event(&RunEvent::prepared(&artifacts))?;
        ledger.enter(Evidence::Guest(Box::new(artifacts.clone())))?;
        match self.attempt(spec, &artifacts, &mut ledger, dir, reporters) {
            Ok(drop) => {
                if let Some(execution) = ledger.execution() {
                    reporters.event(&RunEvent::ended(execution))?;
                }
                for output in RunEvent::outputs(ledger.reports()) {
                    reporters.event(&output)?;
                }
                if let Some(traced) =
                    self.traced(spec, &artifacts, drop, &ledger, dir, reporters)?
                {
                    ledger.enter(Evidence::Traced(traced))?;
                }
                self.step(reporters, "analysing")?;
            }
            Err(e) => ledger.enter(Evidence::Trouble(self.trouble(e)?))?,
        }
        self.finish(ledger, dir, reporters)
    }

    /// Runs the guest. Gives the number of the operation that was suppressed.
    fn attempt(
        &self,
        spec: &RunSpec,
        artifacts: &Artifacts,
        ledger: &mut Ledger,
        dir: &RunDir,
        reporters: &mut Reporters,
    ) -> Result<Option<u32>, Error> {
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
        let drop_operation = dropped.as_ref().map(|d| d.number);
        if let Some(dropped) = dropped {
            ledger.enter(Evidence::Dropped(dropped))?;
        }
        self.step(reporters, "running the guest")?;
        let engine = dir.subdirectory(directory::ENGINE)?;
        let recording = logbook::recording(&spec.scenario.log, dir);
        let attempt = self.backend.execute(Attempt {
            spec: &spec,
            artifacts,
            drop_operation,
            census: false,
            trace: &[],
            events: recording.as_ref(),
            snapshot: None,
            attended: Some(dir.path()),
            dir: &engine,
        });
        if let Some(recording) = recording {
            ledger.enter(Evidence::Log(logbook::settle(&recording)?))?;
        }
        // Whatever became of the guest, users look for its console in one place.
        let console = dir.file(directory::CONSOLE);
        let said = std::fs::rename(engine.join(directory::CONSOLE), &console);
        // As a rule it has left nothing else.
        let _ = std::fs::remove_dir(&engine);
        let execution = attempt?;
        let console = match said {
            // Whatever was run, it has not got so far as to open it.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(ConsoleText::default()),
            said => said.and_then(|()| ConsoleText::read(&console)),
        };
        let console = console
            .map_err(|e| Error::host(format!("cannot read {}", execution.console.display()), e))?;
        ledger.enter(Evidence::Console(console))?;
        if let Some(number) = drop_operation {
            took_place(number, &execution)?;
        }
        ledger.enter(Evidence::Ended(Box::new(execution)))?;
        Ok(drop_operation)
    }

    /// The same run again, for the call chains of the findings' loads and stores: too many happen
    /// to look at the registers in each, and only after the run is it known which ones matter.
    fn traced(
        &self,
        spec: &RunSpec,
        artifacts: &Artifacts,
        drop_operation: Option<u32>,
        ledger: &Ledger,
        dir: &RunDir,
        reporters: &mut Reporters,
    ) -> Result<Option<Traced>, Error> {
        // One that was stopped by the time would be so again, and somewhere else; and what was typed,
        // nobody types again.
        let ended = ledger.execution().filter(|e| !e.end.was_stopped());
        let ended = ended.filter(|e| e.attended.typed.is_none());
        // Nor is it the same again on an engine that is not exact.
        let ended = ended.filter(|_| spec.engine.is_exact());
        let report = ended.and_then(|e| e.report.as_ref());
        let Some(report) = report.filter(|_| self.trace) else {
            return Ok(None);
        };
        let mut wanted = diagnostic::accesses(&report.domain);
        if wanted.is_empty() {
            return Ok(None);
        }
        let left_out = wanted.len().saturating_sub(TRACE_LIMIT);
        wanted.truncate(TRACE_LIMIT);
        let run_hash = report.domain.run_hash;
        self.step(reporters, "the same again, for call chains")?;
        let path = dir.subdirectory(directory::TRACE)?;
        let again = self.backend.execute(Attempt {
            spec,
            artifacts,
            drop_operation,
            census: false,
            trace: &wanted,
            events: None,
            snapshot: None,
            attended: None,
            dir: &path,
        });
        // Nobody needs two copies of the same run.
        if let Err(e) = std::fs::remove_dir_all(&path) {
            log::warn!("cannot remove {}: {e}", path.display());
        }
        let forgotten = Forgotten::of("accesses to trace", TRACE_LIMIT, left_out as u64);
        let again = match again {
            Ok(again) => again,
            Err(e) => {
                return Ok(Some(Traced {
                    tracing: Tracing {
                        same: false,
                        run_hash: None,
                        trouble: Some(infra_only(e)?),
                        wall_ms: 0,
                    },
                    accesses: Vec::new(),
                    forgotten,
                }));
            }
        };
        let wall_ms = u64::try_from(again.wall.as_millis()).unwrap_or(u64::MAX);
        if again.end.was_stopped() {
            return Ok(Some(Traced {
                tracing: Tracing {
                    same: false,
                    run_hash: None,
                    trouble: Some(stopped(&again.end).into()),
                    wall_ms,
                },
                accesses: Vec::new(),
                forgotten,
            }));
        }
        let hash = again.report.map(|r| r.domain.run_hash);
        let same = hash == Some(run_hash);
        Ok(Some(Traced {
            tracing: Tracing {
                same,
                run_hash: hash.map(build::hash_text),
                trouble: hash.is_none().then(|| "it left no report".into()),
                wall_ms,
            },
            accesses: if same {
                again.seen.accesses
            } else {
                Vec::new()
            },
            forgotten,
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
            census: false,
            trace: &[],
            events: None,
            snapshot: None,
            attended: None,
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
                        numbers: None,
                    });
            }
            (GuestEnd::PoweredOff, None) => "the engine left no report".to_owned(),
            (end @ (GuestEnd::TimedOut | GuestEnd::Interrupted | GuestEnd::Left), _) => {
                stopped(end).to_owned()
            }
            (GuestEnd::Died { what }, _) => what.clone(),
        };
        Err(Error::Pilot { why })
    }

    fn step(&self, reporters: &mut Reporters, what: &str) -> Result<(), Error> {
        reporters.event(&RunEvent::Step { what: what.into() })?;
        self.progress.step(what);
        Ok(())
    }
}

/// Why a pass ended before its guest.
fn stopped(end: &GuestEnd) -> &'static str {
    match end {
        GuestEnd::Interrupted | GuestEnd::Left => "interrupted",
        _ => "the time limit was reached",
    }
}

/// Whether a run that was carried out to its end has the operation that was to be suppressed. If not, it was
/// asked for what there is not, by K or by @N.
fn took_place(number: u32, execution: &Execution) -> Result<(), Error> {
    let report = execution.report.as_ref();
    let Some(report) = report.filter(|_| execution.end == GuestEnd::PoweredOff) else {
        return Ok(());
    };
    let operations = &report.domain.maintenance.operations;
    if operations
        .iter()
        .any(|op| op.dropped && op.number == number)
    {
        return Ok(());
    }
    let on_dma_memory = operations.iter().filter(|op| op.touched_dma());
    let numbers: Vec<u32> = on_dma_memory.map(|op| op.number).collect();
    Err(Error::DropOutOfRange {
        asked: DropMaintenance::Number(number).to_string(),
        available: numbers.len(),
        numbers: numbers.first().copied().zip(numbers.last().copied()),
    })
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

/// What comes first in the stream and in the log.
fn begin(spec: &RunSpec, dir: &RunDir, reporters: &mut Reporters) -> Result<Ledger, Error> {
    reporters.event(&RunEvent::started(spec))?;
    dir.write_json(directory::SPEC, spec)?;
    Ledger::begin(spec, dir)
}

/// Writes the result.
fn finish(ledger: &Ledger, dir: &RunDir, reporters: &mut Reporters) -> Result<RunResult, Error> {
    let result = ledger.result();
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
