// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a run needs from the rest of the program: kernel, guest file system, engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use staleline_devices::cpu::SiteId;
use staleline_devices::soc::report::SocReport;
use staleline_support::progress::Progress;

use super::spec::RunSpec;
use crate::boot::Loaded;
use crate::engine::Observations;
use crate::exit::Error;

/// Identity of a guest kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelId {
    /// Patch stack's name, or path.
    pub name: String,
    /// Release, for example `6.12.117`.
    pub version: String,
    /// Patches, in order of application.
    pub stack: Vec<String>,
    /// Hash over everything it was made from, or of the image.
    pub hash: String,
    /// SHA-256 of the `Image`, in hexadecimal: before a run what it should be, if that is known,
    /// and after it what has booted.
    #[serde(default)]
    pub image_hash: Option<String>,
}

/// A file that a guest gets to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of it, in hexadecimal.
    pub hash: String,
}

/// What the guest is made of.
#[derive(Debug, Clone)]
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
    /// The agent's ELF file with symbols, if kept.
    pub agent_elf: Option<PathBuf>,
}

/// One start of the guest.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// What to run.
    pub spec: &'a RunSpec,
    /// What the guest is made of.
    pub artifacts: &'a Artifacts,
    /// Number of the maintenance operation to suppress.
    pub drop_operation: Option<u32>,
    /// Numbers of the loads and stores whose call chains are wanted, ascending. Changes nothing
    /// that the guest can see, but takes longer.
    pub trace: &'a [u64],
    /// An existing directory for `console.log` and whatever else the engine leaves.
    pub dir: &'a Path,
}

/// How the guest ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum GuestEnd {
    /// It powered off.
    PoweredOff,
    /// The time limit was reached.
    TimedOut,
    /// It, or what ran it, stopped in another way.
    Died {
        /// In words.
        what: String,
    },
}

/// Guest virtual address of each site.
pub type Sites = BTreeMap<SiteId, u64>;

/// What is left of an attempt.
#[derive(Debug, Clone)]
pub struct Execution {
    /// How the guest ended.
    pub end: GuestEnd,
    /// Where its console output is: `console.log` in the attempt's directory.
    pub console: PathBuf,
    /// Time it took.
    pub wall: Duration,
    /// SHA-256 of what was loaded, if it got so far.
    pub loaded: Option<Loaded>,
    /// Sites the report refers to.
    pub sites: Sites,
    /// Call chains and the like.
    pub seen: Observations,
    /// The machine's report; none if the engine died before it could be made.
    pub report: Option<SocReport>,
    /// Address translations that were compared with the emulator's own and were the same, if that
    /// was asked for.
    pub self_check: Option<u64>,
}

/// The rest of the program, as runs see it.
pub trait Backend: Sync {
    /// Checks, without doing anything slow, that the run can be prepared.
    ///
    /// # Errors
    /// A usage error, or an infrastructure error if something is missing on the machine.
    fn check(&self, spec: &RunSpec) -> Result<(), Error>;

    /// Builds or finds what the guest is made of. May take minutes.
    ///
    /// # Errors
    /// An infrastructure error.
    fn prepare(&self, spec: &RunSpec, progress: &dyn Progress) -> Result<Artifacts, Error>;

    /// Runs the guest to its end or to the time limit.
    ///
    /// # Errors
    /// An infrastructure error if it could not even be started.
    fn execute(&self, attempt: Attempt<'_>) -> Result<Execution, Error>;
}
