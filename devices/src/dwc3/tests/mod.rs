// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whole runs of the driver, the controller and the host, without a guest.

mod control;
mod misuse;
mod resume;
mod session;
mod state;

use proptest::prelude::*;
use staleline_protocol::pattern::{Mismatch, Pattern};

use super::driver::{DATA, Driver, Notice, Request};
use crate::usb::Speed;
use crate::usb::plan::{Step, Stream};
use crate::usb::report::{StepReport, UsbHostReport};

const IN: usize = 3;
const OUT: usize = 2;
const SEED: u64 = 7;

fn report(driver: &Driver) -> &UsbHostReport {
    driver.bench.device.host().report()
}

/// Nothing went wrong, and nothing is left open.
fn check_clean(driver: &Driver) {
    let report = report(driver);
    assert_eq!(report.errors, [] as [String; 0]);
    assert!(report.finished, "{report:?}");
    assert_eq!(driver.bench.device.faults().first(), []);
}

/// Writes the pattern from `position` on to the pieces of a request.
fn fill(driver: &mut Driver, request: &Request, mut position: u64) {
    for &(pa, len) in &request.pieces {
        let mut data = vec![0; len as usize];
        Pattern::new(SEED).fill(position, &mut data);
        driver.bench.memory.put(pa, &data);
        position += u64::from(len);
    }
}

/// Compares the first `len` bytes of pieces with the pattern from `position` on.
fn check(driver: &Driver, pieces: &[(u64, u32)], len: u32, position: u64) -> Mismatch {
    let memory = &driver.bench.memory;
    let mut data = Vec::new();
    for &(pa, len) in pieces {
        let from = (pa - memory.base) as usize;
        data.extend_from_slice(&memory.bytes[from..from + len as usize]);
    }
    Pattern::new(SEED).check(position, &data[..len as usize])
}

/// How the function lays its buffers out.
#[derive(Debug, Clone, Copy)]
struct Layout {
    length: u32,
    /// Bytes per piece; 0 for one piece.
    piece: u32,
    zero: bool,
    /// Requests queued at a time.
    depth: u64,
}

impl Layout {
    fn request(self, tag: u64) -> Request {
        let pa = DATA + tag % self.depth * 0x8_0000;
        let mut request = match self.piece {
            0 => Request::linear(tag, pa, self.length),
            piece => Request::scattered(tag, pa, self.length, piece),
        };
        request.zero = self.zero;
        request
    }
}

/// A function that sends the pattern in `count` requests. When some fail it waits for all of them
/// to come back, and goes on with the first that failed.
fn source(driver: &mut Driver, layout: Layout, count: u64) {
    let mut next = 0;
    let mut done = 0;
    let mut in_flight = 0;
    let mut failed = false;
    driver.run(|driver, notice| {
        if let Notice::Complete {
            endpoint,
            tag,
            result,
            ..
        } = notice
        {
            assert_eq!(endpoint, IN);
            in_flight -= 1;
            if let Ok(len) = result {
                assert_eq!((tag, len), (done, layout.length));
                done += 1;
            } else {
                failed = true;
            }
        }
        if failed && in_flight > 0 {
            return;
        }
        if std::mem::take(&mut failed) {
            next = done;
        }
        while next < count && in_flight < layout.depth {
            let request = layout.request(next);
            fill(driver, &request, next * u64::from(layout.length));
            if !driver.queue(IN, request) {
                break;
            }
            in_flight += 1;
            next += 1;
        }
    });
}

/// A function that receives and checks; returns what it got in each request.
fn sink(driver: &mut Driver, layout: Layout) -> (Vec<u32>, Mismatch) {
    let mut next = 0;
    let mut position = 0;
    let mut lengths = Vec::new();
    let mut found = Mismatch::default();
    driver.run(|driver, notice| {
        if let Notice::Complete {
            result: Ok(len),
            pieces,
            ..
        } = &notice
        {
            found.merge(check(driver, pieces, *len, position));
            position += u64::from(*len);
            lengths.push(*len);
        }
        if notice == Notice::Disabled {
            return;
        }
        while next < lengths.len() as u64 + layout.depth {
            if !driver.queue(OUT, layout.request(next)) {
                break;
            }
            next += 1;
        }
    });
    (lengths, found)
}

fn step(driver: &Driver, n: usize) -> &StepReport {
    &report(driver).steps[n]
}

fn checked(bytes: u64) -> Mismatch {
    Mismatch {
        bytes,
        corrupt: 0,
        first: None,
    }
}

