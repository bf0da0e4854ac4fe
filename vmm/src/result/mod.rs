// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `result.json`: what a run found. The types here are its schema; field names are snake_case,
//! addresses and hashes are hexadecimal strings, sizes are bytes, times are milliseconds of the
//! host or accesses of the guest's CPU, as named.

mod account;
pub mod advice;
pub mod build;
mod causes;
pub mod diagnostic;
pub mod ends;
pub mod frames;
mod gather;
pub mod history;
pub mod listing;
mod sort;
mod suppressed;
pub mod verdict;

use serde::{Deserialize, Serialize};
use staleline_devices::coherency::hazard::{HazardKind, Why};
use staleline_devices::coherency::report::{CacheCounters, Saturated};
use staleline_devices::cpu::{CacheOp, CpuId};
use staleline_devices::dma::Direction;
use staleline_devices::fidelity::Fidelity;
use staleline_devices::soc::report::DeviceError;
use staleline_protocol::plan::Exporter;

use crate::board::settings::CachePolicy;
use crate::engine::EngineKind;
use crate::run::backend::{GuestEnd, KernelId};
use crate::run::console::KtapCase;
use crate::run::kernel_log::KernelReport;
use crate::symbols::{Hex, Place};
pub use history::Step;

/// Version of `result.json`; additions do not change it.
pub const SCHEMA: u32 = 1;

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

    /// The exit code of a run that ends so.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Pass => crate::exit::PASS,
            Verdict::Fail => crate::exit::FAIL,
            Verdict::InfraError => crate::exit::INFRA,
        }
    }
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
    /// The engine.
    pub engine: EngineKind,
    /// What it saw of the guest, and which rules could not be judged for want of the rest.
    pub fidelity: Fidelity,
    /// Replacement policy.
    pub cache: CachePolicy,
    /// Who allocated the DMABUFs, if data was moved.
    pub exporter: Option<Exporter>,
    /// Seed of the run.
    pub seed: u64,
    /// What the run says.
    pub verdict: Verdict,
    /// Why, one sentence each; empty for a pass.
    pub reasons: Vec<String>,
    /// Findings grouped for people: one per rule, master and roles.
    pub diagnostics: Vec<Diagnostic>,
    /// Findings, one per rule and transfer: all, or [`listing::HAZARDS`] of them, with those that
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
    /// Host time of the run, without kernel build, pilot run and tracing pass.
    pub wall_ms: u64,
    /// A command that does the same run.
    pub replay: String,
}

/// One finding of the sanitizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HazardEntry {
    /// The rule.
    pub kind: HazardKind,
    /// Whether wrong data was seen, or right data destroyed.
    pub manifested: bool,
    /// Lines affected.
    pub lines: u64,
    /// Of these, lines on which it manifested.
    pub manifested_lines: u64,
    /// Bytes that were wrong.
    pub wrong_bytes: u64,
    /// First line.
    pub first_pa: Hex,
    /// One past the last line.
    pub end_pa: Hex,
    /// Who wrote the data that was not seen or was destroyed.
    pub writer: Party,
    /// Who read or destroyed it.
    pub reader: Party,
    /// Name of the non-snooping master concerned.
    pub master: String,
    /// Its transfer; 0 if none.
    pub transfer: u32,
    /// What is missing, in words.
    pub missing: String,
    /// Where in guest code the line came into the cache.
    pub cached_by: Option<Place>,
    /// The last maintenance on the first line before the finding.
    pub last_maintenance: Option<LastMaintenance>,
    /// What about the missing operation.
    #[serde(default)]
    pub why: Why,
    /// When the data was written, in accesses since power-on, if known.
    pub written_at: u64,
    /// When the device was told to go, if it was, in accesses since power-on.
    #[serde(default)]
    pub told_at: Option<u64>,
    /// When it was found, in accesses since power-on.
    pub at: u64,
    /// Index into `diagnostics`.
    pub diagnostic: usize,
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
}

/// Who made an access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Party {
    /// Nobody known.
    Unknown,
    /// A CPU.
    Cpu {
        /// Which one; none where there is only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cpu: Option<CpuId>,
        /// Where in guest code.
        place: Place,
    },
    /// A bus master.
    Device {
        /// Its name.
        master: String,
        /// Whether this access snooped: of one port, reads may and writes not.
        snoops: bool,
        /// In which transfer, if it was one.
        transfer: Option<TransferRef>,
    },
}

