// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What each command does.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use staleline_support::cache::CacheDir;
use staleline_support::progress::Stderr;
use staleline_support::text;

use super::attend;
use super::campaign;
use super::common::{
    code, page, print, print_json, say, shown, unless_interrupted, watched, written,
};
use super::compare;
use super::explore;
use super::kernels;
use super::litmus::{self, LitmusArgs};
use super::matrix;
use super::minimise;
use super::root::RootArgs;
use super::shell::ShellArgs;
use super::{
    Command, EventsArgs, KernelCommand, ModuleCommand, ReplayArgs, ReportArgs, ReportFormat,
    RunFormat, RunOptions, TextFormat, pages,
};
use crate::engine::Attendance;
use crate::exit::{self, Error};
use crate::query::{self, Query, Shape};
use crate::report::html::Html;
use crate::report::output::Output;
use crate::report::{Layout, Reporters, human, json, junit, ktap, sarif};
use crate::run::backend::Backend as _;
use crate::run::directory::{self, DEFAULT_ROOT, RunDir};
use crate::run::orchestrate::Runner;
use crate::run::replay::{self, Earlier};
use crate::run::wiring::Production;
use crate::run::{ledger, logbook, modules, provided};
use crate::spec::{KernelChoice, RunSpec};
use crate::{doctor, explain, terminal};

/// Does what the command line says; gives the exit code.
pub fn dispatch(command: &Command) -> Result<u8, Error> {
    match command {
        Command::Run(args) => run(
            &args.spec()?,
            &args.options,
            args.options.attend.attendance(),
        ),
        Command::Exec(args) => {
            let attendance = args.options.attend.attendance();
            run(&args.spec(args.input()?)?, &args.options, attendance)
        }
        Command::Shell(args) => shell(args),
        Command::Matrix(args) => matrix::run(args),
        Command::Mutants(args) => matrix::mutants(args),
        Command::Campaign(args) => campaign::run(args),
        Command::Minimise(args) => minimise::run(args),
        Command::Explore(args) => explore::run(args),
        Command::Merge(args) => matrix::merge(args),
        Command::Kernel { command } => kernel(command),
        Command::Module { command } => module(command),
        Command::Root(args) => root(args),
        Command::Replay(args) => run_replay(args),
        Command::Report(args) => report(args),
        Command::Compare(args) => compare::run(args),
        Command::Events(args) => run_events(args),
        Command::Explain { hazard } => {
            let text = match hazard {
                Some(name) => explain::text(explain::find(name)?),
                None => explain::list(),
            };
            print(&text)?;
            Ok(exit::PASS)
        }
        Command::Litmus(args) => run_litmus(args),
        Command::Clean(args) => {
            let done = args.carry_out()?;
            print(&text::visible(&done.to_string()))?;
            Ok(if done.failed() {
                exit::INFRA
            } else {
                exit::PASS
            })
        }
        Command::Doctor { format } => {
            let diagnosis = doctor::Diagnosis::of_this_machine();
            match format {
                TextFormat::Human => print(&diagnosis.text())?,
                TextFormat::Json => print_json(&diagnosis)?,
            }
            Ok(diagnosis.exit_code())
        }
        Command::Completions(args) => {
            let script = pages::completions(args.shell);
            written("stdout", io::stdout().write_all(&script))?;
            Ok(exit::PASS)
        }
        Command::Man(args) => {
            pages::manual(&args.out)?;
            Ok(exit::PASS)
        }
    }
}

fn shell(args: &ShellArgs) -> Result<u8, Error> {
    let live = ShellArgs::is_live();
    let spec = args.spec(live)?;
    if live {
        // Before anybody else asks for signals.
        terminal::give_back_at_signals().map_err(|e| Error::host("cannot watch for signals", e))?;
        say("Ctrl-A x leaves the guest, `exit` there ends it");
    }
    let attendance = ShellArgs::attendance(live, args.options.attend.attendance());
    run(&spec, &args.options, attendance)
}

