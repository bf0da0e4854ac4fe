// SPDX-License-Identifier: GPL-2.0-or-later
//! A walk of the guest's stage 1 translation tables, as its CPU would do it.
//!
//! Source of all bit positions: Arm Architecture Reference Manual (DDI 0487), chapter D8 "The
//! AArch64 Virtual Memory System Architecture", and D24 for the registers. Output addresses up to
//! 48 bits, all granules.

use serde::{Deserialize, Serialize};
use staleline_devices::cpu::MemoryType;

/// Bytes of the smallest page; translations are given and cached in this unit.
pub const PAGE: u64 = 4096;

/// Physical memory as the walk sees it.
pub trait TableMemory {
    /// The 64-bit little-endian word at `pa`, which is aligned to 8; `None` outside of memory.
    fn read_u64(&self, pa: u64) -> Option<u64>;
}

/// The EL1 registers that govern translation; all zero (MMU off) at reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registers {
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// TTBR0_EL1.
    pub ttbr0: u64,
    /// TTBR1_EL1.
    pub ttbr1: u64,
    /// TCR_EL1.
    pub tcr: u64,
    /// MAIR_EL1.
    pub mair: u64,
}

/// Where a virtual address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// The physical address.
    pub pa: u64,
    /// The memory attribute.
    pub memory: MemoryType,
    /// The page or block is 2 to the power of this; 64 with the MMU off.
    pub shift: u32,
    /// A store from EL1 is allowed.
    pub writable: bool,
    /// EL0 may access it (and store if [`Translation::writable`]).
    pub user: bool,
    /// The access flag is set.
    pub accessed: bool,
    /// The translation belongs to one ASID.
    pub not_global: bool,
}

const SCTLR_M: u64 = 1 << 0;
const SCTLR_C: u64 = 1 << 2;
/// EL0 may use `dc zva`.
const SCTLR_DZE: u64 = 1 << 14;
/// EL0 may use the `dc` operations that clean.
const SCTLR_UCI: u64 = 1 << 26;
const TCR_EPD0: u64 = 1 << 7;
const TCR_A1: u64 = 1 << 22;
const TCR_EPD1: u64 = 1 << 23;

const DESC_VALID: u64 = 1 << 0;
/// Table at levels 0 to 2, page at level 3.
const DESC_TABLE_OR_PAGE: u64 = 1 << 1;
const DESC_USER: u64 = 1 << 6;
const DESC_READ_ONLY: u64 = 1 << 7;
const DESC_ACCESSED: u64 = 1 << 10;
const DESC_NOT_GLOBAL: u64 = 1 << 11;
/// In a table descriptor: no EL0 access below, no stores below.
const TABLE_NO_USER: u64 = 1 << 61;
const TABLE_READ_ONLY: u64 = 1 << 62;
/// Address bits of a descriptor.
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// Address bits of a TTBR; a first table of few entries may be aligned to less than a page.
const TTBR_ADDRESS: u64 = 0x0000_ffff_ffff_fffe;

impl Registers {
    /// Whether EL0 may use `dc zva`.
    pub fn user_may_zero(&self) -> bool {
        self.sctlr & SCTLR_DZE != 0
    }

    /// Whether EL0 may use `dc cvac` and its like.
    pub fn user_may_clean(&self) -> bool {
        self.sctlr & SCTLR_UCI != 0
    }

    /// Whether addresses are translated.
    pub fn mmu_is_on(&self) -> bool {
        self.sctlr & SCTLR_M != 0
    }

    /// Whether accesses can be cached at all: MMU and data caches are on.
    pub fn caches(&self) -> bool {
        self.sctlr & (SCTLR_M | SCTLR_C) == SCTLR_M | SCTLR_C
    }

    /// Log2 of the granule in bytes, of the upper half if it is in use. (Operating systems use the
    /// same in both.)
    pub fn granule(&self) -> Option<u32> {
        let half = self.half(1 << 55).or_else(|| self.half(0));
        half.map(|half| half.granule)
    }

    /// Attribute indices that do not make memory cacheable: bit *n* is index *n*.
    pub fn non_cacheable_attributes(&self) -> u8 {
        (0..8)
            .filter(|index| !self.is_write_back(*index))
            .fold(0, |set, index| set | 1 << index)
    }

    /// Identifies the tables and the ASID for the lower half of the address space.
    pub fn lower_key(&self) -> (u64, u64) {
        let asid = if self.tcr & TCR_A1 != 0 {
            self.ttbr1 >> 48
        } else {
            self.ttbr0 >> 48
        };
        (self.ttbr0, asid)
    }

