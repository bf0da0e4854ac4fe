// SPDX-License-Identifier: GPL-2.0-or-later
//! The walk against tables made by hand.

use std::collections::HashMap;

use proptest::prelude::*;
use staleline_devices::cpu::MemoryType::{Cacheable, NonCacheable};

use super::*;

/// Linux's MAIR indices do not matter here: 0 write-back, 1 non-cacheable, 2 Device-nGnRE,
/// 3 write-through, 4 write-back inside but not outside.
const MAIR: u64 = 0x4f_bb_04_44_ff;
const LEAF: u64 = DESC_VALID | DESC_ACCESSED;

#[derive(Default)]
struct Tables {
    words: HashMap<u64, u64>,
    next: u64,
}

impl TableMemory for Tables {
    fn read_u64(&self, pa: u64) -> Option<u64> {
        assert_eq!(pa % 8, 0);
        // Memory ends somewhere.
        (pa < 1 << 40).then(|| self.words.get(&pa).copied().unwrap_or(0))
    }
}

impl Tables {
    fn new() -> Self {
        Tables {
            words: HashMap::new(),
            next: 0x10_0000,
        }
    }

    fn table(&mut self) -> u64 {
        self.next += 0x1_0000;
        self.next
    }

    /// Maps one page or block of 2^shift bytes. `bits` go into the leaf, `table_bits` into the
    /// tables above.
    fn map(&mut self, root: u64, g: Geometry, va: u64, leaf: u64, shift: u32, table_bits: u64) {
        let stride = g.granule - 3;
        let levels = (g.va_bits - g.granule).div_ceil(stride);
        let mut table = root;
        for below in (0..levels).rev() {
            let at = g.granule + below * stride;
            let mut index = va >> at;
            if below < levels - 1 {
                index &= (1 << stride) - 1;
            }
            let index = index & ((1 << (g.va_bits - at)) - 1);
            let slot = table + 8 * index;
            if at == shift {
                let kind = if below == 0 { DESC_TABLE_OR_PAGE } else { 0 };
                self.words.insert(slot, leaf | kind);
                return;
            }
            if let Some(entry) = self.words.get(&slot) {
                table = entry & ADDRESS;
            } else {
                table = self.table();
                self.words
                    .insert(slot, table | DESC_VALID | DESC_TABLE_OR_PAGE | table_bits);
            }
        }
        panic!("no level for 2^{shift}");
    }
}

#[derive(Debug, Clone, Copy)]
struct Geometry {
    granule: u32,
    va_bits: u32,
}

const G4K39: Geometry = Geometry {
    granule: 12,
    va_bits: 39,
};
const G4K48: Geometry = Geometry {
    granule: 12,
    va_bits: 48,
};

/// Both halves with the same geometry.
fn registers(g: Geometry, root0: u64, root1: u64) -> Registers {
    let (tg0, tg1) = match g.granule {
        12 => (0, 2),
        14 => (2, 1),
        _ => (1, 3),
    };
    let size = u64::from(64 - g.va_bits);
    Registers {
        sctlr: SCTLR_M | SCTLR_C,
        ttbr0: root0 | 0x0017 << 48,
        ttbr1: root1,
        tcr: size | size << 16 | tg0 << 14 | tg1 << 30,
        mair: MAIR,
    }
}

fn upper(g: Geometry, offset: u64) -> u64 {
    !((1 << g.va_bits) - 1) | offset
}

#[test]
fn with_the_mmu_off_addresses_are_physical_and_uncached() {
    let t = Registers::default()
        .translate(&Tables::new(), 0x4020_1238)
        .unwrap();
    assert_eq!((t.pa, t.memory), (0x4020_1238, NonCacheable));
    assert!(t.writable && t.accessed);
}

#[test]
fn pages_and_blocks_of_both_halves() {
    for g in [G4K39, G4K48] {
        let mut m = Tables::new();
        let (low, high) = (m.table(), m.table());
        let r = registers(g, low, high);
        m.map(low, g, 0x40_3000, 0x4123_4000 | LEAF, 12, 0);
        m.map(high, g, 0x20_0000, 0x4400_0000 | LEAF, 21, 0);
        m.map(high, g, 0x8000_0000, 0x1_4000_0000 | LEAF, 30, 0);
        let pa = |va| r.translate(&m, va).map(|t| (t.pa, t.shift));
        assert_eq!(pa(0x40_3abc), Some((0x4123_4abc, 12)));
        assert_eq!(pa(0x40_4000), None);
        assert_eq!(pa(upper(g, 0x3f_fff8)), Some((0x441f_fff8, 21)));
        assert_eq!(pa(upper(g, 0x8123_4567)), Some((0x1_4123_4567, 30)));
        // The halves are apart, and so is what lies between them.
        assert_eq!(pa(upper(g, 0x40_3000)), None);
        assert_eq!(pa(0x20_0000), None);
        assert_eq!(pa(1 << g.va_bits | 0x40_3000), None);
        // An address tag does not matter.
        assert_eq!(pa(0x5a00_0000_0040_3abc), Some((0x4123_4abc, 12)));
    }
}

#[test]
fn attributes_come_from_mair() {
    let mut m = Tables::new();
    let (low, high) = (m.table(), m.table());
    let mut r = registers(G4K48, low, high);
    for index in 0..5 {
        let leaf = 0x4000_0000 | LEAF | index << 2;
        m.map(low, G4K48, index * PAGE, leaf, 12, 0);
    }
    let memory = |r: &Registers, index| r.translate(&m, index * PAGE).unwrap().memory;
    assert_eq!(memory(&r, 0), Cacheable);
    for index in 1..5 {
        assert_eq!(memory(&r, index), NonCacheable, "attribute {index}");
    }
    r.sctlr &= !SCTLR_C;
    assert_eq!(memory(&r, 0), NonCacheable);
}

