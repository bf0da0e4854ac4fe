// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline matrix`, `mutants` and `merge`: many runs, and what came of all of them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use staleline_support::files;

use super::common::{at_a_time, code, page, print, say, shown, watched, written};
use super::{RunFormat, one_of};
use crate::engine::EngineKind;
use crate::exit::{self, Error};
use crate::matrix::baseline::Baseline;
use crate::matrix::cost;
use crate::matrix::partition::Partition;
use crate::matrix::record::{self, Asked, Begun, Cells, Origin};
use crate::matrix::report::{self, Report};
use crate::matrix::runner::{self, Manner, Ran};
use crate::matrix::{Cell, Extent, Matrix, came_to, html, merge};
use crate::mutants;
use crate::mutants::report::Score;
use crate::run::backend::Backend as _;
use crate::run::directory::{self, DEFAULT_ROOT};
use crate::run::wiring::Production;
use crate::spec::quote;

/// Options of `staleline matrix`.
#[derive(Debug, Args)]
pub struct MatrixArgs {
    /// TOML file; the built-in matrix without.
    pub file: Option<PathBuf>,
    #[command(flatten)]
    runs: RunsArgs,
    /// Run a few cells of each group only: of each scenario the first kernel, cache, exporter and seed, and
    /// none of groups that say `brief = false`.
    #[arg(long)]
    brief: bool,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = RunFormat::Human)]
    format: RunFormat,
    /// Show what cache maintenance cost in each cell, by lines, bytes and share of the path, instead of what was
    /// found.
    #[arg(long, conflicts_with = "format")]
    cost: bool,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    baseline: BaselineArgs,
    /// Go on with the matrix in DIR that was interrupted: run what is left. Refused if its file, a kernel or
    /// staleline is not what it was.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["file", "out", "list", "engine", "append", "partition", "brief"])]
    resume: Option<PathBuf>,
}

/// Options of `staleline mutants`.
#[derive(Debug, Args)]
pub struct MutantsArgs {
    /// Mutants, or stacks, all of whose mutants are meant; all mutants without.
    #[arg(value_name = "STACK")]
    names: Vec<String>,
    #[command(flatten)]
    runs: RunsArgs,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = MutantsFormat::Human)]
    format: MutantsFormat,
    /// Go on with what was interrupted in DIR: run what is left. Refused if a mutant, a kernel or staleline is
    /// not what it was.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["names", "out", "list", "engine", "append", "partition"])]
    resume: Option<PathBuf>,
}

/// Options of `staleline merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Directories of shares (--partition) of one matrix.
    #[arg(required = true, value_name = "SHARE")]
    shares: Vec<PathBuf>,
    /// Directory for all runs' files and junit.xml.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace the results of an earlier matrix in DIR.
    #[arg(long)]
    force: bool,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = RunFormat::Human)]
    format: RunFormat,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    baseline: BaselineArgs,
}

/// A page.
#[derive(Debug, Args)]
struct PageArgs {
    /// Write a page for browsers, too, in place of what FILE may be: all cells, each cause once with the timeline of
    /// its lines and its history, and what maintenance cost.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// What is run, and how.
#[derive(Debug, Args)]
struct RunsArgs {
    /// Guests run at a time [default: one for each processor].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// What runs the guests.
    #[arg(long, default_value_t, value_parser = one_of(&EngineKind::ALL))]
    engine: EngineKind,
    /// More kernel command line for all runs, at the end.
    #[arg(long, value_name = "STRING")]
    append: Option<String>,
    /// Run a share of the cells: hash:M/N is the Mth of N. `staleline merge` puts shares together.
    #[arg(long, value_name = "SHARE")]
    partition: Option<Partition>,
    /// Directory for the runs' files and junit.xml [default: the next free runs/matrix/NNNN, or
    /// runs/mutants/NNNN].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace the results of an earlier matrix in DIR.
    #[arg(long, requires = "out")]
    force: bool,
    /// List the cells, run nothing.
    #[arg(long)]
    list: bool,
}

/// What is known to be bad.
#[derive(Debug, Args)]
struct BaselineArgs {
    /// Cells that are known not to come out as expected: they do not fail the matrix as long as they come out
    /// as FILE says, or with less.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write FILE: a baseline of the cells that do not come out as expected now.
    #[arg(long, value_name = "FILE")]
    write_baseline: Option<PathBuf>,
}

/// Form of what comes of mutants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MutantsFormat {
    /// Text.
    Human,
    /// A list with one object for each run.
    Json,
    /// KTAP version 1.
    Ktap,
}

