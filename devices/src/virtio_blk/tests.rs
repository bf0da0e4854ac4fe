// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The device by its specification, with a driver that keeps to it.

use proptest::prelude::*;

use super::tests_rig::*;
use super::*;
use crate::dma::{Content, Direction, Order};

#[test]
fn the_table_is_well_formed() {
    assert!(RegisterFile::check(TABLE));
}

#[test]
fn a_driver_finds_a_block_device() {
    let mut rig = Rig::new();
    let words = [MAGIC_VALUE, VERSION, DEVICE_ID].map(|at| rig.read(at));
    assert_eq!(words, [u32::from_le_bytes(*b"virt"), 2, 2]);
    assert_eq!(rig.read(CONFIG_CAPACITY_LOW), SECTORS as u32);
    assert_eq!(rig.read(QUEUE_NUM_MAX), 128);
    rig.write(QUEUE_SEL, 1);
    assert_eq!((rig.read(QUEUE_NUM_MAX), rig.read(QUEUE_READY)), (0, 0));
    rig.probe();
    assert_eq!(rig.read(QUEUE_READY), 1);
    rig.write(STATUS, 0);
    assert_eq!((rig.read(STATUS), rig.read(QUEUE_READY)), (0, 0));
}

/// Without ACCESS_PLATFORM a driver would pass physical addresses and maintain nothing.
#[test]
fn a_driver_that_does_not_ask_how_it_is_attached_is_refused() {
    for (low, high, accepted) in [
        (0, (VERSION_1 | ACCESS_PLATFORM) >> 32, true),
        (0, VERSION_1 >> 32, false),
        (0, ACCESS_PLATFORM >> 32, false),
        // INDIRECT_DESC was not offered.
        (1 << 28, (VERSION_1 | ACCESS_PLATFORM) >> 32, false),
    ] {
        let mut rig = Rig::new();
        for (half, value) in [(0, low), (1, high as u32)] {
            rig.write(DRIVER_FEATURES_SEL, half);
            rig.write(DRIVER_FEATURES, value);
        }
        rig.write(STATUS, 11);
        assert_eq!(
            rig.read(STATUS) & FEATURES_OK != 0,
            accepted,
            "{low:#x} {high:#x}"
        );
    }
}

#[test]
fn order_platform_can_be_withheld() {
    for order_platform in [false, true] {
        let device = VirtioBlk::new(Config {
            disk: Box::new(MemoryDisk::new(Vec::new())),
            order_platform,
        });
        assert_eq!(device.offered() & ORDER_PLATFORM != 0, order_platform);
    }
}

#[test]
fn sectors_are_read_into_memory() {
    let mut rig = Rig::probed();
    let parts = [(DATA, 512), (DATA + 0x2f00, 1024)];
    assert_eq!(rig.request(IN, 3, &parts), (0, 1537));
    let want: Vec<u8> = (3 * 512..6 * 512).map(byte).collect();
    assert_eq!(rig.bytes(DATA, 512), &want[..512]);
    assert_eq!(rig.bytes(DATA + 0x2f00, 1024), &want[512..]);
    assert!(rig.device.irq());
    assert_eq!(rig.read(INTERRUPT_STATUS), USED_BUFFER);
    rig.write(INTERRUPT_ACK, USED_BUFFER);
    assert!(!rig.device.irq());
    let transfers: Vec<_> = rig
        .memory
        .flat
        .transfers
        .iter()
        .map(|t| (t.direction, t.pa, t.len))
        .collect();
    let to = Direction::ToMemory;
    assert_eq!(transfers, [(to, DATA, 512), (to, DATA + 0x2f00, 1024)]);
}

#[test]
fn what_is_written_is_read_back() {
    let mut rig = Rig::probed();
    rig.memory.flat.put(DATA, &[0x5a; 5120]);
    // Across pages.
    assert_eq!(rig.request(OUT, 7, &[(DATA, 5120)]), (0, 1));
    assert_eq!(rig.request(FLUSH, 0, &[]), (0, 1));
    assert_eq!(rig.request(IN, 6, &[(DATA + 0x8000, 6144)]), (0, 6145));
    let read = rig.bytes(DATA + 0x8000, 6144);
    assert_eq!(
        read[..512],
        (6 * 512..7 * 512).map(byte).collect::<Vec<_>>()
    );
    assert!(read[512..5632].iter().all(|b| *b == 0x5a));
    assert_eq!(read[5632], byte(17 * 512));
    let counts = rig.device.report().unwrap().1;
    assert_eq!(
        counts,
        serde_json::json!({"read": 6144, "written": 5120, "flushes": 1})
    );
    assert!(rig.device.errors().entries().is_empty());
}

#[test]
fn it_says_who_it_is() {
    let mut rig = Rig::probed();
    assert_eq!(rig.request(GET_ID, 0, &[(DATA, 32)]), (0, 21));
    assert_eq!(rig.bytes(DATA, 10), b"staleline\0");
    // No more than there is room for.
    assert_eq!(rig.request(GET_ID, 0, &[(DATA, 4)]), (0, 5));
}

