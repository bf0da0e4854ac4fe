// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a guest can do wrong, and which bit of ISR tells it.

use serde::{Deserialize, Serialize};

use super::regs::*;
use crate::dma::DmaError;

/// Which of the two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// What is read.
    Source,
    /// What is written.
    Destination,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Side::Source => "source",
            Side::Destination => "destination",
        })
    }
}

/// What a guest did wrong, or what became of it. A `descriptor` of 0 means simple mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GuestError {
    /// The channel stopped: a descriptor cannot be read.
    #[error("{side} descriptor at {address:#x} cannot be read: {source}")]
    Descriptor {
        /// Of which list.
        side: Side,
        /// Where it should be.
        address: u64,
        /// Why not.
        source: DmaError,
    },
    /// The channel stopped: a descriptor is not aligned to its size, 16 or with a link 32 bytes.
    #[error("{side} descriptor at {descriptor:#x} is not aligned to its size")]
    Misaligned {
        /// Of which list.
        side: Side,
        /// Where it is.
        descriptor: u64,
    },
    /// The channel stopped: data cannot be moved.
    #[error("data of the {side} descriptor at {descriptor:#x} cannot be moved: {source}")]
    Data {
        /// Which way.
        side: Side,
        /// The buffer's descriptor.
        descriptor: u64,
        /// Why not.
        source: DmaError,
    },
    /// CTRL2 was written while the channel was busy: ignored.
    #[error("CTRL2 was written with {value:#x} while the channel was busy")]
    Busy {
        /// What was written.
        value: u32,
    },
    /// A register that does not exist was accessed.
    #[error("there is no register at {offset:#x}")]
    NoRegister {
        /// Its offset.
        offset: u64,
    },
}

impl GuestError {
    /// Its bit in ISR.
    pub(super) fn interrupt(self) -> u32 {
        let of = |side, source, destination| match side {
            Side::Source => source,
            Side::Destination => destination,
        };
        match self {
            GuestError::Descriptor { side, .. } | GuestError::Misaligned { side, .. } => {
                of(side, AXI_RD_SRC_DSCR, AXI_RD_DST_DSCR)
            }
            GuestError::Data { side, .. } => of(side, AXI_RD_DATA, AXI_WR_DATA),
            GuestError::Busy { .. } => 0,
            GuestError::NoRegister { .. } => INV_APB,
        }
    }
}
