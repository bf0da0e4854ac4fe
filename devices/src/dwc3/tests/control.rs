// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Control transfers that an enumeration does not have.

use super::*;
use crate::usb::{InResult, OutResult, SetupResult};

const ROUNDS: usize = 20;

/// An enumerated device whose host has nothing more to do.
fn configured(speed: Speed) -> Driver {
    let mut driver = Driver::started(speed, vec![]);
    driver.run(|_, _| {});
    check_clean(&driver);
    driver
}

fn setup(driver: &mut Driver, packet: [u8; 8]) {
    for _ in 0..ROUNDS {
        match driver.with_port(|port| port.setup(&packet)) {
            SetupResult::Ack => return,
            SetupResult::Nak => driver.run(|_, _| {}),
            SetupResult::Disconnected => panic!("disconnected"),
        }
    }
    panic!("SETUP is never taken");
}

/// Tries IN on endpoint 0, letting the driver run between tries.
fn input(driver: &mut Driver, len: usize) -> Option<(Vec<u8>, bool)> {
    let mut buf = vec![0; len];
    for _ in 0..ROUNDS {
        match driver.with_port(|port| port.transfer_in(0, &mut buf)) {
            InResult::Data { len, end } => {
                buf.truncate(len);
                return Some((buf, end));
            }
            InResult::Nak => driver.run(|_, _| {}),
            InResult::Stall => return None,
            other => panic!("{other:?}"),
        }
    }
    panic!("never ready");
}

fn output(driver: &mut Driver, data: &[u8]) -> Option<usize> {
    for _ in 0..ROUNDS {
        match driver.with_port(|port| port.transfer_out(0, data)) {
            OutResult::Data { len } => return Some(len),
            OutResult::Nak => driver.run(|_, _| {}),
            OutResult::Stall => return None,
            OutResult::Disconnected => panic!("disconnected"),
        }
    }
    panic!("never ready");
}

fn packet(kind: u8, request: u8, length: u16) -> [u8; 8] {
    let [low, high] = length.to_le_bytes();
    [kind, request, 0, 0, 0, 0, low, high]
}

/// Reads up to `length` bytes; `None`: STALL.
fn read(driver: &mut Driver, kind: u8, request: u8, length: u16) -> Option<Vec<u8>> {
    setup(driver, packet(kind, request, length));
    let mut all = Vec::new();
    loop {
        let (data, end) = input(driver, usize::from(length) - all.len())?;
        all.extend(data);
        if end || all.len() == usize::from(length) {
            break;
        }
    }
    output(driver, &[])?;
    Some(all)
}

/// Sends `data`; `None`: STALL.
fn send(driver: &mut Driver, request: u8, data: &[u8]) -> Option<()> {
    setup(driver, packet(0x40, request, data.len() as u16));
    let mut at = 0;
    while at < data.len() {
        at += output(driver, &data[at..])?;
    }
    input(driver, 0).map(|_| ())
}

#[test]
fn data_in_of_any_length_ends_properly() {
    for speed in [Speed::Super, Speed::High] {
        let mut driver = configured(speed);
        // The device has 2048 bytes: with a zero-length packet, exactly, less.
        for (asked, got) in [(4096, 2048), (2048, 2048), (100, 100), (64, 64)] {
            let data = read(&mut driver, 0xc0, 1, asked).unwrap();
            assert_eq!(data, vec![0x5a; got]);
        }
        assert!(driver.bench.memory.open.is_empty());
    }
}

#[test]
fn data_out_of_any_length_arrives() {
    for speed in [Speed::Super, Speed::High] {
        let mut driver = configured(speed);
        for len in [1u8, 63, 64, 65, 128, 200] {
            let data: Vec<u8> = (0..len).collect();
            send(&mut driver, 1, &data).unwrap();
            assert_eq!(driver.received().last(), Some(&data));
        }
    }
}

#[test]
fn a_stall_lasts_until_the_next_setup_packet() {
    let mut driver = configured(Speed::Super);
    for _ in 0..2 {
        assert_eq!(read(&mut driver, 0xc0, 99, 8), None);
        assert_eq!(input(&mut driver, 8), None);
        assert_eq!(send(&mut driver, 99, &[]), None);
        assert_eq!(send(&mut driver, 99, &[1, 2, 3]), None);
        assert_eq!(read(&mut driver, 0xc0, 1, 8), Some(vec![0x5a; 8]));
    }
}

