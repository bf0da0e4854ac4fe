// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Streams that are halted, cut off, cancelled.

use super::*;
use crate::dma::{Direction, Transfer};
use crate::usb::plan::{Action, Incident};
use crate::usb::report::Outcome;
use crate::usb::{InResult, OutResult};

#[test]
fn halted_endpoints_stall_and_recover() {
    let layout = Layout {
        length: 4096,
        piece: 0,
        zero: false,
        depth: 2,
    };
    let mut stream = Stream::new(40_960, 4096, SEED);
    stream.incidents = vec![Incident {
        after_bytes: 8192,
        action: Action::Halt,
    }];
    let steps = vec![
        Step::Halt { input: true },
        Step::BulkIn(stream.clone()),
        Step::Halt { input: false },
    ];
    let mut driver = Driver::started(Speed::Super, steps);
    source(&mut driver, layout, 10);
    check_clean(&driver);
    let stalls: Vec<_> = report(&driver).steps.iter().map(|s| s.stalls).collect();
    assert_eq!(stalls, [1, 1, 1]);
    assert_eq!(step(&driver, 1).received, checked(40_960));
    assert_eq!(step(&driver, 1).incidents, 1);

    let mut driver = Driver::started(Speed::High, vec![Step::BulkOut(stream)]);
    let mut next = 0;
    let mut found = Mismatch::default();
    driver.run(|driver, notice| {
        if let Notice::Complete {
            result: Ok(len),
            pieces,
            ..
        } = &notice
        {
            found.merge(check(driver, pieces, *len, found.bytes));
        }
        driver.queue(OUT, layout.request(next));
        next += 1;
    });
    check_clean(&driver);
    assert_eq!(found, checked(40_960));
}

#[test]
fn reset_and_unplugging_end_a_step_and_the_next_one_works() {
    for action in [Action::Reset, Action::Disconnect { ticks: 5000 }] {
        for speed in [Speed::Super, Speed::High] {
            let mut cut = Stream::new(1 << 20, 1 << 20, SEED);
            cut.incidents = vec![Incident {
                after_bytes: 20_000,
                action,
            }];
            let steps = vec![
                Step::BulkIn(cut),
                Step::Reset,
                Step::Disconnect { ticks: 100 },
                Step::Pause { ticks: 100 },
                Step::BulkIn(Stream::new(30_000, 30_000, SEED)),
            ];
            let mut driver = Driver::started(speed, steps);
            let mut configured = 0;
            let mut shut_down = 0;
            driver.run(|driver, notice| match notice {
                Notice::Configured => {
                    configured += 1;
                    assert!(driver.bench.memory.open.is_empty());
                    let length = if configured == 1 { 1 << 20 } else { 30_000 };
                    let request = Request::linear(configured, DATA, length);
                    fill(driver, &request, 0);
                    driver.queue(IN, request);
                }
                Notice::Complete {
                    result: Err(108), ..
                } => shut_down += 1,
                _ => {}
            });
            check_clean(&driver);
            // The interrupted one, and one each for Step::Reset and Step::Disconnect.
            assert_eq!((configured, shut_down), (4, 3));
            assert_eq!(step(&driver, 0).outcome, Outcome::Interrupted);
            assert_eq!(step(&driver, 0).received.corrupt, 0);
            assert_eq!(step(&driver, 4).received, checked(30_000));
            let disconnects = driver.seen.iter().filter(|e| **e == 1).count();
            let resets = driver.seen.iter().filter(|e| **e == 0x101).count();
            assert_eq!(resets, 4);
            assert_eq!(disconnects, if action == Action::Reset { 1 } else { 2 });
        }
    }
}

#[test]
fn a_gadget_that_is_unbound_and_bound_again_fails_one_step_only() {
    let steps = vec![
        Step::BulkIn(Stream::new(1 << 20, 4096, SEED)),
        Step::BulkIn(Stream::new(4096, 4096, SEED)),
    ];
    let mut driver = Driver::started(Speed::Super, steps);
    let mut configured = 0;
    driver.run(|driver, notice| {
        let request = Request::linear(0, DATA, 4096);
        match notice {
            Notice::Configured => {
                configured += 1;
                fill(driver, &request, 0);
                driver.queue(IN, request);
            }
            Notice::Complete { result: Ok(_), .. } if configured == 1 => {
                driver.queue(IN, request);
                driver.pull_down();
                assert!(driver.bench.memory.open.is_empty());
            }
            Notice::Disabled => driver.pull_up(),
            _ => {}
        }
    });
    assert_eq!(configured, 2);
    let report = report(&driver);
    assert_eq!(report.steps[0].outcome, Outcome::Failed);
    assert_eq!(report.steps[1].outcome, Outcome::Complete);
    assert_eq!(report.errors, ["step 0: the device has gone"]);
}

#[test]
fn cancelled_requests_come_back_and_the_endpoint_goes_on() {
    let steps = vec![Step::BulkIn(Stream::new(8192, 8192, SEED))];
    let mut driver = Driver::started(Speed::Super, steps);
    let mut seen = Vec::new();
    driver.run(|driver, notice| match notice {
        Notice::Configured => {
            // Cancelled before the host can have anything of it.
            driver.queue(IN, Request::linear(1, DATA + 0x1_0000, 8192));
            assert_eq!(driver.bench.memory.open.len(), 1);
            driver.dequeue(IN);
            assert!(driver.bench.memory.open.is_empty());
            let request = Request::scattered(2, DATA, 8192, 1000);
            fill(driver, &request, 0);
            driver.queue(IN, request);
        }
        Notice::Complete { tag, result, .. } => seen.push((tag, result)),
        Notice::Disabled => {}
    });
    check_clean(&driver);
    assert_eq!(seen, [(1, Err(104)), (2, Ok(8192))]);
    assert_eq!(step(&driver, 0).received, checked(8192));
}

#[test]
fn buffers_are_open_from_doorbell_to_completion() {
    let mut driver = Driver::started(Speed::Super, vec![]);
    driver.run(|_, _| {});
    driver.bench.memory.transfers.clear();
    for (endpoint, direction) in [(IN, Direction::FromMemory), (OUT, Direction::ToMemory)] {
        let before = driver.bench.memory.transfers.len();
        driver.queue(endpoint, Request::linear(0, DATA, 40 << 10));
        let memory = &driver.bench.memory;
        let transfer = memory.transfers[before];
        let want = Transfer {
            direction,
            pa: DATA,
            bus: None,
            scattered: false,
            len: 40 << 10,
            descriptor: transfer.descriptor,
            channel: endpoint as u8,
            snoop: true,
        };
        assert_eq!(transfer, want);
        assert_eq!(memory.u32(transfer.descriptor), DATA as u32);
        assert_eq!(memory.open.len(), 1);
        let mut buf = vec![0; 40 << 10];
        let mut at = 0;
        while at < buf.len() {
            assert_eq!(driver.bench.memory.open.len(), 1, "closed early");
            assert!(!driver.has_event(), "told early");
            // A burst at a time, whatever the host asks for.
            at += driver.with_port(|port| match direction {
                Direction::FromMemory => match port.transfer_in(1, &mut buf[at..]) {
                    InResult::Data { len, .. } => len,
                    other => panic!("{other:?}"),
                },
                Direction::ToMemory => match port.transfer_out(1, &buf[at..]) {
                    OutResult::Data { len } => len,
                    other => panic!("{other:?}"),
                },
            });
            assert!(at % (16 << 10) == 0 || at == buf.len());
        }
        assert!(driver.bench.memory.open.is_empty());
        assert!(driver.has_event());
        driver.run(|_, _| {});
    }
}