/// A transfer as the device described it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferRef {
    /// Its number, from 1.
    pub id: u32,
    /// Which way, seen from memory.
    pub direction: Direction,
    /// First byte.
    pub pa: Hex,
    /// Bytes.
    pub len: u64,
    /// Where its descriptor stands; 0 if it was programmed by registers.
    pub descriptor: Hex,
    /// Channel or endpoint.
    pub channel: u8,
    /// The scenario's frame it belongs to, from 0, if that can be told.
    pub frame: Option<u32>,
    /// When the device took it, in accesses since power-on.
    #[serde(default)]
    pub opened_at: u64,
    /// When it was done with it, if it was.
    #[serde(default)]
    pub closed_at: Option<u64>,
}

/// A maintenance operation on an affected line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastMaintenance {
    /// What was done.
    pub op: CacheOp,
    /// Where in guest code, and who called it.
    pub place: Place,
    /// Its number since power-on: `drop-maintenance=@N`.
    pub number: u32,
    /// When, in accesses since power-on.
    pub at: u64,
}

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

impl Diagnostic {
    /// What `explain` knows it by.
    pub fn topic(&self) -> &'static str {
        match self.class {
            Class::Error => self.kind.name(),
            Class::StaleCopy => crate::explain::STALE_COPY,
        }
    }
}

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

/// What became of the data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// Bytes the scenario moves.
    pub planned: u64,
    /// Bytes checked by the end that checked least, of those that must check, each once.
    pub bytes: u64,
    /// Wrong bytes at the end that saw most: what is wrong at one end is often so at the next.
    pub corrupt_bytes: u64,
    /// Stream offset of the first wrong byte at the first end that saw one.
    pub first_corrupt: Option<u64>,
    /// Bytes that the converter at the start of the path has put into memory; none if there is
    /// none.
    #[serde(default)]
    pub moved: Option<u64>,
    /// Each end.
    pub ends: Vec<End>,
}

impl Data {
    /// Whether what the end has checked had been put into memory before. Else the transfer did not
    /// take place, and what was found in its stead says nothing.
    pub fn was_moved(&self, end: &End) -> bool {
        self.moved.is_none_or(|moved| end.covered() <= moved)
    }

    /// Ends that found wrong bytes which say something.
    pub fn corrupt_ends(&self) -> impl Iterator<Item = &End> {
        let corrupt = self.ends.iter().filter(|e| e.corrupt > 0);
        corrupt.filter(|e| self.was_moved(e))
    }
}

/// One end of a data path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Its name: `user`, `dac`, `usb-host`, ...
    pub name: String,
    /// Whether the path is only proven if this end has checked everything.
    pub required: bool,
    /// Bytes checked.
    pub checked: u64,
    /// Of these, bytes of frames that the USB host cut off, which came again.
    #[serde(default)]
    pub repeated: u64,
    /// Of those checked, wrong ones.
    pub corrupt: u64,
    /// Stream offset of the first wrong one.
    pub first_corrupt: Option<u64>,
}

impl End {
    /// Bytes of the stream checked, each once.
    pub fn covered(&self) -> u64 {
        self.checked.saturating_sub(self.repeated)
    }
}

