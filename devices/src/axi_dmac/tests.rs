// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The driver's access sequences, played on the bench.

use staleline_protocol::pattern::Pattern;

use super::*;
use crate::dma::{Direction, Transfer};
use crate::stream::{Stream, StreamId, Streams};
use crate::testutil::{Bench, FlatMemory};

pub(super) const RAM: u64 = 0x4000_0000;
pub(super) const RAM_LEN: usize = 1 << 20;
const SEED: u64 = 7;
pub(super) const CTRL_SG: u32 = CTRL_ENABLE | CTRL_ENABLE_SG;
/// Flags of the last descriptor of a chain.
pub(super) const LAST_IRQ: u32 = 3;
const IRQ: u32 = 2;

pub(super) type Dmac = Bench<AxiDmac>;

pub(super) fn streams() -> (Streams, StreamId) {
    let mut streams = Streams::default();
    let id = streams.add(Stream::new(Pattern::new(SEED)));
    streams.set_enabled(id, true);
    (streams, id)
}

fn bench(build: impl FnOnce(StreamId) -> Config) -> Dmac {
    let (streams, id) = streams();
    let device = AxiDmac::new(build(id)).unwrap();
    Bench::new(device, FlatMemory::new(RAM, RAM_LEN), streams)
}

pub(super) fn capture() -> Dmac {
    let mut bench = bench(|id| Config::new(Route::Capture(id)));
    probe(&mut bench);
    bench
}

fn playback() -> Dmac {
    let mut bench = bench(|id| Config::new(Route::Playback(id)));
    probe(&mut bench);
    bench
}

/// `axi_dmac_probe()`; returns (cyclic, hw_sg, 2D, X_LENGTH of ~0, length mask).
fn probe(b: &mut Dmac) -> (bool, bool, bool, u32, u32) {
    assert_eq!(b.read(VERSION), 0x0004_0461);
    b.read(INTERFACE_DESC);
    b.write(FLAGS, 1);
    let cyclic = b.read(FLAGS) == 1;
    b.write(SG_ADDRESS, u32::MAX);
    let hw_sg = b.read(SG_ADDRESS) != 0;
    b.write(Y_LENGTH, 1);
    let two_dimensional = b.read(Y_LENGTH) == 1;
    b.write(X_LENGTH, u32::MAX);
    let length = b.read(X_LENGTH);
    b.write(DEST_ADDRESS, u32::MAX);
    b.write(SRC_ADDRESS, u32::MAX);
    b.write(X_LENGTH, 0);
    let mask = b.read(X_LENGTH);
    b.write(IRQ_MASK, if hw_sg { IRQ_SOT } else { 0 });
    (cyclic, hw_sg, two_dimensional, length, mask)
}

/// Writes a descriptor as `axi_dmac_fill_linear_sg()` lays it out.
pub(super) fn descriptor(m: &mut FlatMemory, at: u64, flags: u32, pa: u64, len: u32, next: u64) {
    m.put(at, &flags.to_le_bytes());
    m.put(at + 0x04, &32u32.to_le_bytes());
    m.put(at + 0x08, &pa.to_le_bytes());
    m.put(at + 0x10, &pa.to_le_bytes());
    m.put(at + 0x18, &next.to_le_bytes());
    m.put(at + 0x20, &[0; 4]);
    m.put(at + 0x24, &(len - 1).to_le_bytes());
}

/// `axi_dmac_issue_pending()` and `axi_dmac_start_transfer()` with scatter-gather. Returns false,
/// as the driver does, while START_TRANSFER reads 1.
pub(super) fn submit(b: &mut Dmac, at: u64) -> bool {
    b.write(CTRL, CTRL_SG);
    if b.read(START_TRANSFER) != 0 {
        return false;
    }
    let id = b.read(TRANSFER_ID);
    b.memory.put(at + 4, &id.to_le_bytes());
    b.write(SG_ADDRESS, at as u32);
    b.write(SG_ADDRESS_HIGH, 0);
    b.write(FLAGS, FLAG_PARTIAL_REPORT);
    b.write(START_TRANSFER, 1);
    true
}

/// `axi_dmac_interrupt_handler()`; returns TRANSFER_DONE if an end of transfer was pending.
fn handle_irq(b: &mut Dmac) -> Option<u32> {
    let pending = b.read(IRQ_PENDING);
    b.write(IRQ_PENDING, pending);
    (pending & IRQ_EOT != 0).then(|| b.read(TRANSFER_DONE))
}

