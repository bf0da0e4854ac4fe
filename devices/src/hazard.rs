// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the sanitizer can find, and the record of one finding.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::cpu::{Barrier, CacheOp, ChainId, CpuId, LINE, SiteId};
use crate::dma::{MasterId, StartedBy, TransferId};

/// A rule of the sanitizer that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HazardKind {
    /// A non-snooping master reads bytes that a coherent observer wrote and nobody cleaned, or not
    /// before it was started.
    MissingClean,
    /// A coherent observer reads bytes that a non-snooping master wrote, with no invalidate since
    /// the transfer was over.
    MissingInvalidate,
    /// A line holds both an uncleaned coherent write and newer non-snooping data: its eviction
    /// may destroy the latter.
    WritebackClobber,
    /// An invalidate throws away an uncleaned coherent write.
    DiscardedWrite,
    /// Maintenance was not completed by a DSB before the device was started.
    MissingBarrier,
    /// A cacheable and a non-cacheable view of a line disagree.
    MismatchedAlias,
    /// A CPU or a snooping master touches a line while a non-snooping transfer on it is in flight.
    Ownership,
    /// What a device wrote is made visible only after the fence of its transfer has signalled.
    SignalledEarly,
}

/// Rules that go by when exactly something was done, and by whom: not to be judged where stores are only found
/// later.
pub const BY_TIME: [HazardKind; 3] = [
    HazardKind::MissingBarrier,
    HazardKind::Ownership,
    HazardKind::SignalledEarly,
];

impl HazardKind {
    /// All kinds.
    pub const ALL: [HazardKind; 8] = [
        HazardKind::MissingClean,
        HazardKind::MissingInvalidate,
        HazardKind::WritebackClobber,
        HazardKind::DiscardedWrite,
        HazardKind::MissingBarrier,
        HazardKind::MismatchedAlias,
        HazardKind::Ownership,
        HazardKind::SignalledEarly,
    ];

    /// The name used in results and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            HazardKind::MissingClean => "missing-clean",
            HazardKind::MissingInvalidate => "missing-invalidate",
            HazardKind::WritebackClobber => "writeback-clobber",
            HazardKind::DiscardedWrite => "discarded-write",
            HazardKind::MissingBarrier => "missing-barrier",
            HazardKind::MismatchedAlias => "mismatched-alias",
            HazardKind::Ownership => "ownership",
            HazardKind::SignalledEarly => "signalled-early",
        }
    }
}

/// Who made an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Actor {
    /// Nobody known: the state is as it was at power-on.
    Unknown,
    /// A CPU, at a place in guest code.
    Cpu {
        /// Which one.
        cpu: CpuId,
        /// The place.
        site: SiteId,
    },
    /// A bus master.
    Device {
        /// Which one.
        master: MasterId,
        /// In which transfer.
        transfer: TransferId,
        /// Whether this access snooped: it may for reads and not for writes, or as it asks for.
        snoops: bool,
    },
}

impl Actor {
    /// The master, if it is one.
    pub fn master(self) -> Option<MasterId> {
        match self {
            Actor::Device { master, .. } => Some(master),
            _ => None,
        }
    }
}

/// What about the operation that a rule misses.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It was not done since the write.
    #[default]
    Absent,
    /// It was begun after the device had been started.
    Late,
    /// It was done while the transfer that wrote the data was in flight.
    Early,
    /// It was done, but no barrier that completes or orders it stood before the access.
    Incomplete,
    /// It is not maintenance that is missing: an ordinary store is not ordered before what started
    /// the device, or came after it.
    Unordered,
    /// A store into a copy that was out of date has merged old bytes over the new ones.
    StaleStore,
    /// Nobody has cleaned what firmware left in the cache.
    PowerOn,
}

impl Why {
    /// Reasons that are the same mistake have the same one: that an operation was too late or too
    /// early here, and never came there.
    pub fn mistake(self) -> Why {
        match self {
            Why::Late | Why::Early => Why::Absent,
            other => other,
        }
    }
}

/// Places in guest code that a finding keeps. The kernel's copy_page() alone loads in 16.
pub const MAX_READERS: usize = 32;

