// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The command line.

mod attend;
mod campaign;
mod campaign_sample;
mod campaign_submit;
mod clean;
mod commands;
mod common;
mod compare;
mod exec;
mod explore;
mod given;
mod kernels;
mod litmus;
mod matrix;
mod minimise;
mod pages;
mod root;
mod shell;
mod stdin;
mod vfio;

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use serde::de::DeserializeOwned;
use staleline_protocol::plan::Exporter;
use staleline_protocol::report::BOOTED;
use staleline_support::text;
use toml::Value;

use self::attend::AttendOptions;
use self::given::Given;
use crate::board::settings::CachePolicy;
use crate::engine::description::GUEST_LOG;
use crate::engine::{EngineKind, Snapshot};
use crate::events::Filter;
use crate::exit::{self, Error};
use crate::names;
use crate::query::Wanted;
use crate::run::kernels::Ingredients;
use crate::run::modules::MODULES_KERNEL;
use crate::run::wiring;
use crate::scenario::{append, board, guest};
use crate::spec::{DEFAULT_KERNEL, RunSpec};

/// Finds missing cache maintenance: boots a guest kernel on an emulated board with real caches and
/// DMA, and says which operation is missing, where, and why.
#[derive(Debug, Parser)]
#[command(
    name = "staleline",
    version,
    after_help = "Exit codes: 0 pass; 1 hazard, corrupt data, kernel report, complaint, or not as expected; 2 usage \
                  or configuration; 3 infrastructure; 130 or 143 interrupted by SIGINT or \
                  SIGTERM.\nSTALELINE_LOG=debug logs to stderr."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one scenario.
    Run(RunArgs),
    /// Run a program of yours in the guest: `staleline exec [OPTIONS] -- PROGRAM [ARGUMENT]...`.
    Exec(Box<exec::ExecArgs>),
    /// A prompt in the guest, or commands for a shell there from standard input.
    Shell(Box<shell::ShellArgs>),
    /// Run scenarios x kernels x caches x exporters x seeds, and compare with what is expected.
    Matrix(matrix::MatrixArgs),
    /// Build kernels with a known error in each, from guest-kernel/mutants, and say which check finds it.
    Mutants(matrix::MutantsArgs),
    /// Let maintenance, barriers, interrupts and masters' accesses go wrong one by one, and say what would be
    /// noticed, what would do harm unseen, and whether the sanitizer misses or misnames one.
    Campaign(campaign::CampaignArgs),
    /// Look for the smallest run that fails in the same way: fewest faults, incidents, frames, buffers and bytes.
    Minimise(Box<minimise::MinimiseArgs>),
    /// Draw runs by seed from all that scenarios may say, until the time is over, and keep the shortest that fail.
    Explore(explore::ExploreArgs),
    /// Put together what several machines have run of one matrix, or of all mutants, each a share.
    Merge(matrix::MergeArgs),
    /// Build and list guest kernels, and check their patches.
    Kernel {
        /// What to do with them.
        #[command(subcommand)]
        command: KernelCommand,
    },
    /// Build modules of yours for a guest kernel.
    Module {
        /// What to do with them.
        #[command(subcommand)]
        command: ModuleCommand,
    },
    /// Make a file system for the guest of Debian's packages for arm64 and all that they depend on, and print
    /// where it is.
    Root(root::RootArgs),
    /// Do an earlier run again and compare its hash.
    Replay(ReplayArgs),
    /// Judge an earlier run once more, by the evidence in its log, and report it: what `run` printed, in
    /// any form.
    Report(ReportArgs),
    /// Say in what two runs, or two matrices, differ: verdicts, findings, what maintenance cost, and where the
    /// logs part.
    Compare(compare::CompareArgs),
    /// Say what happened in a run, by its log: one line for each event.
    Events(EventsArgs),
    /// Say what a kind of finding means and how to fix it.
    Explain {
        /// Name of the kind; all are listed without.
        hazard: Option<String>,
    },
    /// Say whether a short sequence of events is safe: all behaviours that the architecture allows
    /// are enumerated.
    Litmus(litmus::LitmusArgs),
    /// Remove results of runs, and what the cache keeps.
    Clean(clean::CleanArgs),
    /// Say what is missing on this machine, and the command that installs it.
    Doctor {
        /// Form of the output.
        #[arg(long, value_enum, default_value_t = TextFormat::Human)]
        format: TextFormat,
    },
    /// Print the completion script of a shell.
    Completions(pages::CompletionsArgs),
    /// Write the manual pages.
    Man(pages::ManArgs),
}