fn bytes(b: &Dmac, pa: u64, len: usize) -> &[u8] {
    let at = (pa - RAM) as usize;
    &b.memory.bytes[at..at + len]
}

fn assert_pattern(b: &Dmac, pa: u64, len: usize, position: u64) {
    let found = Pattern::new(SEED).check(position, bytes(b, pa, len));
    assert_eq!(found.corrupt, 0, "{found:?}");
}

fn assert_idle(b: &mut Dmac) {
    while b.step() {}
    assert!(b.memory.open.is_empty());
    assert!(!b.device.irq());
}

#[test]
fn tables_are_well_formed_for_every_configuration() {
    for route in [Route::Capture(StreamId(0)), Route::Playback(StreamId(0))] {
        for hw_sg in [false, true] {
            let config = Config {
                hw_sg,
                cyclic: hw_sg,
                coherent: hw_sg,
                length_bits: 32,
                ..Config::new(route)
            };
            assert!(RegisterFile::check(&table(&config)));
        }
    }
}

#[test]
fn the_driver_detects_what_was_configured() {
    let mut b = bench(|id| Config::new(Route::Capture(id)));
    assert_eq!(b.read(INTERFACE_DESC) & 0xffff, 0x2303);
    assert_eq!(probe(&mut b), (true, true, false, 0xff_ffff, 7));
    assert_eq!((b.read(DEST_ADDRESS), b.read(SRC_ADDRESS)), (!7, 0));

    let mut b = bench(|id| Config {
        hw_sg: false,
        cyclic: false,
        coherent: true,
        ..Config::new(Route::Playback(id))
    });
    assert_eq!(b.read(INTERFACE_DESC) & 0xffff, 0x0323);
    assert_eq!(b.read(COHERENCY_DESC) & 1, 1);
    assert_eq!(probe(&mut b), (false, false, false, 0xff_ffff, 7));
    assert_eq!((b.read(DEST_ADDRESS), b.read(SRC_ADDRESS)), (0, !7));
}

#[test]
fn impossible_parameters_are_named() {
    let good = Config::new(Route::Capture(StreamId(0)));
    let bad = [
        (
            "memory_width",
            Config {
                memory_width: 0,
                ..good
            },
        ),
        (
            "stream_width",
            Config {
                stream_width: 3,
                ..good
            },
        ),
        (
            "length_bits",
            Config {
                length_bits: 33,
                ..good
            },
        ),
        (
            "queue_depth",
            Config {
                queue_depth: 1,
                ..good
            },
        ),
        (
            "burst",
            Config {
                burst: 8192,
                ..good
            },
        ),
    ];
    for (name, config) in bad {
        assert_eq!(AxiDmac::new(config).unwrap_err().name, name);
    }
}

#[test]
fn a_chain_is_captured_segment_by_segment_and_its_descriptors_reused() {
    let mut b = capture();
    let segments = [(0x1000, 4096), (0x3800, 0x1808), (0x8000, 8)];
    let d = |n: usize| RAM + 0x40 * n as u64;
    for (n, (pa, len)) in segments.into_iter().enumerate() {
        let flags = if n == 2 { LAST_IRQ } else { 0 };
        descriptor(&mut b.memory, d(n), flags, RAM + pa, len, d(n + 1));
    }
    let total: u64 = segments.iter().map(|s| u64::from(s.1)).sum();
    for round in 0..5u64 {
        assert!(submit(&mut b, d(0)));
        assert!(b.run_until_irq(100));
        assert!(b.memory.open.is_empty(), "closed before the interrupt");
        assert_eq!(b.read(IRQ_PENDING), IRQ_EOT);
        let done = handle_irq(&mut b).unwrap();
        assert_ne!(done & 1 << (round % 4), 0);
        let mut position = round * total;
        for (n, (pa, len)) in segments.into_iter().enumerate() {
            assert_pattern(&b, RAM + pa, len as usize, position);
            position += u64::from(len);
            let transfer = b.memory.transfers[3 * round as usize + n];
            let want = Transfer {
                direction: Direction::ToMemory,
                pa: RAM + pa,
                bus: None,
                scattered: false,
                len: len.into(),
                descriptor: d(n),
                channel: 0,
                snoop: true,
            };
            assert_eq!(transfer, want);
        }
        assert_idle(&mut b);
    }
    let stream = b.streams.get(StreamId(0)).unwrap();
    assert_eq!(stream.position(), 5 * total);
    assert_eq!(b.device.errors().total(), 0);
}

