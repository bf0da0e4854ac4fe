// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Streams of frames that go on after a cut.

use super::*;
use crate::usb::plan::{Action, Incident};
use crate::usb::report::Outcome;

const FRAME: u32 = 40_000;
const FRAMES: u64 = 5;
const TOTAL: u64 = FRAMES * FRAME as u64;
/// In the middle of the third frame, and in the middle of the host's transfers.
const AFTER: u64 = 2 * FRAME as u64 + 20_000;

const CUTS: [Action; 3] = [
    Action::Halt,
    Action::Reset,
    Action::Disconnect { ticks: 5000 },
];

fn stream(sizes: &[u32], actions: &[Action]) -> Stream {
    Stream {
        sizes: sizes.to_vec(),
        frame: Some(FRAME.into()),
        incidents: actions
            .iter()
            .map(|&action| Incident {
                after_bytes: AFTER,
                action,
            })
            .collect(),
        ..Stream::new(TOTAL, FRAME, SEED)
    }
}

fn layout() -> Layout {
    Layout {
        length: FRAME,
        piece: 4096,
        zero: false,
        depth: 3,
    }
}

/// All frames have been moved, and the incidents have happened.
fn complete(driver: &Driver, actions: &[Action]) {
    check_clean(driver);
    let step = step(driver, 0);
    assert_eq!(step.outcome, Outcome::Complete, "{actions:?}");
    assert_eq!(step.cuts as usize, actions.len());
    assert_eq!((step.incidents, step.missed), (step.cuts, 0));
    let halts = actions.iter().filter(|a| **a == Action::Halt).count();
    assert_eq!(
        report(driver).enumerations.len(),
        1 + actions.len() - halts,
        "{actions:?}"
    );
    assert_eq!(step.stalls, halts as u64);
    assert!(driver.bench.memory.open.is_empty());
}

#[test]
fn frames_from_the_device_come_again_from_their_start() {
    for speed in [Speed::Super, Speed::High] {
        for sizes in [&[FRAME][..], &[8192, 1024, 30_720], &[65_536]] {
            for action in CUTS {
                let actions = [action, action];
                let mut driver =
                    Driver::started(speed, vec![Step::BulkIn(stream(sizes, &actions))]);
                source(&mut driver, layout(), FRAMES);
                complete(&driver, &actions);
                let step = step(&driver, 0);
                let got = step.received;
                assert_eq!((got.corrupt, got.bytes), (0, TOTAL + step.received_cut));
                // A halt waits for the end of the host's transfer, here that of a frame.
                if action != Action::Halt || sizes.len() > 1 {
                    assert!(step.received_cut > 0, "{speed:?} {sizes:?} {action:?}");
                }
            }
        }
    }
}

/// A function that sends what is due first, and then what was cancelled.
#[test]
fn frames_from_the_device_may_come_in_another_order() {
    let actions = [Action::Reset];
    let steps = vec![Step::BulkIn(stream(&[FRAME], &actions))];
    let mut driver = Driver::started(Speed::Super, steps);
    let layout = Layout {
        depth: FRAMES,
        ..layout()
    };
    let mut due = vec![0, 1, 2, 3];
    let mut cancelled = Vec::new();
    driver.run(|driver, notice| match notice {
        Notice::Configured => {
            for tag in due.drain(..) {
                let request = layout.request(tag);
                fill(driver, &request, tag * u64::from(FRAME));
                assert!(driver.queue(IN, request));
            }
        }
        Notice::Complete {
            tag,
            result: Err(_),
            ..
        } => {
            cancelled.push(tag);
            due = [&[4], &cancelled[..]].concat();
        }
        _ => {}
    });
    assert_eq!(cancelled, [2, 3]);
    complete(&driver, &actions);
    let step = step(&driver, 0);
    assert_eq!(step.received.corrupt, 0);
    assert_eq!(step.received.bytes, TOTAL + step.received_cut);
}

