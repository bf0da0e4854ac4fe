// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! No false positives: hundreds of MiB of correctly synced DMA in both directions, every byte
//! checked, under every replacement policy and both policies of snooping writes.

use std::ops::Range;

use staleline_devices::coherency::{Domain, DomainConfig, LINE, Policy, PowerOn, SnoopWrite};
use staleline_devices::cpu::{Barrier, CacheOp, ChainId, CpuId, MemoryType, SiteId};
use staleline_devices::dma::{
    Access, Direction, DmaMemory, MasterId, Order, Port, Transfer, TransferId,
};
use vm_memory::{Bytes, MmapRegion, VolatileMemory};

const BASE: u64 = 0x4000_0000;
const RAM: usize = 8 << 20;
/// Buffers; an odd number, so that each comes up in each of the four roles.
const BUFFERS: usize = 63;
/// What the CPU works on beside them: together several times the modelled cache, so that `zynqmp`
/// evicts.
const HEAP: Range<usize> = 5 << 20..8 << 20;
const SNOOPING: MasterId = MasterId(0);
const BLIND: MasterId = MasterId(1);

/// Bytes that the non-snooping master moves under each combination of policies: half each way.
const VOLUME: usize = 512 << 20;
/// Bytes per transfer; not a multiple of the line size, nor of the burst's.
const FRAME: usize = 65_536 - 24;
/// Distance of the buffers, which start on lines of their own.
const STRIDE: usize = 65_536 + 64;
/// Bytes per burst.
const BURST: usize = 1000;

struct Machine {
    domain: Domain,
    expected: Vec<u8>,
    got: Vec<u8>,
    state: u64,
    corrupt: u64,
}

fn pa(at: usize) -> u64 {
    BASE + at as u64
}

fn lines(range: &Range<usize>) -> impl Iterator<Item = usize> + use<> {
    (range.start..range.end).step_by(LINE as usize)
}

fn bursts(range: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    let end = range.end;
    range
        .clone()
        .step_by(BURST)
        .map(move |at| at..end.min(at + BURST))
}

impl Machine {
    fn new(policy: Policy, snoop_write: SnoopWrite) -> Self {
        let config = DomainConfig {
            base: BASE,
            ram_bytes: RAM as u64,
            policy,
            snoop_write,
            seed: 7,
            ports: vec![Port::Hpc, Port::Hp],
            faults: Vec::new(),
            census: false,
            power_on: PowerOn::Dirty,
            occurrences: false,
            lazy: None,
        };
        Machine {
            domain: Domain::new(&config, MmapRegion::new(RAM).expect("memory")).expect("a domain"),
            expected: vec![0; FRAME],
            got: vec![0; FRAME],
            state: 1,
            corrupt: 0,
        }
    }

    /// New data for everybody to expect.
    fn produce(&mut self) {
        for word in self.expected.chunks_mut(8) {
            self.state = self
                .state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            word.copy_from_slice(&self.state.to_be_bytes()[..word.len()]);
        }
    }

    fn compare(&mut self) {
        if self.got != self.expected {
            let pairs = self.got.iter().zip(&self.expected);
            self.corrupt += pairs.filter(|(a, b)| a != b).count() as u64;
        }
    }

    fn cpu_writes(&mut self, range: &Range<usize>) {
        for at in lines(range) {
            let n = (LINE as usize).min(range.end - at);
            let data = &self.expected[at - range.start..][..n];
            let ram = self.domain.mapping().as_volatile_slice();
            ram.write_slice(data, at).expect("within RAM");
            self.domain.store(
                CpuId::BOOT,
                pa(at),
                n as u32,
                SiteId(1),
                MemoryType::Cacheable,
            );
        }
    }

    fn cpu_reads(&mut self, range: &Range<usize>) {
        for at in lines(range) {
            let n = (LINE as usize).min(range.end - at);
            let ram = self.domain.mapping().as_volatile_slice();
            ram.read_slice(&mut self.got[at - range.start..][..n], at)
                .expect("within RAM");
            self.domain.load(
                CpuId::BOOT,
                pa(at),
                n as u32,
                SiteId(2),
                MemoryType::Cacheable,
            );
        }
        self.compare();
    }

