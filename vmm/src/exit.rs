// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Exit codes, and the one error type they are derived from.

use std::fmt::Write as _;
use std::path::PathBuf;

use staleline_events::LogError;
use staleline_initramfs::{DiskError, InitramfsError};
use staleline_kernels::KernelError;
use staleline_packages::PackagesError;
use staleline_results::Verdict;
use staleline_support::text;

use crate::engine::EngineError;

/// Everything asked for was done, and no incoherency was found.
pub const PASS: u8 = 0;
/// A hazard, corrupt data, a report of the guest kernel on itself, a failed guest test, an
/// unexpected cell of a matrix, a replay that differs, or a complaint about a patch.
pub const FAIL: u8 = 1;
/// The command line, a scenario or another configuration file is wrong; nothing slow was started.
pub const USAGE: u8 = 2;
/// Kernel build, QEMU, guest boot, timeout, host: the run says nothing about coherency.
pub const INFRA: u8 = 3;

/// It was interrupted, by SIGINT (130) or SIGTERM (143): 128 and the signal's number, as shells have it. What
/// there was by then is told and written.
pub fn interrupted(signal: u8) -> u8 {
    128_u8.saturating_add(signal)
}

/// The exit code of a run that ends so.
pub fn of(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => PASS,
        Verdict::Fail => FAIL,
        Verdict::InfraError => INFRA,
    }
}

/// A boxed cause.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of an error that are told, causes and all, about. What it quotes may be of any length.
pub const TOLD: usize = 2700;
/// And of the way out.
const HELP: usize = 1000;

/// Characters of a line of a foreign file that are shown.
const SHOWN: usize = 200;

/// Lines that are shown of it.
const EXCERPT: usize = 12;

/// Text that quotes a file, whose lines may be of any length.
fn cut(detail: &str) -> String {
    let line = |line: &str| match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    };
    let lines = detail.lines().take(EXCERPT).map(line);
    lines.collect::<Vec<_>>().join("\n")
}