#[test]
fn frames_to_the_device_are_sent_again_from_their_start() {
    for speed in [Speed::Super, Speed::High] {
        for sizes in [&[FRAME][..], &[8192, 1024, 30_784]] {
            for action in CUTS {
                let actions = [action, action];
                let mut driver =
                    Driver::started(speed, vec![Step::BulkOut(stream(sizes, &actions))]);
                let (mut arrived, mut under_way) = (0, 0);
                let mut found = Mismatch::default();
                driver.run(|driver, notice| {
                    if let Notice::Complete { result, pieces, .. } = notice {
                        under_way -= 1;
                        if let Ok(len) = result {
                            assert_eq!(len, FRAME);
                            found.merge(check(driver, &pieces, len, arrived * u64::from(FRAME)));
                            arrived += 1;
                        }
                    }
                    while under_way < 3 && arrived + under_way < FRAMES {
                        if !driver.queue(OUT, layout().request(arrived + under_way)) {
                            break;
                        }
                        under_way += 1;
                    }
                });
                complete(&driver, &actions);
                assert_eq!(found, checked(TOTAL), "{speed:?} {sizes:?} {action:?}");
                let step = step(&driver, 0);
                assert_eq!(step.sent, TOTAL + step.sent_cut);
            }
        }
    }
}

#[test]
fn a_loopback_starts_over_with_the_frame() {
    for speed in [Speed::Super, Speed::High] {
        for action in CUTS {
            let actions = [action, action];
            let mut driver =
                Driver::started(speed, vec![Step::Loopback(stream(&[FRAME], &actions))]);
            let mut done = 0;
            driver.run(|driver, notice| {
                let next = match notice {
                    Notice::Complete {
                        endpoint,
                        result: Ok(FRAME),
                        ..
                    } => {
                        done += u64::from(endpoint == IN);
                        if done == FRAMES {
                            return;
                        }
                        endpoint ^ 1
                    }
                    // Shut down: until the device is configured again.
                    Notice::Disabled
                    | Notice::Complete {
                        result: Err(108), ..
                    } => return,
                    _ => OUT,
                };
                driver.queue(next, Request::linear(0, DATA, FRAME));
            });
            complete(&driver, &actions);
            let step = step(&driver, 0);
            assert_eq!(step.received.corrupt, 0);
            assert_eq!(step.received.bytes, TOTAL + step.received_cut);
            assert_eq!(step.sent, TOTAL + step.sent_cut);
        }
    }
}

#[test]
fn incidents_that_come_too_late_are_counted() {
    let mut late = stream(&[FRAME], &[Action::Halt]);
    late.incidents[0].after_bytes = TOTAL - 1;
    let mut driver = Driver::started(Speed::Super, vec![Step::BulkIn(late)]);
    source(&mut driver, layout(), FRAMES);
    check_clean(&driver);
    let step = step(&driver, 0);
    assert_eq!((step.incidents, step.missed), (0, 1));
    assert_eq!(step.received, checked(TOTAL));
}

#[test]
fn a_device_that_does_not_come_back_fails_the_step() {
    let steps = vec![Step::BulkIn(stream(&[FRAME], &[Action::Reset]))];
    let mut driver = Driver::started(Speed::Super, steps);
    let mut configured = 0;
    driver.run(|driver, notice| match notice {
        Notice::Configured => {
            configured += 1;
            for tag in 0..3 {
                let request = layout().request(tag);
                fill(driver, &request, tag * u64::from(FRAME));
                driver.queue(IN, request);
            }
        }
        Notice::Disabled => driver.pull_down(),
        Notice::Complete { .. } => {}
    });
    assert_eq!(configured, 1);
    assert_eq!(step(&driver, 0).outcome, Outcome::Failed);
    assert_eq!(report(&driver).errors, ["step 0: the device has gone"]);
}

/// What a host does without being planned in bytes: before a transfer.
#[test]
fn faults_of_the_host_come_before_their_transfer() {
    use crate::faults::HostFault;
    for what in [
        HostFault::Halt,
        HostFault::Reset,
        HostFault::Disconnect(5000),
        HostFault::Babble,
    ] {
        let stream = Stream {
            faults: vec![(3, what)],
            ..stream(&[FRAME], &[])
        };
        let mut driver = Driver::started(Speed::Super, vec![Step::BulkIn(stream)]);
        source(&mut driver, layout(), FRAMES);
        check_clean(&driver);
        let step = step(&driver, 0);
        assert_eq!(step.outcome, Outcome::Complete, "{what:?}");
        let [(3, happened, at)] = step.faults[..] else {
            panic!("{what:?}: {:?}", step.faults)
        };
        assert!(happened == what && at > 0);
        assert_eq!((step.cuts, step.incidents, step.missed), (1, 0, 0));
        assert_eq!(u64::from(step.begun), FRAMES + 1);
        let got = step.received;
        assert_eq!((got.corrupt, got.bytes), (0, TOTAL + step.received_cut));
    }
}