#[test]
fn enumeration_at_both_speeds() {
    for speed in [Speed::Super, Speed::High] {
        let mut driver = Driver::started(speed, vec![]);
        driver.run(|_, notice| assert_eq!(notice, Notice::Configured));
        check_clean(&driver);
        let facts = &report(&driver).enumerations[0];
        assert_eq!(facts.speed, speed);
        assert_eq!((facts.bulk_in, facts.bulk_out), (Some(0x81), Some(0x01)));
        assert_eq!(facts.strings[1].as_deref(), Some("Test gadget"));
        // SET_SEL is the one request with an OUT data stage.
        let sel: &[&[u8]] = &[&[10, 5, 0, 1, 0, 1]];
        let want = if speed == Speed::Super { sel } else { &[] };
        assert_eq!(driver.received(), want);
        assert_eq!(driver.setups()[1][..3], [0, 5, 1]);
        assert!(driver.bench.memory.open.is_empty());
    }
}

#[test]
fn bulk_in_moves_every_byte() {
    for (speed, piece, depth) in [
        (Speed::Super, 0, 1),
        (Speed::Super, 4096, 2),
        (Speed::High, 0, 3),
        (Speed::High, 700, 2),
    ] {
        let layout = Layout {
            length: 20_000,
            piece,
            zero: false,
            depth,
        };
        let steps = vec![Step::BulkIn(Stream::new(100_000, 64 << 10, SEED))];
        let mut driver = Driver::started(speed, steps);
        source(&mut driver, layout, 5);
        check_clean(&driver);
        let step = step(&driver, 0);
        assert_eq!(step.received, checked(100_000));
        assert_eq!((step.transfers, step.short_packets), (5, 5));
        assert!(driver.bench.memory.open.is_empty());
    }
}

#[test]
fn bulk_out_moves_every_byte() {
    for (speed, piece, depth) in [
        (Speed::Super, 0, 1),
        (Speed::Super, 4096, 2),
        (Speed::High, 0, 3),
        (Speed::High, 700, 2),
    ] {
        let layout = Layout {
            length: 20_000,
            piece,
            zero: false,
            depth,
        };
        let steps = vec![Step::BulkOut(Stream::new(100_000, 20_000, SEED))];
        let mut driver = Driver::started(speed, steps);
        let (lengths, found) = sink(&mut driver, layout);
        check_clean(&driver);
        assert_eq!((lengths, found), (vec![20_000; 5], checked(100_000)));
        assert_eq!(step(&driver, 0).sent, 100_000);
    }
}

#[test]
fn a_zero_flag_ends_a_transfer_with_a_zero_length_packet() {
    let layout = Layout {
        length: 8192,
        piece: 0,
        zero: true,
        depth: 2,
    };
    let steps = vec![Step::BulkIn(Stream::new(3 * 8192, 64 << 10, SEED))];
    let mut driver = Driver::started(Speed::Super, steps);
    source(&mut driver, layout, 3);
    check_clean(&driver);
    let step = step(&driver, 0);
    assert_eq!(step.received, checked(3 * 8192));
    // The host is content before the last one.
    assert_eq!((step.short_packets, step.zero_packets), (2, 2));
}

#[test]
fn a_zero_length_packet_ends_an_out_request() {
    let layout = Layout {
        length: 16_384,
        piece: 4096,
        zero: false,
        depth: 2,
    };
    let stream = Stream {
        zero_packet: true,
        ..Stream::new(3 * 4096, 4096, SEED)
    };
    let mut driver = Driver::started(Speed::Super, vec![Step::BulkOut(stream)]);
    let (lengths, found) = sink(&mut driver, layout);
    check_clean(&driver);
    assert_eq!((lengths, found), (vec![4096; 3], checked(3 * 4096)));
    assert_eq!(step(&driver, 0).zero_packets, 3);
}

#[test]
fn more_pieces_than_a_ring_has_trbs() {
    // 600 pieces of 512 bytes: the driver must interrupt in the middle of the chain.
    for input in [true, false] {
        let layout = Layout {
            length: 300 * 1024,
            piece: 512,
            zero: false,
            depth: 1,
        };
        let stream = Stream::new(u64::from(layout.length), layout.length, SEED);
        let stepped = if input {
            Step::BulkIn(stream)
        } else {
            Step::BulkOut(stream)
        };
        let mut driver = Driver::started(Speed::Super, vec![stepped]);
        if input {
            source(&mut driver, layout, 1);
            assert_eq!(step(&driver, 0).received, checked(u64::from(layout.length)));
        } else {
            let (lengths, found) = sink(&mut driver, layout);
            assert_eq!(lengths, [layout.length]);
            assert_eq!(found, checked(u64::from(layout.length)));
        }
        check_clean(&driver);
    }
}