/// Why a command could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No scenario of that name, nor a file.
    #[error("there is no scenario `{name}`")]
    UnknownScenario {
        /// What was asked for.
        name: String,
        /// A similar one.
        suggestion: Option<String>,
        /// All built-in ones.
        known: Vec<String>,
    },
    /// A configuration file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A configuration file with a syntax or type error.
    #[error("{origin} is not valid\n{}", cut(detail))]
    Syntax {
        /// File or built-in name.
        origin: String,
        /// With line, column and excerpt.
        detail: String,
    },
    /// A value beyond a limit, or values that do not go together.
    #[error("{origin}: {what}")]
    Limit {
        /// File or built-in name.
        origin: String,
        /// Which value, and what it may be.
        what: String,
    },
    /// A `--set` that cannot be applied.
    #[error("--set {setting}: {why}")]
    Setting {
        /// As given.
        setting: String,
        /// What is wrong with it.
        why: String,
    },
    /// An option, or what stands for one, that cannot be used as it is given.
    #[error("{option}: {why}")]
    Option {
        /// As given.
        option: String,
        /// What is wrong with it.
        why: String,
    },
    /// No such kernel stack, or a path that holds no kernel.
    #[error("kernel `{name}`: {why}")]
    UnknownKernel {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        why: String,
        /// The way out.
        help: String,
    },
    /// A kernel without options that the run needs.
    #[error(
        "kernel `{name}` lacks what {scenario} needs, by its configuration {place}:\n  {}",
        lacks.join("\n  ")
    )]
    KernelLacks {
        /// What was asked for.
        name: String,
        /// The scenario's name.
        scenario: String,
        /// Option and what for, a line each.
        lacks: Vec<String>,
        /// Where its configuration was found.
        place: String,
    },
    /// A directory or file that cannot be written.
    #[error("cannot write to {}", path.display())]
    Output {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An output directory that holds something else.
    #[error("{} exists and holds what is no run's", path.display())]
    OutputTaken {
        /// Which.
        path: PathBuf,
    },
    /// An output directory that holds results already.
    #[error("{} holds results already", path.display())]
    OutputExists {
        /// Which.
        path: PathBuf,
    },
    /// An output directory that holds a campaign already.
    #[error("{} holds a campaign already", path.display())]
    CampaignExists {
        /// Which.
        path: PathBuf,
    },
    /// An output directory that another process writes to.
    #[error("{} is in use: another staleline writes to it", path.display())]
    OutputBusy {
        /// Which.
        path: PathBuf,
    },
    /// A matrix or a campaign that cannot be gone on with.
    #[error("{} cannot be resumed: {why}", path.display())]
    CannotResume {
        /// Its directory.
        path: PathBuf,
        /// What is not as it was.
        why: String,
    },
    /// Shares of a matrix or a campaign that do not belong together.
    #[error("{} cannot be merged: {why}", path.display())]
    CannotMerge {
        /// The directory of one.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// No such kind of finding.
    #[error("there is no kind of finding `{name}`")]
    UnknownHazard {
        /// What was asked for.
        name: String,
        /// A similar one.
        suggestion: Option<String>,
        /// All.
        known: Vec<String>,
    },
    /// A directory that is no (finished) run.
    #[error("{}: {why}", path.display())]
    NotARun {
        /// Which.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// A campaign that proves nothing.
    #[error("{what}: {why}")]
    Campaign {
        /// Which target, or the campaign.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A run of which there is no smallest that fails.
    #[error("{what} passes: there is no failure that a smaller run could have")]
    NothingToMinimise {
        /// Which.
        what: String,
    },
    /// A run of which no smallest can be found, or not be trusted.
    #[error("{what}: {why}")]
    Minimise {
        /// Which.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A campaign's file that cannot be used.
    #[error("cannot use {}", path.display())]
    Store {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A DMABUF that a run has not, or of which nobody knows where it is.
    #[error("--buffer {index}: {why}")]
    NoBuffer {
        /// Its index.
        index: u32,
        /// What is known instead.
        why: String,
    },
    /// A log that cannot be read, or not to its end.
    #[error("the log {} cannot be read, or not to its end", path.display())]
    Log {
        /// Which.
        path: PathBuf,
        /// Why.
        source: LogError,
    },
    /// `drop-maintenance` with a K beyond the last operation, or an @N that is none on DMA memory.
    #[error(
        "drop-maintenance={asked}: the run has {available} maintenance operations that touch \
         memory used for DMA"
    )]
    DropOutOfRange {
        /// The K or N asked for.
        asked: String,
        /// How many there are.
        available: usize,
        /// First and last of their numbers since power-on, if that is how it was asked.
        numbers: Option<(u32, u32)>,
    },
    /// The guest kernel could not be built or found.
    #[error("the guest kernel could not be prepared")]
    Kernel(#[source] Cause),
    /// The user's program, or what is to go with it, is none that the guest can be given.
    #[error("the guest cannot be given what it is to run")]
    Program(#[source] Cause),
    /// A file or directory of the user's that the guest is to be given, and that cannot be read.
    #[error("cannot read {}", path.display())]
    Input {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
        /// What names it.
        help: &'static str,
    },
    /// No file system of Debian's packages could be made.
    #[error("the guest's file system of packages could not be made")]
    Packages(#[source] PackagesError),
    /// A module of the user's that cannot be built, or that this kernel cannot be given.
    #[error("{what}: {why}")]
    Module {
        /// The module, or its directory.
        what: String,
        /// What is wrong with it.
        why: String,
        /// The way out.
        help: String,
    },
    /// The guest's file system could not be made.
    #[error("the guest's file system could not be prepared")]
    Initramfs(#[source] Cause),
    /// The engine could not run the guest.
    #[error("the {engine} engine could not run the guest")]
    Engine {
        /// Which.
        engine: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// A pilot run that gave no list of maintenance operations.
    #[error("the pilot run did not finish: {why}")]
    Pilot {
        /// What happened to it.
        why: String,
    },
    /// Input or output on the host while working.
    #[error("{what}")]
    Host {
        /// What was being done.
        what: String,
        /// Why it failed.
        #[source]
        source: Cause,
    },
}

impl Error {
    /// The exit code that says so.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::UnknownScenario { .. }
            | Error::Read { .. }
            | Error::Syntax { .. }
            | Error::Limit { .. }
            | Error::Setting { .. }
            | Error::Option { .. }
            | Error::UnknownKernel { .. }
            | Error::KernelLacks { .. }
            | Error::Output { .. }
            | Error::OutputTaken { .. }
            | Error::OutputExists { .. }
            | Error::CampaignExists { .. }
            | Error::OutputBusy { .. }
            | Error::CannotResume { .. }
            | Error::CannotMerge { .. }
            | Error::UnknownHazard { .. }
            | Error::NotARun { .. }
            | Error::NothingToMinimise { .. }
            | Error::NoBuffer { .. }
            | Error::Program(_)
            | Error::Input { .. }
            | Error::Module { .. }
            | Error::DropOutOfRange { .. } => USAGE,
            Error::Packages(e) if e.is_usage() => USAGE,
            // What is in it is not what was written, or by nobody; only to read it is the machine's.
            Error::Log { source, .. } if !matches!(source, LogError::Io(_)) => USAGE,
            Error::Store { source, .. } if StoreTrouble::of(source) == StoreTrouble::Damaged => {
                USAGE
            }
            Error::Kernel(_)
            | Error::Log { .. }
            | Error::Initramfs(_)
            | Error::Packages(_)
            | Error::Engine { .. }
            | Error::Pilot { .. }
            | Error::Campaign { .. }
            | Error::Minimise { .. }
            | Error::Store { .. }
            | Error::Host { .. } => INFRA,
        }
    }

    /// Shorthand for [`Error::Host`].
    pub fn host(what: impl Into<String>, source: impl Into<Cause>) -> Self {
        Error::Host {
            what: what.into(),
            source: source.into(),
        }
    }

    /// What the user can do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Error::UnknownScenario {
                suggestion, known, ..
            } => with_suggestion(
                suggestion.as_deref(),
                &format!(
                    "built-in scenarios: {}; or give a TOML file",
                    known.join(", ")
                ),
            ),
            Error::UnknownHazard {
                suggestion, known, ..
            } => with_suggestion(
                suggestion.as_deref(),
                &format!("kinds: {}", known.join(", ")),
            ),
            Error::UnknownKernel { help, .. } | Error::Module { help, .. } => help.clone(),
            Error::KernelLacks { .. } => {
                "set them and build it again; `staleline kernel build --src DIR` builds a tree with all \
                 that runs need (guest-kernel/config/staleline.config)"
                    .into()
            }
            Error::Output { .. } => "choose another directory with --out DIR".into(),
            Error::OutputTaken { .. } => {
                "choose another directory with --out DIR, or remove this one".into()
            }
            Error::OutputExists { .. } => {
                "choose another directory with --out DIR, or replace them with --force".into()
            }
            Error::CampaignExists { .. } => {
                "choose another directory with --out DIR, or go on with it: `staleline campaign --resume DIR`".into()
            }
            Error::OutputBusy { .. } => "choose another directory, or wait for it to end".into(),
            Error::CannotResume { .. } => {
                "results of different making do not go together: run it anew, from its file, into another directory"
                    .into()
            }
            Error::CannotMerge { .. } => {
                "shares go together that one staleline has run of one matrix or campaign, each run once: run \
                 what differs anew, or leave it out, and --resume of what is put together runs it"
                    .into()
            }
            Error::Campaign { .. } => {
                "`staleline campaign` needs targets that pass without faults, and maintenance there that is \
                 needed: `staleline run` shows what a target does"
                    .into()
            }
            Error::NothingToMinimise { .. } => {
                "`staleline run` with the same options shows what it does; name the settings under which it fails"
                    .into()
            }
            Error::Minimise { .. } => {
                "`staleline run` shows what such a run tells; STALELINE_LOG=debug tells more".into()
            }
            Error::Store { source, .. } => StoreTrouble::of(source).help().into(),
            Error::DropOutOfRange { available: 0, .. } => {
                "nothing to drop: choose a scenario whose board is not coherent".into()
            }
            Error::DropOutOfRange {
                numbers: Some((first, last)),
                ..
            } => format!(
                "they are among @{first} to @{last}: maintenance.operations of the same run without \
                 drop-maintenance has their numbers"
            ),
            Error::DropOutOfRange { available, .. } => {
                format!("K goes from 1 to {available}")
            }
            Error::Engine { source, .. } if source.is::<EngineError>() => {
                source.downcast_ref::<EngineError>()?.help().into()
            }
            Error::Program(_) => {
                "name a program for arm64 behind `--`, and files that are there with --file \
                 SOURCE[:DESTINATION], where DESTINATION starts with /; `staleline exec --help` tells \
                 more"
                    .into()
            }
            Error::Kernel(source) | Error::Initramfs(source) => advice(source)?.into(),
            Error::Packages(e) => e.help()?,
            Error::Engine { .. } => return None,
            Error::NoBuffer { .. } => {
                "without --buffer, all are shown; --line PA asks for one cache line".into()
            }
            Error::Log { source, .. } => match source {
                LogError::NotALog => "give the directory of a run, or its events.bin".into(),
                LogError::Version { .. } => {
                    "read it with the staleline that wrote it, or do the run again".into()
                }
                _ => "do the run again; `staleline events` shows what comes before".into(),
            },
            Error::Input { help, .. } => (*help).into(),
            Error::Setting { setting, why } => for_setting(setting, why).into(),
            Error::Read { .. }
            | Error::Syntax { .. }
            | Error::Limit { .. }
            | Error::Option { .. }
            | Error::NotARun { .. }
            | Error::Pilot { .. }
            | Error::Host { .. } => return None,
        })
    }

    /// The whole chain of causes on one line, for a result's reasons.
    pub fn chain(&self) -> String {
        text::elide(&text::visible(&text::chain(self)), TOLD)
    }

    /// The whole chain of causes and the way out, for people.
    pub fn render(&self) -> String {
        let mut text = format!("error: {self}");
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let _ = write!(text, "\n  caused by: {cause}");
            source = cause.source();
        }
        let mut text = text::elide(&text::visible(&text), TOLD);
        if let Some(help) = self.help() {
            let help = text::elide(&text::visible(&help), HELP);
            let _ = write!(text, "\n  help: {help}");
        }
        text
    }
}

/// What is wrong with a campaign's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoreTrouble {
    /// There is no room for it.
    Full,
    /// It cannot be read or written where it is.
    OutOfReach,
    /// Another program has it.
    Busy,
    /// The host had too little memory, or stopped the program.
    Host,
    /// It holds what it should not.
    Damaged,
}

