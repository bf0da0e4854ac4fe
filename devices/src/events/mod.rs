// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What happens on the chip, told one thing after the other to whoever wants to know: a [`Witness`].
//!
//! An event says what was done, not what it means; findings are among them. Without a witness, or where
//! it does not want a [`Kind`], a place that would tell one costs a look at a mask.
//!
//! Of lines, those are told about that a bus master has touched. What happened to one before that is
//! told by what is known of it then ([`Event::UnderDma`]); maintenance is told of all lines.

mod tap;

pub(crate) use tap::{Maintained, Tap};

use serde::{Deserialize, Serialize};

use crate::cpu::{Barrier, BufferCall, CacheOp, ChainId, CpuId, LINE, SiteId};
use crate::dma::{Content, Direction, MasterId, StartedBy, TransferId};
use crate::hazard::{Actor, HazardKind, Why};

/// The kinds of events: what one can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Data transfers begin and end.
    Transfer,
    /// A master reads or writes memory.
    Dma,
    /// A maintenance operation does lines.
    Maintenance,
    /// A barrier after maintenance that is not complete.
    Barrier,
    /// Any other barrier.
    Fence,
    /// A register write starts a device.
    Handover,
    /// An interrupt line rises or falls.
    Interrupt,
    /// A register is read or written.
    Register,
    /// The sanitizer finds something.
    Finding,
    /// Lines under DMA come into the cache, or leave it.
    Cache,
    /// A CPU loads or stores what a master has to do with: the first load of what one wrote, the first
    /// store behind maintenance, and what else is more than an access to memory of its own.
    Access,
    /// All CPUs wait, and device time goes on.
    Wait,
    /// The kernel announces that a device's access to a shared buffer begins or ends, or adds or signals
    /// a DMA fence.
    Signal,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 13] = [
        Kind::Transfer,
        Kind::Dma,
        Kind::Maintenance,
        Kind::Barrier,
        Kind::Fence,
        Kind::Handover,
        Kind::Interrupt,
        Kind::Register,
        Kind::Finding,
        Kind::Cache,
        Kind::Access,
        Kind::Wait,
        Kind::Signal,
    ];

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kinds(u32);

impl Kinds {
    /// None.
    pub const NONE: Kinds = Kinds(0);

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a kind is one of them.
    #[inline(always)]
    pub fn contains(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u32 != 0
    }

    /// All of them, in order.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL
            .into_iter()
            .filter(move |kind| self.contains(*kind))
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        Kinds(kinds.into_iter().fold(0, |all, kind| all | kind.bit()))
    }
}

/// A line's state in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cached {
    /// Not there.
    No,
    /// There, and as in memory when it came.
    Clean,
    /// There, and modified.
    Dirty,
}

/// One thing that happened. Addresses are physical, and of their first byte.
///
/// Logs hold these in the order of the variants and of their fields: to change either is to change
/// the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A data transfer begins.
    Opened {
        /// Its number, from 1; 0 beyond the transfers that are told apart.
        transfer: TransferId,
        /// Whose.
        master: MasterId,
        /// Which way.
        direction: Direction,
        /// Where.
        pa: u64,
        /// Bytes.
        len: u64,
        /// Where its descriptor stands; 0 if it was programmed by registers.
        descriptor: u64,
        /// The device's channel or endpoint.
        channel: u8,
        /// When the device was started, in accesses since power-on.
        started_at: u64,
        /// By what.
        started_by: StartedBy,
    },
    /// It ends.
    Closed {
        /// Its number.
        transfer: TransferId,
        /// Whose.
        master: MasterId,
        /// Bytes it has moved.
        bytes: u64,
    },
    /// A master reads or writes memory.
    Moved {
        /// Who.
        master: MasterId,
        /// In which transfer; 0: in none.
        transfer: TransferId,
        /// Whether it snooped.
        snoops: bool,
        /// Whether it wrote.
        write: bool,
        /// What the bytes are.
        content: Content,
        /// Where.
        pa: u64,
        /// Bytes.
        len: u64,
    },
    /// A maintenance operation does adjacent lines that it finds in one state.
    Maintained {
        /// By which CPU.
        cpu: CpuId,
        /// What it does.
        op: CacheOp,
        /// Its number since power-on, from 1.
        operation: u32,
        /// The instruction.
        site: SiteId,
        /// How the CPU came to it.
        chain: ChainId,
        /// The first line.
        pa: u64,
        /// Lines.
        lines: u64,
        /// What it finds in the cache.
        found: Cached,
        /// It was suppressed on purpose.
        dropped: bool,
    },
    /// A barrier.
    Barrier {
        /// Of which CPU.
        cpu: CpuId,
        /// Which.
        barrier: Barrier,
        /// The first and the last of the CPU's operations that were not complete before; 0: none.
        operations: (u32, u32),
        /// Whether they are now.
        completes: bool,
    },
    /// A register write starts a device.
    Started {
        /// Of which CPU.
        cpu: CpuId,
        /// The instruction.
        site: SiteId,
        /// The register.
        pa: u64,
        /// Which device.
        master: MasterId,
    },
    /// An interrupt line changes.
    Interrupt {
        /// Its number.
        irq: u8,
        /// Whether it is high now.
        high: bool,
    },
    /// A register is read or written.
    Register {
        /// By which CPU.
        cpu: CpuId,
        /// The instruction.
        site: SiteId,
        /// The first byte.
        pa: u64,
        /// Bytes.
        len: u8,
        /// Whether it was written.
        write: bool,
        /// The first eight bytes of it, as a little-endian number.
        value: u64,
    },
    /// The sanitizer finds something on a line.
    Found {
        /// The finding's number in the machine's list, from 1.
        finding: u32,
        /// The rule.
        kind: HazardKind,
        /// What about the missing operation.
        why: Why,
        /// The line.
        pa: u64,
        /// Its bytes concerned: bit *n* is byte *n*.
        bytes: u64,
        /// Of these, wrong ones.
        wrong: u64,
        /// Who wrote what was not seen or was destroyed.
        writer: Actor,
        /// Who read or destroyed it.
        reader: Actor,
    },
    /// Adjacent lines come into the cache.
    Filled {
        /// The first.
        pa: u64,
        /// Lines.
        lines: u64,
        /// By whose access; unknown: of the cache's own accord, or for a master that snoops.
        by: Actor,
    },
    /// Adjacent lines leave the cache, not by maintenance.
    Evicted {
        /// The first.
        pa: u64,
        /// Lines.
        lines: u64,
        /// Whether they were dirty, and memory has them now.
        written_back: bool,
    },
    /// A CPU loads or stores bytes of a line, in one or several accesses from this time on.
    Accessed {
        /// Which one.
        cpu: CpuId,
        /// The instruction.
        site: SiteId,
        /// Whether it stores.
        store: bool,
        /// Past the cache.
        past: bool,
        /// Whether the line had to be brought into the cache for it.
        filled: bool,
        /// Where.
        pa: u64,
        /// Bytes.
        len: u64,
    },
    /// A master is about to touch a line for the first time, which is in this state.
    UnderDma {
        /// The line.
        pa: u64,
        /// In the cache.
        cached: Cached,
        /// What brought it there, or was the last to write it there.
        cached_by: Actor,
        /// When, in accesses since power-on.
        cached_at: u64,
        /// Bytes that a coherent observer has written and nobody cleaned since.
        uncleaned: u64,
        /// The last operation that cleaned it; 0: none.
        clean_op: u32,
    },
    /// All CPUs wait, and device time goes on.
    Waited {
        /// By so many ticks.
        ticks: u64,
    },
    /// The kernel calls a function for buffers that devices share.
    Called {
        /// On which CPU.
        cpu: CpuId,
        /// Which one.
        call: BufferCall,
        /// Of which attachment or fence: its address in the kernel.
        object: u64,
        /// Who calls.
        chain: ChainId,
    },
}

