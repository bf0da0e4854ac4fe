// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which part of memory each DMABUF is, in which order DMABUFs are used, and which part of each is the
//! CPU's.

use serde::{Deserialize, Serialize};

use crate::pattern::WORD;

/// Where in the stream trailers are, in bytes: behind all data that a run can move.
const TRAILERS: u64 = 1 << 40;

/// The parts. By default each DMABUF has memory of its own, from its first byte on, they are used in
/// order of allocation, and the CPU touches nothing but frames.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parts {
    /// Bytes of the memfd before the first DMABUF on it, a multiple of the page size; udmabuf only.
    pub offset_bytes: u64,
    /// All DMABUFs are on one memfd, each so many bytes behind the one before, a multiple of the page
    /// size; udmabuf only. They overlap if that is less than they are long.
    pub stride_bytes: Option<u64>,
    /// DMABUFs, by order of allocation, in the order in which frames go to them, all of them once; empty
    /// is that of allocation.
    pub order: Vec<u32>,
    /// What the CPU writes behind each frame.
    pub trailer: Option<Trailer>,
}

/// Words behind a frame, in the same DMABUF, that the CPU writes and later checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Trailer {
    /// How many bytes, a multiple of 8.
    pub bytes: u64,
    /// They begin at the next multiple of so many bytes, a power of two, 8 at least.
    #[serde(default = "word")]
    pub align: u64,
    /// When they are written.
    #[serde(default)]
    pub when: When,
    /// How that is announced to the kernel.
    #[serde(default)]
    pub sync: TrailerSync,
}

/// Bytes of a word.
pub(super) const WORD_BYTES: u64 = WORD as u64;

fn word() -> u64 {
    WORD_BYTES
}

/// When a trailer is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Before the DMABUF is queued.
    #[default]
    Before,
    /// Right after it was queued to the first device, with that device started.
    During,
    /// When the first of two devices is done with it, before it is queued to the second.
    Between,
}

/// `DMA_BUF_IOCTL_SYNC` around the stores of a trailer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrailerSync {
    /// For reading and writing: a store brings in the rest of its cache line.
    #[default]
    Rw,
    /// For writing only.
    Write,
    /// None.
    None,
}

impl Trailer {
    /// Its first byte in the DMABUF, behind a frame of so many bytes.
    pub fn place(&self, frame_bytes: u64) -> u64 {
        frame_bytes.next_multiple_of(self.align.max(1))
    }

    /// Where its words are in the stream of the pattern, for the trailer of a frame.
    pub fn position(&self, frame: u32) -> u64 {
        TRAILERS + u64::from(frame) * self.bytes
    }
}

impl Parts {
    /// Whether they are the default.
    pub fn is_default(&self) -> bool {
        *self == Parts::default()
    }

    /// The DMABUF of frame `n`, of so many.
    pub fn slot(&self, n: u32, buffers: u32) -> u32 {
        let turn = n % buffers.max(1);
        self.order.get(turn as usize).copied().unwrap_or(turn)
    }
}

/// With a trailer, and nothing else.
#[cfg(test)]
pub(super) fn trailer(bytes: u64, align: u64) -> Parts {
    Parts {
        trailer: Some(Trailer {
            bytes,
            align,
            when: When::During,
            sync: TrailerSync::None,
        }),
        ..Parts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_are_behind_their_frames() {
        let parts = trailer(64, 64);
        let t = parts.trailer.as_ref().unwrap();
        assert_eq!([8, 64, 4000].map(|bytes| t.place(bytes)), [64, 64, 4032]);
        assert!(t.position(0) >= 1 << 40);
        assert_eq!(t.position(3) - t.position(2), 64);
    }

    #[test]
    fn buffers_are_used_in_the_order_that_is_given() {
        let mut parts = Parts::default();
        assert_eq!([0, 1, 2, 3].map(|n| parts.slot(n, 3)), [0, 1, 2, 0]);
        parts.order = vec![2, 0, 1];
        assert_eq!([0, 1, 2, 3].map(|n| parts.slot(n, 3)), [2, 0, 1, 2]);
    }
}
