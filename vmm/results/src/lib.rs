// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a run found: the types of `result.json`, and nothing else. They know no engine, no process
//! and no model, so that any program can read results.
//!
//! Field names are snake_case, addresses and hashes are hexadecimal strings, sizes are bytes, times
//! are milliseconds of the host or accesses of the guest's CPUs, as named. Additions do not change
//! [`SCHEMA`].

mod cost;
mod data;
mod diagnostic;
mod finding;
mod guest;
mod hex;
mod log;
mod machine;
mod maintenance;
mod place;
mod words;

use serde::{Deserialize, Serialize};

pub use cost::{Cost, Instructions, LINE, LineCost, PairCost, PathCost};
pub use data::{Buffer, Data, End, Source};
pub use diagnostic::{Class, Diagnostic, STALE_COPY, Stretch};
pub use finding::{Event, HazardEntry, LastMaintenance, Party, Step, TransferRef};
pub use guest::{
    Attended, Guest, GuestEnd, Input, KERNEL_REPORT, KernelId, KernelReport, KtapCase, Module,
    Package, Program, Refusal, ReportClass, Selftest,
};
pub use hex::Hex;
pub use log::Log;
pub use machine::{CacheCounters, DeviceError, Machine, Saturated};
pub use maintenance::{Dropped, Injected, Maintenance, MaintenanceCaller, MaintenanceOp};
pub use place::{Frame, Place, Shown, Stack};
pub use words::{
    Barrier, BarrierAccess, BarrierKind, BarrierScope, CacheOp, Direction, Fidelity, HazardKind,
    Sight, StartedBy, Why,
};

/// Version of `result.json`; additions do not change it.
pub const SCHEMA: u32 = 2;

/// What a run says about coherency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All data was moved and checked, and nothing was found.
    Pass,
    /// A hazard, corrupt data, a report of the guest's kernel on itself, or a failed guest test.
    Fail,
    /// The run does not say anything.
    InfraError,
}

impl Verdict {
    /// The name used in results.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::InfraError => "infra-error",
        }
    }
}

/// The second pass of a run with findings: the same run, with a look at the call chains of the loads
/// and stores that matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracing {
    /// Whether it was the same run; if not, its call chains are not used.
    pub same: bool,
    /// Its hash; none if it broke off.
    pub run_hash: Option<String>,
    /// Why it broke off, if it did.
    pub trouble: Option<String>,
    /// Host time it took.
    #[serde(default)]
    pub wall_ms: u64,
}

/// The result of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of the program.
    pub staleline: String,
    /// Scenario name.
    pub scenario: String,
    /// The kernel; none if there never was one.
    pub kernel: Option<KernelId>,
    /// SHA-256 of the guest's initramfs, in hexadecimal.
    pub initrd_hash: Option<String>,
    /// SHA-256 of the image on the board's disk when the guest started, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_hash: Option<String>,
    /// What else the guest was given: the user's program and all that it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// The packages of Debian's that its file system was made of, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Package>,
    /// What the guest's kernel command line had beyond our own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub append: String,
    /// Name of the engine.
    pub engine: String,
    /// The machine that it has run the guest's CPUs on, in words: this one, or one that was emulated for it. None
    /// of an engine that has no such choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_host: Option<String>,
    /// What it was given beyond our own arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engine_arguments: Vec<String>,
    /// What it saw of the guest, and which rules could not be judged for want of the rest.
    pub fidelity: Fidelity,
    /// Replacement policy.
    pub cache: String,
    /// Who allocated the DMABUFs, if data was moved.
    pub exporter: Option<String>,
    /// Seed of the run.
    pub seed: u64,
    /// What the run says.
    pub verdict: Verdict,
    /// Why, one sentence each; empty for a pass.
    pub reasons: Vec<String>,
    /// Whether the user interrupted it, so that this is what there was by then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// What people did with the guest while it ran.
    #[serde(default, skip_serializing_if = "Attended::is_none")]
    pub attended: Attended,
    /// Findings grouped for people: one per rule, master and roles.
    pub diagnostics: Vec<Diagnostic>,
    /// Findings, one per rule and transfer: all, or as many as fit, with those that
    /// `diagnostics` show.
    pub hazards: Vec<HazardEntry>,
    /// How many findings there are.
    #[serde(default)]
    pub hazards_total: u64,
    /// How many of them are in `hazards`.
    #[serde(default)]
    pub hazards_listed: u64,
    /// Findings beyond the sanitizer's limit.
    pub hazards_dropped: u64,
    /// Bounds of the model that were reached: the run was checked less than planned.
    #[serde(default)]
    pub saturated: Vec<Saturated>,
    /// What was left out that does not bear on the verdict, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What became of the data.
    pub data: Data,
    /// Cache maintenance.
    pub maintenance: Maintenance,
    /// The operation that was suppressed on purpose.
    pub drop_maintenance: Option<Dropped>,
    /// What else was to go wrong on purpose, in the scenario's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub injected: Vec<Injected>,
    /// The guest.
    pub guest: Guest,
    /// DMABUFs as the agent reported them.
    pub buffers: Vec<Buffer>,
    /// Counters of cache and devices.
    pub machine: Option<Machine>,
    /// Hash over everything that happened, 16 hexadecimal digits; none if the run broke off.
    pub run_hash: Option<String>,
    /// CPU accesses seen.
    pub accesses: u64,
    /// What became of the second pass, for call chains; none if there was none.
    #[serde(default)]
    pub tracing: Option<Tracing>,
    /// Address translations of the engine that were compared with the emulator's own, all of them
    /// the same; none if that was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_check: Option<u64>,
    /// How often the machine was saved and restored on the way, each time to the same state; none if that
    /// was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<u64>,
    /// What the log holds of the machine's events; none if none were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// Host time of the run, without kernel build, pilot run and tracing pass.
    pub wall_ms: u64,
    /// A command that does the same run.
    pub replay: String,
}

impl RunResult {
    /// The diagnostics with the same cause as that of this index, which stands for it.
    pub fn consequences(&self, index: usize) -> impl Iterator<Item = &Diagnostic> {
        let diagnostics = self.diagnostics.iter();
        diagnostics.filter(move |d| d.cause == Some(index))
    }

    /// Indices of the diagnostics that stand for their cause.
    pub fn causes(&self) -> impl Iterator<Item = usize> {
        let diagnostics = self.diagnostics.iter().enumerate();
        diagnostics
            .filter(|(_, d)| d.cause.is_none())
            .map(|(i, _)| i)
    }

    /// The diagnostics that fail the run.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|d| d.class == Class::Error)
    }

    /// Whether there are any.
    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }
}