/// Form of a command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TextFormat {
    /// Text.
    Human,
    /// JSON.
    Json,
}

/// Form of a run's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RunFormat {
    /// Text, with colours on a terminal.
    Human,
    /// The result as one JSON object.
    Json,
    /// KTAP version 1.
    Ktap,
    /// SARIF 2.1.0: findings by file and line, for code hosts.
    Sarif,
}

/// Form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Text, with colours on a terminal.
    Human,
    /// The result as one JSON object.
    Json,
    /// KTAP version 1.
    Ktap,
    /// JUnit XML.
    Junit,
    /// SARIF 2.1.0: findings by file and line, for code hosts.
    Sarif,
}

fn one_of<T>(all: &[T]) -> impl TypedValueParser<Value = T> + use<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    let values: Vec<String> = all.iter().map(names::name).collect();
    PossibleValuesParser::new(values)
        .try_map(|name| names::parse(&name).ok_or(format!("`{name}` is not known")))
}

const SET_HELP: &str = "Change a setting; may be repeated. KEY is a dotted key of the scenario \
    file (transfer.frames=8, board.dmac.dma-coherent=true) or a short form: frames, buffers, \
    buffer-bytes, frame-bytes, last-frame-bytes, cpu-sync, usb-first, read-detached, offset-bytes, \
    stride-bytes, order, trailer, exporter, cache, power-on, snoop-write, ram-mib, jitter-ticks, \
    timeout, drop-maintenance, inject. drop-maintenance=K suppresses the K-th maintenance operation on \
    memory used for DMA (found by a pilot run), =@N operation N since power-on; inject=FAULT,... lets \
    other things go wrong (`inject=irq@3:lost`; README has all)";

/// `staleline run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Name of a built-in scenario, or a TOML file.
    pub scenario: String,
    /// How it is run.
    #[command(flatten)]
    pub options: RunOptions,
}

/// What decides what a run is.
#[derive(Debug, Args)]
pub struct GuestOptions {
    /// Patch stack, with ~MUTANT for a mutant on top of it and +CONFIG for each additional
    /// configuration; a build of your own (`staleline kernel list` shows all); or the path of an Image,
    /// of a kernel's build directory, of a source tree that was built, or of a directory with patches and
    /// a `series`.
    #[arg(long, default_value = DEFAULT_KERNEL, value_name = "NAME|PATH")]
    pub kernel: String,
    /// What runs the guest.
    #[arg(long, default_value_t, value_parser = one_of(&EngineKind::ALL))]
    pub engine: EngineKind,
    /// Replacement policy of the CPU's cache [default: the scenario's].
    #[arg(long, value_parser = one_of(&CachePolicy::ALL))]
    pub cache: Option<CachePolicy>,
    /// Who allocates the DMABUFs [default: the scenario's].
    #[arg(long, value_parser = one_of(&Exporter::ALL))]
    pub exporter: Option<Exporter>,
    /// Seed of data and models [default: the scenario's].
    #[arg(long)]
    pub seed: Option<u64>,
    /// Keys of the scenario's [board] table, from a TOML file; --set and the like come after it.
    #[arg(long, value_name = "FILE")]
    pub board: Option<PathBuf>,
    /// See `SET_HELP`.
    #[arg(long, value_name = "KEY=VALUE", help = SET_HELP)]
    pub set: Vec<String>,
    /// More kernel command line, at the end: words with spaces between them, such as loglevel=8.
    #[arg(long, value_name = "STRING")]
    pub append: Option<String>,
    /// Overlay on the board's device tree, source (.dtso) or blob; may be repeated. Labels are the names of
    /// devices with _ for - (&axi_dmac_rx, &dwc3) [default: the scenario's].
    #[arg(long, value_name = "FILE")]
    pub dtb_overlay: Vec<String>,
    /// Insert a module before all else begins, with its parameters; may be repeated
    /// [default: the scenario's].
    #[arg(long, value_name = "FILE.ko[:PARAMETERS]")]
    pub module: Vec<String>,
    /// Hand this PCI device of the host's over to the guest; may be repeated. All are behind one bridge, on that
    /// port: what they do by DMA is coherent (hpc), or not (hp). The host is this machine if guests run on its
    /// KVM, and else an emulated one, which has an NVMe disk at 0000:00:03.0 and an e1000e network card at
    /// 0000:00:04.0. With --engine kvm, and a kernel with +pci.
    #[arg(long, value_name = "ADDRESS[,port=hp|hpc]", value_parser = vfio::parse)]
    pub vfio: Vec<vfio::HandedOver>,
    /// Host seconds after which the guest is stopped [default: the scenario's].
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub timeout: Option<u32>,
    /// Events to keep: default, all, off, or kinds (see `staleline events --help`) with commas between
    /// them, of which default may be one [default: the scenario's].
    #[arg(long, value_name = "KINDS")]
    pub log: Option<Filter>,
}

