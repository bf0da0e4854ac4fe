// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a guest can do wrong.

use serde::{Deserialize, Serialize};

use crate::dma::DmaError;

/// What of a queue cannot be accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// The driver's ring.
    Available,
    /// A descriptor.
    Descriptor,
    /// A request's header.
    Header,
    /// A request's data.
    Data,
    /// A request's status byte.
    Status,
    /// The device's ring.
    Used,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Part::Available => "the available ring",
            Part::Descriptor => "a descriptor",
            Part::Header => "a request's header",
            Part::Data => "a request's data",
            Part::Status => "a request's status",
            Part::Used => "the used ring",
        })
    }
}

/// What a guest did wrong, or what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GuestError {
    /// The device needs a reset: memory cannot be accessed.
    #[error("{part} cannot be accessed: {source}")]
    Memory {
        /// What it was to be.
        part: Part,
        /// Why not.
        source: DmaError,
    },
    /// The device needs a reset: more is available than the queue has entries.
    #[error("the available ring's index went from {from} to {to}, in a queue of {size}")]
    Index {
        /// Entries taken so far, modulo 2^16.
        from: u16,
        /// What it says.
        to: u16,
        /// Entries of the queue.
        size: u16,
    },
    /// The device needs a reset: a descriptor's number is beyond the table.
    #[error("descriptor {index} in a queue of {size}")]
    NoDescriptor {
        /// Its number.
        index: u16,
        /// Entries of the table.
        size: u16,
    },
    /// The device needs a reset: a chain is longer than the table.
    #[error("the chain from descriptor {head} on goes in a circle")]
    Loop {
        /// Its first descriptor.
        head: u16,
    },
    /// The device needs a reset: a descriptor has flags that were not negotiated.
    #[error("descriptor {index} has flags {flags:#x}, which were not negotiated")]
    Flags {
        /// Its number.
        index: u16,
        /// The flags.
        flags: u16,
    },
    /// The device needs a reset: memory to be read comes after memory to be written.
    #[error("descriptor {index} is to be read, after others that are to be written")]
    Order {
        /// Its number.
        index: u16,
    },
    /// The device needs a reset: a descriptor's memory ends beyond the address space.
    #[error("descriptor {index} ends beyond the address space")]
    Address {
        /// Its number.
        index: u16,
    },
    /// The device needs a reset: there is no room for a header, or none for a status.
    #[error(
        "the request from descriptor {head} on has {readable} bytes to read and {writable} to write"
    )]
    Short {
        /// Its first descriptor.
        head: u16,
        /// Bytes to be read; a header has 16.
        readable: u64,
        /// Bytes to be written; the last is the status.
        writable: u64,
    },
    /// The queue cannot be used as it was set up: it stays disabled.
    #[error(
        "a queue of {size} entries (descriptors {descriptors:#x}, driver {driver:#x}, device {device:#x}) cannot be used"
    )]
    Queue {
        /// QueueNum.
        size: u32,
        /// Its table of descriptors.
        descriptors: u64,
        /// The driver's ring.
        driver: u64,
        /// The device's ring.
        device: u64,
    },
    /// A queue that is not ready, or none, was notified, or before the driver was: ignored.
    #[error("queue {queue} was notified and cannot work")]
    Notified {
        /// Its number.
        queue: u32,
    },
    /// A register that does not exist was written.
    #[error("there is no register at {offset:#x}")]
    NoRegister {
        /// Its offset.
        offset: u64,
    },
}