#[test]
fn what_cannot_be_served_is_told_by_status() {
    let mut rig = Rig::probed();
    let last = SECTORS as u64 - 1;
    for (kind, sector, bytes, status) in [
        (IN, last, 512, 0),
        (IN, last, 1024, 1),
        (IN, SECTORS as u64, 512, 1),
        (IN, u64::MAX, 512, 1),
        (IN, u64::MAX / 512, 512, 1),
        (IN, 0, 511, 1),
        (OUT, last, 1024, 1),
        (OUT, 0, 513, 1),
        (11, 0, 512, 2),
    ] {
        let (found, _) = rig.request(kind, sector, &[(DATA, bytes)]);
        assert_eq!(found, status, "type {kind}, sector {sector}, {bytes} bytes");
    }
    assert!(rig.memory.flat.open.is_empty());
    assert_eq!(rig.read(STATUS) & NEEDS_RESET, 0);
}

/// Data, then status, then the ring's entry, then its index: each is there before the next one says so.
#[test]
fn the_end_is_told_last() {
    let mut rig = Rig::probed();
    rig.request(IN, 0, &[(DATA, 512)]);
    let writes: Vec<_> = rig.memory.seen.iter().filter(|s| s.0).collect();
    let places: Vec<_> = writes
        .iter()
        .map(|(_, content, pa, len)| (*content, *pa, *len))
        .collect();
    assert_eq!(
        places,
        [
            (Content::Data, DATA, 512),
            (Content::Descriptor, STATUS_AT, 1),
            (Content::Descriptor, DEVICE + 4, 8),
            (Content::Event, DEVICE + 2, 2),
        ]
    );
}

/// All that a chain makes the device access is handed over by the index of the driver's ring.
#[test]
fn the_index_hands_over_and_the_notification_is_the_doorbell() {
    let mut rig = Rig::probed();
    rig.request(OUT, 0, &[(DATA, 512)]);
    let seen = rig.memory.seen.iter().zip(&rig.memory.orders);
    for ((_, content, pa, _), order) in seen.filter(|(s, _)| s.1 != Content::Event) {
        let Order::Handover {
            word, idle_until, ..
        } = order
        else {
            panic!("{content:?} at {pa:#x}: {order:?}");
        };
        assert_eq!((*word, idle_until.at), (DRIVER, 1));
    }
}

#[test]
fn chains_that_come_while_it_works_are_taken_without_a_notification() {
    let mut rig = Rig::probed();
    rig.header(IN, 0);
    for head in [0, 3] {
        rig.chain(head, &[(HEADER, 16)], &[(DATA, 512), (STATUS_AT, 1)]);
    }
    rig.offer(0);
    rig.write(QUEUE_NOTIFY, 0);
    assert!(rig.step());
    rig.offer(3);
    rig.run();
    assert_eq!(rig.used(), 2);
    // And then it sleeps.
    rig.offer(0);
    rig.run();
    assert_eq!(rig.used(), 2);
    rig.write(QUEUE_NOTIFY, 0);
    rig.run();
    assert_eq!(rig.used(), 3);
}

#[test]
fn a_driver_can_ask_not_to_be_interrupted() {
    let mut rig = Rig::probed();
    rig.memory.flat.put(DRIVER, &1u16.to_le_bytes());
    assert_eq!(rig.request(FLUSH, 0, &[]), (0, 1));
    assert!(!rig.device.irq());
}

#[test]
fn a_reset_ends_all_work() {
    let mut rig = Rig::probed();
    rig.header(IN, 0);
    rig.chain(0, &[(HEADER, 16)], &[(DATA, 16384), (STATUS_AT, 1)]);
    rig.offer(0);
    rig.write(QUEUE_NOTIFY, 0);
    assert!(rig.step() && rig.step());
    assert_eq!(rig.memory.flat.open.len(), 1);
    rig.write(STATUS, 0);
    assert!(rig.memory.flat.open.is_empty());
    rig.probe();
    rig.memory.seen.clear();
    // What was under way before does not go on now.
    rig.run();
    assert!(rig.memory.seen.is_empty());
    assert_eq!(rig.request(FLUSH, 0, &[]), (0, 1));
}

proptest! {
    /// However a request is cut into descriptors, the bytes are the same.
    #[test]
    fn how_a_request_is_cut_does_not_matter(
        cuts in prop::collection::btree_set(1u32..1040, 0..4),
        write: bool,
    ) {
        let mut rig = Rig::probed();
        rig.header(if write { OUT } else { IN }, 5);
        let data: Vec<u8> = (0..1024u32).map(|n| (n * 7) as u8).collect();
        // Header and data, or data and status, lie one after the other.
        let string: Vec<u8> = match write {
            true => [rig.bytes(HEADER, 16), &data].concat(),
            false => vec![0xee; 1025],
        };
        rig.memory.flat.put(DATA, &string);
        let len = string.len() as u32;
        let ends: Vec<u32> = cuts.into_iter().filter(|cut| *cut < len).chain([len]).collect();
        let starts = [0].into_iter().chain(ends.iter().copied());
        let parts: Vec<_> = starts.zip(&ends).map(|(a, b)| (DATA + u64::from(a), b - a)).collect();
        match write {
            true => rig.chain(0, &parts, &[(STATUS_AT, 1)]),
            false => rig.chain(0, &[(HEADER, 16)], &parts),
        }
        rig.offer(0);
        rig.write(QUEUE_NOTIFY, 0);
        rig.run();
        prop_assert_eq!(rig.used(), 1);
        if write {
            prop_assert_eq!(rig.request(IN, 5, &[(DATA, 1024)]).0, 0);
            prop_assert_eq!(rig.bytes(DATA, 1024), &data);
        } else {
            let want: Vec<u8> = (5 * 512..7 * 512).map(byte).chain([0]).collect();
            prop_assert_eq!(rig.bytes(DATA, 1025), &want);
        }
    }
}
