// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Facts about a finding that advice can depend on.

use staleline_devices::coherency::SnoopWrite;
use staleline_devices::coherency::hazard::{HazardKind, Why};
use staleline_devices::cpu::{Barrier, CacheOp};
use staleline_devices::dma::{MasterId, Port, StartedBy};

/// Who plays a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nobody known.
    Unknown,
    /// Kernel code.
    Kernel,
    /// Code of a process.
    User,
    /// A device that snoops, or does not.
    Device {
        /// Whether its access snooped.
        snoops: bool,
    },
}

impl Role {
    /// Whether it is a device.
    pub fn is_device(self) -> bool {
        matches!(self, Role::Device { .. })
    }
}

/// The device tree says other than what is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lie {
    /// The device among the run's masters.
    pub id: MasterId,
    /// Its name.
    pub master: String,
    /// Its port.
    pub port: Port,
    /// The device tree says `dma-coherent`, but the access did not snoop; else the other way round.
    pub claims_coherent: bool,
    /// What the port's snooping writes do.
    pub snoop_write: SnoopWrite,
    /// Its driver makes it ask to be snooped only if the device tree says so.
    pub asks_if_claimed: bool,
    /// It is the access that merged old bytes over new ones.
    pub merged: bool,
}

impl Lie {
    /// The port snoops one way only.
    pub fn by_half(&self) -> bool {
        self.port.snoops_reads() != self.port.snoops_writes()
    }

    /// A device tree that says that the device is not coherent is right about the port: the device then
    /// does not ask to be snooped, or reads go to memory, and so do writes, which only spare the CPU an
    /// invalidate.
    pub fn is_as_good_as_incoherent(&self) -> bool {
        if self.asks_if_claimed {
            return true;
        }
        !self.port.snoops_reads()
            && (!self.port.snoops_writes() || self.snoop_write == SnoopWrite::WriteThrough)
    }
}

/// A part of a line is the buffer's, and other bytes are somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedLine {
    /// The line.
    pub line: u64,
    /// First byte of the transfer that covers part of it.
    pub pa: u64,
    /// Its bytes.
    pub len: u64,
}

/// Which of the calls on a DMABUF asked for maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// `DMA_BUF_IOCTL_SYNC`, by user space.
    Ioctl,
    /// `dma_buf_begin_cpu_access()` or `dma_buf_end_cpu_access()`, by the kernel.
    CpuAccess,
    /// `dma_buf_begin_access()`.
    BeginAccess,
    /// `dma_buf_end_access()`.
    EndAccess,
}

impl Phase {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Ioctl => "DMA_BUF_IOCTL_SYNC",
            Phase::CpuAccess => "dma_buf_begin/end_cpu_access()",
            Phase::BeginAccess => "dma_buf_begin_access()",
            Phase::EndAccess => "dma_buf_end_access()",
        }
    }
}

/// A transfer as far as it is about time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flight {
    /// Its number.
    pub id: u32,
    /// When it was over, in accesses since power-on, if it was.
    pub closed_at: Option<u64>,
}

impl Flight {
    /// When it was over, in words.
    pub fn end(self) -> String {
        match self.closed_at {
            Some(at) => format!("transfer #{} was over only at @{at}", self.id),
            None => format!("transfer #{} was not over when the run ended", self.id),
        }
    }
}

/// Maintenance that such a call did on the buffer: adjacent operations as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// The call.
    pub phase: Phase,
    /// What was done.
    pub op: CacheOp,
    /// How it came there, innermost first.
    pub chain: String,
    /// First line and one past the last line, as addresses.
    pub lines: (u64, u64),
    /// The line of the finding is among them.
    pub covers: bool,
    /// In accesses since power-on.
    pub at: u64,
}

/// Maintenance of a part of what should have been maintained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// Who asked for it, innermost first.
    pub by: String,
    /// First line and one past the last line, as addresses.
    pub lines: (u64, u64),
}

