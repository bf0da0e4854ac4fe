// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Guest errors one by one, and guests that mean harm: random rings, descriptors and registers, at
//! random times. What the rig checks (bounded steps, own transfers, rest) holds throughout.

use proptest::prelude::*;

use super::tests_rig::*;
use super::*;

const OUTSIDE: u64 = 0x9_0000_0000;

fn read(pa: u64, len: u32, next: u16) -> Desc {
    let flags = NEXT;
    Desc {
        pa,
        len,
        flags,
        next,
    }
}

fn last(pa: u64, len: u32, flags: u16) -> Desc {
    let next = 0;
    Desc {
        pa,
        len,
        flags,
        next,
    }
}

/// Offers descriptor 0 of these; why the device needs a reset then.
#[track_caller]
fn stopped_by(head: u16, table: &[Desc]) -> GuestError {
    let mut rig = Rig::probed();
    rig.header(IN, 0);
    for (n, desc) in (0..).zip(table) {
        rig.describe(n, *desc);
    }
    rig.offer(head);
    rig.write(QUEUE_NOTIFY, 0);
    rig.run();
    needs_reset(&mut rig)
}

/// The device needs a reset, says so, and works again after it. Why.
#[track_caller]
fn needs_reset(rig: &mut Rig) -> GuestError {
    assert_eq!(rig.read(STATUS), 15 | NEEDS_RESET);
    assert_eq!(
        rig.read(INTERRUPT_STATUS) & CONFIGURATION_CHANGE,
        CONFIGURATION_CHANGE
    );
    assert!(rig.device.irq());
    assert!(rig.memory.flat.open.is_empty(), "gives its memory back");
    let error = rig.device.errors().entries()[0].1;
    // Nothing goes on.
    rig.memory.seen.clear();
    rig.write(QUEUE_NOTIFY, 0);
    rig.run();
    assert!(rig.memory.seen.is_empty());
    rig.write(STATUS, 15);
    assert_eq!(rig.read(STATUS) & NEEDS_RESET, NEEDS_RESET);
    rig.probe();
    assert!(!rig.device.irq());
    assert_eq!(rig.request(IN, 1, &[(DATA, 512)]), (0, 513));
    error
}

#[test]
fn chains_that_are_none() {
    let status = last(STATUS_AT, 1, WRITE);
    let header = read(HEADER, 16, 1);
    let (n, size) = (SIZE, SIZE);
    assert_eq!(
        stopped_by(n, &[header, status]),
        GuestError::NoDescriptor { index: n, size }
    );
    assert_eq!(
        stopped_by(0, &[read(HEADER, 16, n), status]),
        GuestError::NoDescriptor { index: n, size }
    );
    assert_eq!(
        stopped_by(0, &[header, read(DATA, 1, 0)]),
        GuestError::Loop { head: 0 }
    );
    // Indirect.
    assert_eq!(
        stopped_by(0, &[last(HEADER, 16, 4)]),
        GuestError::Flags { index: 0, flags: 4 }
    );
    let data = Desc {
        flags: NEXT | WRITE,
        ..read(DATA, 512, 2)
    };
    assert_eq!(
        stopped_by(0, &[header, data, last(DATA, 512, 0)]),
        GuestError::Order { index: 2 }
    );
    assert_eq!(
        stopped_by(0, &[header, last(u64::MAX, 1, WRITE)]),
        GuestError::Address { index: 1 }
    );
    let short = |head, readable, writable| GuestError::Short {
        head,
        readable,
        writable,
    };
    assert_eq!(
        stopped_by(0, &[read(HEADER, 15, 1), status]),
        short(0, 15, 1)
    );
    assert_eq!(stopped_by(0, &[last(HEADER, 16, 0)]), short(0, 16, 0));
    assert_eq!(
        stopped_by(0, &[header, last(STATUS_AT, 0, WRITE)]),
        short(0, 16, 0)
    );
}

#[test]
fn memory_that_is_not_there() {
    let header = read(HEADER, 16, 1);
    let data = |pa| Desc {
        flags: NEXT | WRITE,
        ..read(pa, 1024, 2)
    };
    let status = last(STATUS_AT, 1, WRITE);
    for (table, part) in [
        (vec![read(OUTSIDE, 16, 1), status], Part::Header),
        (vec![header, data(OUTSIDE), status], Part::Data),
        // It ends outside.
        (
            vec![header, data(RAM + RAM_LEN as u64 - 512), status],
            Part::Data,
        ),
        (vec![header, last(OUTSIDE, 1, WRITE)], Part::Status),
    ] {
        let error = stopped_by(0, &table);
        assert!(
            matches!(error, GuestError::Memory { part: p, .. } if p == part),
            "{error}"
        );
    }
    for (table, driver, device, part) in [
        (OUTSIDE, DRIVER, DEVICE, Part::Descriptor),
        (TABLE_AT, OUTSIDE, DEVICE, Part::Available),
        (TABLE_AT, DRIVER, OUTSIDE, Part::Used),
    ] {
        let mut rig = Rig::probed();
        rig.header(IN, 0);
        rig.chain(0, &[(HEADER, 16)], &[(STATUS_AT, 1)]);
        rig.offer(0);
        rig.write(QUEUE_READY, 0);
        rig.set_up(SIZE.into(), table, driver, device);
        rig.write(QUEUE_NOTIFY, 0);
        rig.run();
        let error = needs_reset(&mut rig);
        assert!(
            matches!(error, GuestError::Memory { part: p, .. } if p == part),
            "{error}"
        );
    }
}

