// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A core that goes on from its saved state in the middle of its work, and damaged states.

use proptest::prelude::*;

use super::tests::{CTRL_SG, Dmac, LAST_IRQ, RAM, RAM_LEN, descriptor, streams, submit};
use super::*;
use crate::state::twins::{acts, damage, survives, survives_each_bit, twins};
use crate::testutil::{Bench, FlatMemory};

/// A core with a chain of two segments submitted, and of as many in registers to come.
fn at_work(capture: bool, holds_ends: bool) -> Dmac {
    let (streams, id) = streams();
    let route = match capture {
        true => Route::Capture(id),
        false => Route::Playback(id),
    };
    let config = Config {
        holds_ends,
        ..Config::new(route)
    };
    let device = AxiDmac::new(config).unwrap();
    let mut bench = Bench::new(device, FlatMemory::new(RAM, RAM_LEN), streams);
    descriptor(&mut bench.memory, RAM, 0, RAM + 0x1000, 0x2000, RAM + 0x40);
    descriptor(
        &mut bench.memory,
        RAM + 0x40,
        LAST_IRQ,
        RAM + 0x8000,
        0x300,
        0,
    );
    bench.write(CTRL, CTRL_SG);
    assert!(submit(&mut bench, RAM));
    bench
}

/// Places of descriptors, and of data.
fn address() -> impl Strategy<Value = u32> + Clone {
    (0u32..0x400).prop_map(|n| RAM as u32 + n * 0x40)
}

proptest! {
    #[test]
    fn it_goes_on_as_if_nothing_had_been(
        capture: bool,
        holds_ends: bool,
        acts in acts(address()),
    ) {
        twins(|| at_work(capture, holds_ends), &acts);
    }

    #[test]
    fn no_damage_makes_it_panic(
        capture: bool,
        before in acts(address()),
        damage in damage(),
        after in acts(address()),
    ) {
        survives(|| at_work(capture, true), &before, &damage, &after);
    }
}

#[test]
fn it_is_saved_in_the_middle_of_a_segment() {
    let mut bench = at_work(true, true);
    for _ in 0..4 {
        bench.step();
    }
    assert!(bench.device.engine.progress() > 0 && !bench.memory.open.is_empty());
    let saved = bench.device.save().unwrap();
    let mut fresh = at_work(true, true);
    fresh.device.restore(&saved).unwrap();
    assert_eq!(
        fresh.device.engine.progress(),
        bench.device.engine.progress()
    );
}

#[test]
fn no_bit_makes_it_panic() {
    survives_each_bit(|| at_work(true, false));
}
