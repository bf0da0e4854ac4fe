// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Exit codes, and the one error type they are derived from.

use std::fmt::Write as _;
use std::path::PathBuf;

use staleline_events::LogError;
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

/// Characters of a line of a foreign file that are shown.
const SHOWN: usize = 200;

/// Text that quotes a file, whose lines may be of any length.
fn cut(detail: &str) -> String {
    let line = |line: &str| match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    };
    detail.lines().map(line).collect::<Vec<_>>().join("\n")
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
    /// A directory or file that cannot be written.
    #[error("cannot write to {}", path.display())]
    Output {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An output directory that holds something else.
    #[error("{} exists and is not a run directory", path.display())]
    OutputTaken {
        /// Which.
        path: PathBuf,
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
    /// `drop-maintenance=K` with K beyond the last operation.
    #[error(
        "drop-maintenance={asked}: the run has {available} maintenance operations that touch \
         memory used for DMA"
    )]
    DropOutOfRange {
        /// The K or N asked for.
        asked: String,
        /// How many there are.
        available: usize,
    },
    /// The guest kernel could not be built or found.
    #[error("the guest kernel could not be prepared")]
    Kernel(#[source] Cause),
    /// The user's program, or what is to go with it, is none that the guest can be given.
    #[error("the guest cannot be given what it is to run")]
    Program(#[source] Cause),
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
            | Error::Output { .. }
            | Error::OutputTaken { .. }
            | Error::UnknownHazard { .. }
            | Error::NotARun { .. }
            | Error::NoBuffer { .. }
            | Error::Program(_)
            | Error::DropOutOfRange { .. } => USAGE,
            Error::Log {
                source: LogError::NotALog | LogError::Version { .. },
                ..
            } => USAGE,
            Error::Kernel(_)
            | Error::Log { .. }
            | Error::Initramfs(_)
            | Error::Engine { .. }
            | Error::Pilot { .. }
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
            Error::UnknownKernel { help, .. } => help.clone(),
            Error::Output { .. } => "choose another directory with --out DIR".into(),
            Error::OutputTaken { .. } => {
                "choose another directory with --out DIR, or remove this one".into()
            }
            Error::DropOutOfRange { available: 0, .. } => {
                "nothing to drop: choose a scenario whose board is not coherent".into()
            }
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
            Error::Kernel(_) | Error::Initramfs(_) | Error::Engine { .. } => {
                "`staleline doctor` says what is missing on this machine".into()
            }
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
            Error::Setting { .. } => "`staleline run --help` lists the short forms; any dotted \
                                      key of the scenario file works"
                .into(),
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
        text::chain(self)
    }

    /// The whole chain of causes and the way out, for people.
    pub fn render(&self) -> String {
        let mut text = format!("error: {self}");
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let _ = write!(text, "\n  caused by: {cause}");
            source = cause.source();
        }
        if let Some(help) = self.help() {
            let _ = write!(text, "\n  help: {help}");
        }
        text
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
        assert!(text.contains("staleline doctor"), "{text}");
    }
}
