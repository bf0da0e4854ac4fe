// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A bench for device models without a coherency domain: flat memory behind the gate, a clock,
//! and helpers that play the driver.

use crate::bus::{Context, Device};
use crate::clock::{Clock, DeviceId, EventQueue, Ticks};
use crate::dma::{
    Access, DmaError, DmaMemory, DmaPort, Doorbell, MasterId, Order, Transfer, TransferId,
};
use crate::stream::Streams;

/// Plain memory from `base` on that all masters see alike, and a record of the transfers.
#[derive(Debug)]
pub struct FlatMemory {
    /// First address.
    pub base: u64,
    /// Contents.
    pub bytes: Vec<u8>,
    /// Every transfer opened so far; transfer `n` has ID `n + 1`.
    pub transfers: Vec<Transfer>,
    /// IDs not closed yet.
    pub open: Vec<TransferId>,
    /// Doorbells so far.
    pub doorbells: u64,
}

impl FlatMemory {
    /// `len` zero bytes at `base`.
    pub fn new(base: u64, len: usize) -> Self {
        FlatMemory {
            base,
            bytes: vec![0; len],
            transfers: Vec::new(),
            open: Vec::new(),
            doorbells: 0,
        }
    }

    fn range(&self, pa: u64, len: usize) -> Result<std::ops::Range<usize>, DmaError> {
        let outside = DmaError::OutsideRam { pa, len };
        let start = pa.checked_sub(self.base).ok_or(outside)?;
        let start = usize::try_from(start).map_err(|_| outside)?;
        let end = start.checked_add(len).ok_or(outside)?;
        if end > self.bytes.len() {
            return Err(outside);
        }
        Ok(start..end)
    }

    /// Little-endian word at `pa`; panics outside, as a test should.
    pub fn u32(&self, pa: u64) -> u32 {
        let at = self.range(pa, 4).expect("test reads within memory").start;
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().expect("4 bytes"))
    }

    /// Writes bytes at `pa` as the driver would; panics outside.
    pub fn put(&mut self, pa: u64, data: &[u8]) {
        let range = self
            .range(pa, data.len())
            .expect("test writes within memory");
        self.bytes[range].copy_from_slice(data);
    }
}

impl DmaMemory for FlatMemory {
    fn dma_read(
        &mut self,
        _: MasterId,
        _: Access,
        pa: u64,
        buf: &mut [u8],
    ) -> Result<(), DmaError> {
        let range = self.range(pa, buf.len())?;
        buf.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    fn dma_write(&mut self, _: MasterId, _: Access, pa: u64, data: &[u8]) -> Result<(), DmaError> {
        let range = self.range(pa, data.len())?;
        self.bytes[range].copy_from_slice(data);
        Ok(())
    }

    fn doorbell(&mut self, _: MasterId) -> Doorbell {
        self.doorbells += 1;
        Doorbell {
            at: self.doorbells,
            ..Doorbell::default()
        }
    }

    fn transfer_open(&mut self, _: MasterId, transfer: Transfer, _: Order) -> TransferId {
        self.transfers.push(transfer);
        let id = TransferId(self.transfers.len() as u32);
        self.open.push(id);
        id
    }

    fn transfer_close(&mut self, _: MasterId, id: TransferId) {
        self.open.retain(|open| *open != id);
    }
}

/// One device on a bench.
pub struct Bench<D> {
    /// The device under test.
    pub device: D,
    /// Memory behind its port.
    pub memory: FlatMemory,
    /// Device time.
    pub queue: EventQueue,
    /// Streams of the fabric.
    pub streams: Streams,
}

impl<D: Device> Bench<D> {
    /// A bench with `memory` and `streams`.
    pub fn new(device: D, memory: FlatMemory, streams: Streams) -> Self {
        Bench {
            device,
            memory,
            queue: EventQueue::new(),
            streams,
        }
    }

    /// Calls `f` with the device and a context.
    pub fn with<R>(&mut self, f: impl FnOnce(&mut D, &mut Context<'_>) -> R) -> R {
        let mut ctx = Context {
            dma: DmaPort::new(&mut self.memory, MasterId(0)),
            clock: Clock::new(&mut self.queue, DeviceId(0)),
            streams: &mut self.streams,
        };
        f(&mut self.device, &mut ctx)
    }

    /// The driver's `readl`.
    pub fn read(&mut self, offset: u64) -> u32 {
        let value = self.device.peek(offset);
        self.with(|d, ctx| d.read_effect(offset, ctx));
        value
    }

    /// The driver's `writel`.
    pub fn write(&mut self, offset: u64, value: u32) {
        self.with(|d, ctx| d.write(offset, value, ctx));
    }

    /// Runs events until none waits, the interrupt line is high, or `limit` events have run.
    /// Returns whether the line is high.
    pub fn run_until_irq(&mut self, limit: usize) -> bool {
        for _ in 0..limit {
            if self.device.irq() || !self.step() {
                break;
            }
        }
        self.device.irq()
    }

    /// Runs the next event, skipping time to it. Returns whether there was one.
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
}