/// Runs a matrix.
pub(super) fn run(args: &MatrixArgs) -> Result<u8, Error> {
    let asked = Asked::Matrix(args.file.clone());
    let known = args.baseline.read()?;
    let html = page(args.page.html.as_deref())?;
    let extent = Extent { brief: args.brief };
    let Some(mut done) =
        args.runs
            .carry_out(asked, args.resume.as_deref(), ("matrix", false, extent))?
    else {
        return Ok(exit::PASS);
    };
    let otherwise = tell(
        &done.begun,
        &mut done.ran,
        match args.cost {
            true => Form::Cost,
            false => Form::Of(args.format),
        },
        (&args.baseline, known),
        html,
    )?;
    Ok(done.told(otherwise))
}

/// Runs mutants.
pub(super) fn mutants(args: &MutantsArgs) -> Result<u8, Error> {
    let asked = Asked::Mutants(args.names.clone());
    let Some(done) = args.runs.carry_out(
        asked,
        args.resume.as_deref(),
        ("mutants", true, Extent::default()),
    )?
    else {
        return Ok(exit::PASS);
    };
    let origin = &done.begun.origin;
    let names = match &origin.asked {
        Asked::Mutants(names) => &names[..],
        Asked::Matrix(_) => &[],
    };
    let plan = mutants::plan(names, origin.engine, origin.append.as_deref())?;
    let score = Score::of(&plan, &done.ran, &done.begun.out)?;
    junit(&done.begun.out, |out| score.write_junit(out))?;
    let stdout = &mut anstream::stdout();
    match args.format {
        MutantsFormat::Human => print(&score.table())?,
        MutantsFormat::Json => written("stdout", score.write_json(stdout))?,
        MutantsFormat::Ktap => written("stdout", score.write_ktap(stdout))?,
    }
    let otherwise = score.exit_code();
    Ok(done.told(otherwise))
}

/// Puts shares together.
pub(super) fn merge(args: &MergeArgs) -> Result<u8, Error> {
    let known = args.baseline.read()?;
    let html = page(args.page.html.as_deref())?;
    let (begun, mut ran) = merge::merge(&args.shares, (&args.out, args.force), &cells)?;
    let code = tell(
        &begun,
        &mut ran,
        Form::Of(args.format),
        (&args.baseline, known),
        html,
    )?;
    if !ran.left.is_empty() {
        say(&format!(
            "no share has run {} of {} cells: `staleline matrix --resume {}` runs them",
            ran.left.len(),
            begun.cells.len(),
            quote(&begun.out.display().to_string())
        ));
    }
    say(&format!("results in {}", begun.out.display()));
    Ok(code)
}

/// The cells that are asked for, as files are now.
fn cells(origin: &Origin) -> Result<Cells, Error> {
    let append = origin.append.as_deref();
    let (all, rows) = match &origin.asked {
        Asked::Matrix(file) => {
            let matrix = Matrix::load(file.as_deref())?.of_extent(origin.extent);
            (matrix.cells(origin.engine, append)?, matrix.row)
        }
        Asked::Mutants(names) => {
            let plan = mutants::plan(names, origin.engine, append)?;
            (plan.cells, Vec::new())
        }
    };
    Cells::of(all, rows, origin.partition)
}

/// Runs that were made.
struct Done {
    begun: Begun,
    ran: Ran,
    interrupt: crate::interrupt::Interrupt,
    resume: &'static str,
}

impl Done {
    /// Says where the results are; gives the exit code.
    fn told(&self, otherwise: u8) -> u8 {
        let (begun, left) = (&self.begun, &self.ran.left);
        if !left.is_empty() {
            say(&format!(
                "interrupted, {} of {} cells are left: `staleline {} --resume {}` goes on",
                left.len(),
                begun.cells.len(),
                self.resume,
                quote(&begun.out.display().to_string())
            ));
        }
        say(&format!("results in {}", begun.out.display()));
        code(&self.interrupt, otherwise)
    }
}

/// What is to be done.
enum Todo<'a> {
    /// These.
    All(Cells),
    /// What is left in this directory.
    Rest(&'a Path),
}

