// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A controller and its host that go on from their saved state whatever happens, and damaged states.

use super::*;
use crate::dwc3::Dwc3;
use crate::state::twins::{Act, acts, damage, survives, survives_each_bit};
use crate::testutil::Bench;
use crate::usb::host::PlanHost;
use crate::usb::plan::{Action, Incident, UsbHostPlan};

const FRAME: u32 = 20_000;

fn layout() -> Layout {
    Layout {
        length: FRAME,
        piece: 4096,
        zero: false,
        depth: 2,
    }
}

fn stream(action: Option<Action>) -> Stream {
    let incident = |action| Incident {
        after_bytes: 30_000,
        action,
    };
    Stream {
        frame: Some(FRAME.into()),
        incidents: action.map(incident).into_iter().collect(),
        ..Stream::new(4 * u64::from(FRAME), FRAME, SEED)
    }
}

/// Lets `play` be the function of a controller that is renewed and of one that is not.
fn both(speed: Speed, steps: &[Step], play: impl Fn(&mut Driver)) {
    let mut plain = Driver::started(speed, steps.to_vec());
    let mut renewed = Driver::started(speed, steps.to_vec());
    renewed.renew(speed, steps.to_vec());
    play(&mut plain);
    play(&mut renewed);
    assert!(report(&plain).finished, "{:?}", report(&plain));
    assert_eq!(report(&plain), report(&renewed));
    assert_eq!(plain.seen, renewed.seen);
    assert_eq!(plain.bench.queue.now(), renewed.bench.queue.now());
    let memory = |driver: &Driver| driver.bench.memory.bytes.clone();
    assert!(memory(&plain) == memory(&renewed), "memory differs");
}

const INCIDENTS: [Option<Action>; 5] = [
    None,
    Some(Action::Pause { ticks: 7000 }),
    Some(Action::Halt),
    Some(Action::Reset),
    Some(Action::Disconnect { ticks: 5000 }),
];

#[test]
fn streams_to_the_host_go_on() {
    for action in INCIDENTS {
        let steps = [Step::BulkIn(stream(action)), Step::Pause { ticks: 100 }];
        both(Speed::Super, &steps, |driver| source(driver, layout(), 4));
    }
}

#[test]
fn streams_from_the_host_go_on() {
    let stream = Stream {
        sizes: vec![20_000, 1],
        zero_packet: true,
        ..Stream::new(80_004, 1, SEED)
    };
    let steps = [Step::BulkOut(stream), Step::Pause { ticks: 9 }];
    both(Speed::High, &steps, |driver| {
        sink(driver, layout());
    });
}

#[test]
fn loopbacks_and_what_comes_between_streams_go_on() {
    let stream = Stream {
        sizes: vec![1, 1023, 1025, 9999],
        ..Stream::new(30_000, 1, SEED)
    };
    let steps = [
        Step::Loopback(stream.clone()),
        Step::Reset,
        Step::Loopback(stream.clone()),
        Step::Disconnect { ticks: 100 },
        Step::Loopback(stream),
    ];
    both(Speed::Super, &steps, |driver| echo(driver, 20_000));
}

/// A controller after so many things have happened in a stream with an incident.
fn at_work(action: Option<Action>, input: bool, after: usize) -> Bench<Dwc3<PlanHost>> {
    let stream = stream(action);
    let step = if input {
        Step::BulkIn(stream)
    } else {
        Step::BulkOut(stream)
    };
    let mut driver = Driver::started(Speed::Super, vec![step]);
    driver.steps = after;
    match input {
        true => source(&mut driver, layout(), 4),
        false => drop(sink(&mut driver, layout())),
    }
    driver.bench
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_damage_makes_it_panic(
        action in prop::sample::select(&INCIDENTS[..]),
        input: bool,
        after in 0usize..400,
        damage in damage(),
        acts in acts(0u32..0x10_0000),
    ) {
        // The host looks at the port at each step.
        let steps = std::iter::repeat_n(Act::Step, 40);
        let acts: Vec<_> = steps.chain(acts).collect();
        survives(|| at_work(action, input, after), &[], &damage, &acts);
    }
}

#[test]
fn a_state_of_another_plan_is_refused() {
    let bench = at_work(None, true, 300);
    let saved = crate::bus::Device::save(&bench.device).unwrap();
    let host = PlanHost::new(UsbHostPlan::default()).unwrap();
    let mut other = Dwc3::new(host);
    let error = crate::bus::Device::restore(&mut other, &saved).unwrap_err();
    assert!(
        error.to_string().contains("usb-host has steps begun = 1"),
        "{error}"
    );
}

#[test]
fn no_bit_makes_it_panic() {
    for input in [false, true] {
        survives_each_bit(|| at_work(None, input, 150));
    }
}
