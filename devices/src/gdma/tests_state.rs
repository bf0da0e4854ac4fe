// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A channel that goes on from its saved state in the middle of its work, and damaged states.

use proptest::prelude::*;

use super::tests_rig::{COMP_INT, FROM, LINKED, PAUSE, POOL, RAM, RAM_LEN, STOP, TO};
use super::*;
use crate::state::twins::{acts, damage, survives, survives_each_bit, twins};
use crate::stream::Streams;
use crate::testutil::{Bench, FlatMemory};

/// A channel with two lists submitted, whose buffers have different sizes, and a pause between.
fn at_work() -> Bench<Gdma> {
    let device = Gdma::new(Config {
        width: BusWidth::Bits64,
        channel: 1,
    });
    let mut bench = Bench::new(device, FlatMemory::new(RAM, RAM_LEN), Streams::default());
    let lists = [
        [(FROM, 700, PAUSE | COMP_INT), (FROM + 0x1000, 900, STOP)],
        [(TO, 1200, COMP_INT), (TO + 0x1000, 2000, COMP_INT)],
    ];
    for (list, at) in lists.iter().zip([POOL, POOL + 0x100]) {
        for (n, (address, size, ctrl)) in (0..).zip(list) {
            let descriptor = at + 32 * n;
            bench.memory.put(descriptor, &address.to_le_bytes());
            bench.memory.put(descriptor + 8, &u32::to_le_bytes(*size));
            bench
                .memory
                .put(descriptor + 12, &(ctrl | LINKED).to_le_bytes());
            bench
                .memory
                .put(descriptor + 16, &(descriptor + 32).to_le_bytes());
        }
    }
    bench.write(CTRL0, POINT_TYPE_SG);
    bench.write(SRC_START_LSB, POOL as u32);
    bench.write(DST_START_LSB, POOL as u32 + 0x100);
    bench.write(IEN, 0xfff);
    bench.write(CTRL2, 1);
    bench
}

fn address() -> impl Strategy<Value = u32> + Clone {
    (0u32..0x400).prop_map(|n| POOL as u32 + n * 16)
}

proptest! {
    #[test]
    fn it_goes_on_as_if_nothing_had_been(acts in acts(address())) {
        twins(at_work, &acts);
    }

    #[test]
    fn no_damage_makes_it_panic(
        before in acts(address()),
        damage in damage(),
        after in acts(address()),
    ) {
        survives(at_work, &before, &damage, &after);
    }
}

#[test]
fn no_bit_makes_it_panic() {
    survives_each_bit(at_work);
}
