// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Findings grouped for people.

use serde::{Deserialize, Serialize};

use crate::{HazardKind, Hex, Step, Why};

/// Findings of one rule, one master and one pair of roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The rule.
    pub kind: HazardKind,
    /// Whether any finding manifested.
    pub manifested: bool,
    /// Findings, that is transfers, together.
    pub findings: u64,
    /// Of these, findings that manifested.
    pub manifested_findings: u64,
    /// Lines affected.
    pub lines: u64,
    /// Of these, lines on which it manifested.
    pub manifested_lines: u64,
    /// Bytes that were wrong.
    pub wrong_bytes: u64,
    /// Lowest line.
    pub first_pa: Hex,
    /// One past the highest line.
    pub end_pa: Hex,
    /// Stretches of memory that they are in, ascending: at most 64 of them.
    #[serde(default)]
    pub stretches: Vec<Stretch>,
    /// How many there are beyond these.
    #[serde(default)]
    pub more_stretches: u64,
    /// DMABUFs concerned: indices into `buffers`.
    pub buffers: Vec<usize>,
    /// Index into `hazards` of the finding shown: the first that manifested, else the first.
    pub shown: usize,
    /// Places in guest code that read or destroyed, other than the one shown.
    pub other_readers: u64,
    /// How grave it is.
    #[serde(default)]
    pub class: Class,
    /// What about the missing operation.
    #[serde(default)]
    pub why: Why,
    /// The row of the table of advice that fits.
    #[serde(default)]
    pub advice: String,
    /// What to do about it.
    pub help: String,
    /// Facts of the run that the help rests on.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What happened to the first line of the finding shown, in order; the finding is the last.
    #[serde(default)]
    pub history: Vec<Step>,
    /// Index into `diagnostics` of the one that has the same cause and stands for it, if this is
    /// another: reports tell this one with it. That one has none.
    #[serde(default)]
    pub cause: Option<usize>,
}

/// Where lines of a diagnostic are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Lowest line.
    pub first_pa: Hex,
    /// One past the highest line.
    pub end_pa: Hex,
    /// Lines of all findings here; one that several are on counts for each.
    pub lines: u64,
    /// Bytes that were wrong here.
    pub wrong_bytes: u64,
    /// The DMABUF that begins here, by order of allocation, if that is known.
    pub buffer: Option<u32>,
}

impl Diagnostic {
    /// What `explain` knows it by.
    pub fn topic(&self) -> &'static str {
        match self.class {
            Class::Error => self.kind.name(),
            Class::StaleCopy => STALE_COPY,
        }
    }
}

/// What `explain` knows findings by that do not fail a run.
pub const STALE_COPY: &str = "stale-copy";

/// How grave a diagnostic is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// It fails the run.
    #[default]
    Error,
    /// Only routines that copy whole pages have read the bytes: it is told, and does not fail the
    /// run.
    StaleCopy,
}
