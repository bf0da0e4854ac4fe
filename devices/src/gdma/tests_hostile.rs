// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Guest errors one by one, and guests that mean harm: random registers, random descriptors, at
//! random times. What the memory of the rig checks holds throughout.

use proptest::prelude::*;

use super::tests_rig::{COMP_INT, LINKED, POOL, RAM, RAM_LEN, Rig, STOP};
use super::*;
use crate::dma::DmaError;

const OUTSIDE: u64 = 0x9_0000_0000;

/// Runs a source and a destination descriptor; the interrupts that follow, if the channel stopped.
#[track_caller]
fn stopped_by(source: (u64, u64), destination: (u64, u64), error: GuestError) -> u32 {
    let mut rig = Rig::new();
    let put = |rig: &mut Rig, (at, address): (u64, u64), ctrl| {
        if at + 32 <= RAM + RAM_LEN as u64 && at >= RAM {
            rig.descriptor(at, address, 512, ctrl, 0);
        }
    };
    put(&mut rig, source, LINKED | STOP);
    put(&mut rig, destination, LINKED | COMP_INT);
    rig.start_lists(source.0, destination.0);
    while rig.step() {}
    assert_eq!((rig.read(STATUS), rig.read(CTRL2)), (DONE_ERROR, 0));
    assert!(rig.memory.flat.open.is_empty(), "gives its memory back");
    let last = rig.device.errors().entries().last().unwrap().1;
    assert_eq!(
        std::mem::discriminant(&last),
        std::mem::discriminant(&error)
    );
    assert_eq!(rig.read(ISR), last.interrupt());
    assert_eq!(last.interrupt(), error.interrupt(), "{last}");
    assert!(rig.device.irq());
    // The driver can start it again.
    rig.descriptor(POOL, RAM, 16, LINKED | STOP, 0);
    rig.descriptor(POOL + 32, RAM + 0x8000, 16, LINKED, 0);
    rig.start(POOL);
    while rig.step() {}
    assert_eq!(rig.read(STATUS), DONE);
    last.interrupt()
}

#[test]
fn what_cannot_be_done_stops_the_channel() {
    let why = DmaError::OutsideRam { pa: 0, len: 0 };
    let good = (POOL, RAM + 0x9000);
    let to = (POOL + 32, RAM + 0xa000);
    for (source, destination, error, bit) in [
        (
            (OUTSIDE, 0),
            to,
            GuestError::Descriptor {
                side: Side::Source,
                address: OUTSIDE,
                source: why,
            },
            AXI_RD_SRC_DSCR,
        ),
        (
            good,
            (OUTSIDE, 0),
            GuestError::Descriptor {
                side: Side::Destination,
                address: OUTSIDE,
                source: why,
            },
            AXI_RD_DST_DSCR,
        ),
        (
            (POOL + 0x208, RAM),
            to,
            GuestError::Misaligned {
                side: Side::Source,
                descriptor: POOL + 0x208,
            },
            AXI_RD_SRC_DSCR,
        ),
        // Fine for a descriptor without a link.
        (
            good,
            (POOL + 0x210, RAM),
            GuestError::Misaligned {
                side: Side::Destination,
                descriptor: POOL + 0x210,
            },
            AXI_RD_DST_DSCR,
        ),
        (
            (POOL, OUTSIDE),
            to,
            GuestError::Data {
                side: Side::Source,
                descriptor: POOL,
                source: why,
            },
            AXI_RD_DATA,
        ),
        (
            good,
            (POOL + 32, OUTSIDE),
            GuestError::Data {
                side: Side::Destination,
                descriptor: POOL + 32,
                source: why,
            },
            AXI_WR_DATA,
        ),
    ] {
        assert_eq!(stopped_by(source, destination, error), bit, "{error}");
    }
}

#[test]
fn a_busy_channel_is_left_alone() {
    let mut rig = Rig::new();
    rig.descriptor(POOL, RAM + 0x9000, 4096, LINKED | STOP, 0);
    rig.descriptor(POOL + 32, RAM + 0xa000, 4096, LINKED, 0);
    rig.start(POOL);
    rig.write(CTRL2, 1);
    rig.write(CTRL2, 0);
    assert_eq!(rig.device.errors().total(), 2);
    assert_eq!((rig.read(STATUS), rig.read(CTRL2)), (BUSY, 1));
    while rig.step() {}
    assert_eq!((rig.read(STATUS), rig.read(TOTAL_BYTE)), (DONE, 4096));
}

#[test]
fn a_register_that_is_none_is_told() {
    let mut rig = Rig::new();
    assert_eq!(rig.read(0x204), 0);
    assert_eq!(rig.read(ISR), INV_APB);
    rig.write(ISR, INV_APB);
    rig.write(0xffc, 1);
    assert_eq!(rig.read(ISR), INV_APB);
}

#[derive(Debug, Clone)]
enum Act {
    Read(u64),
    Write(u64, u32),
    Put(u64, u32),
    Steps(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let register = (0..TABLE.len()).prop_map(|n| TABLE[n].offset);
    let address = prop_oneof![
        (0..64u64).prop_map(|n| POOL as u32 + n as u32 * 16),
        (0..RAM_LEN as u32).prop_map(|n| RAM as u32 + n),
        any::<u32>(),
    ];
    let value = prop_oneof![0..0x100u32, address, any::<u32>()];
    prop_oneof![
        (0..0x1000u64).prop_map(|o| Act::Read(o / 4 * 4)),
        (register, value.clone()).prop_map(|(o, v)| Act::Write(o, v)),
        Just(Act::Write(CTRL2, 1)),
        Just(Act::Write(CTRL0, POINT_TYPE_SG | CONT)),
        ((0..256u64), value).prop_map(|(n, v)| Act::Put(POOL + n * 4, v)),
        (1..40usize).prop_map(Act::Steps),
    ]
}

proptest! {
    #[test]
    fn hostile_guests_get_bounded_work(acts in prop::collection::vec(act(), 1..200)) {
        let mut rig = Rig::new();
        for act in acts {
            match act {
                Act::Read(offset) => {
                    rig.read(offset);
                }
                Act::Write(offset, value) => rig.write(offset, value),
                Act::Put(at, value) => rig.memory.flat.put(at, &value.to_le_bytes()),
                Act::Steps(n) => {
                    for _ in 0..n {
                        if !rig.step() {
                            break;
                        }
                        prop_assert!(rig.memory.accesses <= 2, "one piece of work a step");
                    }
                }
            }
            prop_assert!(rig.queue.len() <= 1, "one event at a time");
            let busy = rig.read(STATUS) == BUSY;
            prop_assert_eq!(rig.queue.len(), usize::from(busy));
            let off = matches!(rig.device.state, State::Off { .. });
            prop_assert!(!off || rig.memory.flat.open.is_empty());
        }
    }
}