impl StoreTrouble {
    fn of(source: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        match source.sqlite_error_code() {
            Some(Code::DiskFull) => Self::Full,
            Some(
                Code::SystemIoFailure
                | Code::CannotOpen
                | Code::ReadOnly
                | Code::PermissionDenied
                | Code::FileLockingProtocolFailed,
            ) => Self::OutOfReach,
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => Self::Busy,
            Some(Code::OutOfMemory | Code::OperationInterrupted) => Self::Host,
            _ => Self::Damaged,
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Full => {
                "there is no room for it: what was entered before, if anything, is whole, and once there is room \
                 again, `staleline campaign --resume` goes on with that"
            }
            Self::OutOfReach => {
                "it cannot be read or written there: look at the permissions and the file system of its directory; \
                 what was entered before is whole"
            }
            Self::Busy => {
                "another program has it open: close that, and `staleline campaign --resume` goes on"
            }
            Self::Host => {
                "this machine has too little memory, or has stopped it: what was entered before is whole, and \
                 `staleline campaign --resume` goes on with that"
            }
            Self::Damaged => {
                "it is SQLite's, written by `staleline campaign`; a damaged one cannot be gone on with"
            }
        }
    }
}

/// What helps with a setting, by what is wrong with it.
fn for_setting(setting: &str, why: &str) -> &'static str {
    let key = setting.split_once('=').map_or(setting, |(key, _)| key);
    match (why.starts_with("unknown field"), key.contains('.')) {
        (true, true) => {
            "a dotted key names the tables on its way, as board.dmac.port=hpc; above are the keys that its \
             table has, and README.md says what each means"
        }
        _ => {
            "`staleline run --help` lists the short forms; any dotted key of the scenario file works"
        }
    }
}

