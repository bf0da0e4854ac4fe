// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What an engine tells the chip about the guest's CPU.

use serde::{Deserialize, Serialize};

/// A CPU of the guest, from 0.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
#[repr(transparent)]
pub struct CpuId(pub u8);

/// Bytes per cache line.
pub const LINE: u64 = 64;

/// Most CPUs that a board can have.
pub const MAX_CPUS: usize = 4;

impl CpuId {
    /// The CPU that the guest boots on.
    pub const BOOT: CpuId = CpuId(0);

    /// As an index below [`MAX_CPUS`].
    #[inline(always)]
    pub fn index(self) -> usize {
        usize::from(self.0) % MAX_CPUS
    }

    /// As a bit of a set of up to 32 CPUs.
    #[inline(always)]
    pub fn bit(self) -> u32 {
        1 << (self.0 & 31)
    }
}

/// A place in guest code, interned by the engine; the engine keeps the table of addresses.
/// 0 means unknown.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
#[repr(transparent)]
pub struct SiteId(pub u32);

impl SiteId {
    /// Set in the sites of code below the kernel's half of the address space.
    pub const USER: u32 = 1 << 30;

    /// Whether the place is in user space's code.
    pub fn is_user(self) -> bool {
        self.0 & Self::USER != 0
    }

    /// Its place in the engine's table.
    pub fn index(self) -> usize {
        (self.0 & !Self::USER) as usize
    }
}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheOp {
    /// `dc cvac`, and its relatives to a farther point (`cvap`, `cvadp`).
    Clean,
    /// `dc ivac`.
    Invalidate,
    /// `dc civac`.
    CleanInvalidate,
}

/// DMB or DSB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BarrierKind {
    /// Orders what comes before it against what comes after it.
    Dmb,
    /// Also waits until what comes before it is complete.
    Dsb,
}

/// The accesses that a barrier is for: CRm\[1:0\] of the instruction (DDI 0487, C6.2 "DMB", "DSB").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BarrierAccess {
    /// Loads before it; loads and stores after it (`ld`).
    Load,
    /// Stores (`st`).
    Store,
    /// Loads and stores; the only type that orders or completes cache maintenance (D7.5.9.15).
    Full,
}

/// The shareability domain a barrier is for: CRm\[3:2\].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BarrierScope {
    /// This CPU only (`nsh`).
    NonShareable,
    /// The CPUs of the cluster (`ish`).
    Inner,
    /// The bus masters too (`osh`).
    Outer,
    /// Everybody (`sy`).
    System,
}

/// A DMB or DSB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Barrier {
    /// Which of the two.
    pub kind: BarrierKind,
    /// For which accesses.
    pub access: BarrierAccess,
    /// For which observers.
    pub scope: BarrierScope,
}

impl Barrier {
    /// `dsb sy`.
    pub const DSB_SY: Barrier = Barrier {
        kind: BarrierKind::Dsb,
        access: BarrierAccess::Full,
        scope: BarrierScope::System,
    };

    /// By the instruction's CRm field, 0 to 15; `None` where it is no DMB or DSB of the base
    /// instruction set (CRm\[1:0\] = 0).
    pub fn from_crm(kind: BarrierKind, crm: u32) -> Option<Self> {
        let access = match crm & 3 {
            1 => BarrierAccess::Load,
            2 => BarrierAccess::Store,
            3 => BarrierAccess::Full,
            _ => return None,
        };
        let scope = match crm >> 2 & 3 {
            0 => BarrierScope::Outer,
            1 => BarrierScope::NonShareable,
            2 => BarrierScope::Inner,
            _ => BarrierScope::System,
        };
        Some(Barrier {
            kind,
            access,
            scope,
        })
    }

    /// Whether bus masters, which are in the outer shareable domain, observe its order.
    pub fn reaches_masters(self) -> bool {
        self.scope >= BarrierScope::Outer
    }

    /// Whether whatever comes before it is so for bus masters, too, before what comes after it.
    pub fn orders_all(self) -> bool {
        self.reaches_masters() && self.access == BarrierAccess::Full
    }

    /// Whether stores before it are ordered before stores after it.
    pub fn orders_stores(self) -> bool {
        self.access != BarrierAccess::Load
    }

    /// Whether loads before it are ordered before loads after it.
    pub fn orders_loads(self) -> bool {
        self.access != BarrierAccess::Store
    }

    /// The first, as bus masters see it.
    pub fn orders_stores_for_masters(self) -> bool {
        self.orders_stores() && self.reaches_masters()
    }

    /// The second, of what bus masters write. Behind a DSB, loads have their values, wherever these come from.
    pub fn orders_loads_from_masters(self) -> bool {
        self.orders_loads() && (self.kind == BarrierKind::Dsb || self.reaches_masters())
    }
}

/// The bit of an interrupt line in [`Machine::irq_lines`].
pub(crate) fn line_bit(irq: u8) -> u64 {
    1 << (irq & 63)
}

/// What an engine tells a machine of the guest's CPUs, and what it asks of it.
///
/// Calls come in one order that all CPUs agree on, each CPU's own in program order. Physical
/// addresses are those of guest RAM or of a device window; anything else is ignored.
///
/// Every engine tells all of this. What it may not be able to tell is [`Accesses`].
pub trait Machine {
    /// A CPU reads `data.len()` bytes (1 to 64) at `pa` of a device window: fills in what it gets, then
    /// lets the read have its effects. An engine whose window memory the CPU reads by itself
    /// ([`Machine::irq_lines`] tells when it is up to date) calls this after the read.
    fn read_register(&mut self, cpu: CpuId, pa: u64, site: SiteId, data: &mut [u8]);

