// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Guest errors one by one, and guests that mean harm: random registers, random descriptors, at
//! random times.

use proptest::prelude::*;

use super::tests::{CTRL_SG, LAST_IRQ, RAM, RAM_LEN, capture, descriptor, streams, submit};
use super::*;
use crate::clock::{Clock, DeviceId, EventQueue};
use crate::dma::{Access, DmaMemory, DmaPort, Doorbell, MasterId, Order, Transfer, TransferId};
use crate::stream::{StreamId, Streams};
use crate::testutil::FlatMemory;

/// Memory that checks every access against the transfer it claims to belong to.
struct Guarded {
    flat: FlatMemory,
    capture: bool,
    /// Accesses of the present call.
    accesses: usize,
}

impl Guarded {
    fn check(&mut self, id: TransferId, pa: u64, len: usize) {
        self.accesses += 1;
        assert!(self.flat.open.contains(&id), "access by a closed transfer");
        assert_eq!(
            pa >> 12,
            (pa + len as u64 - 1) >> 12,
            "AXI bursts stay in 4 KiB"
        );
        let t = self.flat.transfers[id.0 as usize - 1];
        assert!(
            t.pa <= pa && pa + len as u64 <= t.pa + t.len,
            "{t:?} {pa:#x} {len}"
        );
    }
}

impl DmaMemory for Guarded {
    fn dma_read(
        &mut self,
        m: MasterId,
        access: Access,
        pa: u64,
        buf: &mut [u8],
    ) -> Result<(), DmaError> {
        let id = access.transfer;
        if id == TransferId::CONTROL {
            self.accesses += 1;
            assert_eq!((buf.len(), pa % 8), (48, 0));
        } else {
            assert!(!self.capture);
            self.check(id, pa, buf.len());
        }
        self.flat.dma_read(m, access, pa, buf)
    }

    fn dma_write(
        &mut self,
        m: MasterId,
        access: Access,
        pa: u64,
        data: &[u8],
    ) -> Result<(), DmaError> {
        assert!(self.capture);
        self.check(access.transfer, pa, data.len());
        self.flat.dma_write(m, access, pa, data)
    }

    fn doorbell(&mut self, m: MasterId) -> Doorbell {
        self.flat.doorbell(m)
    }

    fn transfer_open(&mut self, m: MasterId, transfer: Transfer, order: Order) -> TransferId {
        assert!(self.flat.open.is_empty(), "one segment at a time");
        self.flat.transfer_open(m, transfer, order)
    }

    fn transfer_close(&mut self, m: MasterId, id: TransferId) {
        assert!(self.flat.open.contains(&id), "closed twice");
        self.flat.transfer_close(m, id);
    }
}

struct Rig {
    device: AxiDmac,
    memory: Guarded,
    queue: EventQueue,
    streams: Streams,
}

