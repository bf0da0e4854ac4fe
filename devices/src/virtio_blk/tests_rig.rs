// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A disk of known bytes, memory that keeps what was asked of it, and a hand that plays the driver.

use super::*;
use crate::clock::{Clock, DeviceId, EventQueue};
use crate::dma::{
    Access, Content, Direction, DmaError, DmaMemory, DmaPort, Doorbell, MasterId, Order, Transfer,
    TransferId,
};
use crate::stream::Streams;
use crate::testutil::FlatMemory;

pub(super) const RAM: u64 = 0x4000_0000;
pub(super) const RAM_LEN: usize = 1 << 20;
/// The queue's three parts.
pub(super) const TABLE_AT: u64 = RAM + 0x1000;
pub(super) const DRIVER: u64 = RAM + 0x2000;
pub(super) const DEVICE: u64 = RAM + 0x3000;
/// A request's header and status.
pub(super) const HEADER: u64 = RAM + 0x4008;
pub(super) const STATUS_AT: u64 = RAM + 0x4f03;
/// Its data.
pub(super) const DATA: u64 = RAM + 0x10_200;
pub(super) const SIZE: u16 = 8;
pub(super) const SECTORS: usize = 64;

/// `VRING_DESC_F_*`.
pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
/// `VIRTIO_BLK_T_*`.
pub(super) const IN: u32 = 0;
pub(super) const OUT: u32 = 1;
pub(super) const FLUSH: u32 = 4;
pub(super) const GET_ID: u32 = 8;

/// A descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Desc {
    pub pa: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

/// Flat memory that holds the device to its own transfers and keeps what it did.
pub(super) struct Memory {
    pub flat: FlatMemory,
    /// Write or read, content, address, bytes.
    pub seen: Vec<(bool, Content, u64, usize)>,
    pub orders: Vec<Order>,
    /// Bytes and accesses of the present call.
    pub accesses: usize,
}

impl Memory {
    fn note(&mut self, write: bool, access: Access, pa: u64, len: usize) {
        self.accesses += 1;
        assert!(len > 0 && access.snoop);
        if access.content == Content::Data {
            let open = self.flat.open.contains(&access.transfer);
            assert!(open, "access by a closed transfer");
            assert_eq!(pa >> 12, (pa + len as u64 - 1) >> 12, "crosses a page");
            let t = self.flat.transfers[access.transfer.0 as usize - 1];
            assert_eq!(write, t.direction == Direction::ToMemory);
            assert!(t.pa <= pa && pa + len as u64 <= t.pa + t.len, "{t:?}");
        }
        if access.content == Content::Event {
            assert!(self.flat.open.is_empty(), "told before it let go");
        }
        if self.seen.len() < 1 << 16 {
            self.seen.push((write, access.content, pa, len));
            self.orders.push(access.order);
        }
    }
}

impl DmaMemory for Memory {
    fn dma_read(
        &mut self,
        m: MasterId,
        access: Access,
        pa: u64,
        buf: &mut [u8],
    ) -> Result<(), DmaError> {
        self.note(false, access, pa, buf.len());
        self.flat.dma_read(m, access, pa, buf)
    }

    fn dma_write(
        &mut self,
        m: MasterId,
        access: Access,
        pa: u64,
        data: &[u8],
    ) -> Result<(), DmaError> {
        self.note(true, access, pa, data.len());
        self.flat.dma_write(m, access, pa, data)
    }

    fn doorbell(&mut self, m: MasterId) -> Doorbell {
        self.flat.doorbell(m)
    }

    fn transfer_open(&mut self, m: MasterId, transfer: Transfer, order: Order) -> TransferId {
        assert!(transfer.len > 0 && matches!(order, Order::Handover { .. }));
        assert!(self.flat.open.len() < usize::from(QUEUE_SIZE));
        self.flat.transfer_open(m, transfer, order)
    }