#[test]
fn short_transfers_complete_large_requests() {
    for piece in [0, 4096, 333] {
        for speed in [Speed::Super, Speed::High] {
            let layout = Layout {
                length: 20_001,
                piece,
                zero: false,
                depth: 2,
            };
            let stream = Stream {
                sizes: vec![1, 511, 513, 4097, 1],
                ..Stream::new(10_246, 1, SEED)
            };
            let mut driver = Driver::started(speed, vec![Step::BulkOut(stream)]);
            let (lengths, found) = sink(&mut driver, layout);
            check_clean(&driver);
            assert_eq!(found, checked(10_246));
            assert_eq!(lengths, [1, 511, 513, 4097, 1, 1, 511, 513, 4097, 1]);
        }
    }
}

/// A function that sends back what it gets.
fn echo(driver: &mut Driver, length: u32) {
    driver.run(|driver, notice| match notice {
        Notice::Configured => {
            driver.queue(OUT, Request::linear(0, DATA, length));
        }
        Notice::Complete {
            endpoint: OUT,
            tag,
            result: Ok(len),
            ..
        } => {
            driver.queue(IN, Request::linear(tag, DATA, len));
        }
        Notice::Complete {
            endpoint: IN,
            tag,
            result: Ok(_),
            ..
        } => {
            driver.queue(OUT, Request::linear(tag + 1, DATA, length));
        }
        Notice::Complete { .. } | Notice::Disabled => {}
    });
}

#[test]
fn loopback_of_odd_sizes() {
    let stream = Stream {
        sizes: vec![1, 1023, 1025, 9999, 20_000],
        ..Stream::new(100_000, 1, SEED)
    };
    let mut driver = Driver::started(Speed::Super, vec![Step::Loopback(stream)]);
    echo(&mut driver, 20_000);
    check_clean(&driver);
    assert_eq!(step(&driver, 0).received, checked(100_000));
    assert_eq!(step(&driver, 0).sent, 100_000);
}

#[test]
fn wrong_bytes_are_counted_at_their_position() {
    let layout = Layout {
        length: 4096,
        piece: 0,
        zero: false,
        depth: 1,
    };
    let stream = Stream {
        offset: 3,
        ..Stream::new(4096, 4096, SEED)
    };
    let mut driver = Driver::started(Speed::Super, vec![Step::BulkIn(stream)]);
    driver.run(|driver, notice| {
        if notice == Notice::Configured {
            let request = layout.request(0);
            fill(driver, &request, 3);
            let flipped = !driver.bench.memory.bytes[(DATA - super::driver::RAM) as usize + 100];
            driver.bench.memory.put(DATA + 100, &[flipped]);
            driver.queue(IN, request);
        }
    });
    let found = step(&driver, 0).received;
    assert_eq!((found.corrupt, found.first), (1, Some(103)));
}

#[test]
fn a_short_packet_ends_a_chain_longer_than_the_ring() {
    for (size, piece) in [(1, 64), (200, 100), (17_000, 64)] {
        let layout = Layout {
            length: 51_200,
            piece,
            zero: false,
            depth: 1,
        };
        let steps = vec![Step::BulkOut(Stream::new(3 * size, size as u32, SEED))];
        let mut driver = Driver::started(Speed::Super, steps);
        let (lengths, found) = sink(&mut driver, layout);
        check_clean(&driver);
        assert_eq!(lengths, [size as u32; 3]);
        assert_eq!(found, checked(3 * size));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_layout_of_requests_carries_the_stream(
        high: bool,
        length in 1u32..40_000,
        piece in prop_oneof![Just(0u32), 64u32..6000],
        zero: bool,
        depth in 1u64..4,
        sizes in prop::collection::vec(1u32..50_000, 1..4),
    ) {
        let speed = if high { Speed::High } else { Speed::Super };
        let layout = Layout { length, piece, zero, depth };
        let bytes = 3 * u64::from(length);

        // IN: the host's requests end with the function's.
        let steps = vec![Step::BulkIn(Stream::new(bytes, length.next_multiple_of(1024), SEED))];
        let mut driver = Driver::started(speed, steps);
        source(&mut driver, layout, 3);
        check_clean(&driver);
        prop_assert_eq!(step(&driver, 0).received, checked(bytes));

        // OUT: requests are whole packets without a place for a zero-length one, so that no byte
        // of the next transfer is cut off.
        let layout = Layout { zero: false, length: length.next_multiple_of(1024), ..layout };
        let stream = Stream { sizes, zero_packet: zero, ..Stream::new(bytes, 1, SEED) };
        let mut driver = Driver::started(speed, vec![Step::BulkOut(stream)]);
        let (_, found) = sink(&mut driver, layout);
        check_clean(&driver);
        prop_assert_eq!(step(&driver, 0).sent, bytes);
        prop_assert_eq!(found.corrupt, 0);
    }
}