impl GuestOptions {
    /// A run of that scenario with these settings, and those of the options.
    fn spec(&self, scenario: &str, mut given: Given) -> Result<RunSpec, Error> {
        if let Some(file) = &self.board {
            given.board(file, board::settings(file)?);
        }
        let pair = |key: &str, value: String| {
            let setting = format!("{key}={value}");
            (value, setting)
        };
        let cache = self.cache.map(|c| pair("cache", names::name(&c)));
        given.value("--cache", cache);
        let exporter = self.exporter.map(|e| pair("exporter", e.name().into()));
        given.value("--exporter", exporter);
        given.value("--seed", self.seed.map(|s| pair("seed", s.to_string())));
        let log = self.log.map(|f| pair("log.filter", f.to_string()));
        given.value("--log", log);
        let timeout = self.timeout.map(|s| pair("timeout", s.to_string()));
        given.value("--timeout", timeout);
        vfio::give(&mut given, &self.vfio)?;
        given.list("--module", "guest.modules", &self.module);
        given.list(guest::DTB_OVERLAY, "guest.dtb-overlay", &self.dtb_overlay);
        given.set(&self.set);
        let append = self.append.clone();
        given.value("--append", append.map(|a| (a.clone(), append::setting(&a))));
        let settings = given.settings();
        let spec = RunSpec::resolve(scenario, &self.kernel, self.engine, &settings);
        spec.map_err(|e| given.retold(e))
    }
}

/// How a guest is run, whatever it is to do.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// What decides what the run is.
    #[command(flatten)]
    pub guest: GuestOptions,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = RunFormat::Human)]
    pub format: RunFormat,
    /// Write a page for browsers, too, in place of what FILE may be: findings with the timeline of their lines,
    /// history, and what maintenance cost.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Directory for the run's files [default: the next free runs/SCENARIO/NNNN].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace the results of an earlier run in DIR.
    #[arg(long, requires = "out")]
    pub force: bool,
    /// Do not run a second time, after findings, for the call chains of loads and stores.
    #[arg(long)]
    pub no_trace: bool,
    /// Check the engine, too: compare each address translation with QEMU's own. Slow.
    #[arg(long)]
    pub self_check: bool,
    /// Check the machine's saved state, too: at every N-th register access or device event, save the
    /// machine and go on with a new one made from that. Slow.
    #[arg(long, value_name = "N")]
    pub save_restore: Option<NonZeroU64>,
    /// Save the guest in FILE right before the scenario's first step, and go on.
    #[arg(long, value_name = "FILE")]
    pub save_snapshot: Option<PathBuf>,
    /// Go on from FILE, which the same command has saved, in place of booting.
    #[arg(long, value_name = "FILE", conflicts_with = "save_snapshot")]
    pub from_snapshot: Option<PathBuf>,
    /// What people do with it.
    #[command(flatten)]
    pub attend: AttendOptions,
}

impl RunArgs {
    /// The run that is asked for.
    ///
    /// # Errors
    /// Usage errors.
    pub fn spec(&self) -> Result<RunSpec, Error> {
        self.options.spec(&self.scenario, Given::default())
    }
}