    /// Identifies the tables for the upper half.
    pub fn upper_key(&self) -> u64 {
        self.ttbr1 & TTBR_ADDRESS
    }

    /// Translates a data access; `None` if the tables do not.
    pub fn translate(&self, memory: &impl TableMemory, va: u64) -> Option<Translation> {
        if !self.mmu_is_on() {
            return Some(Translation {
                pa: va & 0x000f_ffff_ffff_ffff,
                memory: MemoryType::NonCacheable,
                shift: 64,
                writable: true,
                user: true,
                accessed: true,
                not_global: false,
            });
        }
        let half = self.half(va)?;
        // Bits above the input size must be copies of bit 55; 63 to 56 may be a tag.
        let inside = va & ((1 << half.va_bits) - 1);
        let sign = if va >> 55 & 1 == 0 {
            inside
        } else {
            inside | !((1 << half.va_bits) - 1)
        };
        if (va ^ sign) << 8 != 0 {
            return None;
        }
        self.walk(memory, half, inside)
    }

    fn half(&self, va: u64) -> Option<Half> {
        // The two granule fields count differently.
        let (ttbr, size, granule, disabled) = if va >> 55 & 1 == 0 {
            let granule = [12, 16, 14].get((self.tcr >> 14 & 3) as usize);
            (self.ttbr0, self.tcr, granule, TCR_EPD0)
        } else {
            let granule = [0, 14, 12, 16].get((self.tcr >> 30 & 3) as usize);
            (self.ttbr1, self.tcr >> 16, granule, TCR_EPD1)
        };
        let granule = *granule?;
        let va_bits = 64 - (size & 0x3f) as u32;
        if self.tcr & disabled != 0 || granule == 0 || !(25..=48).contains(&va_bits) {
            return None;
        }
        Some(Half {
            table: ttbr & TTBR_ADDRESS,
            va_bits,
            granule,
        })
    }

    fn walk(&self, memory: &impl TableMemory, half: Half, va: u64) -> Option<Translation> {
        let stride = half.granule - 3;
        let levels = (half.va_bits - half.granule).div_ceil(stride);
        let (mut table, mut denied) = (half.table, 0);
        for below in (0..levels).rev() {
            let shift = half.granule + below * stride;
            let index_bits = if below == levels - 1 {
                half.va_bits - shift
            } else {
                stride
            };
            let index = va >> shift & ((1 << index_bits) - 1);
            let entry = memory.read_u64(table + index * 8)?;
            if entry & DESC_VALID == 0 {
                return None;
            }
            if below > 0 && entry & DESC_TABLE_OR_PAGE != 0 {
                table = entry & ADDRESS & !((1 << half.granule) - 1);
                denied |= entry & (TABLE_NO_USER | TABLE_READ_ONLY);
                continue;
            }
            let page = below == 0 && entry & DESC_TABLE_OR_PAGE != 0;
            // 1 GiB blocks exist for 4 KiB granules only.
            let block = below == 1 || below == 2 && half.granule == 12;
            if !page && (below == 0 || !block) {
                return None;
            }
            let offset = (1u64 << shift) - 1;
            return Some(Translation {
                pa: entry & ADDRESS & !offset | va & offset,
                memory: self.memory_type(entry),
                shift,
                writable: entry & DESC_READ_ONLY == 0 && denied & TABLE_READ_ONLY == 0,
                user: entry & DESC_USER != 0 && denied & TABLE_NO_USER == 0,
                accessed: entry & DESC_ACCESSED != 0,
                not_global: entry & DESC_NOT_GLOBAL != 0,
            });
        }
        None
    }

    fn memory_type(&self, entry: u64) -> MemoryType {
        if self.sctlr & SCTLR_C != 0 && self.is_write_back(entry >> 2 & 7) {
            MemoryType::Cacheable
        } else {
            MemoryType::NonCacheable
        }
    }

    /// Only inner and outer write-back counts as cacheable: Cortex-A53 treats write-through
    /// as non-cacheable (its TRM, DDI 0500, 6.2.4).
    fn is_write_back(&self, index: u64) -> bool {
        let attribute = self.mair >> (8 * index) & 0xff;
        let write_back = |nibble: u64| nibble & 4 != 0 && nibble != 4;
        // An outer nibble of 0 is Device memory.
        write_back(attribute >> 4) && write_back(attribute & 0xf)
    }
}

/// One half of the address space.
#[derive(Clone, Copy)]
struct Half {
    table: u64,
    va_bits: u32,
    /// Log2 of the granule in bytes.
    granule: u32,
}

#[cfg(test)]
#[path = "mmu_tests.rs"]
mod tests;
