// SPDX-License-Identifier: GPL-2.0-or-later
//! Which stored words are translation table entries that make RAM non-cacheable.
//!
//! The machine has to know that a page is non-cacheable before its first load, and a callback
//! comes after the load. What comes before it is the store of the table entry. A store does not
//! say that it is to a table, nor of which level; the word itself has to tell. So a word that only
//! looks like an entry is taken for one. The tests are made to let hardly any through, and the
//! machine must not judge by what it hears of them.
//!
//! Bit positions: Arm Architecture Reference Manual (DDI 0487), D8.3 "Translation table
//! descriptor formats", and D8.6 for the attributes.

use std::ops::Range;

use crate::mmu::Registers;

/// Bytes of an entry.
pub const ENTRY: u64 = 8;

const VALID: u64 = 1 << 0;
/// A page if set (at level 3), a block if not (at the levels above).
const PAGE: u64 = 1 << 1;
const ATTRIBUTE_AT: u32 = 2;
const SHAREABILITY: u64 = 3 << 8;
/// The one value of the field that is reserved.
const SHAREABILITY_RESERVED: u64 = 1 << 8;
const ACCESSED: u64 = 1 << 10;
/// Output address bits, or the guarded-page bit, that Cortex-A53 does not have.
const NEVER: u64 = 7 << 48;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// Recognizes entries.
pub struct Leaves {
    ram: Range<u64>,
    /// Bit *n*: index *n* into MAIR_EL1 is not write-back. 0 while nothing can be cached.
    non_cacheable: u8,
    /// Log2 of the translation granule in bytes.
    granule: u32,
}

impl Leaves {
    /// For RAM at physical addresses `ram`, and a CPU at reset.
    pub fn new(ram: Range<u64>) -> Self {
        Leaves {
            ram,
            non_cacheable: 0,
            granule: 12,
        }
    }

    /// The CPU's registers have changed.
    pub fn configure(&mut self, registers: &Registers) {
        let granule = registers.granule().filter(|_| registers.caches());
        (self.granule, self.non_cacheable) = match granule {
            Some(granule) => (granule, registers.non_cacheable_attributes()),
            None => (12, 0),
        };
    }

    /// Whether a word may be such an entry, quickly: it is asked of each word stored. No pointer of
    /// a kernel gets through.
    #[inline(always)]
    pub fn may_be(&self, word: u64) -> bool {
        word & (VALID | ACCESSED | NEVER) == VALID | ACCESSED
            && self.ram.contains(&(word & ADDRESS))
    }

