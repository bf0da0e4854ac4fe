// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! From a stream and an address to memory: stream table entry, context descriptor, translation tables.
//!
//! Sources: Arm IHI0070, 5.2 (stream table entry) and 5.4 (context descriptor); Arm DDI 0487, D8.3 (format
//! of translation tables, granule of 4 KiB).

use serde::{Deserialize, Serialize};

use super::fault::Why;
use super::regs::OUTPUT_BITS;
use super::tlb::{Entry, PAGE_BITS};
use crate::dma::{Access, DmaPort, Order};
use crate::state::{Invalid, at_most};

/// Bytes of an entry of the stream table, and of a context descriptor.
const ENTRY: u64 = 64;
/// Address bits of a table's or a page's address.
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// Those of what is aligned to 64 bytes.
const ALIGNED: u64 = 0x000f_ffff_ffff_ffc0;

/// What a stream's accesses come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stream {
    /// Nothing: they are aborted.
    Abort,
    /// They go where they say.
    Bypass,
    /// They are translated.
    Stage1(Context),
}

/// As a context descriptor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Context {
    pub asid: u16,
    /// Bits of the addresses that come in.
    bits: u8,
    /// The first table.
    table: u64,
    /// Memory attributes by index (MAIR).
    attributes: u64,
    /// Whether walks ask to be snooped.
    snoop: bool,
    /// There is nothing below the table (EPD0).
    disabled: bool,
}

impl Context {
    pub fn check(&self) -> Result<(), Invalid> {
        at_most("bits of an address", self.bits.into(), OUTPUT_BITS.into())?;
        at_most("bits of an address below 25", u64::from(self.bits < 25), 0)?;
        at_most("other bits of a table's address", self.table & !ADDRESS, 0)
    }
}

/// Whether memory of these attributes can be in caches, both inner and outer.
fn is_cacheable(attribute: u8) -> bool {
    let part = |nibble: u8| nibble != 0 && nibble != 0b0100;
    part(attribute >> 4) && part(attribute & 0xf)
}

/// Little-endian words at `at`, as the SMMU's own port sees them.
fn read<const WORDS: usize>(port: &mut DmaPort<'_>, snoop: bool, at: u64) -> Option<[u64; WORDS]> {
    let access = Access {
        snoop,
        ..Access::descriptor(Order::Unprompted)
    };
    let mut words = [0; WORDS];
    let mut bytes = [0; 64];
    let bytes = bytes.get_mut(..8 * WORDS)?;
    port.read(access, at, bytes).ok()?;
    let (all, _) = bytes.as_chunks::<8>();
    for (word, bytes) in words.iter_mut().zip(all) {
        *word = u64::from_le_bytes(*bytes);
    }
    Some(words)
}

/// Bits of an entry that walks ignore (DDI 0487, D8.3.2). Software keeps notes there, and need not clean them:
/// Linux marks entries for tables so (ARM_LPAE_PTE_SW_SYNC), after it has cleaned them.
const IGNORED: u64 = 0xf << 55;

