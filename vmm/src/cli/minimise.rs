// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline minimise`: the smallest run that fails in the same way.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use staleline_support::progress::Progress as _;

use super::GuestOptions;
use super::common::{code, or_interrupted, print, say, shown, watched};
use super::given::Given;
use crate::clean::age;
use crate::exit::{self, Error};
use crate::minimise::outcome::Keep;
use crate::minimise::runs::{Found, Wanted, minimise};
use crate::minimise::search::Stopped;
use crate::minimise::{bless, parts};
use crate::run::backend::Backend as _;
use crate::run::directory::{DEFAULT_ROOT, RunDir};
use crate::run::ledger;
use crate::run::once::{Once, Scratch};
use crate::run::wiring::Production;
use crate::scenario::limits;
use crate::spec::RunSpec;

/// The options that `--run` takes the place of.
const OF_A_RUN: [&str; 14] = [
    "scenario",
    "kernel",
    "engine",
    "cache",
    "exporter",
    "seed",
    "board",
    "set",
    "append",
    "dtb_overlay",
    "module",
    "timeout",
    "log",
    "vfio",
];

/// Options of `staleline minimise`.
#[derive(Debug, Args)]
pub struct MinimiseArgs {
    /// Name of a built-in scenario, or a TOML file.
    #[arg(required_unless_present = "run")]
    pub scenario: Option<String>,
    /// In place of a scenario and its settings: an earlier run's directory, or its events.bin.
    #[arg(long, value_name = "DIR", conflicts_with_all = OF_A_RUN)]
    pub run: Option<PathBuf>,
    /// The run that fails.
    #[command(flatten)]
    pub guest: GuestOptions,
    /// What has to stay: the verdict; the kinds of all that is found, too; or the diagnosis: of each, what is
    /// missing, and between which functions or masters.
    #[arg(long, value_enum, default_value_t)]
    pub keep: Keep,
    /// Run so many guests at most.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Look for so long at most: 90m, 12h.
    #[arg(long, value_name = "TIME", value_parser = age)]
    pub time: Option<Duration>,
    /// Directory for the smallest run's files, scenario.toml, diagnostic.txt and command [default: the next
    /// free runs/minimise/NNNN].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace the results of an earlier run in DIR.
    #[arg(long, requires = "out")]
    pub force: bool,
}

impl MinimiseArgs {
    fn spec(&self) -> Result<RunSpec, Error> {
        let spec = match (&self.run, &self.scenario) {
            (Some(run), _) => {
                let spec = ledger::of(run)?.carried_out();
                limits::check(&spec.scenario, &run.display().to_string())?;
                spec
            }
            (None, Some(scenario)) => self.guest.spec(scenario, Given::default())?,
            (None, None) => return Err(refused("a scenario or --run is needed")),
        };
        if !spec.engine.is_exact() {
            return Err(refused(
                "a run of it is not the same twice: choose an exact engine",
            ));
        }
        if spec.terminal.is_some() {
            return Err(refused(
                "what was typed at its guest's console is not known",
            ));
        }
        Ok(spec)
    }
}

fn refused(why: &str) -> Error {
    Error::Option {
        option: "minimise".into(),
        why: why.into(),
    }
}

/// Does what is asked for.
pub(super) fn run(args: &MinimiseArgs) -> Result<u8, Error> {
    let spec = args.spec()?;
    let interrupt = watched()?;
    let backend = Production {
        interrupt: interrupt.clone(),
        ..Production::default()
    };
    backend.check(&spec)?;
    let progress = shown(&interrupt);
    let scratch = Scratch::new()?;
    let once = Once {
        backend: &backend,
        scratch: &scratch,
    };
    let wanted = Wanted {
        keep: args.keep,
        runs: args.runs as usize,
        time: args.time,
    };
    let default = (Path::new(DEFAULT_ROOT), "minimise");
    let dir = RunDir::choose(args.out.as_deref(), args.force, default)?;
    progress.step("preparing the guest");
    let artifacts = backend.prepare(&spec, &progress);
    let found = artifacts.and_then(|artifacts| {
        let found = minimise(&spec, &artifacts, once, wanted, &progress)?;
        Ok((artifacts, found))
    });
    progress.clear();
    if found.is_err() {
        dir.give_up();
    }
    let (artifacts, found) = match or_interrupted(&interrupt, found)? {
        ControlFlow::Break(code) => return Ok(code),
        ControlFlow::Continue(found) => found,
    };
    let smallest = bless::spec(&spec, &found.smallest)?;
    summary(&found);
    // Nobody waits for a guest that has to be run twice when he has asked for an end.
    if interrupt.signal().is_some() {
        print(&format!("{}\n", smallest.invocation))?;
        return Ok(code(&interrupt, exit::INFRA));
    }
    progress.step("the smallest, twice");
    let blessed = bless::bless(smallest, &artifacts, &backend, &dir, &progress);
    progress.clear();
    let blessed = blessed?;
    print(&format!(
        "{}\n{}\n",
        blessed.diagnostic.trim_end(),
        blessed.spec.invocation
    ))?;
    say(&format!("results in {}", dir.path().display()));
    let otherwise = match found.stopped {
        None => exit::PASS,
        Some(Stopped::Budget | Stopped::Interrupted) => exit::FAIL,
        Some(Stopped::Failed) => exit::INFRA,
    };
    Ok(code(&interrupt, otherwise))
}

fn summary(found: &Found) {
    say(&format!("what has stayed: {}", found.outcome.text()));
    say(&format!("from {}", parts::told(&found.from)));
    say(&format!("to   {}", parts::told(&found.smallest)));
    let end = match (found.stopped, &found.failure) {
        (None, _) => "with one thing less, it is something else".to_owned(),
        (Some(Stopped::Budget), _) => "no more were allowed, so there may be a smaller one".into(),
        (Some(Stopped::Interrupted), _) => "interrupted, so there may be a smaller one".into(),
        (Some(Stopped::Failed), Some(e)) => {
            format!("a run could not be carried out: {}", e.chain())
        }
        (Some(Stopped::Failed), None) => "a run could not be carried out".into(),
    };
    say(&format!(
        "{} guests run, {} tries known: {end}",
        found.runs, found.known
    ));
}