    fn transfer_close(&mut self, m: MasterId, id: TransferId) {
        if id != TransferId::CONTROL {
            assert!(self.flat.open.contains(&id), "closed twice");
        }
        self.flat.transfer_close(m, id);
    }
}

/// What byte `at` of the disk holds at first.
pub(super) fn byte(at: u64) -> u8 {
    (at ^ at >> 8) as u8
}

/// The device, and all around it.
pub(super) struct Rig {
    pub device: VirtioBlk,
    pub memory: Memory,
    pub queue: EventQueue,
    streams: Streams,
    /// Chains made available so far.
    available: u16,
}

impl Rig {
    /// With a device after reset.
    pub fn new() -> Self {
        let disk: Vec<u8> = (0..SECTORS as u64 * SECTOR).map(byte).collect();
        Rig {
            device: VirtioBlk::new(Config {
                disk: Box::new(MemoryDisk::new(disk)),
                order_platform: true,
            }),
            memory: Memory {
                flat: FlatMemory::new(RAM, RAM_LEN),
                seen: Vec::new(),
                orders: Vec::new(),
                accesses: 0,
            },
            queue: EventQueue::new(),
            streams: Streams::default(),
            available: 0,
        }
    }

    /// As after a driver's probe.
    pub fn probed() -> Self {
        let mut rig = Rig::new();
        rig.probe();
        rig
    }

    /// `register_virtio_device()`, `virtblk_probe()`.
    pub fn probe(&mut self) {
        self.write(STATUS, 0);
        for status in [1, 3] {
            self.write(STATUS, status);
        }
        for half in 0..2 {
            self.write(DEVICE_FEATURES_SEL, half);
            let offered = self.read(DEVICE_FEATURES);
            self.write(DRIVER_FEATURES_SEL, half);
            self.write(DRIVER_FEATURES, offered);
        }
        self.write(STATUS, 11);
        assert_eq!(self.read(STATUS), 11, "features were accepted");
        self.set_up(SIZE.into(), TABLE_AT, DRIVER, DEVICE);
        self.write(STATUS, 15);
        self.memory.flat.put(DRIVER, &[0; 4]);
        self.memory.flat.put(DEVICE, &[0; 4]);
        self.available = 0;
    }

    /// Describes queue 0 and makes it ready.
    pub fn set_up(&mut self, size: u32, table: u64, driver: u64, device: u64) {
        self.write(QUEUE_SEL, 0);
        self.write(QUEUE_NUM, size);
        for (low, high, at) in [
            (QUEUE_DESC_LOW, QUEUE_DESC_HIGH, table),
            (QUEUE_DRIVER_LOW, QUEUE_DRIVER_HIGH, driver),
            (QUEUE_DEVICE_LOW, QUEUE_DEVICE_HIGH, device),
        ] {
            self.write(low, at as u32);
            self.write(high, (at >> 32) as u32);
        }
        self.write(QUEUE_READY, 1);
    }

