// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The words that results are made of.

use std::fmt;

use serde::{Deserialize, Serialize};

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

impl fmt::Display for Barrier {
    /// As assemblers write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            BarrierKind::Dmb => "dmb",
            BarrierKind::Dsb => "dsb",
        };
        let scope = match self.scope {
            BarrierScope::NonShareable => "nsh",
            BarrierScope::Inner => "ish",
            BarrierScope::Outer => "osh",
            BarrierScope::System => "",
        };
        let access = match self.access {
            BarrierAccess::Load => "ld",
            BarrierAccess::Store => "st",
            BarrierAccess::Full if scope.is_empty() => "sy",
            BarrierAccess::Full => "",
        };
        write!(f, "{kind} {scope}{access}")
    }
}

/// Which way a transfer moves data, seen from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The device reads memory (`DMA_TO_DEVICE`).
    FromMemory,
    /// The device writes memory (`DMA_FROM_DEVICE`).
    ToMemory,
}

/// What started a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartedBy {
    /// Nothing: it goes by itself.
    #[default]
    Itself,
    /// A register write.
    Doorbell,
    /// A word in memory that it polls.
    Word,
}

/// Something that CPUs do and that an engine sees each time, when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sight {
    /// Loads of memory.
    Loads,
    /// Stores to memory.
    Stores,
    /// Cache maintenance by virtual address.
    Maintenance,
    /// DMB and DSB.
    Barriers,
    /// Translation table entries that make memory non-cacheable.
    Tables,
    /// The kernel's calls that announce accesses of devices to shared buffers, and signal DMA fences.
    Fences,
}

/// How much of a run was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fidelity {
    /// What the engine sees.
    pub sees: Vec<Sight>,
    /// The rules that could not be judged, or not everywhere, for want of the rest.
    pub not_judged: Vec<HazardKind>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn barriers_are_written_as_assemblers_write_them() {
        let text = |kind, access, scope| {
            let barrier = Barrier {
                kind,
                access,
                scope,
            };
            barrier.to_string()
        };
        let sy = BarrierScope::System;
        assert_eq!(text(BarrierKind::Dsb, BarrierAccess::Full, sy), "dsb sy");
        assert_eq!(text(BarrierKind::Dmb, BarrierAccess::Load, sy), "dmb ld");
        let ish = BarrierScope::Inner;
        assert_eq!(text(BarrierKind::Dmb, BarrierAccess::Full, ish), "dmb ish");
        assert_eq!(
            text(BarrierKind::Dsb, BarrierAccess::Store, ish),
            "dsb ishst"
        );
    }
}