#[test]
fn playback_feeds_the_stream() {
    let mut b = playback();
    let mut data = vec![0; 0x2000];
    Pattern::new(SEED).fill(0, &mut data);
    b.memory.put(RAM + 0x1000, &data);
    descriptor(&mut b.memory, RAM, 0, RAM + 0x1000, 0x1000, RAM + 0x40);
    descriptor(&mut b.memory, RAM + 0x40, LAST_IRQ, RAM + 0x2000, 0x1000, 0);
    assert!(submit(&mut b, RAM));
    assert!(b.run_until_irq(100));
    let found = b.streams.get(StreamId(0)).unwrap().checked();
    assert_eq!((found.bytes, found.corrupt), (0x2000, 0));
    assert_eq!(b.memory.transfers[0].direction, Direction::FromMemory);
}

#[test]
fn a_transfer_takes_time_and_can_be_seen_in_flight() {
    let mut b = capture();
    descriptor(&mut b.memory, RAM, LAST_IRQ, RAM + 0x1000, 0x4000, 0);
    assert!(submit(&mut b, RAM));
    assert_eq!(b.memory.open.len(), 0);
    b.step();
    b.step();
    assert_eq!(b.memory.open.len(), 1);
    assert_eq!(b.read(TRANSFER_PROGRESS), 0x1000);
    assert_eq!(b.read(CURRENT_DEST_ADDR), (RAM + 0x2000) as u32);
    assert_eq!(b.read(ACTIVE_TRANSFER_ID), 0);
    assert_eq!(bytes(&b, RAM + 0x2000, 8), [0; 8]);
    assert!(b.run_until_irq(100));
    assert_eq!(b.queue.now(), FETCH_TICKS + 0x4000 / BYTES_PER_TICK);
    assert_eq!(b.read(ACTIVE_TRANSFER_ID), b.read(TRANSFER_ID));
    assert_eq!(b.read(TRANSFER_PROGRESS), 0);
}

#[test]
fn the_next_end_is_held_until_the_last_is_acknowledged() {
    let mut b = bench(|id| Config {
        holds_ends: true,
        ..Config::new(Route::Capture(id))
    });
    probe(&mut b);
    for n in 0..3 {
        let pa = RAM + 0x1000 * (n + 1);
        descriptor(&mut b.memory, RAM + 0x40 * n, LAST_IRQ, pa, 0x1000, 0);
        assert!(submit(&mut b, RAM + 0x40 * n), "START_TRANSFER must read 0");
    }
    // Two are taken, the third waits in START_TRANSFER.
    assert!(!submit(&mut b, RAM));
    assert!(b.run_until_irq(100));
    while b.step() {}
    assert_eq!(b.read(TRANSFER_DONE), 1, "the second has not ended");
    assert_pattern(&b, RAM + 0x2000, 0x1000, 0x1000);
    assert_eq!(bytes(&b, RAM + 0x3000, 8), [0; 8]);
    assert_eq!(b.read(START_TRANSFER), 0);
    let mut ends = 0;
    while b.run_until_irq(100) {
        handle_irq(&mut b).unwrap();
        ends += 1;
    }
    assert_eq!(ends, 3);
    assert_eq!(b.read(TRANSFER_DONE), 7);
    assert_pattern(&b, RAM + 0x3000, 0x1000, 0x2000);
    assert_eq!(b.device.report(), None);
    assert_idle(&mut b);
}

#[test]
fn ends_that_come_before_the_driver_are_one() {
    let mut b = capture();
    for n in 0..3 {
        let pa = RAM + 0x1000 * (n + 1);
        descriptor(&mut b.memory, RAM + 0x40 * n, LAST_IRQ, pa, 0x1000, 0);
        assert!(submit(&mut b, RAM + 0x40 * n));
    }
    assert!(b.run_until_irq(100));
    assert_eq!(b.device.report(), None);
    let first = b.queue.now();
    while b.step() {}
    assert_eq!((b.read(TRANSFER_DONE), b.read(IRQ_PENDING)), (7, IRQ_EOT));
    assert_pattern(&b, RAM + 0x3000, 0x1000, 0x2000);
    assert_eq!(handle_irq(&mut b), Some(7));
    assert!(!b.run_until_irq(100), "three transfers, one interrupt");
    let (name, report) = b.device.report().unwrap();
    assert_eq!((name, &report["merged_ends"]), (None, &2.into()));
    let tick = first + FETCH_TICKS + 0x1000 / BYTES_PER_TICK;
    assert_eq!(report["first_merged_tick"], tick);
    // One that comes after the acknowledgement raises the line again.
    assert!(submit(&mut b, RAM));
    assert!(b.run_until_irq(100));
    assert_eq!(b.device.report().unwrap().1["merged_ends"], 2);
}