/// An entry of a translation table.
fn entry(port: &mut DmaPort<'_>, snoop: bool, at: u64) -> Option<u64> {
    let order = Order::Word {
        word: at,
        counts: !IGNORED,
    };
    let access = Access {
        snoop,
        ..Access::descriptor(order)
    };
    let mut bytes = [0; 8];
    port.read(access, at, &mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Where the stream table is.
pub(super) struct StreamTable {
    pub base: u64,
    /// Log2 of its entries.
    pub bits: u32,
    /// Whether reading it asks to be snooped.
    pub snoop: bool,
}

impl StreamTable {
    /// What a stream's accesses come to.
    pub fn look_up(&self, stream: u32, port: &mut DmaPort<'_>) -> Result<Stream, Why> {
        if u64::from(stream) >> self.bits.min(32) != 0 {
            return Err(Why::StreamId);
        }
        let at = (self.base & ALIGNED) + u64::from(stream) * ENTRY;
        let entry = read::<8>(port, self.snoop, at).ok_or(Why::EntryFetch)?;
        if entry[0] & 1 == 0 {
            return Err(Why::Entry);
        }
        match entry[0] >> 1 & 7 {
            0..=3 => Ok(Stream::Abort),
            4 => Ok(Stream::Bypass),
            5 => {
                // S1CIR, S1COR, S1CSH: cacheable in both, and shared.
                let snoop =
                    entry[1] >> 2 & 3 != 0 && entry[1] >> 4 & 3 != 0 && entry[1] >> 6 & 3 != 0;
                context(entry[0] & ALIGNED, snoop, port).map(Stream::Stage1)
            }
            // There is no stage 2.
            _ => Err(Why::Entry),
        }
    }
}

fn context(at: u64, snoop: bool, port: &mut DmaPort<'_>) -> Result<Context, Why> {
    const VALID: u64 = 1 << 31;
    const AA64: u64 = 1 << 41;
    const BIG_ENDIAN: u64 = 1 << 15;
    const STALL: u64 = 1 << 44;
    const EPD0: u64 = 1 << 14;
    let words = read::<8>(port, snoop, at).ok_or(Why::ContextFetch)?;
    let [cd, table, _, attributes, ..] = words;
    let granule = cd >> 6 & 3;
    let size = cd & 0x3f;
    let usable = cd & (VALID | AA64 | BIG_ENDIAN | STALL) == VALID | AA64;
    // 25 to 48 bits.
    if !usable || granule != 0 || !(16..=39).contains(&size) {
        return Err(Why::Context);
    }
    Ok(Context {
        asid: (cd >> 48) as u16,
        bits: (64 - size) as u8,
        table: table & ADDRESS,
        attributes,
        snoop: cd >> 8 & 3 != 0 && cd >> 10 & 3 != 0 && cd >> 12 & 3 != 0,
        disabled: cd & EPD0 != 0,
    })
}

impl Context {
    /// Walks the tables for the page of `at`: at most four reads.
    pub fn walk(&self, at: u64, port: &mut DmaPort<'_>) -> Result<Entry, Why> {
        const VALID: u64 = 1 << 0;
        const TABLE: u64 = 1 << 1;
        const AF: u64 = 1 << 10;
        const READ_ONLY: u64 = 1 << 7;
        const UNPRIVILEGED: u64 = 1 << 6;
        const TABLE_READ_ONLY: u64 = 1 << 62;
        const TABLE_PRIVILEGED: u64 = 1 << 61;
        let bits = u32::from(self.bits);
        if self.disabled || at >> bits != 0 {
            return Err(Why::Translation);
        }
        let (mut table, mut allowed, mut writable) = (self.table, true, true);
        // Each level names 9 bits more.
        let levels = (bits - PAGE_BITS).div_ceil(9);
        for level in (4 - levels)..4 {
            let shift = PAGE_BITS + 9 * (3 - level);
            let index = at >> shift & 0x1ff;
            let found = entry(port, self.snoop, table + index * 8);
            let entry = found.ok_or(Why::WalkAbort)?;
            let is_table = entry & TABLE != 0;
            if entry & VALID == 0 || !is_table && (level == 0 || level == 3) {
                return Err(Why::Translation);
            }
            if level < 3 && is_table {
                table = entry & ADDRESS;
                allowed &= entry & TABLE_PRIVILEGED == 0;
                writable &= entry & TABLE_READ_ONLY == 0;
                continue;
            }
            if entry & AF == 0 {
                return Err(Why::AccessFlag);
            }
            if !allowed || entry & UNPRIVILEGED == 0 {
                return Err(Why::Permission);
            }
            let within = (1u64 << shift) - 1;
            let page = at >> PAGE_BITS << PAGE_BITS;
            let attribute = (self.attributes >> (8 * (entry >> 2 & 7))) as u8;
            return Ok(Entry {
                asid: self.asid,
                input: page,
                output: entry & ADDRESS & !within | page & within,
                size: shift as u8,
                writable: writable && entry & READ_ONLY == 0,
                cacheable: is_cacheable(attribute),
            });
        }
        Err(Why::Translation)
    }
}
