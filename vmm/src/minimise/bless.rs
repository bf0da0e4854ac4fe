// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The run that was found as a command and its diagnostic, seen twice.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use staleline_results::{RunResult, Verdict};
use staleline_support::files;
use staleline_support::progress::Progress;

use crate::evidence::Artifacts;
use crate::exit::Error;
use crate::report::human::Human;
use crate::report::{Reporter, RunEvent};
use crate::run::backend::Backend;
use crate::run::directory::{self, RunDir};
use crate::run::logbook;
use crate::run::orchestrate::Runner;
use crate::scenario::{Scenario, difference};
use crate::spec::RunSpec;

/// What was blessed.
pub struct Blessed {
    /// The run, with a command that does it.
    pub spec: RunSpec,
    /// What was told of it: part of what that command prints.
    pub diagnostic: String,
    /// What it came to.
    pub result: RunResult,
}

/// The run of a smaller scenario, as a command line has it.
///
/// # Errors
/// If no command line says that.
pub fn spec(of: &RunSpec, smallest: &Scenario) -> Result<RunSpec, Error> {
    let cannot = |why: String| Error::Minimise {
        what: of.scenario.name.clone(),
        why: format!("no command line does the run that was found: {why}"),
    };
    let base = Scenario::load(&of.origin)?;
    let settings = difference::settings(&base, smallest).map_err(cannot)?;
    let spec = RunSpec::resolve(&of.origin, &of.kernel.0, of.engine, &settings)?;
    let spec = spec.with_arguments(&of.engine_arguments)?;
    match spec.scenario == *smallest {
        true => Ok(spec),
        false => Err(cannot("its settings come to another scenario".into())),
    }
}

/// Does the run twice, the first time in `dir`, and leaves there what was told of it, the scenario and the command.
///
/// # Errors
/// [`Error::Minimise`] if it does not come to the same twice; trouble with writing.
pub fn bless(
    spec: RunSpec,
    artifacts: &Artifacts,
    backend: &dyn Backend,
    dir: &RunDir,
    progress: &dyn Progress,
) -> Result<Blessed, Error> {
    let scratch = tempfile::tempdir().map_err(|e| Error::host("cannot make a directory", e))?;
    let again = RunDir::create(&scratch.path().join("again"))?;
    let mut seen = Vec::new();
    for dir in [dir, &again] {
        let told = Text::default();
        let mut reporters = logbook::files(dir)?;
        reporters.add("the diagnostic", Findings(Human::new(told.clone())));
        let runner = Runner {
            backend,
            progress,
            trace: true,
        };
        let result = runner.run_prepared(&spec, artifacts, dir, &mut reporters)?;
        seen.push((told.whole(&result), result));
    }
    let (Some((second, twice)), Some((diagnostic, result))) = (seen.pop(), seen.pop()) else {
        return Err(differs(&spec, "it was not run"));
    };
    if result.interrupted || twice.interrupted {
        return Err(differs(&spec, "interrupted"));
    }
    if diagnostic != second || result.run_hash != twice.run_hash {
        return Err(differs(
            &spec,
            "the smallest run told something else the second time",
        ));
    }
    let scenario =
        toml::to_string(&spec.scenario).map_err(|e| Error::host("cannot write TOML", e))?;
    write(dir, directory::SCENARIO, &scenario)?;
    write(dir, directory::DIAGNOSTIC, &diagnostic)?;
    write(dir, directory::COMMAND, &format!("{}\n", spec.invocation))?;
    Ok(Blessed {
        spec,
        diagnostic,
        result,
    })
}

fn differs(spec: &RunSpec, why: &str) -> Error {
    Error::Minimise {
        what: spec.invocation.clone(),
        why: why.into(),
    }
}

fn write(dir: &RunDir, name: &str, text: &str) -> Result<(), Error> {
    let path = dir.file(name);
    let written = files::write_whole(&path, text.as_bytes(), files::READABLE);
    written.map_err(|source| Error::Output { path, source })
}

/// Text that is being told.
#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Text {
    /// All of it, and why a run without findings says nothing.
    fn whole(&self, result: &RunResult) -> String {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = anstream::adapter::strip_str(&String::from_utf8_lossy(&text)).to_string();
        match result.verdict {
            Verdict::InfraError => {
                let reasons = result.reasons.iter();
                text + &reasons
                    .map(|why| format!("error: {why}\n"))
                    .collect::<String>()
            }
            Verdict::Pass | Verdict::Fail => text,
        }
    }
}

/// What people are told of findings, but not the summary, in which it stands how long it took.
struct Findings(Human<Text>);

impl Reporter for Findings {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        match event {
            RunEvent::Finished { .. } => Ok(()),
            _ => self.0.event(event),
        }
    }
}