/// A maintenance operation as a diagnostic needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastMaintenance {
    /// The CPU.
    #[serde(default)]
    pub cpu: CpuId,
    /// What was done.
    pub op: CacheOp,
    /// By which instruction.
    pub site: SiteId,
    /// How the CPU came to it.
    pub chain: ChainId,
    /// Number of the operation among all of the run, from 1.
    pub operation: u32,
    /// Time in accesses since power-on.
    pub at: u64,
    /// The lowest line of the operation.
    pub first_pa: u64,
    /// Lines, all together: those that follow, where it is one range.
    pub lines: u64,
    /// The first barrier after it, if one was seen.
    #[serde(default)]
    pub barrier: Option<Barrier>,
    /// When that was, in accesses since power-on.
    #[serde(default)]
    pub barrier_at: u64,
}

impl LastMaintenance {
    /// The memory that it did, if it is one range: the operation itself knows
    /// ([`MaintenanceOp::ranges`](crate::coherency::report::MaintenanceOp::ranges)).
    pub fn as_one_range(&self) -> Range<u64> {
        line_range(self.first_pa, self.lines)
    }
}

/// The memory of so many lines from one on.
pub(crate) fn line_range(first_pa: u64, lines: u64) -> Range<u64> {
    first_pa..first_pa.saturating_add(lines.saturating_mul(LINE))
}

/// A DMA fence signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signalled {
    /// On which CPU.
    pub cpu: CpuId,
    /// How it came to that: who calls `dma_fence_signal()`.
    pub chain: ChainId,
    /// When, in accesses since power-on.
    pub at: u64,
}

/// One finding: the same rule broken by the same transfer, over any number of lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hazard {
    /// The rule.
    pub kind: HazardKind,
    /// Whether wrong data was seen (or right data destroyed), not only possible.
    pub manifested: bool,
    /// Lines affected, each once.
    pub lines: u64,
    /// Of these, lines on which it manifested.
    pub manifested_lines: u64,
    /// Bytes that were wrong.
    pub wrong_bytes: u64,
    /// Lowest address affected, a multiple of the line size.
    pub first_pa: u64,
    /// One past the highest address affected, a multiple of the line size.
    pub end_pa: u64,
    /// The first line found, which the particulars below are about.
    pub line_pa: u64,
    /// Bytes of it concerned: bit *n* for byte *n*.
    pub line_bytes: u64,
    /// Bytes of it that a coherent observer had written and nobody cleaned, likewise.
    pub line_uncleaned: u64,
    /// Who wrote the data that was not seen or was destroyed (at the first line).
    pub writer: Actor,
    /// Who read, or destroyed (at the first line).
    pub reader: Actor,
    /// Places in guest code that read or destroyed, at any line: the first [`MAX_READERS`].
    pub readers: Vec<SiteId>,
    /// The non-snooping transfer concerned, if one is.
    pub transfer: TransferId,
    /// Its master.
    pub master: MasterId,
    /// The place in guest code that last brought the line into the cache or wrote it there.
    pub cached_by: Actor,
    /// When it did, in accesses since power-on.
    pub cached_at: u64,
    /// What about the missing operation.
    pub why: Why,
    /// The last maintenance on the first line before the finding.
    pub last_maintenance: Option<LastMaintenance>,
    /// The last that cleaned it.
    pub last_clean: Option<LastMaintenance>,
    /// The last that invalidated it.
    pub last_invalidate: Option<LastMaintenance>,
    /// The store that merged into a stale copy, for [`Why::StaleStore`], and when.
    pub merged_by: Actor,
    /// In accesses since power-on; 0: none.
    pub merged_at: u64,
    /// Bytes of the first line that were stored into that copy: bit *n* for byte *n*.
    #[serde(default)]
    pub merged: u64,
    /// When the device was started, if the finding is about a device that was.
    pub started_at: Option<u64>,
    /// What told it so.
    pub started_by: StartedBy,
    /// When the data was written by `writer`, in accesses since power-on, if known.
    pub written_at: u64,
    /// A CPU stored it, past the cache: through a non-cacheable alias.
    #[serde(default)]
    pub written_past: bool,
    /// For a missing barrier between loads, one that stood there and is too weak.
    #[serde(default)]
    pub stood: Option<Barrier>,
    /// For data that was made visible too late, the signal of the fence.
    #[serde(default)]
    pub signalled: Option<Signalled>,
    /// When it was first found, in accesses since power-on.
    pub at: u64,
}