fn run(spec: &RunSpec, args: &RunOptions, attendance: Attendance) -> Result<u8, Error> {
    let interrupt = watched()?;
    let mut backend = attend::production(spec, attendance, &interrupt)?;
    backend.self_check = args.self_check;
    backend.save_restore = args.save_restore;
    backend.snapshot = args.snapshot();
    backend.no_time_limit |= spec.terminal.is_some() && args.guest.timeout.is_none();
    backend.check(spec)?;
    let page = page(args.html.as_deref())?;
    let default = (Path::new(DEFAULT_ROOT), &*spec.scenario.name);
    let dir = RunDir::choose(args.out.as_deref(), args.force, default)?;
    let progress = attend::shown(attendance, &interrupt);
    let result = {
        let mut reporters = logbook::files(&dir)?;
        let out = anstream::stdout();
        let output = Output::of_this_process(args.format == RunFormat::Human);
        reporters.add("the program's output", output);
        match args.format {
            RunFormat::Human => {
                reporters.add("stdout", human::Human::laid_out(out, Layout::of_stdout()))
            }
            RunFormat::Json => reporters.add("stdout", json::Final(out)),
            RunFormat::Ktap => reporters.add("stdout", ktap::Ktap(out)),
            RunFormat::Sarif => reporters.add("stdout", sarif::Sarif(out)),
        }
        if let Some(file) = page {
            let log = dir.file(directory::LOG);
            reporters.add(file.display().to_string(), html(file, log, spec));
        }
        let runner = Runner {
            backend: &backend,
            progress: &progress,
            trace: !args.no_trace,
        };
        runner.run(spec, &dir, &mut reporters)
    };
    progress.clear();
    let result = result?;
    say(&format!("results in {}", dir.path().display()));
    Ok(code(&interrupt, exit::of(result.verdict)))
}

/// A page of a run with that log.
fn html(file: &Path, log: PathBuf, spec: &RunSpec) -> Html {
    Html::new(file.to_owned(), log, spec.scenario.board.snoop_write)
}

fn report(args: &ReportArgs) -> Result<u8, Error> {
    let page = page(args.html.as_deref())?;
    let fold = ledger::of(&args.run)?;
    let result = fold.result();
    let mut reporters = Reporters::default();
    let out = anstream::stdout();
    let output = Output::of_this_process(args.format == ReportFormat::Human);
    reporters.add("the program's output", output);
    match args.format {
        ReportFormat::Human => {
            reporters.add("stdout", human::Human::laid_out(out, Layout::of_stdout()))
        }
        ReportFormat::Json => reporters.add("stdout", json::Final(out)),
        ReportFormat::Ktap => reporters.add("stdout", ktap::Ktap(out)),
        ReportFormat::Junit => reporters.add("stdout", junit::Junit(out)),
        ReportFormat::Sarif => reporters.add("stdout", sarif::Sarif(out)),
    }
    if let Some(file) = page {
        let log = directory::log_of(&args.run)?;
        reporters.add(file.display().to_string(), html(file, log, fold.spec()));
    }
    for event in ledger::events(&fold, &result) {
        reporters.event(&event)?;
    }
    Ok(exit::of(result.verdict))
}

fn run_events(args: &EventsArgs) -> Result<u8, Error> {
    let query = Query {
        line: args.line,
        buffer: args.buffer,
        kinds: args.kind.clone(),
        since: args.since,
        until: args.until,
    };
    let shape = match args.json {
        true => Shape::Lines,
        false => Shape::Table,
    };
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let lacks = query::write(&args.run, &query, shape, &mut out)?;
    for what in lacks {
        say(&what);
    }
    Ok(exit::PASS)
}

fn run_litmus(args: &LitmusArgs) -> Result<u8, Error> {
    let rows = litmus::judge(args)?;
    match args.format {
        TextFormat::Human => print(&litmus::text(&rows))?,
        TextFormat::Json => print_json(&rows)?,
    }
    Ok(litmus::exit_code(&rows))
}

