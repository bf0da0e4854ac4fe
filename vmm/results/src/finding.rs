// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! One finding, and who took part in it.

use serde::{Deserialize, Serialize};

use crate::{Barrier, CacheOp, Direction, HazardKind, Hex, Place, StartedBy, Why};

/// One finding of the sanitizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HazardEntry {
    /// The rule.
    pub kind: HazardKind,
    /// Whether wrong data was seen, or right data destroyed.
    pub manifested: bool,
    /// Lines affected.
    pub lines: u64,
    /// Of these, lines on which it manifested.
    pub manifested_lines: u64,
    /// Bytes that were wrong.
    pub wrong_bytes: u64,
    /// First line.
    pub first_pa: Hex,
    /// One past the last line.
    pub end_pa: Hex,
    /// Who wrote the data that was not seen or was destroyed.
    pub writer: Party,
    /// Who read or destroyed it.
    pub reader: Party,
    /// Name of the non-snooping master concerned.
    pub master: String,
    /// Its transfer; 0 if none.
    pub transfer: u32,
    /// What is missing, in words.
    pub missing: String,
    /// Where in guest code the line came into the cache.
    pub cached_by: Option<Place>,
    /// The last maintenance on the first line before the finding.
    pub last_maintenance: Option<LastMaintenance>,
    /// What about the missing operation.
    #[serde(default)]
    pub why: Why,
    /// When the data was written, in accesses since power-on, if known.
    pub written_at: u64,
    /// When the device was started, if it was, in accesses since power-on.
    #[serde(default)]
    pub started_at: Option<u64>,
    /// When it was found, in accesses since power-on.
    pub at: u64,
    /// Index into `diagnostics`.
    pub diagnostic: usize,
}

impl HazardEntry {
    /// Between whom it is, in words that stay the same from kernel to kernel.
    pub fn between(&self) -> String {
        format!("{} -> {}", self.writer.name(), self.reader.name())
    }
}

/// Who made an access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Party {
    /// Nobody known.
    Unknown,
    /// A CPU.
    Cpu {
        /// Which one; none where there is only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cpu: Option<u8>,
        /// Where in guest code.
        place: Place,
    },
    /// A bus master.
    Device {
        /// Its name.
        master: String,
        /// Whether this access snooped: of one port, reads may and writes not.
        snoops: bool,
        /// In which transfer, if it was one.
        transfer: Option<TransferRef>,
    },
}

impl Party {
    /// A master, or a function.
    fn name(&self) -> String {
        match self {
            Party::Unknown => "somebody unknown".into(),
            Party::Device { master, .. } => master.clone(),
            Party::Cpu { place, .. } => place.function(),
        }
    }
}

/// A transfer as the device described it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferRef {
    /// Its number, from 1.
    pub id: u32,
    /// Which way, seen from memory.
    pub direction: Direction,
    /// First byte.
    pub pa: Hex,
    /// What the device's bus calls it, if that is another address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<Hex>,
    /// Bytes.
    pub len: u64,
    /// Where its descriptor stands; 0 if it was programmed by registers.
    pub descriptor: Hex,
    /// Channel or endpoint.
    pub channel: u8,
    /// The scenario's frame it belongs to, from 0, if that can be told.
    pub frame: Option<u32>,
    /// When the device took it, in accesses since power-on.
    #[serde(default)]
    pub opened_at: u64,
    /// When it was done with it, if it was.
    #[serde(default)]
    pub closed_at: Option<u64>,
}

/// A maintenance operation on an affected line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastMaintenance {
    /// What was done.
    pub op: CacheOp,
    /// Where in guest code, and who called it.
    pub place: Place,
    /// Its number since power-on: `drop-maintenance=@N`.
    pub number: u32,
    /// When, in accesses since power-on.
    pub at: u64,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When, in accesses since power-on.
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub what: Event,
    /// Who did it, and where.
    pub who: Party,
}

/// What can happen to a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Event {
    /// The machine was switched on; the line may have been dirty then.
    PowerOn,
    /// Written through the cache.
    Stored,
    /// Written in memory, past the cache.
    Written,
    /// Brought into the cache, or written there.
    Cached,
    /// A maintenance operation that the line was part of.
    Maintained {
        /// What it did.
        op: CacheOp,
        /// Its number since power-on.
        number: u32,
        /// Its first line.
        first_pa: Hex,
        /// Its lines.
        lines: u64,
        /// The first barrier after it, if one was seen.
        barrier: Option<Barrier>,
        /// It was suppressed on purpose.
        suppressed: bool,
    },
    /// A device was started.
    Started {
        /// By what.
        by: StartedBy,
    },
    /// A transfer of a device was opened.
    Opened,
    /// It was closed.
    Closed,
    /// The fence of the access signalled.
    Signalled,
    /// Stored into a copy that was out of date.
    StoredStale,
    /// The finding: read.
    Read,
    /// The finding: read or written by a device, of which only the way of its transfer is known.
    Accessed,
    /// The finding: written in memory while the cache may hold uncleaned data.
    WrittenOver,
    /// The finding: invalidated, and with it uncleaned data.
    Discarded,
    /// The finding: maintained, and thereby made visible after the fence had signalled.
    MadeVisible,
    /// The finding: accessed past the cache.
    ReadPast,
    /// The finding: touched while a transfer was in flight.
    Touched,
}
