// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Correct drivers: random programs that follow the streaming DMA API, and the machine that
//! runs them and checks every byte that anybody reads.
//!
//! A program is a list of choices; what a choice means depends on who owns its buffer at that
//! point, so that any list is a correct program.

use std::ops::Range;

use proptest::prelude::*;

use super::rig::{self, BASE};
use crate::coherency::report::DomainReport;
use crate::coherency::{Domain, DomainConfig};
use crate::cpu::{Barrier, CacheOp, ChainId, CpuId, MemoryType, SiteId};
use crate::dma::{Access, Direction, DmaMemory, MasterId, Order, Transfer, TransferId};

pub const RAM: usize = 4 * 4096;
const LINE: usize = 64;

/// Snooping masters, and others: see [`rig::SNOOPS`].
const SNOOPING: [MasterId; 2] = [MasterId(0), MasterId(3)];
const BLIND: [MasterId; 2] = [MasterId(1), MasterId(2)];

/// Buffers, each with lines of its own; some begin or end within a line, whose other bytes belong
/// to the CPU. One crosses pages.
const BUFFERS: [Range<usize>; 4] = [
    0..256,
    4096 - 128..4096 + 192,
    4096 + 512 + 5..4096 + 512 + 150,
    8192 + 64..8192 + 64 + 40,
];

/// Pages that `dma_alloc_coherent` takes from the CPU and gives back; some lines of them.
const COHERENT: Range<usize> = 3 * 4096 + 1024..3 * 4096 + 1024 + 192;

/// One choice. Numbers are taken modulo what there is to choose from.
#[derive(Debug, Clone)]
pub struct Choice {
    buffer: usize,
    what: u8,
    a: u16,
    b: u16,
}

pub fn program() -> impl Strategy<Value = Vec<Choice>> {
    let choice = (0..=BUFFERS.len(), any::<u8>(), any::<u16>(), any::<u16>())
        .prop_map(|(buffer, what, a, b)| Choice { buffer, what, a, b });
    prop::collection::vec(choice, 1..60)
}

/// What a buffer is mapped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mapping {
    ToDevice,
    FromDevice,
    Bidirectional,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    mapping: Mapping,
    master: MasterId,
    id: TransferId,
}

/// The machine with its driver.
pub struct Driver {
    domain: Domain,
    /// What every reader ought to get.
    truth: Vec<u8>,
    mapped: [Option<InFlight>; BUFFERS.len()],
    /// [`COHERENT`] is in use through its non-cacheable alias.
    coherent: bool,
    /// Maintenance has been done since the last DSB.
    unfinished: bool,
    value: u8,
    /// Bytes that some reader got wrong.
    pub corrupt: u64,
}

/// A range within `range`, not empty.
fn part(range: &Range<usize>, a: u16, b: u16) -> Range<usize> {
    let start = range.start + usize::from(a) % range.len();
    let len = 1 + usize::from(b) % (range.end - start);
    start..start + len
}

/// The lines of a buffer.
fn lines(range: &Range<usize>) -> impl Iterator<Item = usize> + use<> {
    (range.start / LINE * LINE..range.end).step_by(LINE)
}

impl Driver {
    pub fn run(config: &DomainConfig, program: &[Choice]) -> Self {
        let mut driver = Driver {
            domain: rig::domain(config),
            truth: vec![0; RAM],
            mapped: [None; BUFFERS.len()],
            coherent: false,
            unfinished: false,
            value: 0,
            corrupt: 0,
        };
        for choice in program {
            driver.step(choice);
        }
        for (buffer, range) in BUFFERS.into_iter().enumerate() {
            driver.unmap(buffer);
            driver.cpu_read(range);
        }
        driver
    }

    pub fn report(&self) -> DomainReport {
        self.domain.report()
    }

    fn step(&mut self, c: &Choice) {
        if c.buffer == BUFFERS.len() {
            self.coherent(c);
            return;
        }
        let range = BUFFERS[c.buffer].clone();
        match self.mapped[c.buffer] {
            None => match c.what % 16 {
                0..=2 => self.cpu_write(part(&range, c.a, c.b)),
                3..=4 => self.cpu_read(part(&range, c.a, c.b)),
                5 => self.snooping(range, c),
                6 => self.neighbours(c, true),
                7..=8 => self.redundant(&range, c, true),
                _ => self.map(c),
            },
            Some(flight) => match c.what % 8 {
                0..=3 => self.transfer(flight, part(&range, c.a, c.b), c.what),
                4 => self.redundant(&range, c, false),
                // The CPU may do what it likes with bytes that a device only reads around.
                5 => self.neighbours(c, flight.mapping == Mapping::ToDevice),
                _ => self.unmap(c.buffer),
            },
        }
    }