#[test]
fn an_index_that_runs_away() {
    let mut rig = Rig::probed();
    rig.memory.flat.put(DRIVER + 2, &(SIZE + 1).to_le_bytes());
    rig.write(QUEUE_NOTIFY, 0);
    rig.run();
    assert_eq!(
        needs_reset(&mut rig),
        GuestError::Index {
            from: 0,
            to: SIZE + 1,
            size: SIZE
        }
    );
}

#[test]
fn queues_that_cannot_be() {
    let mut rig = Rig::probed();
    rig.write(QUEUE_READY, 0);
    for (size, table, driver, device) in [
        (0, TABLE_AT, DRIVER, DEVICE),
        (3, TABLE_AT, DRIVER, DEVICE),
        (256, TABLE_AT, DRIVER, DEVICE),
        (1 << 16, TABLE_AT, DRIVER, DEVICE),
        (8, TABLE_AT + 8, DRIVER, DEVICE),
        (8, TABLE_AT, DRIVER + 1, DEVICE),
        (8, TABLE_AT, DRIVER, DEVICE + 2),
        (8, !15, DRIVER, DEVICE),
    ] {
        rig.set_up(size, table, driver, device);
        assert_eq!(
            rig.read(QUEUE_READY),
            0,
            "{size} {table:#x} {driver:#x} {device:#x}"
        );
        let error = rig.device.errors().entries().last().unwrap().1;
        assert!(matches!(error, GuestError::Queue { .. }), "{error}");
    }
    rig.memory.seen.clear();
    rig.write(QUEUE_NOTIFY, 0);
    rig.run();
    assert!(rig.memory.seen.is_empty());
}

#[test]
fn what_does_not_exist_is_told() {
    let mut rig = Rig::new();
    rig.write(QUEUE_NOTIFY, 0);
    rig.write(0xf00, 1);
    let errors: Vec<_> = rig.device.errors().entries().iter().map(|e| e.1).collect();
    assert_eq!(
        errors,
        [
            GuestError::Notified { queue: 0 },
            GuestError::NoRegister { offset: 0xf00 }
        ]
    );
}

/// An address in one of a few places, most of them in RAM.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => RAM..RAM + RAM_LEN as u64,
        2 => (0u64..0x40).prop_map(|n| HEADER + n),
        1 => Just(OUTSIDE),
        1 => any::<u64>(),
    ]
}

fn desc() -> impl Strategy<Value = Desc> {
    let len = prop_oneof![Just(16), Just(1), Just(512), 0u32..9000, any::<u32>()];
    let flags = prop_oneof![8 => 0u16..4, 1 => any::<u16>()];
    let next = prop_oneof![8 => 0u16..SIZE, 1 => any::<u16>()];
    (address(), len, flags, next).prop_map(|(pa, len, flags, next)| Desc {
        pa,
        len,
        flags,
        next,
    })
}

#[derive(Debug, Clone)]
enum Act {
    Describe(u16, Desc),
    Header(u32, u64),
    Offer(u16),
    Index(u16),
    Register(u64, u32),
    Notify,
    Probe,
    Steps(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let sector = prop_oneof![0..SECTORS as u64, any::<u64>()];
    let register = prop_oneof![
        (0u64..0x44).prop_map(|n| 4 * n),
        Just(STATUS),
        Just(QUEUE_READY)
    ];
    let value = prop_oneof![0u32..16, any::<u32>()];
    prop_oneof![
        6 => (0u16..SIZE, desc()).prop_map(|(n, d)| Act::Describe(n, d)),
        2 => (0u32..10, sector).prop_map(|(k, s)| Act::Header(k, s)),
        6 => (0u16..SIZE + 1).prop_map(Act::Offer),
        1 => any::<u16>().prop_map(Act::Index),
        2 => (register, value).prop_map(|(r, v)| Act::Register(r, v)),
        6 => Just(Act::Notify),
        2 => Just(Act::Probe),
        6 => (0usize..40).prop_map(Act::Steps),
    ]
}

proptest! {
    #[test]
    fn no_guest_breaks_it(acts in prop::collection::vec(act(), 0..80)) {
        let mut rig = Rig::probed();
        for act in acts {
            match act {
                Act::Describe(n, d) => rig.describe(n, d),
                Act::Header(kind, sector) => rig.header(kind, sector),
                Act::Offer(head) => rig.offer(head),
                Act::Index(index) => rig.memory.flat.put(DRIVER + 2, &index.to_le_bytes()),
                Act::Register(at, value) => rig.write(at, value),
                Act::Notify => rig.write(QUEUE_NOTIFY, 0),
                Act::Probe => rig.probe(),
                Act::Steps(steps) => {
                    (0..steps).take_while(|_| rig.step()).for_each(drop);
                }
            }
        }
        // However that was, a reset mends it.
        rig.probe();
        prop_assert!(rig.memory.flat.open.is_empty());
        prop_assert_eq!(rig.request(IN, 2, &[(DATA, 512)]), (0, 513));
        prop_assert_eq!(rig.bytes(DATA, 512).len(), 512);
    }
}
