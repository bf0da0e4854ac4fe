// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a run of the guest was made of and has left behind: results are made from it.

pub mod console;
pub mod kernel_log;
pub mod record;
mod sites;
pub mod tap;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use staleline_devices::cpu::SiteId;
use staleline_devices::soc::report::SocReport;
use staleline_results::{Attended, GuestEnd, Input, KernelId, Package};

use crate::boot::Loaded;
use crate::engine::Observations;

/// What an overlay of the device tree is called among a run's inputs, before its number.
pub const OVERLAY: &str = "device tree, overlay ";

/// A file that a guest gets to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFile {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of it, in hexadecimal.
    pub hash: String,
}

/// What the guest is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Artifacts {
    /// Which kernel.
    pub kernel: KernelId,
    /// Its `Image`.
    pub image: PathBuf,
    /// Its ELF file with debug information, if kept.
    pub vmlinux: Option<PathBuf>,
    /// Its `System.map`, if kept.
    pub system_map: Option<PathBuf>,
    /// Top of the sources it was built from, if known.
    pub source_root: Option<PathBuf>,
    /// The initramfs, unless the guest boots from its disk.
    pub initrd: Option<GuestFile>,
    /// The disk's image, if the board has one.
    pub disk: Option<GuestFile>,
    /// Overlays on the board's device tree, in order.
    #[serde(default)]
    pub overlays: Vec<GuestFile>,
    /// The agent's ELF file with symbols, if kept.
    pub agent_elf: Option<PathBuf>,
    /// What else the guest was given, in order: of what has one name, the last counts.
    #[serde(default)]
    pub inputs: Vec<Input>,
    /// The packages of Debian's that its file system was made of, by name.
    #[serde(default)]
    pub packages: Vec<Package>,
    /// What was found out on the way that is worth telling, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Guest virtual address of each site.
pub type Sites = BTreeMap<SiteId, u64>;

/// What is left of an attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Execution {
    /// How the guest ended.
    pub end: GuestEnd,
    /// Where its console output is: `console.log` in the attempt's directory.
    #[serde(skip)]
    pub console: PathBuf,
    /// Time it took.
    pub wall: Duration,
    /// SHA-256 of what was loaded, if it got so far.
    pub loaded: Option<Loaded>,
    /// Sites the report refers to.
    #[serde(with = "sites")]
    pub sites: Sites,
    /// Call chains and the like.
    pub seen: Observations,
    /// The machine's report; none if the engine died before it could be made.
    pub report: Option<SocReport>,
    /// The machine that the guest's CPUs were of, in words, if the engine has more than one.
    #[serde(default)]
    pub host: Option<String>,
    /// Address translations that were compared with the emulator's own and were the same, if that
    /// was asked for.
    pub self_check: Option<u64>,
    /// How often the machine was saved and restored, if that was asked for.
    pub restored: Option<u64>,
    /// What people did with it meanwhile.
    #[serde(default)]
    pub attended: Attended,
    /// The engine's own counters, for those who know it.
    #[serde(skip)]
    pub stats: serde_json::Value,
}
