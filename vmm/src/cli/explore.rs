// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline explore`: seeds as a search.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use staleline_support::progress::Progress as _;

use super::common::{at_a_time, code, or_interrupted, print, say, shown, watched};
use super::one_of;
use crate::clean::age;
use crate::engine::EngineKind;
use crate::exit::{self, Error};
use crate::explore::draw::Space;
use crate::explore::known::{Failures, Known};
use crate::explore::runner::{Explorer, News, Wanted, Went};
use crate::run::backend::Backend as _;
use crate::run::directory;
use crate::run::once::{Once, Scratch};
use crate::run::wiring::Production;
use crate::spec::DEFAULT_KERNEL;

/// Options of `staleline explore`.
#[derive(Debug, Args)]
pub struct ExploreArgs {
    /// Names of built-in scenarios, or TOML files.
    #[arg(required = true, value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// Kernel, as `staleline run` takes it; may be repeated.
    #[arg(long, value_name = "NAME|PATH", default_value = DEFAULT_KERNEL)]
    pub kernel: Vec<String>,
    /// These kernels are right: any finding at all is a failure.
    #[arg(long)]
    pub right: bool,
    /// Do each run that passes once more with one or two faults, which must be found and named.
    #[arg(long)]
    pub faults: bool,
    /// A setting that is the same in all runs; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The first seed; each is one run, and the next is one more.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Run so many seeds at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub runs: Option<u64>,
    /// Begin no run after so long: 10m, 8h [default: 10m, unless --runs is given].
    #[arg(long, value_name = "TIME", value_parser = age)]
    pub time: Option<Duration>,
    /// Guests run at a time [default: one for each processor].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// What runs the guests.
    #[arg(long, default_value_t, value_parser = one_of(&EngineKind::ALL))]
    pub engine: EngineKind,
    /// Directory of failures.jsonl, to which failures are added, and whose failures are run first.
    #[arg(long, value_name = "DIR", default_value = "runs/explore")]
    pub out: PathBuf,
}

/// Time, if nothing is said.
const TIME: Duration = Duration::from_secs(600);

/// Does what is asked for.
pub(super) fn run(args: &ExploreArgs) -> Result<u8, Error> {
    if !args.engine.is_exact() {
        return Err(Error::Option {
            option: format!("--engine {}", args.engine.name()),
            why: "a seed of it is not the same run twice: choose an exact engine".into(),
        });
    }
    let space = Space {
        scenarios: args.scenarios.clone(),
        kernels: args.kernel.clone(),
        engine: args.engine,
        set: args.set.clone(),
    };
    let corners = space.corners()?;
    let interrupt = watched()?;
    let backend = Production {
        interrupt: interrupt.clone(),
        ..Production::default()
    };
    for spec in &corners {
        backend.check(spec)?;
    }
    let program = backend.identity()?;
    std::fs::create_dir_all(&args.out).map_err(|source| Error::Output {
        path: args.out.clone(),
        source,
    })?;
    let _lock = directory::lock(&args.out)?;
    let mut failures = Failures::open(&args.out)?;
    if failures.damaged > 0 {
        say(&format!(
            "{} lines of what failed before say nothing",
            failures.damaged
        ));
    }
    let progress = shown(&interrupt);
    let mut guests = Vec::new();
    for spec in corners {
        progress.step(&format!("preparing the guest of {}", spec.scenario.name));
        let made = backend.prepare(&spec, &progress);
        if made.is_err() {
            progress.clear();
        }
        match or_interrupted(&interrupt, made)? {
            ControlFlow::Break(code) => return Ok(code),
            ControlFlow::Continue(made) => guests.push((spec, made)),
        }
    }
    let scratch = Scratch::new()?;
    let wanted = Wanted {
        seed: args.seed,
        runs: args.runs,
        time: args.time.or(args.runs.is_none().then_some(TIME)),
        jobs: at_a_time(args.jobs),
        right: args.right,
        faults: args.faults,
    };
    let explorer = Explorer {
        space: &space,
        once: Once {
            backend: &backend,
            scratch: &scratch,
        },
        guests: &guests,
        program: &program,
        wanted,
    };
    let went = explorer.explore(&mut failures, &progress);
    progress.clear();
    let went = went?;
    print(&told(&went, args.seed))?;
    Ok(code(&interrupt, exit_code(&went)))
}

fn exit_code(went: &Went) -> u8 {
    let still = went.news.iter().any(|news| !matches!(news, News::Fixed(_)));
    match (went.trouble.is_empty(), still || went.failed > 0) {
        (false, _) => exit::INFRA,
        (true, true) => exit::FAIL,
        (true, false) => exit::PASS,
    }
}

/// What there is to be told.
fn told(went: &Went, first: u64) -> String {
    let one = |what: &str, known: &Known| {
        format!(
            "{what}: seed {}: {}\n  {}\n",
            known.seed, known.diagnosis, known.spec.invocation
        )
    };
    let mut text = String::new();
    for news in &went.news {
        text += &match news {
            News::Still(known) => one("still", known),
            News::Fixed(known) => one("fixed", known),
            News::New(known) => one("failed", known),
        };
    }
    for (seed, why) in &went.trouble {
        text += &format!("error: seed {seed}: {why}\n");
    }
    text += &format!(
        "{} runs from seed {first} on, {} failed, {} could not be carried out\n",
        went.seeds,
        went.failed,
        went.trouble.len()
    );
    text
}
