// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A channel with memory that keeps what was asked of it, and a hand that plays the driver.

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
/// Where the driver's pool of descriptors is.
pub(super) const POOL: u64 = RAM + 0x1000;
pub(super) const FROM: u64 = RAM + 0x10_003;
pub(super) const TO: u64 = RAM + 0x20_f01;

/// `ZYNQMP_DMA_DESC_CTRL_*`.
pub(super) const STOP: u32 = 0x10;
pub(super) const PAUSE: u32 = 0x8;
pub(super) const COMP_INT: u32 = 0x4;
pub(super) const LINKED: u32 = 0x2;
pub(super) const COHERENT: u32 = 0x1;
/// `ZYNQMP_DMA_INT_EN_DEFAULT_MASK`.
const INTERRUPTS: u32 = DMA_DONE
    | DST_DSCR_DONE
    | AXI_RD_DATA
    | AXI_WR_DATA
    | AXI_RD_DST_DSCR
    | AXI_RD_SRC_DSCR
    | INV_APB
    | BYTE_CNT_OVRFL
    | IRQ_SRC_ACCT_ERR
    | IRQ_DST_ACCT_ERR;

/// Flat memory that keeps what was asked of it, and holds the device to its own transfers.
pub(super) struct Memory {
    pub(super) flat: FlatMemory,
    /// Write or read, content, asks to be snooped, address, bytes.
    pub(super) seen: Vec<(bool, Content, bool, u64, usize)>,
    pub(super) orders: Vec<Order>,
    /// Accesses of the present call.
    pub(super) accesses: usize,
}

impl Memory {
    fn note(&mut self, write: bool, access: Access, pa: u64, len: usize) {
        self.accesses += 1;
        assert!(len > 0);
        assert_eq!(pa >> 12, (pa + len as u64 - 1) >> 12, "crosses 4 KiB");
        match access.content {
            Content::Data => {
                let open = self.flat.open.contains(&access.transfer);
                assert!(open, "access by a closed transfer");
                let t = self.flat.transfers[access.transfer.0 as usize - 1];
                assert_eq!(write, t.direction == Direction::ToMemory);
                assert!(t.pa <= pa && pa + len as u64 <= t.pa + t.len, "{t:?}");
            }
            _ => {
                assert!(!write && pa.is_multiple_of(16), "{pa:#x}");
                self.orders.push(access.order);
            }
        }
        if self.seen.len() < 1 << 16 {
            self.seen
                .push((write, access.content, access.snoop, pa, len));
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
        assert!(transfer.len > 0);
        assert!(self.flat.open.len() < 2, "one buffer each way");
        self.flat.transfer_open(m, transfer, order)
    }

    fn transfer_close(&mut self, m: MasterId, id: TransferId) {
        if id != TransferId::CONTROL {
            assert!(self.flat.open.contains(&id), "closed twice");
        }
        self.flat.transfer_close(m, id);
    }
}

pub(super) struct Rig {
    pub(super) device: Gdma,
    pub(super) memory: Memory,
    pub(super) queue: EventQueue,
}

impl Rig {
    pub(super) fn new() -> Self {
        Rig {
            device: Gdma::new(Config {
                width: BusWidth::Bits128,
                channel: 3,
            }),
            memory: Memory {
                flat: FlatMemory::new(RAM, RAM_LEN),
                seen: Vec::new(),
                orders: Vec::new(),
                accesses: 0,
            },
            queue: EventQueue::new(),
        }
    }

    fn with(&mut self, f: impl FnOnce(&mut Gdma, &mut Context<'_>)) {
        self.memory.accesses = 0;
        let mut ctx = Context {
            dma: DmaPort::new(&mut self.memory, MasterId(0)),
            clock: Clock::new(&mut self.queue, DeviceId(0)),
            streams: &mut Streams::default(),
        };
        f(&mut self.device, &mut ctx);
    }

    pub(super) fn read(&mut self, offset: u64) -> u32 {
        let value = self.device.peek(offset);
        self.with(|d, ctx| d.read_effect(offset, ctx));
        value
    }

    pub(super) fn write(&mut self, offset: u64, value: u32) {
        self.with(|d, ctx| d.write(offset, value, ctx));
    }

    /// Runs the next event; whether there was one.
    pub(super) fn step(&mut self) -> bool {
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

    pub(super) fn run(&mut self) {
        let mut left = 10_000;
        while self.step() {
            left -= 1;
            assert!(left > 0, "it does not end");
        }
    }

    /// `zynqmp_dma_init()`.
    pub(super) fn init(&mut self, coherent: bool) {
        self.write(IDS, 0xfff);
        let pending = self.read(ISR);
        self.write(ISR, pending);
        let mut attributes = self.read(DATA_ATTR);
        if coherent {
            self.write(DSCR_ATTR, AXCOHRNT | 0xf << AXCACHE_SHIFT);
            attributes |= 0xf << ARCACHE_SHIFT | 0xf << AWCACHE_SHIFT;
        }
        self.write(DATA_ATTR, attributes);
        self.read(IRQ_SRC_ACCT);
        self.read(IRQ_DST_ACCT);
    }

    pub(super) fn descriptor(&mut self, at: u64, address: u64, size: u32, ctrl: u32, next: u64) {
        let mut raw = Vec::new();
        raw.extend(address.to_le_bytes());
        raw.extend(size.to_le_bytes());
        raw.extend(ctrl.to_le_bytes());
        if ctrl & LINKED != 0 {
            raw.extend(next.to_le_bytes());
            raw.extend([0; 8]);
        }
        self.memory.flat.put(at, &raw);
    }

    /// `zynqmp_dma_start_transfer()` for the pair at `at`.
    pub(super) fn start(&mut self, at: u64) {
        self.start_lists(at, at + 32);
    }

    pub(super) fn start_lists(&mut self, source: u64, destination: u64) {
        let ctrl0 = self.read(CTRL0);
        self.write(CTRL0, ctrl0 | POINT_TYPE_SG);
        for (register, address) in [(SRC_START_LSB, source), (DST_START_LSB, destination)] {
            self.write(register, address as u32);
            self.write(register + 4, (address >> 32) as u32);
        }
        self.write(IEN, INTERRUPTS);
        self.write(TOTAL_BYTE, 0);
        self.write(CTRL2, 1);
    }

    /// `zynqmp_dma_irq_handler()`: the bits it acts on.
    pub(super) fn interrupt(&mut self) -> u32 {
        let (isr, imr) = (self.read(ISR), self.read(IMR));
        self.write(ISR, isr);
        isr & !imr
    }

    pub(super) fn fill(&mut self, at: u64, len: usize) -> Vec<u8> {
        let data: Vec<u8> = (0..len).map(|n| (n * 7 + n / 251) as u8).collect();
        self.memory.flat.put(at, &data);
        data
    }

    pub(super) fn bytes(&self, at: u64, len: usize) -> &[u8] {
        let start = (at - RAM) as usize;
        &self.memory.flat.bytes[start..start + len]
    }
}