/// What helps, by what is wrong.
fn advice(source: &Cause) -> Option<&'static str> {
    let kernel = source.downcast_ref::<KernelError>();
    let disk = source.downcast_ref::<DiskError>();
    let initramfs = match disk {
        Some(DiskError::Agent(e)) => Some(e),
        _ => source.downcast_ref::<InitramfsError>(),
    };
    let missing = matches!(
        kernel,
        Some(KernelError::MissingTools { .. } | KernelError::NoDefaultSource { .. })
    ) || matches!(
        initramfs,
        Some(InitramfsError::NoToolchain { .. } | InitramfsError::MissingProgram { .. })
    ) || matches!(disk, Some(DiskError::Missing(_)));
    if missing {
        return Some("`staleline doctor` says what is missing on this machine");
    }
    let files = matches!(kernel, Some(KernelError::Io { .. }))
        || matches!(initramfs, Some(InitramfsError::Io { .. }))
        || matches!(disk, Some(DiskError::Io { .. }));
    if files {
        return Some(
            "check free space and permissions there; XDG_CACHE_HOME names another place for the cache",
        );
    }
    match kernel {
        Some(KernelError::Program { .. }) => Some("check free space where the cache is"),
        _ => None,
    }
}

fn with_suggestion(suggestion: Option<&str>, rest: &str) -> String {
    match suggestion {
        Some(s) => format!("did you mean `{s}`? {rest}"),
        None => rest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_file_is_not_quoted_at_length() {
        let e = Error::Syntax {
            origin: "nest.toml".into(),
            detail: format!("1 | {}\n  | ^", "[".repeat(10_000)),
        };
        let text = e.render();
        assert!(text.len() < 400 && text.contains("[[...\n  | ^"), "{text}");
    }

    #[test]
    fn the_chain_of_causes_is_told() {
        let e = Error::Engine {
            engine: "exact".into(),
            source: Box::new(std::io::Error::other("no such QEMU")),
        };
        assert_eq!(e.exit_code(), INFRA);
        let text = e.render();
        assert!(text.contains("caused by: no such QEMU"), "{text}");
    }

    #[test]
    fn a_full_disk_is_no_damaged_campaign() {
        let help = |code, exit| {
            let source = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            let path = "campaign.sqlite".into();
            let error = Error::Store { path, source };
            assert_eq!(error.exit_code(), exit);
            error.help().unwrap()
        };
        let full = help(rusqlite::ffi::SQLITE_FULL, INFRA);
        assert!(full.contains("room") && !full.contains("damaged"), "{full}");
        let denied = help(rusqlite::ffi::SQLITE_READONLY, INFRA);
        assert!(denied.contains("permissions"), "{denied}");
        let short = help(rusqlite::ffi::SQLITE_NOMEM, INFRA);
        assert!(
            short.contains("memory") && !short.contains("damaged"),
            "{short}"
        );
        let damaged = help(rusqlite::ffi::SQLITE_NOTADB, USAGE);
        assert!(damaged.contains("damaged"), "{damaged}");
    }

    #[test]
    fn the_doctor_is_named_where_it_helps() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let io = InitramfsError::io("write", "/cache/x".as_ref())(full());
        let text = Error::Initramfs(io.into()).render();
        assert!(
            !text.contains("doctor") && text.contains("free space"),
            "{text}"
        );
        let missing = InitramfsError::MissingProgram {
            program: "cargo".into(),
            remedy: "install it",
        };
        let text = Error::Initramfs(missing.into()).render();
        assert!(text.contains("staleline doctor"), "{text}");
    }

    #[test]
    fn whatever_is_quoted_an_error_is_short_and_moves_no_cursor() {
        let e = Error::Limit {
            origin: format!("\u{1b}[2J{}", "x".repeat(1 << 20)),
            what: "é".repeat(1 << 20),
        };
        let text = e.render();
        assert!(text.len() < 4096 && !text.contains('\u{1b}'), "{text}");
        assert!(e.chain().len() < 4096);
    }
}