/// Cache maintenance by virtual address to the PoC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Lines cleaned.
    pub cleaned: u64,
    /// Lines invalidated.
    pub invalidated: u64,
    /// Line operations on DMA memory whose loss would have been a hazard.
    pub needed: u64,
    /// Line operations on lines that DMA has touched whose loss would not have mattered.
    pub redundant: u64,
    /// Line operations of the DMA API on lines that no DMA has touched in the whole run. With the
    /// two above, these are all lines of the operations accounted.
    #[serde(default)]
    pub untouched: u64,
    /// By function that asked for it (see [`MaintenanceOp::caller`]), most lines first.
    pub callers: Vec<MaintenanceCaller>,
    /// Operations on DMA memory, of which a master has touched a line, in order: the K of
    /// `drop-maintenance=K` is the index, from 1. All, or the first [`listing::OPERATIONS`] of them
    /// and the one that was suppressed.
    pub operations: Vec<MaintenanceOp>,
    /// Operations elsewhere: on memory that no master has touched, of the DMA API or needed all the
    /// same, likewise. They have no K.
    #[serde(default)]
    pub elsewhere: Vec<MaintenanceOp>,
    /// How many of those there are.
    #[serde(default)]
    pub elsewhere_total: u64,
    /// How many there are in the other list: the largest K.
    #[serde(default)]
    pub operations_total: u64,
    /// How many of them are in `operations`.
    #[serde(default)]
    pub operations_listed: u64,
    /// Operations elsewhere that were not needed, and of which it is not known that the DMA API did
    /// them: they are in none of the sums. Without the kernel's `System.map`, that is known of none.
    #[serde(default)]
    pub unaccounted: u64,
}

/// Maintenance of DMA memory by one function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceCaller {
    /// The function, or an address.
    pub function: String,
    /// Operations.
    pub operations: u64,
    /// Line operations.
    pub lines: u64,
    /// Of these, needed ones.
    pub needed: u64,
    /// Of these, those on lines that no DMA has touched.
    #[serde(default)]
    pub untouched: u64,
}

/// One maintenance operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceOp {
    /// Number since power-on: `drop-maintenance=@N`.
    pub number: u32,
    /// What was done.
    pub op: CacheOp,
    /// The routine and offset.
    pub routine: String,
    /// Who asked for it, and offset: the first in `chain` that is not part of the kernel's DMA
    /// API; empty if unknown.
    pub caller: String,
    /// Who called it, and offset, innermost first.
    #[serde(default)]
    pub chain: Vec<String>,
    /// First line.
    pub first_pa: Hex,
    /// Lines.
    pub lines: u64,
    /// Lines of DMA memory.
    pub dma_lines: u64,
    /// Of these, lines on which it was needed.
    pub needed_lines: u64,
    /// When, in accesses since power-on.
    pub at: u64,
    /// Whether it was suppressed on purpose.
    pub dropped: bool,
}

/// A maintenance operation that was suppressed on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Its number since power-on.
    pub number: u32,
    /// The K asked for, if it was.
    pub nth: Option<u32>,
    /// Operations there were to choose from in the pilot run, if there was one.
    pub of: Option<usize>,
    /// Whether it came to pass.
    pub happened: bool,
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

/// The guest's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// How it ended.
    pub end: Option<GuestEnd>,
    /// Whether the agent started.
    pub booted: bool,
    /// Tests the agent announced.
    pub planned: Option<u32>,
    /// Their results.
    pub tests: Vec<KtapCase>,
    /// The kernel's reports on itself, in order; those of the same headline and call trace
    /// together.
    #[serde(default)]
    pub reports: Vec<KernelReport>,
    /// Such reports beyond those.
    #[serde(default)]
    pub reports_dropped: u64,
    /// First lines of what else of the kernel's messages is worth telling, and of those reports
    /// that the scenario allows.
    pub warnings: Vec<String>,
    /// The last lines of the console.
    pub console_tail: Vec<String>,
}

impl Guest {
    /// The kernel's reports that the scenario does not allow.
    pub fn complaints(&self) -> impl Iterator<Item = &KernelReport> {
        self.reports.iter().filter(|r| !r.allowed)
    }
}

/// A DMABUF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer {
    /// Order of allocation, from 0.
    pub index: u32,
    /// Exporter.
    pub exporter: String,
    /// Size.
    pub bytes: u64,
    /// Physical extents: first byte, length. What is not known is left out.
    pub extents: Vec<(Hex, u64)>,
    /// What it was attached to, in order.
    #[serde(default)]
    pub attached: Vec<String>,
}

/// Counters of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Cache.
    pub cache: CacheCounters,
    /// Data transfers.
    pub transfers: u64,
    /// Interrupts raised.
    pub interrupts: u64,
    /// Register accesses.
    pub register_accesses: u64,
    /// The guest's mistakes as devices met them.
    pub device_errors: Vec<DeviceError>,
    /// Device-specific results.
    pub extra: std::collections::BTreeMap<String, serde_json::Value>,
}

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod facts_tests;
