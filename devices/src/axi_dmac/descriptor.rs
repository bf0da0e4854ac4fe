// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The scatter-gather descriptor in memory (`struct axi_dmac_hw_desc`,
//! `drivers/dma/dma-axi-dmac.c`): little-endian, 64 bytes apart, of which the core fetches 48.

/// Bytes the core fetches: six beats of its 64-bit descriptor port.
pub(super) const FETCHED: usize = 48;

const FLAG_LAST: u32 = 1 << 0;
const FLAG_IRQ: u32 = 1 << 1;

/// One segment of a chain as it stands in memory, nothing checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// The chain ends here; `next` means nothing.
    pub last: bool,
    /// Raise an end-of-transfer interrupt after this segment.
    pub irq: bool,
    /// The driver's name for it, shown in CURRENT_SG_ID.
    pub id: u32,
    pub destination: u64,
    pub source: u64,
    pub next: u64,
    /// Rows minus one; only of use with 2D transfers.
    pub y_len: u32,
    /// Bytes minus one.
    pub x_len: u32,
}

impl Descriptor {
    pub(super) fn parse(raw: &[u8; FETCHED]) -> Self {
        let u32_at = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&raw[at..at + 4]);
            u32::from_le_bytes(word)
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let flags = u32_at(0x00);
        Descriptor {
            last: flags & FLAG_LAST != 0,
            irq: flags & FLAG_IRQ != 0,
            id: u32_at(0x04),
            destination: u64_at(0x08),
            source: u64_at(0x10),
            next: u64_at(0x18),
            y_len: u32_at(0x20),
            x_len: u32_at(0x24),
        }
    }
}
