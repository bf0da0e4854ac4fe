// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A disk that goes on from its saved state in the middle of a request, and damaged states.

use proptest::prelude::*;

use super::tests_rig::{DATA, IN, OUT, Rig};
use super::*;
use crate::state::twins::{acts, damage, survives, survives_each_bit, twins};
use crate::stream::Streams;
use crate::testutil::Bench;

/// A disk with a request submitted.
fn at_work(kind: u32) -> Bench<VirtioBlk> {
    let mut rig = Rig::probed();
    let data = [(DATA, 0x1200), (DATA + 0x4000, 0x400)];
    // Something to read and to write that is not the same, and sectors that were written before.
    rig.memory.flat.put(DATA, &[7; 512]);
    assert_eq!(rig.request(OUT, 3, &[(DATA, 512)]), (0, 1));
    rig.submit(kind, 0, &data);
    let mut bench = Bench::new(rig.device, rig.memory.flat, Streams::default());
    std::mem::swap(&mut bench.queue, &mut rig.queue);
    bench
}

fn address() -> impl Strategy<Value = u32> + Clone {
    (0u32..0x400).prop_map(|n| DATA as u32 + n * 8)
}

proptest! {
    #[test]
    fn it_goes_on_as_if_nothing_had_been(
        kind in prop::sample::select(vec![IN, OUT]),
        acts in acts(address()),
    ) {
        twins(|| at_work(kind), &acts);
    }

    #[test]
    fn no_damage_makes_it_panic(
        kind in prop::sample::select(vec![IN, OUT]),
        before in acts(address()),
        damage in damage(),
        after in acts(address()),
    ) {
        survives(|| at_work(kind), &before, &damage, &after);
    }
}

#[test]
fn what_was_written_to_the_disk_is_in_it() {
    let mut rig = Rig::probed();
    rig.memory.flat.put(DATA, &[0x5a; 1024]);
    assert_eq!(rig.request(OUT, 9, &[(DATA, 1024)]), (0, 1));
    let saved = rig.device.save().unwrap();
    let mut other = Rig::probed();
    other.device.restore(&saved).unwrap();
    let mut sector = [0; 512];
    for (at, written) in [(8, false), (9, true), (10, true), (11, false)] {
        assert!(other.device.config.disk.read(at * SECTOR, &mut sector));
        assert_eq!(sector == [0x5a; 512], written, "sector {at}");
    }
}

#[test]
fn no_bit_makes_it_panic() {
    survives_each_bit(|| at_work(OUT));
}