#[test]
fn permissions_come_from_the_leaf_and_the_tables_above() {
    let mut m = Tables::new();
    let (low, high) = (m.table(), m.table());
    let r = registers(G4K48, low, high);
    let user = LEAF | DESC_USER | DESC_NOT_GLOBAL;
    m.map(low, G4K48, 0, user, 12, 0);
    m.map(low, G4K48, PAGE, DESC_VALID | DESC_READ_ONLY, 12, 0);
    let denied = TABLE_READ_ONLY | TABLE_NO_USER;
    m.map(low, G4K48, 1 << 40, user, 12, denied);
    let flags = |va| {
        let t = r.translate(&m, va).unwrap();
        (t.writable, t.user, t.accessed, t.not_global)
    };
    assert_eq!(flags(0), (true, true, true, true));
    assert_eq!(flags(PAGE), (false, false, false, false));
    assert_eq!(flags(1 << 40), (false, false, true, true));
}

#[test]
fn broken_tables_translate_nothing() {
    let mut m = Tables::new();
    let (low, high) = (m.table(), m.table());
    let r = registers(G4K48, low, high);
    // A reserved descriptor at the last level: valid, but no page.
    m.map(low, G4K48, 0, LEAF, 12, 0);
    let slot = *m
        .words
        .iter()
        .find(|(_, entry)| **entry == LEAF | DESC_TABLE_OR_PAGE)
        .unwrap()
        .0;
    m.words.insert(slot, LEAF);
    assert_eq!(r.translate(&m, 0), None);
    // A block at level 0.
    m.map(low, G4K48, 1 << 41, LEAF, 39, 0);
    assert_eq!(r.translate(&m, 1 << 41), None);
    // A table outside of memory, and a root there.
    m.words
        .insert(low + 8 * 6, ADDRESS | DESC_VALID | DESC_TABLE_OR_PAGE);
    assert_eq!(r.translate(&m, 6 << 39), None);
    assert_eq!(registers(G4K48, ADDRESS, 0).translate(&m, 0), None);
}

#[test]
fn a_half_can_be_switched_off() {
    let mut m = Tables::new();
    let (low, high) = (m.table(), m.table());
    m.map(low, G4K48, 0, LEAF, 12, 0);
    m.map(high, G4K48, 0, LEAF, 12, 0);
    let mut r = registers(G4K48, low, high);
    r.tcr |= TCR_EPD0;
    assert_eq!(r.translate(&m, 0), None);
    assert!(r.translate(&m, upper(G4K48, 0)).is_some());
    r.tcr ^= TCR_EPD0 | TCR_EPD1;
    assert!(r.translate(&m, 0).is_some());
    assert_eq!(r.translate(&m, upper(G4K48, 0)), None);
}

#[test]
fn the_asid_is_where_tcr_says() {
    let mut r = registers(G4K48, 0x1000, 0x2000 | 0x42 << 48);
    assert_eq!(r.lower_key(), (r.ttbr0, 0x17));
    assert_eq!(r.upper_key(), 0x2000);
    r.tcr |= TCR_A1;
    assert_eq!(r.lower_key(), (r.ttbr0, 0x42));
}

fn geometry() -> impl Strategy<Value = Geometry> {
    let granule = prop_oneof![Just(12u32), Just(14), Just(16)];
    (granule, 25u32..=48).prop_map(|(granule, va_bits)| Geometry { granule, va_bits })
}

proptest! {
    /// What has been mapped, page by page, is found, and nothing else is.
    #[test]
    fn pages_of_any_geometry(
        g in geometry(),
        pages in prop::collection::hash_map(0u64..1 << 36, 0u64..1 << 24, 1..20),
        probe: u64,
        in_upper: bool,
    ) {
        let mut m = Tables::new();
        let (low, high) = (m.table(), m.table());
        let r = registers(g, low, high);
        let mask = (1u64 << g.va_bits) - 1;
        let root = if in_upper { high } else { low };
        let place = |va: u64| if in_upper { upper(g, va) } else { va };
        let mut mapped = HashMap::new();
        for (page, frame) in pages {
            let va = page << g.granule & mask;
            m.map(root, g, va, frame << g.granule & ADDRESS | LEAF, g.granule, 0);
            mapped.insert(va >> g.granule, frame << g.granule & ADDRESS);
        }
        for (page, frame) in &mapped {
            let t = r.translate(&m, place(page << g.granule | 0xab8)).unwrap();
            prop_assert_eq!(t.pa, frame | 0xab8);
            prop_assert_eq!(t.shift, g.granule);
        }
        let found = r.translate(&m, place(probe & mask)).is_some();
        prop_assert_eq!(found, mapped.contains_key(&((probe & mask) >> g.granule)));
    }

    /// No register or table contents make the walk fail in another way than with `None`.
    #[test]
    fn hostile_tables_do_no_harm(
        sctlr: u64, ttbr0: u64, ttbr1: u64, tcr: u64, mair: u64, va: u64, entry: u64,
    ) {
        struct Same(u64);
        impl TableMemory for Same {
            fn read_u64(&self, pa: u64) -> Option<u64> {
                (pa < 1 << 47).then_some(self.0)
            }
        }
        let r = Registers { sctlr: sctlr | SCTLR_M, ttbr0, ttbr1, tcr, mair };
        if let Some(t) = r.translate(&Same(entry), va) {
            prop_assert!(t.pa < 1 << 52);
            prop_assert!((12..=42).contains(&t.shift));
        }
    }
}