#[test]
fn a_polling_driver_acknowledges_nothing() {
    let mut b = capture();
    b.write(IRQ_MASK, IRQ_SOT | IRQ_EOT);
    for n in 0..2 {
        let pa = RAM + 0x1000 * (n + 1);
        descriptor(&mut b.memory, RAM + 0x40 * n, LAST_IRQ, pa, 0x1000, 0);
        assert!(submit(&mut b, RAM + 0x40 * n));
    }
    while b.step() {}
    assert_eq!((b.read(TRANSFER_DONE), b.read(IRQ_PENDING)), (3, 0));
    assert_eq!(b.device.report(), None, "nobody counts interrupts");
    assert_eq!(b.read(IRQ_SOURCE), IRQ_SOT | IRQ_EOT);
}

#[test]
fn a_cyclic_chain_reports_every_lap_until_disabled() {
    let mut b = capture();
    descriptor(&mut b.memory, RAM, 0, RAM + 0x1000, 0x1000, RAM + 0x40);
    descriptor(&mut b.memory, RAM + 0x40, IRQ, RAM + 0x2000, 0x1000, RAM);
    assert!(submit(&mut b, RAM));
    for lap in 0..6 {
        assert!(b.run_until_irq(100));
        assert!(handle_irq(&mut b).is_some());
        assert_eq!(b.read(TRANSFER_PROGRESS), 0);
        assert_pattern(&b, RAM + 0x1000, 0x2000, lap * 0x2000);
    }
    b.write(CTRL, 0);
    assert_idle(&mut b);
}

#[test]
fn an_abort_in_flight_closes_the_transfer_and_forgets_the_rest() {
    let mut b = capture();
    descriptor(&mut b.memory, RAM, LAST_IRQ, RAM + 0x1000, 0x8000, 0);
    assert!(submit(&mut b, RAM));
    b.step();
    b.step();
    assert!(b.with(|d, ctx| d.end_packet(ctx)));
    assert!(b.run_until_irq(10));
    assert_eq!(handle_irq(&mut b), Some(1 | PARTIAL_XFER_DONE));
    for _ in 0..3 {
        assert!(submit(&mut b, RAM));
    }
    b.step();
    b.step();
    assert_eq!(b.memory.open.len(), 1);
    b.write(CTRL, 0);
    assert!(b.memory.open.is_empty());
    assert_idle(&mut b);
    assert_eq!(b.memory.transfers.len(), 2);
    assert_eq!(b.streams.get(StreamId(0)).unwrap().position(), 0x2000);
    for offset in [TRANSFER_ID, START_TRANSFER, TRANSFER_DONE] {
        assert_eq!(b.read(offset), 0);
    }
    // And again.
    assert!(submit(&mut b, RAM));
    assert!(b.run_until_irq(100));
    assert_pattern(&b, RAM + 0x1000, 0x8000, 0x2000);
}

#[test]
fn an_event_from_before_an_abort_does_not_hurry_the_next_transfer() {
    let mut b = capture();
    descriptor(&mut b.memory, RAM, LAST_IRQ, RAM + 0x1000, 0x1000, 0);
    assert!(submit(&mut b, RAM));
    let start = FETCH_TICKS - 1;
    b.queue.advance(start);
    b.write(CTRL, 0);
    assert!(submit(&mut b, RAM));
    assert_eq!(b.queue.len(), 1);
    assert!(b.run_until_irq(100));
    assert_eq!(b.queue.now(), start + FETCH_TICKS + 0x1000 / BYTES_PER_TICK);
}

#[test]
fn pause_stops_between_bursts() {
    let mut b = capture();
    descriptor(&mut b.memory, RAM, LAST_IRQ, RAM + 0x1000, 0x4000, 0);
    assert!(submit(&mut b, RAM));
    b.step();
    b.step();
    b.write(CTRL, CTRL_SG | CTRL_PAUSE);
    while b.step() {}
    assert_eq!(b.read(TRANSFER_PROGRESS), 0x1000);
    b.write(CTRL, CTRL_SG);
    assert!(b.run_until_irq(100));
    assert_pattern(&b, RAM + 0x1000, 0x4000, 0);
}