impl Rig {
    fn with(&mut self, f: impl FnOnce(&mut AxiDmac, &mut Context<'_>)) {
        self.memory.accesses = 0;
        let mut ctx = Context {
            dma: DmaPort::new(&mut self.memory, MasterId(0)),
            clock: Clock::new(&mut self.queue, DeviceId(0)),
            streams: &mut self.streams,
        };
        f(&mut self.device, &mut ctx);
        assert!(
            self.memory.accesses <= 1,
            "one burst or descriptor per call"
        );
        assert!(self.queue.len() <= 2, "events do not pile up");
        let declared = self.device.registers();
        for offset in (0..0x500).step_by(4) {
            let listed = declared.iter().any(|r| r.offset == offset);
            assert!(
                listed || self.device.peek(offset) == 0,
                "{offset:#x} is not declared"
            );
        }
    }

    fn write(&mut self, offset: u64, value: u32) {
        self.with(|d, ctx| d.write(offset, value, ctx));
    }

    fn step(&mut self) {
        self.queue
            .advance(self.queue.next_due().min(self.queue.now() + 10_000));
        if let Some((_, token)) = self.queue.pop_due() {
            self.with(|d, ctx| d.wake(token, ctx));
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Write(u64, u32),
    Read(u64),
    Step,
    Advance(u8),
    Gate(bool),
    EndPacket,
    Poke(u16, u32),
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => prop::sample::select(vec![
            CTRL, CTRL, START_TRANSFER, START_TRANSFER, IRQ_PENDING, IRQ_MASK, FLAGS, DEST_ADDRESS,
            SRC_ADDRESS, X_LENGTH, SG_ADDRESS, PARTIAL_XFER_ID, TRANSFER_DONE,
        ]),
        1 => (0u64..0x400).prop_map(|n| n * 4),
        1 => any::<u64>().prop_map(|n| n & !3),
    ]
}

/// Values that go deep: small ones, addresses in and around RAM, anything.
fn value() -> impl Strategy<Value = u32> {
    let end = RAM as u32 + RAM_LEN as u32;
    prop_oneof![
        3 => 0u32..8,
        3 => (0u32..64).prop_map(|n| RAM as u32 + n * 0x40),
        1 => end - 0x2000..end + 0x100,
        1 => 0u32..0x1_0000,
        1 => any::<u32>(),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (offset(), value()).prop_map(|(o, v)| Op::Write(o, v)),
        1 => offset().prop_map(Op::Read),
        6 => Just(Op::Step),
        1 => any::<u8>().prop_map(Op::Advance),
        1 => any::<bool>().prop_map(Op::Gate),
        1 => Just(Op::EndPacket),
        // Words of the first page, where most descriptors are.
        4 => (0u16..1024, value()).prop_map(|(o, v)| Op::Poke(o, v)),
    ]
}

proptest! {
    #[test]
    fn no_guest_gets_beyond_its_descriptors(
        capture: bool,
        hw_sg: bool,
        depth in 2usize..=3,
        ops in prop::collection::vec(op(), 0..250),
    ) {
        let (streams, id) = streams();
        let route = if capture { Route::Capture(id) } else { Route::Playback(id) };
        let config = Config { hw_sg, queue_depth: depth, ..Config::new(route) };
        let mut rig = Rig {
            device: AxiDmac::new(config).unwrap(),
            memory: Guarded { flat: FlatMemory::new(RAM, RAM_LEN), capture, accesses: 0 },
            queue: EventQueue::new(),
            streams,
        };
        for op in ops {
            match op {
                Op::Write(offset, value) => rig.write(offset, value),
                Op::Read(offset) => rig.with(|d, ctx| {
                    let value = d.peek(offset);
                    assert_eq!(d.peek(offset), value);
                    d.read_effect(offset, ctx);
                }),
                Op::Step => rig.step(),
                Op::Advance(n) => rig.queue.advance(rig.queue.now() + u64::from(n)),
                Op::Gate(open) => rig.with(|_, ctx| ctx.set_gate(id, open)),
                Op::EndPacket => rig.with(|d, ctx| {
                    d.end_packet(ctx);
                }),
                Op::Poke(word, value) => {
                    rig.memory.flat.put(RAM + u64::from(word) * 4, &value.to_le_bytes());
                }
            }
        }
        recovers(&mut rig, hw_sg);
    }
}

/// Disables, acknowledges, enables, and moves a page as a fresh driver would.
fn recovers(rig: &mut Rig, hw_sg: bool) {
    rig.write(CTRL, 0);
    assert!(rig.memory.flat.open.is_empty());
    rig.write(IRQ_PENDING, 3);
    rig.write(IRQ_MASK, IRQ_SOT);
    rig.with(|_, ctx| ctx.set_gate(StreamId(0), true));
    let before = rig.streams.get(StreamId(0)).unwrap().position();
    descriptor(&mut rig.memory.flat, RAM, 3, RAM + 0x1000, 0x1000, 0);
    rig.write(
        CTRL,
        if hw_sg {
            CTRL_ENABLE | CTRL_ENABLE_SG
        } else {
            CTRL_ENABLE
        },
    );
    for offset in [SG_ADDRESS, DEST_ADDRESS, SRC_ADDRESS] {
        rig.write(offset, RAM as u32);
    }
    rig.write(X_LENGTH, 0xfff);
    rig.write(FLAGS, FLAG_LAST);
    assert_eq!(rig.device.peek(START_TRANSFER), 0);
    rig.write(START_TRANSFER, 1);
    for _ in 0..8 {
        rig.step();
    }
    assert!(rig.device.irq());
    assert_eq!(rig.device.peek(TRANSFER_DONE), 1);
    let after = rig.streams.get(StreamId(0)).unwrap().position();
    assert_eq!(after - before, 0x1000);
}

#[test]
fn what_cannot_be_done_stops_the_engine_and_is_told() {
    let outside = RAM - 0x1000;
    for (at, pa, want_descriptor) in [(outside, 0, outside), (RAM, outside, RAM)] {
        let mut b = capture();
        descriptor(&mut b.memory, RAM, LAST_IRQ, pa, 0x1000, 0);
        b.write(CTRL, CTRL_SG);
        b.write(SG_ADDRESS, at as u32);
        b.write(START_TRANSFER, 1);
        assert!(!b.run_until_irq(100));
        assert!(b.device.is_stopped());
        assert!(b.memory.open.is_empty());
        assert_eq!(b.read(TRANSFER_DONE), 0);
        let descriptor_told = match b.device.errors().entries()[0].1 {
            GuestError::Descriptor { address, .. } => address,
            GuestError::Data { descriptor, .. } => descriptor,
            other => panic!("{other:?}"),
        };
        assert_eq!(descriptor_told, want_descriptor);
        // The reset way out.
        b.write(CTRL, 0);
        descriptor(&mut b.memory, RAM, LAST_IRQ, RAM + 0x1000, 0x1000, 0);
        assert!(submit(&mut b, RAM));
        assert!(b.run_until_irq(100));
    }
}

#[test]
fn what_hardware_bends_is_bent_and_told() {
    let mut b = capture();
    descriptor(
        &mut b.memory,
        RAM,
        0,
        1 << 40 | (RAM + 0x1003),
        1 << 24,
        RAM + 0x43,
    );
    b.memory.put(RAM + 0x24, &0xff00_0007u32.to_le_bytes());
    b.memory.put(RAM + 0x20, &5u32.to_le_bytes());
    descriptor(&mut b.memory, RAM + 0x40, LAST_IRQ, RAM + 0x2000, 0x0c, 0);
    assert!(submit(&mut b, RAM));
    assert!(b.run_until_irq(100));
    let moved: Vec<_> = b.memory.transfers.iter().map(|t| (t.pa, t.len)).collect();
    assert_eq!(moved, [(RAM + 0x1000, 8), (RAM + 0x2000, 12)]);
    assert_eq!(b.device.errors().total(), 5);
}

#[test]
fn submitting_at_the_wrong_time_is_ignored_and_told() {
    let mut b = capture();
    b.write(START_TRANSFER, 1);
    assert_eq!(b.device.errors().entries()[0].1, GuestError::Disabled);
    b.write(CTRL, CTRL_SG);
    for _ in 0..4 {
        b.write(START_TRANSFER, 1);
    }
    assert_eq!(b.device.errors().entries()[1].1, GuestError::QueueFull);
    assert_eq!(b.device.errors().total(), 2);
}
