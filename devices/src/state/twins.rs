// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Two devices that get the same to do, of which one goes on from its saved state again and again; and
//! devices with damaged states.

use proptest::prelude::*;
use proptest::sample::Index;

use super::Saved;
use crate::bus::Device;
use crate::testutil::Bench;

/// What happens to a device.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// To a register; which one, of those that are declared.
    Write(Index, u32),
    Read(Index),
    /// Of an event.
    Step,
    /// The driver writes memory: at which of its words.
    Put(Index, u32),
    /// All gates of streams.
    Gate(bool),
}

/// Acts with values as a driver would use them, or `value`.
pub(crate) fn acts(
    value: impl Strategy<Value = u32> + Clone + 'static,
) -> impl Strategy<Value = Vec<Act>> {
    let value = prop_oneof![3 => 0u32..16, 4 => value, 1 => any::<u32>()];
    let at = any::<Index>;
    let act = prop_oneof![
        3 => (at(), value.clone()).prop_map(|(at, v)| Act::Write(at, v)),
        1 => at().prop_map(Act::Read),
        8 => Just(Act::Step),
        1 => (at(), value).prop_map(|(at, v)| Act::Put(at, v)),
        1 => any::<bool>().prop_map(Act::Gate),
    ];
    prop::collection::vec(act, 0..60)
}

/// Where bits of a state are turned, and whether its end is cut off.
pub(crate) type Damage = (Vec<(Index, u8)>, Option<Index>);

pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let bits = prop::collection::vec((any::<Index>(), 1u8..), 1..4);
    (bits, prop::option::weighted(0.2, any::<Index>()))
}

pub(crate) fn damaged(saved: &Saved, (bits, cut): &Damage) -> Saved {
    let mut saved = saved.clone();
    let bytes = saved.bytes_mut();
    for (at, bits) in bits {
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len()));
    }
    saved
}

fn act<D: Device>(bench: &mut Bench<D>, act: &Act) -> u32 {
    let offset = |bench: &Bench<D>, at: &Index| {
        let registers = bench.device.registers();
        registers[at.index(registers.len())].offset
    };
    match act {
        Act::Write(at, value) => bench.write(offset(bench, at), *value),
        Act::Read(at) => return bench.read(offset(bench, at)),
        Act::Step => return bench.step().into(),
        Act::Put(at, value) => {
            let words = bench.memory.bytes.len() / 4;
            let pa = bench.memory.base + 4 * at.index(words.max(1)) as u64;
            if words > 0 {
                bench.memory.put(pa, &value.to_le_bytes());
            }
        }
        Act::Gate(open) => {
            let ids: Vec<_> = (0..bench.streams.all().count()).collect();
            for id in ids {
                let id = crate::stream::StreamId(id as u8);
                bench.with(|_, ctx| ctx.set_gate(id, *open));
            }
        }
    }
    0
}

/// Puts a device in the place of another that `fresh` has made, with its state.
pub(crate) fn renew<D: Device>(device: &mut D, mut fresh: D) {
    let saved = device.save().unwrap();
    fresh.restore(&saved).unwrap();
    assert!(
        fresh.save().unwrap() == saved,
        "saves what was not restored"
    );
    *device = fresh;
}

/// Lets two of what `make` makes do the same, one of which is renewed before each act.
pub(crate) fn twins<D: Device>(make: impl Fn() -> Bench<D>, acts: &[Act]) {
    let (mut plain, mut renewed) = (make(), make());
    for (n, a) in acts.iter().enumerate() {
        renew(&mut renewed.device, make().device);
        let answers = (act(&mut plain, a), act(&mut renewed, a));
        assert_eq!(answers.0, answers.1, "act {n}");
        assert_eq!(plain.device.irq(), renewed.device.irq(), "act {n}");
        for r in plain.device.registers() {
            let shown = (plain.device.peek(r.offset), renewed.device.peek(r.offset));
            assert_eq!(shown.0, shown.1, "{} after act {n}", r.name);
        }
        let open = (&plain.memory.open, &renewed.memory.open);
        assert_eq!(open.0, open.1, "transfers after act {n}");
    }
    assert!(plain.memory.bytes == renewed.memory.bytes, "memory differs");
    assert_eq!(plain.memory.transfers, renewed.memory.transfers);
    assert_eq!(plain.device.errors(), renewed.device.errors());
    assert_eq!(plain.device.report(), renewed.device.report());
    let states = (plain.device.save(), renewed.device.save());
    assert!(states.0.unwrap() == states.1.unwrap(), "states differ");
}

/// Restores a damaged state in what `make` makes, and lets it do something if that goes. Whether it did.
pub(crate) fn survives<D: Device>(
    make: impl Fn() -> Bench<D>,
    before: &[Act],
    damage: &Damage,
    after: &[Act],
) -> bool {
    let mut bench = make();
    for a in before {
        act(&mut bench, a);
    }
    let saved = damaged(&bench.device.save().unwrap(), damage);
    let mut other = make();
    // What waits on the clock is not the device's.
    std::mem::swap(&mut other.queue, &mut bench.queue);
    match other.device.restore(&saved) {
        Err(e) => {
            assert!(e.to_string().contains("the saved state of"), "{e}");
            return false;
        }
        Ok(()) => {
            for a in after {
                act(&mut other, a);
            }
        }
    }
    other.device.errors();
    other.device.report();
    other.device.save().unwrap();
    true
}

/// The same with each single bit of a state turned. Some are refused and some are not, or nothing was
/// shown.
pub(crate) fn survives_each_bit<D: Device>(make: impl Fn() -> Bench<D>) {
    let bits = 8 * make().device.save().unwrap().len();
    let steps = vec![Act::Step; 30];
    let accepted = (0..bits).filter(|bit| {
        let mut bench = make();
        let mut saved = bench.device.save().unwrap();
        saved.bytes_mut()[bit / 8] ^= 1 << (bit % 8);
        let mut other = make();
        std::mem::swap(&mut other.queue, &mut bench.queue);
        let restored = other.device.restore(&saved).is_ok();
        if restored {
            for step in &steps {
                act(&mut other, step);
            }
        }
        restored
    });
    let accepted = accepted.count();
    assert!(0 < accepted && accepted < bits, "{accepted} of {bits}");
}