/// Maintenance for the CPU that should have invalidated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleaned {
    /// The call of the DMA API that asked for it.
    pub call: String,
    /// The routine that did it.
    pub routine: String,
    /// Who called the DMA API, innermost first; empty if unknown.
    pub by: String,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The rule.
    pub kind: HazardKind,
    /// What about the missing operation.
    pub why: Why,
    /// The maintenance operation that was suppressed on purpose would have prevented it.
    pub suppressed: bool,
    /// Who wrote.
    pub writer: Role,
    /// Who read or destroyed.
    pub reader: Role,
    /// Name of the device concerned.
    pub master: String,
    /// Accesses of devices concerned that did other than the device tree says of them.
    pub lies: Vec<Lie>,
    /// Only code that copies whole pages has read it.
    pub copied_only: bool,
    /// The kernel cleared or copied the page for somebody else: by this function.
    pub fresh_page: Option<String>,
    /// The finding is about a DMABUF, of this exporter.
    pub dmabuf: Option<String>,
    /// That DMABUF is attached to one device alone.
    pub one_attached: bool,
    /// The line is only in part the buffer's, and the bytes in question are not.
    pub shared: Option<SharedLine>,
    /// Calls on the DMABUF that did maintenance between the write and the finding.
    pub syncs: Vec<Sync>,
    /// User space issued `DMA_BUF_IOCTL_SYNC` before it read, but the device had not written yet.
    pub synced_too_early: Option<Sync>,
    /// The line was invalidated while the transfer was in flight that has then written it.
    pub invalidated_in_flight: bool,
    /// Other lines of what a device has written were invalidated before the kernel read this one.
    pub partial: Option<Partial>,
    /// `dma_buf_begin_access()` or `dma_buf_end_access()` did some before the transfer.
    pub began: Option<Sync>,
    /// Whether the unmapping of the buffer at the end invalidated it, as it does for a direction in
    /// which the device writes. Unknown if the run did not come to that, or if other devices have it
    /// mapped, too, that are not coherent.
    pub unmap_invalidates: Option<bool>,
    /// The call that should have invalidated came in time, and cleaned.
    pub only_cleaned: Option<Cleaned>,
    /// The last maintenance of the line: who asked for it, innermost first.
    pub maintained_by: Option<String>,
    /// The fence that has signalled too early: who signals it, innermost first.
    pub signalled_by: Option<String>,
    /// The transfer concerned.
    pub transfer: Option<Flight>,
    /// The kernel's function that made the access, if the kernel did: the reader of what a device
    /// wrote, or the writer.
    pub toucher: Option<String>,
    /// What started the device.
    pub started_by: StartedBy,
    /// The first barrier after the maintenance and before the device was started; where a barrier for
    /// loads is missing, the weaker one that stood there.
    pub barrier: Option<Barrier>,
    /// The device leaves its driver no other way than to order memory as for another CPU.
    pub ordered_as_a_cpu: bool,
    /// A CPU accesses the lines past the cache, and no device does.
    pub past_the_cache: bool,
    /// The store that went into a stale copy: by whom, and where.
    pub merged_by: Option<(Role, String)>,
    /// Who asked for the invalidate that threw a write away, innermost first.
    pub discarded_by: Option<String>,
    /// That was to map the memory for a device.
    pub mapping_discards: bool,
    /// User space has issued `DMA_BUF_IOCTL_SYNC` around its part of each frame.
    pub synced: bool,
    /// User space has detached the DMABUF before it read.
    pub detached: bool,
    /// The kernel under test has `dma_buf_begin_access()` and `dma_buf_end_access()`.
    pub has_access_calls: bool,
}

impl Facts {
    /// As if nobody had done or tried any.
    pub fn without_maintenance(&self) -> Facts {
        Facts {
            why: self.why.mistake(),
            syncs: Vec::new(),
            synced_too_early: None,
            invalidated_in_flight: false,
            partial: None,
            began: None,
            only_cleaned: None,
            maintained_by: None,
            synced: false,
            ..self.clone()
        }
    }
}