    /// The RAM that a word makes non-cacheable if it is an entry: first physical address and
    /// bytes. Of a block, the level cannot be told; the smallest size is taken.
    pub fn decode(&self, word: u64) -> Option<(u64, u64)> {
        let index = word >> ATTRIBUTE_AT & 7;
        if !self.may_be(word)
            || self.non_cacheable >> index & 1 == 0
            || word & SHAREABILITY == SHAREABILITY_RESERVED
        {
            return None;
        }
        let shift = match word & PAGE {
            0 => 2 * self.granule - ENTRY.ilog2(),
            _ => self.granule,
        };
        let (pa, len) = (word & ADDRESS, 1u64 << shift);
        pa.is_multiple_of(len)
            .then(|| (pa, len.min(self.ram.end - pa)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RAM: Range<u64> = 0x4000_0000..0x4070_0000;
    const SCTLR: u64 = 1 | 1 << 2;
    /// As Linux has it: 0 write-back, 1 Device-nGnRnE, 2 Device-nGnRE, 3 non-cacheable; 4 is
    /// write-through.
    const MAIR: u64 = 0xbb_44_04_00_ff;
    const TCR: u64 = 25 | 25 << 16 | 2 << 30;

    fn leaves(registers: Registers) -> Leaves {
        let mut leaves = Leaves::new(RAM);
        leaves.configure(&registers);
        leaves
    }

    fn running() -> Registers {
        Registers {
            sctlr: SCTLR,
            tcr: TCR,
            mair: MAIR,
            ..Registers::default()
        }
    }

    /// A page's entry, inner shareable, as Linux writes it.
    fn page(pa: u64, index: u64) -> u64 {
        pa | 1 << 54 | 1 << 53 | ACCESSED | 3 << 8 | index << 2 | 3
    }

    #[test]
    fn what_is_not_write_back_is_non_cacheable() {
        let leaves = leaves(running());
        for (index, told) in [(0, false), (1, true), (2, true), (3, true), (4, true)] {
            let found = leaves.decode(page(0x4012_3000, index));
            assert_eq!(found, told.then_some((0x4012_3000, 4096)), "{index}");
        }
    }

    #[test]
    fn what_cannot_be_an_entry_is_none() {
        let leaves = leaves(running());
        let good = page(0x4012_3000, 3);
        assert!(leaves.decode(good).is_some());
        for bad in [
            good & !VALID,
            good & !ACCESSED,
            good & !SHAREABILITY | SHAREABILITY_RESERVED,
            good | 1 << 48,
            good | 1 << 50,
            // A kernel's pointer.
            good | 0xffff << 48,
            // Beside RAM.
            page(RAM.end, 3),
            page(RAM.start - 0x1000, 3),
            page(0x1_4012_3000, 3),
        ] {
            assert_eq!(leaves.decode(bad), None, "{bad:#x}");
        }
    }

    #[test]
    fn blocks_are_whole_and_end_with_ram() {
        let leaves = leaves(running());
        let block = |pa| page(pa, 3) & !PAGE;
        assert_eq!(
            leaves.decode(block(0x4020_0000)),
            Some((0x4020_0000, 2 << 20))
        );
        assert_eq!(
            leaves.decode(block(0x4060_0000)),
            Some((0x4060_0000, 1 << 20))
        );
        assert_eq!(leaves.decode(block(0x4020_1000)), None);
    }

    #[test]
    fn the_granule_is_that_of_the_tables() {
        // TG1 counts 1, 2, 3 for 16, 4 and 64 KiB; TG0 counts 0, 1, 2 for 4, 64 and 16 KiB.
        for (tcr, len, block) in [
            (25 << 16 | 1 << 30, 16 << 10, 32 << 20),
            (25 << 16 | 3 << 30, 64 << 10, 512 << 20),
            // Only the lower half is in use.
            (25 | 1 << 14 | 1 << 23, 64 << 10, 512 << 20),
        ] {
            let leaves = leaves(Registers { tcr, ..running() });
            assert_eq!(leaves.decode(page(RAM.start, 3)), Some((RAM.start, len)));
            assert_eq!(leaves.decode(page(RAM.start + 0x1000, 3)), None);
            let found = leaves.decode(page(RAM.start, 3) & !PAGE);
            let len = (RAM.end - RAM.start).min(block);
            assert_eq!(found, Some((RAM.start, len)));
        }
    }

    #[test]
    fn while_nothing_is_cached_nothing_is_told() {
        for sctlr in [0, 1, 1 << 2] {
            let leaves = leaves(Registers { sctlr, ..running() });
            assert_eq!(leaves.decode(page(0x4012_3000, 3)), None, "{sctlr}");
        }
    }

    proptest! {
        #[test]
        fn what_is_told_is_ram(word: u64, low in 0x4000_0000u64..0x4100_0000, tcr: u64) {
            let leaves = leaves(Registers { tcr, ..running() });
            for word in [word, low, word & !0x0000_ffff_ffff_f000 | low] {
                if let Some((pa, len)) = leaves.decode(word) {
                    prop_assert!(leaves.may_be(word) && len > 0);
                    prop_assert!(RAM.contains(&pa) && pa + len <= RAM.end);
                }
            }
        }
    }
}