    /// A CPU writes `data` (1 to 64 bytes, and no others of the registers) at `pa` of a device window.
    fn write_register(&mut self, cpu: CpuId, pa: u64, site: SiteId, data: &[u8]);

    /// A `dc` instruction on the line that holds `pa`: before or after it takes effect makes no
    /// difference, as the CPU itself does not move data. `chain` is how the CPU came to the first one
    /// of an operation ([`Machine::continues`]); what is given for later ones does not matter.
    fn maintain(&mut self, cpu: CpuId, op: CacheOp, pa: u64, site: SiteId, chain: ChainId);

    /// Whether a `dc` instruction of `cpu` now would go on with the operation that its last one
    /// belonged to: it has made no barrier, load or store in between.
    fn continues(&self, cpu: CpuId) -> bool;

    /// A DMB or DSB. An engine may leave out DMBs that do not reach bus masters.
    fn barrier(&mut self, cpu: CpuId, barrier: Barrier);

    /// A CPU has stored a translation table entry at `entry` that maps `len` bytes of memory from
    /// `pa` on as non-cacheable. Told after the store itself. A later store to the entry ends it.
    fn map_non_cacheable(&mut self, entry: u64, pa: u64, len: u64);

    /// A CPU has mapped `len` bytes of memory from `pa` on as non-cacheable, or taken the last such mapping
    /// away. Told by engines that do not see the entries of translation tables, but are told of this.
    fn remapped(&mut self, pa: u64, len: u64, non_cacheable: bool);

    /// An engine that keeps what it has made of code has fetched `len` bytes at `pa`, within a page, for
    /// the first time or after [`Machine::changed_code`] told it to. `site` tells where in guest code.
    fn fetched(&mut self, cpu: CpuId, pa: u64, len: u64, site: &mut dyn FnMut() -> SiteId);

    /// Address of a page with code that was fetched, and may since have been changed by something that
    /// the engine has not seen: by a bus master, or by a cache line that was dropped. Each is given
    /// once. What is kept of it is to go before the CPUs can know of the change: by the next DSB, which a
    /// program owes after its `ic` (DDI 0487, B2.4.4).
    fn changed_code(&mut self) -> Option<u64>;

    /// All CPUs wait for an interrupt: device time skips to the next event, if one waits.
    fn idle(&mut self);

    /// Whether a device waits for a time that is yet to come, to which [`Machine::idle`] would skip. An engine
    /// that does not see when the CPUs wait makes time go on by that.
    fn is_awaited(&self) -> bool;

    /// Reads the levels of all interrupt lines after a call; bit *n* is interrupt *n*. An engine
    /// compares with what it has last told the interrupt controller.
    fn irq_lines(&self) -> u64;

    /// How many accesses there have been since power-on, of registers too: the time that all findings
    /// give.
    fn accesses(&self) -> u64;
}

/// A function of the kernel for buffers that devices share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BufferCall {
    /// `dma_buf_begin_access()`: a device is about to access a buffer.
    BeginAccess,
    /// `dma_buf_end_access()`: it is done, and what it has written is to be made visible.
    EndAccess,
    /// `dma_resv_add_fence()`: from now on others wait for a fence before they use the buffer.
    AddFence,
    /// `dma_fence_signal()` and its relatives: nobody waits for the fence any more.
    Signal,
}

/// A CPU has come to the first instruction of such a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Called {
    /// Which CPU.
    pub cpu: CpuId,
    /// Which function.
    pub call: BufferCall,
    /// Which attachment, or which fence: its address in the kernel, or whatever the guest says it is.
    pub object: u64,
    /// For which task of the kernel: a number that tells them apart.
    pub task: u64,
    /// Who calls.
    pub chain: ChainId,
}

/// The kernel's calls for buffers that devices share, for engines that see them
/// ([`Sight::Fences`](crate::fidelity::Sight::Fences)). Neither is an access, or anything that is in time
/// or run hash.
pub trait Calls {
    /// A CPU calls such a function.
    fn called(&mut self, called: Called);

    /// The maintenance operation that `cpu` is about to begin is done by `dma_buf_end_access()` of this
    /// attachment.
    fn maintains_for(&mut self, cpu: CpuId, attachment: u64);
}

/// The CPUs' loads and stores of memory, for engines that see them ([`Fidelity`]): each **after** it
/// has taken effect in guest RAM. Those of device windows are not among them.
pub trait Accesses {
    /// A load of `size` bytes (1 to 64; it may cross a line, not a page).
    fn load(&mut self, cpu: CpuId, pa: u64, size: u32, site: SiteId, memory: MemoryType);

    /// A store of `size` bytes (1 to 64; it may cross a line, not a page).
    fn store(&mut self, cpu: CpuId, pa: u64, size: u32, site: SiteId, memory: MemoryType);

    /// The same as [`load`](Self::load) of cacheable memory, if that would only find the line in the
    /// cache: nothing to judge, and no device has anything to do. Else nothing happens and the answer is
    /// `false`. Nearly all loads are such; an engine may ask here first, where it calls nothing else.
    #[inline(always)]
    fn load_hit(&mut self, _cpu: CpuId, _pa: u64, _size: u32, _site: SiteId) -> bool {
        false
    }

    /// As [`load_hit`](Self::load_hit), of a store.
    #[inline(always)]
    fn store_hit(&mut self, _cpu: CpuId, _pa: u64, _size: u32, _site: SiteId) -> bool {
        false
    }
}
