// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The machine that an engine hosts, wherever it hosts it.

use serde::{Deserialize, Serialize};
use staleline_devices::coherency::{DramImage, Poison};
use staleline_devices::cpu::{Accesses, Calls, Machine};
use staleline_devices::events::{Kinds, Witness};
use staleline_devices::soc::report::Names;
use staleline_devices::state::{RestoreError, SaveError, Saved};
use vm_memory::MmapRegion;

/// The machines that an engine can host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestKind {
    /// No devices: counts and hashes what the CPU does. For checks of the engine itself.
    Probe,
    /// The board: [`staleline_devices::soc::Soc`].
    Board,
}

/// What a machine is given to exist.
pub struct GuestContext {
    /// Guest RAM.
    pub ram: MmapRegion,
    /// Physical address of its first byte.
    pub ram_base: u64,
    /// The device windows, which follow RAM, if the engine's CPUs read and write them as memory:
    /// the machine keeps there what a read would give.
    pub windows: Option<MmapRegion>,
    /// The image of DRAM, if the engine has made it: shared, if masters that are not the machine's work on it.
    pub dram: Option<DramImage>,
    /// The engine tells of no loads and stores, and RAM holds that at power-on: the machine is to find out about stores.
    pub lazy: Option<Poison>,
    /// The machine's own configuration.
    pub machine: serde_json::Value,
}

impl GuestContext {
    /// Bytes of RAM.
    pub fn ram_bytes(&self) -> u64 {
        self.ram.size() as u64
    }
}

/// A machine that an engine can host. An engine that does not see all accesses leaves out
/// [`Accesses`], and one that does not see the kernel's calls [`Calls`].
pub trait Guest: Machine + Accesses + Calls + Send + Sized + 'static {
    /// What it leaves behind.
    type Report: Serialize;

    /// Builds the machine when the images are loaded and the CPU has not run yet.
    ///
    /// # Errors
    /// What is wrong with its configuration, for the user.
    fn new(context: GuestContext) -> Result<Self, String>;

    /// Register accesses and device events since power-on.
    fn steps(&self) -> u64;

    /// Its state, as far as it is not in guest RAM, for [`Guest::restore`].
    ///
    /// # Errors
    /// [`SaveError`].
    fn save(&self) -> Result<Saved, SaveError>;

    /// Takes over the state of a machine with the same configuration; this one has just been built, over
    /// RAM that holds what it held when the state was saved.
    ///
    /// # Errors
    /// [`RestoreError`]: the machine is then of no more use.
    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError>;

    /// What it is made of, by its names.
    fn names(&self) -> Names;

    /// `witness` is told of events of these kinds until the machine is finished.
    fn watch(&mut self, kinds: Kinds, witness: Box<dyn Witness>);

    /// Who is told of events here is told from now on of those of `other`, which goes on in this one's
    /// place.
    fn pass_witness(&mut self, other: &mut Self);

    /// The guest has ended: reports.
    ///
    /// # Errors
    /// What went wrong, for the user.
    fn finish(&mut self) -> Result<Self::Report, String>;
}