fn run_replay(args: &ReplayArgs) -> Result<u8, Error> {
    let mut earlier = Earlier::read(&args.run)?;
    if let Some(append) = &args.append {
        earlier.append(append)?;
    }
    let interrupt = watched()?;
    let attendance = attend::looked_at(args.console);
    let backend = attend::production(&earlier.spec, attendance, &interrupt)?;
    backend.check(&earlier.spec)?;
    let beside = match args.run.is_dir() {
        true => args.run.clone(),
        // Its log was named.
        false => args.run.with_file_name(""),
    };
    if args.out.as_ref() == Some(&args.run) {
        return Err(Error::OutputTaken {
            path: args.run.clone(),
        });
    }
    let dir = RunDir::choose(args.out.as_deref(), args.force, (&beside, "replay"))?;
    if !earlier.spec.engine_arguments.is_empty() {
        // Whoever has written that run is trusted with them.
        say(&format!(
            "the {} engine is given what the earlier run gave it: {}",
            earlier.spec.engine,
            earlier.spec.engine_arguments.join(" ")
        ));
    }
    let progress = attend::shown(attendance, &interrupt);
    let runner = Runner {
        backend: &backend,
        progress: &progress,
        trace: false,
    };
    let result = runner.run(&earlier.spec, &dir, &mut logbook::files(&dir)?);
    progress.clear();
    let result = result?;
    let comparison = replay::compare(&earlier.result, &result);
    match args.format {
        TextFormat::Human => print(&comparison.to_string())?,
        TextFormat::Json => print_json(&comparison)?,
    }
    if result.run_hash.is_none() {
        for reason in &result.reasons {
            say(reason);
        }
        return Ok(code(&interrupt, exit::INFRA));
    }
    let otherwise = match comparison.same {
        true => exit::PASS,
        false => exit::FAIL,
    };
    Ok(code(&interrupt, otherwise))
}

fn kernel(command: &KernelCommand) -> Result<u8, Error> {
    if let KernelCommand::List { .. } = command {
        return on_kernels(command, &Stderr::new());
    }
    let interrupt = watched()?;
    let progress = shown(&interrupt);
    let outcome = on_kernels(command, &progress);
    progress.clear();
    unless_interrupted(&interrupt, outcome)
}

fn on_kernels(command: &KernelCommand, progress: &Stderr) -> Result<u8, Error> {
    match command {
        KernelCommand::Build {
            kernel,
            stack,
            name,
            format,
        } => {
            let built = Production::default().build_kernel(
                stack,
                &kernel.ingredients(),
                name.as_deref(),
                progress,
            );
            progress.clear();
            let (built, name) = built?;
            match format {
                TextFormat::Json => print_json(&built)?,
                TextFormat::Human => print(&format!(
                    "{name} {} {} {}\n",
                    built.version,
                    built.hash,
                    built.image.display()
                ))?,
            }
        }
        KernelCommand::Check {
            kernel,
            stack,
            format,
        } => {
            let (stack, more) = (stack.as_deref(), kernel.ingredients());
            let checks = Production::default().check_patches(stack, &more, progress);
            progress.clear();
            let checks = checks?;
            match format {
                TextFormat::Json => print_json(&checks)?,
                TextFormat::Human => {
                    print(&checks.iter().map(ToString::to_string).collect::<String>())?;
                }
            }
            if checks.iter().any(|check| check.complaints() > 0) {
                return Ok(exit::FAIL);
            }
        }
        KernelCommand::List { format } => {
            let rows = Production::default().kernels()?;
            match format {
                TextFormat::Json => print_json(&rows)?,
                TextFormat::Human => print(&kernels::table(&rows))?,
            }
        }
    }
    Ok(exit::PASS)
}

fn module(command: &ModuleCommand) -> Result<u8, Error> {
    let ModuleCommand::Build {
        dir,
        kernel,
        format,
    } = command;
    let interrupt = watched()?;
    let progress = shown(&interrupt);
    let built = modules::build(dir, &KernelChoice(kernel.clone()), &progress);
    progress.clear();
    let built = built?;
    match format {
        TextFormat::Json => print_json(&built)?,
        TextFormat::Human => {
            let files = built.files.iter();
            let files = files.map(|f| format!("{}\n", f.display()));
            print(&files.collect::<String>())?;
        }
    }
    Ok(exit::PASS)
}

fn root(args: &RootArgs) -> Result<u8, Error> {
    let interrupt = watched()?;
    let progress = shown(&interrupt);
    let cache = CacheDir::from_environment().map_err(|e| Error::host("no cache", e))?;
    let made = provided::root(&args.packages, args.update, &cache, &progress);
    progress.clear();
    let made = made?;
    match args.format {
        TextFormat::Json => print_json(&made)?,
        TextFormat::Human => {
            for package in &made.packages {
                say(&format!("{} {}", package.name, package.version));
            }
            print(&format!("{}\n", made.path.display()))?;
        }
    }
    Ok(exit::PASS)
}