impl RunOptions {
    /// What is to be done with a snapshot.
    fn snapshot(&self) -> Option<Snapshot> {
        let save = |file: &PathBuf| Snapshot::Save {
            after: BOOTED,
            file: file.clone(),
        };
        let from = || self.from_snapshot.clone().map(Snapshot::From);
        self.save_snapshot.as_ref().map(save).or_else(from)
    }

    /// A run of that scenario with these settings, and those of the options.
    fn spec(&self, scenario: &str, given: Given) -> Result<RunSpec, Error> {
        let spec = self.guest.spec(scenario, given)?;
        spec.with_arguments(&self.attend.qemu_arg)
    }
}

/// Words as a setting has them.
fn list(words: &[String]) -> String {
    let words = words.iter().cloned().map(Value::String);
    Value::Array(words.collect()).to_string()
}

/// What goes into a kernel besides its patches.
#[derive(Debug, Args)]
pub struct KernelArgs {
    /// Configuration added to the base one, from guest-kernel/config; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub config: Vec<String>,
    /// Kconfig fragment of your own on top; may be repeated. An option that does not take effect is an
    /// error.
    #[arg(long, value_name = "FILE")]
    pub fragment: Vec<PathBuf>,
    /// Kernel source tree or archive [default: the distribution's linux-source-6.12].
    #[arg(long, value_name = "DIR")]
    pub src: Option<PathBuf>,
}

impl KernelArgs {
    fn ingredients(&self) -> Ingredients<'_> {
        Ingredients {
            configs: &self.config,
            fragments: &self.fragment,
            src: self.src.as_deref(),
        }
    }
}

/// `staleline kernel`.
#[derive(Debug, Subcommand)]
pub enum KernelCommand {
    /// Build a kernel, or find it built: prints name, release, hash, and where its Image is.
    Build {
        /// Patch stack, or STACK~MUTANT for one with a mutant on top (guest-kernel/mutants);
        /// STACK+CONFIG is short for --stack STACK --config CONFIG. With a `/` in it: the directory of a
        /// stack of your own.
        #[arg(long, value_name = "NAME|DIR", default_value = DEFAULT_KERNEL)]
        stack: String,
        /// Configuration and source.
        #[command(flatten)]
        kernel: KernelArgs,
        /// Name of the build, for --kernel [default with --src or --fragment: that of the source's
        /// directory, or the stack's, with what goes on top].
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Form of the output.
        #[arg(long, value_enum, default_value_t = TextFormat::Human)]
        format: TextFormat,
    },
    /// Check patches as a maintainer would: each applies, checkpatch.pl --strict is content, and at
    /// each step the touched files compile with W=1, and sparse reads them, without a warning that was not
    /// there before.
    Check {
        /// Patch stack, or the directory of one [default: each that has patches].
        #[arg(long, value_name = "NAME|DIR")]
        stack: Option<String>,
        /// Configuration and source.
        #[command(flatten)]
        kernel: KernelArgs,
        /// Form of the output.
        #[arg(long, value_enum, default_value_t = TextFormat::Human)]
        format: TextFormat,
    },
    /// List patch stacks and what is built of them, and builds of your own.
    List {
        /// Form of the output.
        #[arg(long, value_enum, default_value_t = TextFormat::Human)]
        format: TextFormat,
    },
}

/// `staleline module`.
#[derive(Debug, Subcommand)]
pub enum ModuleCommand {
    /// Build the modules in a directory for a kernel, as `make -C KERNEL M=DIR modules` does, and print
    /// where the .ko files are: in the directory. A kernel is built first if need be; one of
    /// Staleline's needs a configuration with modules, as base+userland.
    Build {
        /// Directory with a Kbuild or Makefile that has `obj-m += NAME.o`.
        dir: PathBuf,
        /// Kernel that they are for: a name, as `staleline run` takes it, or a build directory.
        #[arg(long, value_name = "NAME|PATH", default_value = MODULES_KERNEL)]
        kernel: String,
        /// Form of the output.
        #[arg(long, value_enum, default_value_t = TextFormat::Human)]
        format: TextFormat,
    },
}