    fn with<R>(&mut self, f: impl FnOnce(&mut VirtioBlk, &mut Context<'_>) -> R) -> R {
        self.memory.accesses = 0;
        let mut ctx = Context {
            dma: DmaPort::new(&mut self.memory, MasterId(0)),
            clock: Clock::new(&mut self.queue, DeviceId(0)),
            streams: &mut self.streams,
        };
        let result = f(&mut self.device, &mut ctx);
        // A chain of the longest kind, or a page of data, and the rings.
        assert!(self.memory.accesses <= usize::from(QUEUE_SIZE) + 24);
        result
    }

    pub fn read(&mut self, offset: u64) -> u32 {
        let value = self.device.peek(offset);
        self.with(|d, ctx| d.read_effect(offset, ctx));
        value
    }

    pub fn write(&mut self, offset: u64, value: u32) {
        self.with(|d, ctx| d.write(offset, value, ctx));
    }

    /// Runs the next event. Returns whether there was one.
    pub fn step(&mut self) -> bool {
        let due = self.queue.next_due();
        if due == Ticks::MAX {
            return false;
        }
        self.queue.advance(due);
        while let Some((_, token)) = self.queue.pop_due() {
            self.with(|d, ctx| d.wake(token, ctx));
        }
        true
    }

    /// Events until none waits; a device with nothing to do has none.
    pub fn run(&mut self) {
        let steps = (0..10_000).take_while(|_| self.step()).count();
        assert!(steps < 10_000, "the device does not come to rest");
    }

    pub fn describe(&mut self, index: u16, d: Desc) {
        let at = TABLE_AT + 16 * u64::from(index);
        self.memory.flat.put(at, &d.pa.to_le_bytes());
        self.memory.flat.put(at + 8, &d.len.to_le_bytes());
        self.memory.flat.put(at + 12, &d.flags.to_le_bytes());
        self.memory.flat.put(at + 14, &d.next.to_le_bytes());
    }

    /// Descriptors `head`, `head + 1`, ... for memory to be read and then to be written.
    pub fn chain(&mut self, head: u16, readable: &[(u64, u32)], writable: &[(u64, u32)]) {
        let all = readable.iter().map(|part| (part, 0));
        let all: Vec<_> = all
            .chain(writable.iter().map(|part| (part, WRITE)))
            .collect();
        for (n, (part, flags)) in (0..).zip(&all) {
            let (pa, len) = **part;
            let more = usize::from(n) + 1 < all.len();
            let index = head + n;
            let (flags, next) = match more {
                true => (flags | NEXT, index + 1),
                false => (*flags, 0),
            };
            let desc = Desc {
                pa,
                len,
                flags,
                next,
            };
            self.describe(index, desc);
        }
    }

    /// The header that [`HEADER`] holds.
    pub fn header(&mut self, kind: u32, sector: u64) {
        self.memory.flat.put(HEADER, &kind.to_le_bytes());
        self.memory.flat.put(HEADER + 8, &sector.to_le_bytes());
        self.memory.flat.put(STATUS_AT, &[0xff]);
    }

    /// Makes a chain available.
    pub fn offer(&mut self, head: u16) {
        let entry = DRIVER + 4 + 2 * u64::from(self.available % SIZE);
        self.memory.flat.put(entry, &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
        let index = self.available.to_le_bytes();
        self.memory.flat.put(DRIVER + 2, &index);
    }

    /// Sends a request of one header, one status and this data.
    pub fn submit(&mut self, kind: u32, sector: u64, data: &[(u64, u32)]) {
        self.header(kind, sector);
        let header = (HEADER, 16);
        let status = (STATUS_AT, 1);
        match kind {
            OUT => self.chain(0, &[&[header], data].concat(), &[status]),
            _ => self.chain(0, &[header], &[data, &[status]].concat()),
        }
        self.offer(0);
        self.write(QUEUE_NOTIFY, 0);
    }

    /// Sends a request of one header, one status and this data, and waits for its end. Its status, and
    /// how many bytes the device says that it wrote.
    pub fn request(&mut self, kind: u32, sector: u64, data: &[(u64, u32)]) -> (u8, u32) {
        let before = self.used();
        self.submit(kind, sector, data);
        self.run();
        assert_eq!(self.used(), before.wrapping_add(1), "it was given back");
        let element = DEVICE + 4 + 8 * u64::from(before % SIZE);
        assert_eq!(self.memory.flat.u32(element), 0);
        let status = self.bytes(STATUS_AT, 1)[0];
        (status, self.memory.flat.u32(element + 4))
    }

    /// Index of the device's ring.
    pub fn used(&self) -> u16 {
        (self.memory.flat.u32(DEVICE) >> 16) as u16
    }

    pub fn bytes(&self, pa: u64, len: usize) -> &[u8] {
        let at = (pa - RAM) as usize;
        &self.memory.flat.bytes[at..at + len]
    }
}