    // ---- the CPU

    fn fresh(&mut self, len: usize) -> Vec<u8> {
        self.value = self.value.wrapping_add(1);
        (0..len)
            .map(|i| self.value.wrapping_mul(31).wrapping_add(i as u8))
            .collect()
    }

    fn cpu_write(&mut self, range: Range<usize>) {
        self.write_as(range, MemoryType::Cacheable);
    }

    fn write_as(&mut self, range: Range<usize>, memory: MemoryType) {
        let data = self.fresh(range.len());
        self.truth[range.clone()].copy_from_slice(&data);
        let mut at = range.start;
        // Words of at most 16 bytes, as `memcpy` does.
        while at < range.end {
            let n = (range.end - at).min(16 - at % 16);
            let piece = &data[at - range.start..][..n];
            rig::store(&mut self.domain, at, piece, SiteId(1), memory);
            at += n;
        }
    }

    fn cpu_read(&mut self, range: Range<usize>) {
        self.read_as(range, MemoryType::Cacheable);
    }

    fn read_as(&mut self, range: Range<usize>, memory: MemoryType) {
        for at in range {
            // What the load has got, and then the callback.
            let got = rig::ram(&self.domain, at, 1);
            self.corrupt += u64::from(got[0] != self.truth[at]);
            let pa = BASE + at as u64;
            self.domain.load(CpuId::BOOT, pa, 1, SiteId(2), memory);
        }
    }

    /// Bytes beside a buffer, in its first or last line.
    fn neighbours(&mut self, c: &Choice, may: bool) {
        let range = &BUFFERS[c.buffer];
        let end = range.end.div_ceil(LINE) * LINE;
        let beside = if c.a & 1 == 0 {
            range.start / LINE * LINE..range.start
        } else {
            range.end..end
        };
        if beside.is_empty() || !may {
            return;
        }
        let some = part(&beside, c.a >> 1, c.b >> 1);
        if c.b & 1 == 0 {
            self.cpu_write(some);
        } else {
            self.cpu_read(some);
        }
    }

    /// A page in turns of ordinary and of coherent use.
    fn coherent(&mut self, c: &Choice) {
        let some = part(&COHERENT, c.a, c.b);
        match (self.coherent, c.what % 8) {
            (false, 0..=2) => self.cpu_write(some),
            (false, 3..=4) => self.cpu_read(some),
            (false, 5) => self.redundant(&COHERENT, c, true),
            (false, _) => {
                self.clean(&COHERENT);
                self.barrier();
                self.write_as(COHERENT, MemoryType::NonCacheable);
                self.coherent = true;
            }
            (true, 0..=1) => self.write_as(some, MemoryType::NonCacheable),
            (true, 2..=3) => self.read_as(some, MemoryType::NonCacheable),
            (true, 4) => self.device_read(BLIND[0], TransferId::CONTROL, some),
            (true, 5..=6) => self.device_write(BLIND[1], TransferId::CONTROL, some),
            (true, _) => {
                // The next owner clears the page before reading it.
                self.cpu_write(COHERENT);
                self.coherent = false;
            }
        }
    }

    // ---- maintenance

    fn maintain(&mut self, op: CacheOp, at: usize) {
        let pa = BASE + at as u64;
        self.domain
            .maintain(CpuId::BOOT, op, pa, SiteId(3), ChainId(0));
        self.unfinished = true;
    }

    fn barrier(&mut self) {
        self.domain.barrier(CpuId::BOOT, Barrier::DSB_SY);
        self.unfinished = false;
    }

    fn clean(&mut self, range: &Range<usize>) {
        for line in lines(range) {
            self.maintain(CacheOp::Clean, line);
        }
    }

