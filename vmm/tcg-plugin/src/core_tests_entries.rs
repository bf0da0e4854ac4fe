// SPDX-License-Identifier: GPL-2.0-or-later
//! Stores of translation table entries.

use super::*;

/// The tables' last level, as the guest sees it.
const TABLE_VA: u64 = UP + 0x1000;
const TABLE: u64 = BASE + 0x3000;

/// The bench with its last table in view.
fn bench() -> Bench {
    let b = Bench::paging();
    b.page(1, TABLE, 0);
    b
}

fn entry(page: u64, attribute: u64) -> u64 {
    (BASE + page * PAGE) | 1 << 10 | 3 << 8 | attribute | 3
}

impl Bench {
    /// The CPU stores `words` from entry `n` on with one instruction.
    fn store(&mut self, n: u64, words: &[u64]) {
        let pa = TABLE + 8 * n;
        for (at, word) in words.iter().enumerate() {
            self.word(pa + 8 * at as u64, *word);
        }
        let size = 8 * words.len() as u32;
        self.core
            .access::<true>(CpuId::BOOT, TABLE_VA + 8 * n, size, SITE)
            .unwrap();
    }
}

#[test]
fn an_entry_is_told_after_its_store_and_before_the_first_access() {
    let mut b = bench();
    // Whether the TLB knows the table's page or not.
    for n in [20, 21] {
        b.store(n, &[entry(0x40 + n, NON_CACHEABLE)]);
        let va = UP + n * PAGE;
        b.core.access::<false>(CpuId::BOOT, va, 8, SITE).unwrap();
        let (at, pa) = (TABLE + 8 * n, BASE + (0x40 + n) * PAGE);
        assert_eq!(
            b.take(),
            [
                Seen::Store(at, 8, Cacheable),
                Seen::MapNonCacheable(at, pa, PAGE),
                Seen::Load(pa, 8, NonCacheable),
            ]
        );
    }
}

#[test]
fn entries_that_come_together_are_told_each() {
    let mut b = bench();
    let words = [
        entry(0x40, NON_CACHEABLE),
        0,
        entry(0x41, 0),
        entry(0x42, NON_CACHEABLE),
    ];
    for _ in 0..2 {
        b.store(30, &words);
        assert_eq!(
            b.take()[1..],
            [
                Seen::MapNonCacheable(TABLE + 8 * 30, BASE + 0x40 * PAGE, PAGE),
                Seen::MapNonCacheable(TABLE + 8 * 33, BASE + 0x42 * PAGE, PAGE),
            ]
        );
    }
}

#[test]
fn what_is_no_entry_is_not_told() {
    let mut b = bench();
    let good = entry(0x40, NON_CACHEABLE);
    for word in [
        0,
        u64::MAX,
        UP | good,
        entry(0x40, 0),
        good & !1,
        good & !(1 << 10),
        // A page of the window, and one behind it.
        entry(RAM_BYTES / PAGE, NON_CACHEABLE),
        entry(RAM_BYTES / PAGE + 1, NON_CACHEABLE),
    ] {
        b.store(40, &[word]);
        assert_eq!(b.take().len(), 1, "{word:#x}");
    }
    // Right bytes, but not stored as an entry is.
    b.word(TABLE + 8 * 40, good);
    b.word(TABLE + 8 * 41, good);
    for (at, size) in [(0, 4), (4, 4), (0, 1), (4, 8), (1, 8)] {
        b.core
            .access::<true>(CpuId::BOOT, TABLE_VA + 8 * 40 + at, size, SITE)
            .unwrap();
        assert_eq!(b.take().len(), 1, "{at} {size}");
    }
    b.core
        .access::<false>(CpuId::BOOT, TABLE_VA + 8 * 40, 8, SITE)
        .unwrap();
    assert_eq!(b.take().len(), 1);
}

#[test]
fn a_store_across_pages_shows_the_entries_in_both() {
    let mut b = bench();
    b.page(2, BASE + 0x50000, 0);
    b.word(TABLE + 0xff8, entry(0x40, NON_CACHEABLE));
    b.word(BASE + 0x50000, entry(0x41, NON_CACHEABLE));
    b.core
        .access::<true>(CpuId::BOOT, TABLE_VA + 0xff8, 16, SITE)
        .unwrap();
    assert_eq!(
        b.take(),
        [
            Seen::Store(TABLE + 0xff8, 8, Cacheable),
            Seen::MapNonCacheable(TABLE + 0xff8, BASE + 0x40 * PAGE, PAGE),
            Seen::Store(BASE + 0x50000, 8, Cacheable),
            Seen::MapNonCacheable(BASE + 0x50000, BASE + 0x41 * PAGE, PAGE),
        ]
    );
}

#[test]
fn the_registers_say_what_is_non_cacheable() {
    let mut b = bench();
    let told = |b: &mut Bench, sctlr, mair| {
        b.exec(Op::Write(SysReg::Mair), mair, EL1);
        b.exec(Op::Write(SysReg::Sctlr), sctlr, EL1);
        // With the MMU off, by physical address.
        let table = if sctlr & 1 == 0 { TABLE } else { TABLE_VA };
        b.word(TABLE + 8 * 40, entry(0x40, NON_CACHEABLE));
        b.core
            .access::<true>(CpuId::BOOT, table + 8 * 40, 8, SITE)
            .unwrap();
        b.take().len() - 1
    };
    // Normal non-cacheable, Device, write-through, write-back.
    for (mair, count) in [(0x44ff, 1), (0x04ff, 1), (0xbbff, 1), (0xffff, 0)] {
        assert_eq!(told(&mut b, 5, mair), count, "{mair:#x}");
        // Nothing is cached: MMU or data caches are off.
        assert_eq!(told(&mut b, 4, mair), 0);
        assert_eq!(told(&mut b, 1, mair), 0);
    }
}

#[test]
fn zeroed_blocks_and_windows_hold_no_entries() {
    let mut b = bench();
    b.page(2, WINDOW, 0);
    b.store(40, &[entry(0x40, NON_CACHEABLE)]);
    b.core
        .access::<true>(CpuId::BOOT, UP + 0x2000, 8, SITE)
        .unwrap();
    b.exec(Op::ZeroBlock, TABLE_VA + 8 * 40, EL1);
    assert_eq!(
        b.take()[2..],
        [
            Seen::Write(WINDOW, vec![0; 8]),
            Seen::Store(TABLE + 8 * 40, 64, Cacheable),
        ]
    );
}