#[test]
fn a_closed_gate_makes_it_wait() {
    let mut b = capture();
    b.streams.set_enabled(StreamId(0), false);
    descriptor(&mut b.memory, RAM, LAST_IRQ, RAM + 0x1000, 0x1000, 0);
    assert!(submit(&mut b, RAM));
    assert!(!b.run_until_irq(50));
    assert!(b.queue.is_empty(), "it waits and does not look again");
    assert_eq!(b.memory.open.len(), 1, "the buffer is the device's");
    assert_eq!(b.streams.get(StreamId(0)).unwrap().position(), 0);
    let start = b.queue.now();
    for open in [true, false, true] {
        b.with(|_, ctx| ctx.set_gate(StreamId(0), open));
    }
    assert_eq!(b.queue.len(), 1, "woken once");
    assert!(b.run_until_irq(50));
    assert_eq!(b.queue.now(), start + 1);
    assert_pattern(&b, RAM + 0x1000, 0x1000, 0);
}

#[test]
fn register_mode_moves_one_segment_at_a_time() {
    let mut b = bench(|id| Config {
        hw_sg: false,
        ..Config::new(Route::Capture(id))
    });
    probe(&mut b);
    b.write(CTRL, CTRL_ENABLE);
    let mut submitted = 0u64;
    let mut completed = 0;
    while completed < 6 {
        // The handler submits on a start of transfer, too.
        while submitted < 6 && b.read(START_TRANSFER) == 0 {
            b.write(DEST_ADDRESS, (RAM + 0x1000 * submitted) as u32);
            b.write(X_LENGTH, 0xfff);
            b.write(FLAGS, FLAG_LAST | FLAG_PARTIAL_REPORT);
            b.write(START_TRANSFER, 1);
            submitted += 1;
        }
        assert!(b.run_until_irq(100));
        if let Some(done) = handle_irq(&mut b) {
            assert_ne!(done & 1 << (completed % 4), 0);
            assert_pattern(&b, RAM + 0x1000 * completed, 0x1000, 0x1000 * completed);
            completed += 1;
        }
    }
    assert!(b.memory.transfers.iter().all(|t| t.descriptor == 0));
    assert_idle(&mut b);
}

#[test]
fn a_cyclic_register_transfer_repeats_without_interrupts() {
    let mut b = capture();
    b.write(CTRL, CTRL_ENABLE);
    b.write(DEST_ADDRESS, RAM as u32);
    b.write(X_LENGTH, 0xfff);
    b.write(FLAGS, FLAG_CYCLIC);
    b.write(START_TRANSFER, 1);
    assert!(!b.run_until_irq(21));
    assert_eq!(b.read(START_TRANSFER), 1);
    let laps = b.streams.get(StreamId(0)).unwrap().position() / 0x1000;
    assert!(laps > 5);
    assert_pattern(&b, RAM, 0x1000, (laps - 1) * 0x1000);
    b.write(CTRL, 0);
    assert_idle(&mut b);
}

#[test]
fn a_packet_that_ends_early_is_reported_with_its_length() {
    let mut b = capture();
    descriptor(&mut b.memory, RAM, LAST_IRQ, RAM + 0x1000, 0x4000, 0);
    for id in 0..2 {
        assert!(submit(&mut b, RAM));
        b.step();
        assert!(!b.with(|d, ctx| d.end_packet(ctx)), "no data yet");
        b.step();
        assert!(b.with(|d, ctx| d.end_packet(ctx)));
        assert!(b.memory.open.is_empty());
        assert!(b.run_until_irq(100));
        let done = handle_irq(&mut b).unwrap();
        assert_ne!(done & PARTIAL_XFER_DONE, 0);
        assert_eq!(b.read(PARTIAL_XFER_LEN), 0x1000);
        assert_eq!(b.read(PARTIAL_XFER_ID), id);
        assert_eq!(b.read(TRANSFER_DONE) & PARTIAL_XFER_DONE, 0);
    }
    assert_idle(&mut b);
}

#[test]
fn unread_partial_transfers_hold_the_next_one() {
    let mut b = capture();
    descriptor(&mut b.memory, RAM, LAST_IRQ, RAM + 0x1000, 0x4000, 0);
    let mut ends = 0;
    for _ in 0..PARTIALS + 1 {
        assert!(submit(&mut b, RAM));
        b.step();
        b.step();
        assert!(b.with(|d, ctx| d.end_packet(ctx)));
        while b.step() {}
        ends += usize::from(handle_irq(&mut b).is_some());
    }
    assert_eq!(ends, PARTIALS);
    b.read(PARTIAL_XFER_ID);
    assert!(b.run_until_irq(10));
}