    /// As the kernel does it: the other bytes of partial lines are not thrown away.
    fn invalidate(&mut self, range: &Range<usize>) {
        for line in lines(range) {
            let whole = line >= range.start && line + LINE <= range.end;
            let op = if whole {
                CacheOp::Invalidate
            } else {
                CacheOp::CleanInvalidate
            };
            self.maintain(op, line);
        }
    }

    /// Maintenance that nobody needs, and the CPU may do at any time; sometimes left to somebody
    /// else's DSB.
    fn redundant(&mut self, range: &Range<usize>, c: &Choice, owned: bool) {
        let some = part(range, c.a, c.b >> 2);
        match c.b & 3 {
            0 => self.clean(&some),
            // An invalidate is harmless only to what is clean, in the same operation or before.
            1 if owned => {
                self.clean(&some);
                if c.a & 1 == 0 {
                    self.barrier();
                }
                for line in lines(&some) {
                    self.maintain(CacheOp::Invalidate, line);
                }
            }
            _ => lines(&some).for_each(|line| self.maintain(CacheOp::CleanInvalidate, line)),
        }
        if c.what & 0x40 == 0 {
            self.barrier();
        }
    }

    // ---- devices

    /// A snooping master works on a buffer of the CPU's.
    fn snooping(&mut self, range: Range<usize>, c: &Choice) {
        // What was invalidated must be gone before it may write.
        if self.unfinished {
            self.barrier();
        }
        let master = SNOOPING[usize::from(c.what >> 4) % SNOOPING.len()];
        let some = part(&range, c.a, c.b);
        if c.what & 0x80 == 0 {
            self.device_read(master, TransferId::CONTROL, some);
        } else {
            // An invalidate that is not complete might throw away what it writes.
            self.barrier();
            self.device_write(master, TransferId::CONTROL, some);
        }
    }

    /// `dma_map_single`, and the device is started.
    fn map(&mut self, c: &Choice) {
        let range = BUFFERS[c.buffer].clone();
        let master = BLIND[usize::from(c.a) % BLIND.len()];
        let mapping = match c.b % 3 {
            0 => Mapping::ToDevice,
            1 => Mapping::FromDevice,
            _ => Mapping::Bidirectional,
        };
        self.clean(&range);
        self.barrier();
        let order = Order::Doorbell(self.domain.doorbell(master));
        let transfer = Transfer {
            direction: match mapping {
                Mapping::ToDevice => Direction::FromMemory,
                _ => Direction::ToMemory,
            },
            pa: BASE + range.start as u64,
            bus: None,
            scattered: false,
            len: range.len() as u64,
            descriptor: 0,
            channel: 0,
            snoop: true,
        };
        let id = self.domain.transfer_open(master, transfer, order);
        self.mapped[c.buffer] = Some(InFlight {
            mapping,
            master,
            id,
        });
    }

    /// Part of the transfer: frames may be shorter than their buffer, and come in any order.
    fn transfer(&mut self, flight: InFlight, some: Range<usize>, what: u8) {
        let write = match flight.mapping {
            Mapping::ToDevice => false,
            Mapping::FromDevice => true,
            Mapping::Bidirectional => what & 0x80 == 0,
        };
        if write {
            self.device_write(flight.master, flight.id, some);
        } else {
            self.device_read(flight.master, flight.id, some);
        }
    }

    /// The transfer ends, `dma_unmap_single`.
    fn unmap(&mut self, buffer: usize) {
        let Some(flight) = self.mapped[buffer].take() else {
            return;
        };
        self.domain.transfer_close(flight.master, flight.id);
        if flight.mapping != Mapping::ToDevice {
            self.invalidate(&BUFFERS[buffer]);
            self.barrier();
        }
    }

    fn device_read(&mut self, master: MasterId, id: TransferId, range: Range<usize>) {
        let mut got = vec![0; range.len()];
        let pa = BASE + range.start as u64;
        self.domain
            .dma_read(master, Access::data(id), pa, &mut got)
            .unwrap();
        let wrong = got.iter().zip(&self.truth[range]).filter(|(a, b)| a != b);
        self.corrupt += wrong.count() as u64;
    }

    fn device_write(&mut self, master: MasterId, id: TransferId, range: Range<usize>) {
        let data = self.fresh(range.len());
        self.truth[range.clone()].copy_from_slice(&data);
        let pa = BASE + range.start as u64;
        self.domain
            .dma_write(master, Access::data(id), pa, &data)
            .unwrap();
    }
}