impl RunsArgs {
    /// Runs what is asked for; none if it was to be listed only.
    fn carry_out(
        &self,
        asked: Asked,
        resume: Option<&Path>,
        (command, trace, extent): (&'static str, bool, Extent),
    ) -> Result<Option<Done>, Error> {
        let origin = Origin {
            asked,
            engine: self.engine,
            append: self.append.clone(),
            partition: self.partition,
            extent,
        };
        let todo = match resume {
            Some(dir) => Todo::Rest(dir),
            None => Todo::All(cells(&origin)?),
        };
        let here = match &todo {
            Todo::Rest(_) => &[][..],
            Todo::All(cells) => &cells.here,
        };
        if self.list {
            let names: String = here.iter().map(|c| format!("{}\n", c.name)).collect();
            print(&names)?;
            return Ok(None);
        }
        let jobs = at_a_time(self.jobs);
        let interrupt = watched()?;
        let backend = Production {
            interrupt: interrupt.clone(),
            ..Production::default()
        };
        for cell in here {
            backend.check(&cell.spec)?;
        }
        let program = backend.identity()?;
        let begun = match todo {
            Todo::All(cells) => {
                let out = match &self.out {
                    Some(path) => path.clone(),
                    None => directory::create_next(Path::new(DEFAULT_ROOT), command)?,
                };
                record::begin(origin, cells, program, (&out, self.force))?
            }
            Todo::Rest(dir) => record::resume(dir, &origin.asked, &program, &cells)?,
        };
        let progress = shown(&interrupt);
        let manner = Manner { jobs, trace };
        let ran = runner::run(&begun, manner, &backend, &progress);
        progress.clear();
        Ok(Some(Done {
            begun,
            ran: ran?,
            interrupt,
            resume: command,
        }))
    }
}

impl BaselineArgs {
    /// Before anything is run.
    fn read(&self) -> Result<Option<Baseline>, Error> {
        self.baseline.as_deref().map(Baseline::load).transpose()
    }
}

/// The names of all cells of a matrix, of which a share may be run, or a brief form.
fn whole(begun: &Begun) -> Vec<String> {
    let origin = &begun.origin;
    let all = match &origin.asked {
        Asked::Matrix(file) => Matrix::load(file.as_deref())
            .and_then(|matrix| matrix.cells(origin.engine, origin.append.as_deref()))
            .ok(),
        Asked::Mutants(_) => None,
    };
    let names = |cells: &[Cell]| cells.iter().map(|cell| cell.name.clone()).collect();
    all.map_or_else(|| names(&begun.cells), |all| names(&all))
}

fn junit(out: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let mut text = Vec::new();
    write(&mut text)
        .and_then(|()| files::write_whole(&out.join(directory::JUNIT), &text, files::READABLE))
        .map_err(|e| Error::host("cannot write junit.xml", e))
}

/// Form of what comes of a matrix.
enum Form {
    /// What was found.
    Of(RunFormat),
    /// What maintenance cost, for people.
    Cost,
}

/// Tells what came of a matrix; gives the exit code.
fn tell(
    begun: &Begun,
    ran: &mut Ran,
    form: Form,
    (baseline, known): (&BaselineArgs, Option<Baseline>),
    page: Option<&Path>,
) -> Result<u8, Error> {
    if let Some(known) = known {
        for name in known.apply(&mut ran.results) {
            say(&format!(
                "{name} is as expected now: the baseline need not know it any more"
            ));
        }
        for name in known.strangers(&whole(begun)) {
            say(&format!(
                "{name}, which the baseline knows, is no cell of the matrix"
            ));
        }
    }
    let about = begun.origin.to_string();
    let report = Report {
        about: &about,
        rows: &begun.rows,
        out: &begun.out,
        results: &ran.results,
        left: &ran.left,
    };
    junit(&begun.out, |out| report.write_junit(out))?;
    let stdout = &mut anstream::stdout();
    match form {
        Form::Cost => print(&cost::table(&ran.results))?,
        Form::Of(RunFormat::Human) => {
            print(&report::table(&ran.results))?;
            let rows = came_to::table(report.rows, &ran.results);
            if !rows.is_empty() {
                print(&format!("\n{rows}"))?;
            }
        }
        Form::Of(RunFormat::Json) => written("stdout", report.write_json(stdout))?,
        Form::Of(RunFormat::Ktap) => written("stdout", report.write_ktap(stdout))?,
        Form::Of(RunFormat::Sarif) => written("stdout", report.write_sarif(stdout))?,
    }
    if let Some(file) = page {
        html::write(file, &report).map_err(|source| Error::Output {
            path: file.to_owned(),
            source,
        })?;
    }
    if let Some(path) = &baseline.write_baseline {
        Baseline::of(&ran.results).write(path)?;
        say(&format!("wrote {}", path.display()));
    }
    Ok(report::exit_code(&ran.results, begun.cells.len()))
}
