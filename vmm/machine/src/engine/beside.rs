// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The VMM beside its peers: a plan of commands that are timed in turn, on one machine, and what comes of it.
//! For measurements; nothing else uses it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::wire::KvmStats;

/// Where an emulated host finds a plan: then it carries that out, and nothing else.
pub const PLAN: &str = "/beside.json";

/// What each line of the outcome begins with, among whatever else is on a console.
pub const MEASURED: &str = "beside: ";

/// What a VMM that runs one guest after another writes after each: this, and its [`Said`].
pub const SAID: &str = "said: ";

/// What is to be timed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// How often each is run.
    pub rounds: u32,
    /// What is compared with each other: it alternates, so that other load hits all of it alike. One comes after the
    /// other.
    pub groups: Vec<Vec<Timed>>,
}

/// What is to be timed, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timed {
    /// What it is called in the outcome.
    pub name: String,
    /// What it is.
    pub what: What,
}

/// Something to be timed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum What {
    /// A program, from its start to its end.
    Program {
        /// It.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// A guest of a VMM of ours that is there for all of them, as it is for the runs of a command: from the request
    /// to the answer. Or, if `fresh`, of one that is started for it, with its start and end.
    Guest {
        /// Whether it is.
        fresh: bool,
        /// The file that says which: a [`Run`](super::wire::Run).
        request: PathBuf,
        /// A directory with its files, each called by its hash.
        files: PathBuf,
    },
}

/// What has become of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Said {
    /// It has powered off.
    PoweredOff(Told),
    /// Anything else.
    Failed(String),
}

/// What a VMM tells of a guest and of itself. Times are of the monotonic clock, which the programs of a machine
/// share, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// When its program had begun.
    pub begun_us: u64,
    /// When it was confined.
    pub confined_us: u64,
    /// From the guest's first instruction to its end.
    pub wall_us: u64,
    /// What it has counted.
    pub stats: KvmStats,
}

/// What the time of a VMM that is started for its guest goes to beside that guest, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Around {
    /// Until its program begins.
    pub start_us: u64,
    /// From there until it is confined.
    pub sandbox_us: u64,
    /// From its answer until it is gone.
    pub gone_us: u64,
}

/// What one of them has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// Microseconds from its start to its end.
    pub wall_us: u64,
    /// What it told itself, if it is a VMM of ours.
    pub told: Option<Told>,
    /// If it was started for the guest.
    pub around: Option<Around>,
    /// Why it says nothing: it has failed, with the end of what it wrote.
    pub failed: Option<String>,
}
