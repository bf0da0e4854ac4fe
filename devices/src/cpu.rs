// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What an engine tells the chip about the guest's CPU.

use serde::{Deserialize, Serialize};

/// A place in guest code, interned by the engine; the engine keeps the table of addresses.
/// 0 means unknown.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SiteId(pub u32);

/// A call chain in guest code, interned by the engine, which keeps the table. 0 means unknown.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ChainId(pub u32);

/// The memory attribute that the guest's page tables give an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryType {
    /// Normal, write-back: goes through the caches.
    Cacheable,
    /// Normal non-cacheable or Device memory, or the MMU is off: goes to the PoC.
    NonCacheable,
}

/// Cache maintenance by virtual address, to the point of coherency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheOp {
    /// `dc cvac`, and its relatives to a farther point (`cvap`, `cvadp`).
    Clean,
    /// `dc ivac`.
    Invalidate,
    /// `dc civac`.
    CleanInvalidate,
}

/// The guest's CPU as an engine reports it. Calls come in program order, each **after** the
/// instruction has taken effect in guest RAM (maintenance: before or after makes no difference,
/// the CPU itself does not move data).
///
/// Physical addresses are those of guest RAM or of a device window; anything else is ignored.
pub trait CpuEvents {
    /// A load of `size` bytes (1 to 64; it may cross a line, not a page).
    fn load(&mut self, pa: u64, size: u32, site: SiteId, memory: MemoryType);

    /// A store of `size` bytes (1 to 64; it may cross a line, not a page).
    fn store(&mut self, pa: u64, size: u32, site: SiteId, memory: MemoryType);

    /// A `dc` instruction on the line that holds `pa`. `chain` is how the CPU came to the first one
    /// since a DSB; what is given for later ones does not matter.
    fn maintain(&mut self, op: CacheOp, pa: u64, site: SiteId, chain: ChainId);

    /// A DSB: all maintenance before it is complete.
    fn barrier(&mut self);

    /// The CPU waits for an interrupt: device time skips to the next event, if one waits.
    fn idle(&mut self);

    /// Reads the levels of all interrupt lines after a call; bit *n* is SPI *n*. An engine
    /// compares with what it has last told the interrupt controller.
    fn irq_lines(&self) -> u64;

    /// How many loads and stores there have been since power-on: the time that all findings give.
    fn accesses(&self) -> u64;
}