impl Event {
    /// The places in guest code that it names.
    pub fn sites(&self) -> impl Iterator<Item = SiteId> + use<> {
        let of = |actor: &Actor| match actor {
            Actor::Cpu { site, .. } => Some(*site),
            Actor::Unknown | Actor::Device { .. } => None,
        };
        let sites = match self {
            Event::Maintained { site, .. }
            | Event::Started { site, .. }
            | Event::Register { site, .. }
            | Event::Accessed { site, .. } => [Some(*site), None],
            Event::Found { writer, reader, .. } => [of(writer), of(reader)],
            Event::Filled { by, .. } => [of(by), None],
            Event::UnderDma { cached_by, .. } => [of(cached_by), None],
            Event::Opened { .. }
            | Event::Closed { .. }
            | Event::Moved { .. }
            | Event::Barrier { .. }
            | Event::Interrupt { .. }
            | Event::Evicted { .. }
            | Event::Waited { .. }
            | Event::Called { .. } => [None, None],
        };
        sites.into_iter().flatten()
    }

    /// The memory that it is about, by its first byte and its length, if it is about any. A register is none.
    pub fn memory(&self) -> Option<(u64, u64)> {
        Some(match *self {
            Event::Opened { pa, len, .. }
            | Event::Moved { pa, len, .. }
            | Event::Accessed { pa, len, .. } => (pa, len),
            Event::Maintained { pa, lines, .. }
            | Event::Filled { pa, lines, .. }
            | Event::Evicted { pa, lines, .. } => (pa, lines.saturating_mul(LINE)),
            Event::Found { pa, .. } | Event::UnderDma { pa, .. } => (pa, LINE),
            Event::Closed { .. }
            | Event::Barrier { .. }
            | Event::Started { .. }
            | Event::Interrupt { .. }
            | Event::Register { .. }
            | Event::Waited { .. }
            | Event::Called { .. } => return None,
        })
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Event::Opened { .. } | Event::Closed { .. } => Kind::Transfer,
            Event::Moved { .. } => Kind::Dma,
            Event::Maintained { .. } => Kind::Maintenance,
            Event::Barrier { operations, .. } if *operations == (0, 0) => Kind::Fence,
            Event::Barrier { .. } => Kind::Barrier,
            Event::Started { .. } => Kind::Handover,
            Event::Interrupt { .. } => Kind::Interrupt,
            Event::Register { .. } => Kind::Register,
            Event::Found { .. } => Kind::Finding,
            Event::Filled { .. } | Event::Evicted { .. } | Event::UnderDma { .. } => Kind::Cache,
            Event::Accessed { .. } => Kind::Access,
            Event::Waited { .. } => Kind::Wait,
            Event::Called { .. } => Kind::Signal,
        }
    }
}

/// Who is told. It must not be slow, and has to keep its own trouble to itself.
pub trait Witness: Send {
    /// Something happened, `at` so many accesses since power-on. Times do not go back.
    fn event(&mut self, at: u64, event: &Event);

    /// Nothing will happen for a while.
    fn rest(&mut self);

    /// The machine has ended.
    fn end(&mut self);
}

#[cfg(test)]
mod tests;
