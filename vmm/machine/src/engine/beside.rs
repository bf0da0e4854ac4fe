// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The VMM beside its peers: a plan of commands that are timed in turn, on one machine, and what comes of it.
//! For measurements; nothing else uses it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::wire::{KvmStats, Run};

/// Where an emulated host finds a plan: then it carries that out, and nothing else.
pub const PLAN: &str = "/beside.json";

/// What each line of the outcome begins with, among whatever else is on a console.
pub const MEASURED: &str = "beside: ";

/// What a VMM that has run one guest writes last begins with; the rest is its [`KvmStats`].
pub const STATS: &str = "stats: ";

/// What is to be timed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// How often each is run. They alternate, so that other load hits all alike.
    pub rounds: u32,
    /// Commands.
    pub commands: Vec<Timed>,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timed {
    /// What it is called in the outcome.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// What one of them has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// Microseconds from its start to its end.
    pub wall_us: u64,
    /// What it counted itself, if it is a VMM of ours.
    pub stats: Option<KvmStats>,
    /// Why it says nothing: it has failed, with the end of what it wrote.
    pub failed: Option<String>,
}

/// A guest for a VMM that is told by a file, and by nobody else.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Once {
    /// What to run.
    pub run: Run,
    /// A directory with its files, each called by its hash.
    pub files: PathBuf,
}
