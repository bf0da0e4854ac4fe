// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Why there is no initramfs. All of it is trouble with this machine, never a test result.

use std::io;
use std::path::{Path, PathBuf};

use staleline_support::home;

/// The step that failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// An installed binary has no sources to build the agent of.
    #[error(
        "the guest agent's sources are not at {}: set {} to a staleline-agent executable for arm64",
        .0.display(), super::AGENT_ENV
    )]
    NoSources(PathBuf),
    /// Neither an agent nor its sources are with this program.
    #[error(
        "no guest agent, and no sources to build it of: {0}: set {agent} to a staleline-agent \
         executable for arm64, or {home} to where Staleline's own files are",
        agent = super::AGENT_ENV, home = home::HOME_ENV
    )]
    Nowhere(#[from] home::NotFound),
    /// What the user has named is no agent.
    #[error(
        "{agent} is {}, and {why}: set it to a staleline-agent executable for arm64, or unset it for the \
         agent that comes with this program", path.display(), agent = super::AGENT_ENV
    )]
    BadNamed {
        /// What the variable has.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        why: String,
    },
    /// The VMM that the user has named is none, or that of an installation.
    #[error(
        "the VMM is {}, and {why}: set {vmm} to a staleline-kvm executable for arm64, or unset it for the one \
         that comes with this program", path.display(), vmm = super::VMM_ENV
    )]
    BadVmm {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        why: String,
    },
    /// No compiler for the guest.
    #[error(
        "building the guest agent needs Rust's standard library for {target}: run \
         `rustup target add {target}`, or on Debian \
         `apt-get install rustc-web libstd-rust-web-dev:arm64` (tried: {tried})"
    )]
    NoToolchain {
        /// What it compiles for.
        target: &'static str,
        /// Compilers looked at.
        tried: String,
    },
    /// A program that is not installed.
    #[error("building the guest agent needs {program}: {remedy}")]
    MissingProgram {
        /// Its name.
        program: String,
        /// What brings it.
        remedy: &'static str,
    },
    /// The compiler's complaint.
    #[error("building the guest agent failed ({status}); `{command}` ended with:\n{tail}")]
    BuildFailed {
        /// The command, to be tried by hand.
        command: String,
        /// How it ended.
        status: String,
        /// Its last lines.
        tail: String,
    },
    /// The executable cannot be a guest's /init.
    #[error("{} cannot be the guest's /init: {why}", path.display())]
    BadAgent {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A program cannot run in the guest.
    #[error("{} cannot run in the guest: {why}", path.display())]
    BadProgram {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Two things of one name.
    #[error(
        "{guest} cannot be both a directory and a file or link in the guest, and {} would make it so: give \
         one of them another place", path.display()
    )]
    Clash {
        /// What came second.
        path: PathBuf,
        /// The name in the guest.
        guest: String,
    },
    /// The guest's files take too much of its memory.
    #[error(
        "the guest's files have more than {most} bytes, a quarter of its memory: leave some out, or raise \
         board.ram-mib"
    )]
    TooLarge {
        /// As much as may be.
        most: u64,
    },
    /// The user does not want it any more.
    #[error("interrupted")]
    Cancelled,
    /// A program could not be run.
    #[error("cannot run {program}")]
    Program {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A file operation.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, e.g. `write`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl InitramfsError {
    /// For `map_err` on file operations.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
