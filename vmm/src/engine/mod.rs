// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Engines: what runs the guest's CPU and reports its accesses to the machine.

pub mod attend;
pub mod description;
pub mod error;
pub mod kinds;
pub mod kvm;
pub mod snapshot;
pub mod tcg;

use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use staleline_devices::coherency::Poison;
use staleline_machine::engine::wire::HostDevices;
use staleline_results::GuestEnd;

use crate::boot::{Expected, Loaded};
use crate::events::Recording;
use crate::interrupt::Interrupt;

pub use attend::Attendance;
pub use error::EngineError;
pub use kinds::EngineKind;
pub use snapshot::Snapshot;
pub use staleline_machine::engine::{
    BufferCode, GuestKind, Handover, HandoverError, Observations, SiteTable, calls, chains, guest,
    handover, sites,
};

/// One run of a guest.
#[derive(Debug, Clone)]
pub struct Job {
    /// arm64 `Image`.
    pub kernel: PathBuf,
    /// Initial root file system.
    pub initrd: Option<PathBuf>,
    /// What these two should be.
    pub expected: Expected,
    /// Device tree blob; its memory node ends where `ram_bytes` end, its initrd is where
    /// [`crate::boot::Images::layout`] says.
    pub fdt: Vec<u8>,
    /// Guest RAM from [`crate::boot::RAM_BASE`] on, in bytes; a multiple of 1 MiB.
    pub ram_bytes: u64,
    /// What RAM holds at power-on on an engine that does not see stores.
    pub poison: Poison,
    /// CPUs, 1 to 4.
    pub cpus: u8,
    /// Shared interrupts that the device tree names, 1 to 64: the last one, and 1.
    pub lines: u8,
    /// Device windows right above RAM, in bytes; a multiple of 1 MiB.
    pub window_bytes: u64,
    /// Which machine the engine hosts.
    pub guest: GuestKind,
    /// The machine's configuration; the engine hands it through.
    pub machine: serde_json::Value,
    /// Devices of the host's that the guest is to have.
    pub devices: Option<HostDevices>,
    /// Wall-clock time after which the guest counts as hung; none if it may take as long as it likes.
    pub timeout: Option<Duration>,
    /// What people do with it meanwhile.
    pub attendance: Attendance,
    /// More arguments for the engine, which only it understands.
    pub arguments: Vec<String>,
    /// Whether the user wants no more of it.
    pub interrupt: Interrupt,
    /// An existing directory for `console.log` and whatever else the engine leaves.
    pub run_dir: PathBuf,
    /// Check what the engine works out for itself (address translations, register values) against
    /// what the guest got (slow).
    pub selfcheck: bool,
    /// At every so many register accesses and device events, save the machine and go on with a new one
    /// made from that, after a look at whether it is the same (slow). Changes nothing that the guest can
    /// see.
    pub save_restore: Option<NonZeroU64>,
    /// Numbers of the loads and stores, from 1, whose call chains are wanted; ascending, at most
    /// [`TRACE_LIMIT`]. Slow if there are any; changes nothing that the guest can see.
    pub trace: Vec<u64>,
    /// The kernel's functions for shared buffers, if it has them and is known.
    pub calls: Option<BufferCode>,
    /// What to keep of what happens on the machine, and where.
    pub events: Option<Recording>,
    /// Save it, or go on from where one was saved, if the engine can ([`EngineKind::saves`]).
    pub snapshot: Option<Snapshot>,
}

/// What a run left behind.
#[derive(Debug)]
pub struct Outcome {
    /// How the guest ended: it powered off, it died, or the time limit was reached.
    pub end: GuestEnd,
    /// What it was.
    pub loaded: Loaded,
    /// What the guest wrote to its UART.
    pub console: PathBuf,
    /// Wall-clock time from the start of the CPU to the guest's end.
    pub wall_time: Duration,
    /// Guest addresses behind the [`staleline_devices::cpu::SiteId`]s in `report`.
    pub sites: SiteTable,
    /// Call chains and the like.
    pub seen: Observations,
    /// The machine's report.
    pub report: Handover,
    /// The machine that the guest's CPUs were of, in words, if that is not always the same.
    pub host: Option<String>,
    /// What was checked and found to be the same, if [`Job::selfcheck`] was set.
    pub checked: Option<u64>,
    /// How often the machine was saved and restored, if [`Job::save_restore`] was set.
    pub restored: Option<u64>,
    /// Bytes that were typed at the guest's console, if that was a terminal.
    pub typed: Option<u64>,
    /// The engine's own counters, for those who know it.
    pub stats: serde_json::Value,
}

/// Most loads and stores that can be traced in one run.
pub const TRACE_LIMIT: usize = 4096;

/// Something that can run a [`Job`].
pub trait Engine: Send + Sync {
    /// Runs a guest until it ends, and cleans up whatever happens.
    ///
    /// # Errors
    /// [`EngineError`]: every one is an infrastructure error, never a verdict on the guest.
    fn run(&self, job: &Job) -> Result<Outcome, EngineError>;

    /// Lets go of what it keeps for the next run.
    fn rest(&self) {}
}

/// What an earlier run has left in these places must not pass for this one's.
fn remove_earlier(places: &[&Path]) -> Result<(), EngineError> {
    for path in places {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(error::os("remove an earlier run's files")(e));
            }
            _ => {}
        }
    }
    Ok(())
}