/// `staleline replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Directory of the earlier run.
    pub run: PathBuf,
    /// Directory for the new run's files [default: the next free RUN/replay/NNNN].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace the results of an earlier run in DIR.
    #[arg(long, requires = "out")]
    pub force: bool,
    /// Show the guest's console on standard error while it runs.
    #[arg(long)]
    pub console: bool,
    /// Kernel command line beyond that of the earlier run, at the end; which makes it another run.
    #[arg(long, value_name = "STRING")]
    pub append: Option<String>,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = TextFormat::Human)]
    pub format: TextFormat,
}

/// `staleline report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Directory of the run, or its events.bin.
    pub run: PathBuf,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = ReportFormat::Human)]
    pub format: ReportFormat,
    /// Write a page for browsers, too, in place of what FILE may be.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `staleline events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Directory of the run, or its events.bin.
    pub run: PathBuf,
    /// Only what concerns the cache line that holds this physical address: its life.
    #[arg(long, value_name = "PA", value_parser = address)]
    pub line: Option<u64>,
    /// Only what concerns this DMABUF, by the order of allocation, from 0.
    #[arg(long, value_name = "N")]
    pub buffer: Option<u32>,
    /// Only these kinds; a list with commas: transfer, dma, maintenance, barrier, fence, handover,
    /// interrupt, register, finding, cache, access, wait, signal; and run, for the runner's own steps.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub kind: Vec<Wanted>,
    /// Not before this time, in CPU accesses since power-on (the @ of diagnostics).
    #[arg(long, value_name = "T", value_parser = time)]
    pub since: Option<u64>,
    /// Not after this time.
    #[arg(long, value_name = "T", value_parser = time)]
    pub until: Option<u64>,
    /// A JSON object in each line.
    #[arg(long)]
    pub json: bool,
}

/// A number, as C writes them.
fn address(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "it is no address: write it as 0x40e12000".into())
}

/// A time, as diagnostics write them.
fn time(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix('@').unwrap_or(text);
    let number = digits.parse();
    number.map_err(|_| "it is no time: write it as 4369291 or @4369291".into())
}

impl Command {
    /// What is logged unless the user says otherwise. Of guests that are meant to go wrong, by the thousand, nobody
    /// wants to read what their devices complained of.
    fn log(&self) -> String {
        match self {
            Command::Campaign(_) | Command::Minimise(_) | Command::Explore(_) => {
                format!("warn,{}=error", GUEST_LOG)
            }
            _ => "warn".into(),
        }
    }
}

/// Parses the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return complain(&e),
    };
    let log = env_logger::Env::new().filter_or("STALELINE_LOG", cli.command.log());
    env_logger::Builder::from_env(log).init();
    let code = commands::dispatch(&cli.command).unwrap_or_else(|e| {
        anstream::eprintln!("{}", e.render());
        e.exit_code()
    });
    wiring::rest();
    ExitCode::from(code)
}

/// Prints help, or what is wrong with the command line, which may be of any length and hold anything.
fn complain(e: &clap::Error) -> ExitCode {
    let text = e.render().to_string();
    let shown = text::elide(&text::visible(&text), exit::TOLD);
    if e.use_stderr() && shown != text {
        anstream::eprintln!("{}", shown.trim_end());
    } else {
        // A closed pipe is no reason to fail.
        let _ = e.print();
    }
    ExitCode::from(if e.use_stderr() {
        exit::USAGE
    } else {
        exit::PASS
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_are_settings() {
        let cli = Cli::try_parse_from([
            "staleline",
            "run",
            "iio-capture",
            "--cache",
            "lazy",
            "--exporter",
            "cma",
            "--seed",
            "7",
            "--timeout",
            "9",
            "--set",
            "frames=8",
        ]);
        let Command::Run(args) = cli.unwrap().command else {
            panic!("not a run");
        };
        let s = args.spec().unwrap().scenario;
        assert_eq!(
            (s.board.cache, s.seed, s.timeout_seconds),
            (CachePolicy::Lazy, 7, 9)
        );
        let t = s.transfer.unwrap();
        assert_eq!((t.exporter, t.frames), (Exporter::Cma, 8));
    }

    #[test]
    fn every_short_form_is_in_the_help() {
        for (short, _) in crate::scenario::set::SHORT {
            assert!(SET_HELP.contains(short), "{short}");
        }
    }
}