#[test]
fn a_new_setup_packet_cuts_any_stage_short() {
    for speed in [Speed::Super, Speed::High] {
        let mut driver = configured(speed);
        for prepare in [
            // Before the driver has seen the first one.
            |_: &mut Driver| (),
            // The data stage is started, or the status stage awaited.
            |driver: &mut Driver| driver.run(|_, _| {}),
            // The data stage is over, or the status stage announced.
            |driver: &mut Driver| {
                driver.run(|_, _| {});
                driver.with_port(|port| port.transfer_in(0, &mut [0; 8]));
            },
            // The host asks for data before the driver has seen the SETUP packet, then data is
            // moved, of which the driver has not heard yet.
            |driver: &mut Driver| {
                for _ in 0..2 {
                    driver.with_port(|port| port.transfer_in(0, &mut [0; 8]));
                    driver.run(|_, _| {});
                }
                driver.with_port(|port| port.transfer_in(0, &mut [0; 8]));
            },
            |driver: &mut Driver| {
                driver.with_port(|port| port.transfer_out(0, &[0; 8]));
                driver.run(|_, _| {});
                driver.with_port(|port| port.transfer_out(0, &[0; 8]));
            },
            |driver: &mut Driver| {
                driver.with_port(|port| port.transfer_in(0, &mut [0; 8]));
                driver.run(|_, _| {});
                driver.with_port(|port| port.transfer_in(0, &mut [0; 8]));
            },
            // The status stage is started.
            |driver: &mut Driver| {
                driver.run(|_, _| {});
                driver.with_port(|port| port.transfer_in(0, &mut [0; 8]));
                driver.with_port(|port| port.transfer_out(0, &[]));
                driver.run(|_, _| {});
            },
        ] {
            for first in [packet(0xc0, 1, 8), packet(0x40, 1, 8), packet(0x00, 49, 0)] {
                setup(&mut driver, first);
                prepare(&mut driver);
                let data = read(&mut driver, 0xc0, 1, 8).unwrap();
                assert_eq!(data, vec![0x5a; 8], "after {first:?}");
                assert_eq!(send(&mut driver, 1, &[1, 2, 3]), Some(()));
            }
        }
        assert!(driver.bench.memory.open.is_empty());
        assert_eq!(driver.bench.device.faults().total(), 0);
    }
}

#[test]
fn a_reset_or_disconnection_in_a_control_transfer_starts_over() {
    for unplugged in [false, true] {
        let mut driver = configured(Speed::Super);
        for first in [packet(0xc0, 1, 8), packet(0x40, 1, 8), packet(0x00, 49, 0)] {
            for stages in 0..3 {
                setup(&mut driver, first);
                // The data stage is started, or the status stage awaited.
                driver.run(|_, _| {});
                if stages > 0 {
                    // The first stage after SETUP, then the start of the next one.
                    driver.with_port(|port| port.transfer_in(0, &mut [0; 8]));
                    driver.with_port(|port| port.transfer_out(0, &[0; 8]));
                    driver.run(|_, _| {});
                }
                if stages > 1 {
                    driver.with_port(|port| port.transfer_out(0, &[]));
                    driver.run(|_, _| {});
                }
                if unplugged {
                    driver.with_port(|port| port.disconnect());
                    driver.run(|_, _| {});
                }
                driver.with_port(|port| port.reset(Speed::Super)).unwrap();
                driver.run(|_, _| {});
                assert_eq!(
                    read(&mut driver, 0xc0, 1, 8),
                    Some(vec![0x5a; 8]),
                    "{first:?}, {stages} stages, unplugged: {unplugged}"
                );
            }
        }
        assert!(driver.bench.memory.open.is_empty());
    }
}

#[test]
fn a_reset_waits_until_the_driver_has_seen_a_setup_packet_with_data_to_come() {
    let mut driver = configured(Speed::Super);
    for (first, busy) in [
        (packet(0x40, 1, 8), true),
        (packet(0xc0, 1, 8), false),
        (packet(0x00, 49, 0), false),
    ] {
        setup(&mut driver, first);
        assert_eq!(driver.with_port(|port| port.busy()), busy);
        if busy {
            driver.run(|_, _| {});
            assert!(!driver.with_port(|port| port.busy()));
        }
        driver.with_port(|port| port.reset(Speed::Super)).unwrap();
        driver.run(|_, _| {});
        let data = read(&mut driver, 0xc0, 1, 8);
        assert_eq!(data, Some(vec![0x5a; 8]), "{first:?}");
    }
    assert_eq!(driver.wrong_directions, 0);
}

#[test]
fn a_data_stage_that_never_comes_is_over_at_the_first_setup_packet_after_a_reset() {
    // Function drivers in user space may leave a request unanswered.
    for first in [packet(0x40, 2, 8), packet(0xc0, 2, 8)] {
        let mut driver = configured(Speed::Super);
        setup(&mut driver, first);
        driver.run(|_, _| {});
        driver.with_port(|port| port.reset(Speed::Super)).unwrap();
        driver.run(|_, _| {});
        assert_eq!(read(&mut driver, 0xc0, 1, 8), Some(vec![0x5a; 8]));
        assert_eq!(send(&mut driver, 1, &[1, 2, 3]), Some(()));
        assert_eq!(driver.wrong_directions, 1, "the driver has a word for it");
    }
}

#[test]
fn a_reset_before_the_driver_has_seen_a_setup_packet_is_survived() {
    for first in [packet(0x40, 1, 8), packet(0xc0, 1, 8), packet(0x00, 49, 0)] {
        let mut driver = configured(Speed::Super);
        setup(&mut driver, first);
        driver.with_port(|port| port.reset(Speed::Super)).unwrap();
        driver.run(|_, _| {});
        let data = read(&mut driver, 0xc0, 1, 8);
        assert_eq!(data, Some(vec![0x5a; 8]), "{first:?}");
        assert_eq!(send(&mut driver, 1, &[1, 2, 3]), Some(()));
        assert!(driver.bench.memory.open.is_empty());
    }
}
