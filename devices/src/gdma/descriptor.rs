// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Buffer descriptors (UG1085, "Buffer Descriptor Format"; `struct zynqmp_dma_desc_ll` of the
//! driver): little-endian. The first half has the same words as the registers of simple mode; a
//! linked-list descriptor has a second half with the address of the next one.

use serde::{Deserialize, Serialize};

use super::regs::{MSB, SIZE};

/// Bytes of a descriptor without a link, and of either half of one with a link.
pub(super) const HALF: usize = 16;

/// Bits of an address.
pub(super) const ADDRESS: u64 = (MSB as u64) << 32 | u32::MAX as u64;

const COHERENT: u32 = 1 << 0;
const LINKED: u32 = 1 << 1;
const INTR: u32 = 1 << 2;
const CMD_SHIFT: u32 = 3;

/// What follows a source descriptor; on a destination descriptor the field is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Command {
    Next,
    Pause,
    Stop,
}

/// One buffer, as its descriptor tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Descriptor {
    /// First byte, 44 bits.
    pub address: u64,
    /// Bytes, 0 to 2^30 - 1.
    pub size: u32,
    /// Its data is moved by transactions that are marked as coherent.
    pub coherent: bool,
    /// It has a second half.
    pub linked: bool,
    /// Count it and raise an interrupt when it is done.
    pub interrupt: bool,
    pub command: Command,
}

impl Descriptor {
    /// From its first four words.
    pub(super) fn from_words([low, high, size, control]: [u32; 4]) -> Self {
        Descriptor {
            address: u64::from(high & MSB) << 32 | u64::from(low),
            size: size & SIZE,
            coherent: control & COHERENT != 0,
            linked: control & LINKED != 0,
            interrupt: control & INTR != 0,
            command: match control >> CMD_SHIFT & 0b11 {
                0 => Command::Next,
                1 => Command::Pause,
                // 3 is reserved: the reading that ends is the safe one.
                _ => Command::Stop,
            },
        }
    }

    /// From its first half in memory.
    pub(super) fn parse(raw: &[u8; HALF]) -> Self {
        Descriptor::from_words([0, 4, 8, 12].map(|at| word(raw, at)))
    }
}

/// The address of the next descriptor, from the second half.
pub(super) fn link(raw: &[u8; HALF]) -> u64 {
    (u64::from(word(raw, 4)) << 32 | u64::from(word(raw, 0))) & ADDRESS
}

fn word(raw: &[u8; HALF], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&raw[at..at + 4]);
    u32::from_le_bytes(word)
}
