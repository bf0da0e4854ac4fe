// SPDX-License-Identifier: GPL-2.0-or-later
//! Code that is translated, and written by others afterwards.

use super::*;

#[test]
fn code_is_told_by_physical_address() {
    let mut b = Bench::new();
    b.core.fetched(CpuId::BOOT, BASE + 0x40, 12, &mut || SITE);
    let mut b2 = Bench::paging();
    b2.take();
    b2.core.fetched(CpuId::BOOT, UP + PAGE + 8, 4, &mut || SITE);
    // Nothing there: QEMU will find that out too.
    b2.core.fetched(CpuId::BOOT, UP + 9 * PAGE, 4, &mut || SITE);
    assert_eq!(b.take(), [Seen::Fetched(BASE + 0x40, 12)]);
    assert_eq!(b2.take(), [Seen::Fetched(BASE + 0x11008, 4)]);
}

/// By the next barrier, once, and with what stands there.
#[test]
fn qemu_is_made_to_write_changed_code_again() {
    let mut b = Bench::new();
    let barrier = Op::Barrier(Barrier::DSB_SY);
    let page = BASE + 5 * PAGE;
    b.word(page + 8, 0x1122_3344_5566_7788);
    // Beyond RAM there is nothing to write.
    b.core.machine.changed = vec![WINDOW, page];
    b.exec(Op::Maintain(CacheOp::Clean), page, EL1);
    assert!(b.core.qtest.peer().commands.is_empty());
    b.exec(barrier, 0, EL1);
    b.exec(barrier, 0, EL1);
    let zeros = |bytes: usize| "00".repeat(bytes);
    let want = format!(
        "write {page:#x} 0x1000 0x{}8877665544332211{}\n",
        zeros(8),
        zeros(PAGE as usize - 16)
    );
    assert_eq!(b.core.qtest.peer().commands, [want]);
    assert_eq!(b.core.stats.code_pages, 1);
}