    fn device_writes(&mut self, master: MasterId, id: TransferId, range: &Range<usize>) {
        for burst in bursts(range) {
            let data = &self.expected[burst.start - range.start..burst.end - range.start];
            self.domain
                .dma_write(master, Access::data(id), pa(burst.start), data)
                .expect("within RAM");
        }
    }

    fn device_reads(&mut self, master: MasterId, id: TransferId, range: &Range<usize>) {
        for burst in bursts(range) {
            let buf = &mut self.got[burst.start - range.start..burst.end - range.start];
            self.domain
                .dma_read(master, Access::data(id), pa(burst.start), buf)
                .expect("within RAM");
        }
        self.compare();
    }

    fn sync(&mut self, op: CacheOp, range: &Range<usize>) {
        for at in lines(range) {
            self.domain
                .maintain(CpuId::BOOT, op, pa(at), SiteId(3), ChainId(0));
        }
        self.domain.barrier(CpuId::BOOT, Barrier::DSB_SY);
    }

    /// One transfer of the non-snooping master, between map and unmap.
    fn transfer(&mut self, direction: Direction, range: &Range<usize>) {
        self.sync(CacheOp::Clean, range);
        let order = Order::Doorbell(self.domain.doorbell(BLIND));
        let transfer = Transfer {
            direction,
            pa: pa(range.start),
            bus: None,
            scattered: false,
            len: range.len() as u64,
            descriptor: 0,
            channel: 0,
            snoop: true,
        };
        let id = self.domain.transfer_open(BLIND, transfer, order);
        match direction {
            Direction::FromMemory => self.device_reads(BLIND, id, range),
            Direction::ToMemory => self.device_writes(BLIND, id, range),
        }
        self.domain.transfer_close(BLIND, id);
        if direction == Direction::ToMemory {
            self.sync(CacheOp::Invalidate, range);
        }
    }
}

fn soak(policy: Policy) {
    for snoop_write in [SnoopWrite::WriteThrough, SnoopWrite::Allocate] {
        let mut m = Machine::new(policy, snoop_write);
        for n in 0..VOLUME.div_ceil(FRAME).next_multiple_of(2) {
            let start = n % BUFFERS * STRIDE;
            let range = start..start + FRAME;
            // Work that no device has to do with, left dirty.
            let own = HEAP.start + n * 8192 % HEAP.len();
            m.cpu_writes(&(own..own + 8192));
            m.produce();
            match n % 4 {
                0 => {
                    m.cpu_writes(&range);
                    m.transfer(Direction::FromMemory, &range);
                }
                1 => {
                    m.transfer(Direction::ToMemory, &range);
                    m.cpu_reads(&range);
                }
                2 => {
                    m.device_writes(SNOOPING, TransferId::CONTROL, &range);
                    m.transfer(Direction::FromMemory, &range);
                }
                _ => {
                    m.transfer(Direction::ToMemory, &range);
                    m.device_reads(SNOOPING, TransferId::CONTROL, &range);
                }
            }
        }
        let report = m.domain.report();
        assert_eq!(report.hazards, [], "{policy:?} {snoop_write:?}");
        assert_eq!(m.corrupt, 0, "{policy:?} {snoop_write:?}");
        // And all of it did happen.
        let moved: u64 = report.transfers.iter().map(|t| t.bytes).sum();
        assert!(moved >= VOLUME as u64);
        assert!(report.maintenance.needed > 0);
        assert!(report.cache.fills > 100_000);
        if matches!(policy, Policy::Zynqmp | Policy::Random) {
            assert!(report.cache.evictions_clean > 1000);
            assert!(report.cache.evictions_dirty > 1000);
        }
    }
}

#[test]
fn zynqmp() {
    soak(Policy::Zynqmp);
}

#[test]
fn lazy() {
    soak(Policy::Lazy);
}

#[test]
fn eager() {
    soak(Policy::Eager);
}

#[test]
fn random() {
    soak(Policy::Random);
}
