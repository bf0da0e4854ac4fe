// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What can be wrong with an access, and how the guest is told: records of the event queue.
//!
//! Source: Arm IHI0070, 7.3.

use serde::{Deserialize, Serialize};

/// Why an access is not translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// The stream has no entry in the table.
    StreamId,
    /// Its entry cannot be read.
    EntryFetch,
    /// Its entry is none that this SMMU can use.
    Entry,
    /// Its context descriptor cannot be read.
    ContextFetch,
    /// Its context descriptor is none that this SMMU can use.
    Context,
    /// A translation table cannot be read.
    WalkAbort,
    /// Nothing is mapped there.
    Translation,
    /// What is mapped there is beyond the addresses that come out.
    AddressSize,
    /// The page's access flag is not set.
    AccessFlag,
    /// The page may not be written, or not by devices.
    Permission,
    /// The stream's entry, or GBPA, says so. No event.
    Abort,
}

impl Why {
    /// Number of the event, if there is one.
    pub fn event(self) -> Option<u8> {
        Some(match self {
            Why::StreamId => 0x02,
            Why::EntryFetch => 0x03,
            Why::Entry => 0x04,
            Why::ContextFetch => 0x09,
            Why::Context => 0x0a,
            Why::WalkAbort => 0x0b,
            Why::Translation => 0x10,
            Why::AddressSize => 0x11,
            Why::AccessFlag => 0x12,
            Why::Permission => 0x13,
            Why::Abort => return None,
        })
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Why::StreamId => "its stream is not in the stream table (C_BAD_STREAMID)",
            Why::EntryFetch => "its stream table entry cannot be read (F_STE_FETCH)",
            Why::Entry => "its stream table entry is not valid (C_BAD_STE)",
            Why::ContextFetch => "its context descriptor cannot be read (F_CD_FETCH)",
            Why::Context => "its context descriptor is not valid (C_BAD_CD)",
            Why::WalkAbort => "a translation table cannot be read (F_WALK_EABT)",
            Why::Translation => "nothing is mapped there (F_TRANSLATION)",
            Why::AddressSize => "what is mapped there is beyond 48 bits (F_ADDR_SIZE)",
            Why::AccessFlag => "the access flag is not set there (F_ACCESS)",
            Why::Permission => "that is not allowed there (F_PERMISSION)",
            Why::Abort => "the SMMU is set to abort",
        })
    }
}

/// An access that was not translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Why not.
    pub why: Why,
    /// Whose.
    pub stream: u32,
    /// Where, on the master's bus.
    pub at: u64,
    /// Whether it was a write.
    pub write: bool,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Fault {
            why,
            stream,
            at,
            write,
        } = self;
        let what = if *write { "write" } else { "read" };
        write!(f, "{what} of stream {stream} at {at:#x}: {why}")
    }
}

/// Where the fault was met: an input address, or a fetch of a translation table.
const CLASS_TT: u64 = 1 << 40;
const CLASS_IN: u64 = 2 << 40;
const READ: u64 = 1 << 35;

impl Fault {
    /// The record, if this is told by one.
    pub(super) fn record(&self) -> Option<[u64; 4]> {
        let event = self.why.event()?;
        let class = match self.why {
            Why::WalkAbort => CLASS_TT,
            Why::Translation | Why::AddressSize | Why::AccessFlag | Why::Permission => CLASS_IN,
            _ => 0,
        };
        let read = if self.write { 0 } else { READ };
        let (flags, address) = match class {
            // Of a configuration, only the stream counts.
            0 => (0, 0),
            class => (class | read, self.at),
        };
        Some([
            u64::from(self.stream) << 32 | u64::from(event),
            flags,
            address,
            0,
        ])
    }
}
