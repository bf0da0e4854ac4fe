// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Random programs of CPUs and masters that follow no rules, and the machine that runs them.

use proptest::prelude::*;

use super::rig::{self, BASE};
use crate::coherency::{Domain, DomainConfig, LINE, Policy, PowerOn, SnoopWrite};
use crate::cpu::{
    Barrier, BarrierAccess, BarrierKind, BarrierScope, CacheOp, ChainId, CpuId, MemoryType, SiteId,
};
use crate::dma::{
    Access, Content, Direction, DmaMemory, Doorbell, MasterId, Order, Port, Transfer, TransferId,
};

pub const PAGE: u64 = 4096;
pub const PAGES: u64 = 3;
pub const RAM: u64 = PAGES * PAGE;
/// One for each kind of port, as `Port::ALL` has them.
pub const MASTERS: u8 = 4;

/// One step; what there is to choose from is taken modulo.
#[derive(Debug, Clone)]
pub enum Step {
    Load(CpuId, u64, u32, MemoryType),
    Store(CpuId, u64, u32, MemoryType),
    /// On all lines of a range.
    Maintain(CpuId, CacheOp, u64, u64),
    Barrier(CpuId, Barrier),
    /// What DMA of a doorbell's order refers to from now on.
    Doorbell(u8),
    Open(u8, Direction, u64, u64, Start),
    Close(usize),
    Read(u8, Beat),
    Write(u8, Beat),
    RegisterRead(u8),
    Alias(u64, u64),
}

#[derive(Debug, Clone, Copy)]
pub enum Start {
    Unprompted,
    Doorbell,
    Word(u64),
}

/// An access of a master.
#[derive(Debug, Clone)]
pub struct Beat {
    pub at: u64,
    pub len: u64,
    pub content: Content,
    pub start: Start,
    /// Of the transfers so far.
    pub transfer: Option<usize>,
    pub snoop: bool,
    pub value: u8,
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    let page = (0..PAGES).prop_map(|page| (page * PAGE, PAGE));
    let pages = (0..PAGES - 1).prop_map(|page| (page * PAGE, 2 * PAGE));
    // Runs of lines, and ranges that begin or end within one, up to their page's end or anywhere.
    let tail = (0..RAM).prop_map(|at| (at, PAGE - at % PAGE));
    let lines = (0..RAM / LINE, 1..100u64)
        .prop_map(|(line, n)| (line * LINE, (n * LINE).min(RAM - line * LINE)));
    let any = (0..RAM, 1..PAGE).prop_map(|(at, len)| (at, len.min(RAM - at)));
    prop_oneof![6 => page, 2 => pages, 1 => tail, 1 => lines, 2 => any]
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        3 => Just(Start::Unprompted),
        4 => Just(Start::Doorbell),
        1 => (0..RAM / 4).prop_map(|word| Start::Word(4 * word)),
    ]
}

pub fn beat() -> impl Strategy<Value = Beat> {
    let content = prop_oneof![
        14 => Just(Content::Data),
        1 => Just(Content::Descriptor),
        1 => Just(Content::Event),
    ];
    let transfer = prop::option::of(any::<usize>());
    let snoop = prop::bool::weighted(0.8);
    (range(), content, start(), transfer, snoop, any::<u8>()).prop_map(
        |((at, len), content, start, transfer, snoop, value)| Beat {
            at,
            len,
            content,
            start,
            transfer,
            snoop,
            value,
        },
    )
}

pub fn step() -> impl Strategy<Value = Step> {
    let cpu = || prop_oneof![4 => Just(CpuId::BOOT), 1 => Just(CpuId(1))];
    let memory =
        || prop_oneof![9 => Just(MemoryType::Cacheable), 1 => Just(MemoryType::NonCacheable)];
    let at = || 0..RAM - LINE;
    let op = prop::sample::select(vec![
        CacheOp::Clean,
        CacheOp::Invalidate,
        CacheOp::CleanInvalidate,
    ]);
    let dmb = Barrier {
        kind: BarrierKind::Dmb,
        access: BarrierAccess::Store,
        scope: BarrierScope::Outer,
    };
    let barrier = prop_oneof![3 => Just(Barrier::DSB_SY), 1 => Just(dmb)];
    let master = || 0..MASTERS;
    let direction = prop::sample::select(vec![Direction::ToMemory, Direction::FromMemory]);
    prop_oneof![
        2 => (cpu(), at(), 1..=64u32, memory()).prop_map(|(c, at, n, m)| Step::Load(c, at, n, m)),
        2 => (cpu(), at(), 1..=64u32, memory()).prop_map(|(c, at, n, m)| Step::Store(c, at, n, m)),
        6 => (cpu(), op, range()).prop_map(|(c, op, (at, len))| Step::Maintain(c, op, at, len)),
        5 => (cpu(), barrier).prop_map(|(c, barrier)| Step::Barrier(c, barrier)),
        3 => master().prop_map(Step::Doorbell),
        3 => (master(), direction, range(), start())
            .prop_map(|(m, d, (at, len), start)| Step::Open(m, d, at, len, start)),
        2 => any::<usize>().prop_map(Step::Close),
        10 => (master(), beat()).prop_map(|(m, beat)| Step::Read(m, beat)),
        10 => (master(), beat()).prop_map(|(m, beat)| Step::Write(m, beat)),
        1 => master().prop_map(Step::RegisterRead),
        1 => (0..RAM / 8, 0..PAGES).prop_map(|(entry, page)| Step::Alias(8 * entry, page * PAGE)),
    ]
}

pub fn config() -> impl Strategy<Value = DomainConfig> {
    let snoop_writes = vec![SnoopWrite::WriteThrough, SnoopWrite::Allocate];
    (
        prop::sample::select(&Policy::ALL[..]),
        prop::sample::select(snoop_writes),
        prop_oneof![3 => Just(PowerOn::Clean), 1 => Just(PowerOn::Dirty)],
    )
        .prop_map(|(policy, snoop_write, power_on)| DomainConfig {
            power_on,
            ports: Port::ALL.to_vec(),
            ..rig::config(RAM, policy, snoop_write)
        })
}

/// A domain and what its masters have been told.
pub struct Run {
    pub domain: Domain,
    pub doorbell: Doorbell,
    transfers: Vec<(MasterId, TransferId)>,
    /// All that masters have read.
    pub read: Vec<u8>,
}

impl Run {
    pub fn new(config: &DomainConfig) -> Self {
        Run {
            domain: rig::domain(config),
            doorbell: Doorbell::default(),
            transfers: Vec::new(),
            read: Vec::new(),
        }
    }

    fn order(&self, start: Start) -> Order {
        match start {
            Start::Unprompted => Order::Unprompted,
            Start::Doorbell => Order::Doorbell(self.doorbell),
            Start::Word(at) => Order::Handover {
                word: BASE + at,
                shows: 0,
                idle_until: self.doorbell,
            },
        }
    }

    fn access(&self, beat: &Beat) -> Access {
        let transfers = &self.transfers;
        let transfer = beat.transfer.filter(|_| !transfers.is_empty());
        let transfer = transfer.map(|n| transfers[n % transfers.len()].1);
        Access {
            content: beat.content,
            order: self.order(beat.start),
            snoop: beat.snoop,
            ..Access::data(transfer.unwrap_or(TransferId::CONTROL))
        }
    }

    pub fn step(&mut self, step: &Step) {
        let site = SiteId(1);
        let d = &mut self.domain;
        match *step {
            Step::Load(cpu, at, size, memory) => d.load(cpu, BASE + at, size, site, memory),
            Step::Store(cpu, at, size, memory) => {
                let data = vec![at as u8 ^ size as u8; size as usize];
                rig::poke(d, at as usize, &data);
                d.store(cpu, BASE + at, size, site, memory);
            }
            Step::Maintain(cpu, op, at, len) => {
                for line in at / LINE..(at + len).div_ceil(LINE) {
                    d.maintain(cpu, op, BASE + line * LINE, site, ChainId(0));
                }
            }
            Step::Barrier(cpu, barrier) => d.barrier(cpu, barrier),
            Step::Doorbell(master) => self.doorbell = d.doorbell(MasterId(master)),
            Step::Open(master, direction, at, len, start) => {
                let transfer = Transfer {
                    direction,
                    pa: BASE + at,
                    bus: None,
                    scattered: false,
                    len,
                    descriptor: 0,
                    channel: 0,
                    snoop: true,
                };
                let master = MasterId(master);
                let order = self.order(start);
                let id = self.domain.transfer_open(master, transfer, order);
                self.transfers.push((master, id));
            }
            Step::Close(n) if !self.transfers.is_empty() => {
                let (master, id) = self.transfers[n % self.transfers.len()];
                d.transfer_close(master, id);
            }
            Step::Close(_) => {}
            Step::Read(master, ref beat) => {
                let access = self.access(beat);
                let mut buf = vec![0; beat.len as usize];
                let d = &mut self.domain;
                let done = d.dma_read(MasterId(master), access, BASE + beat.at, &mut buf);
                done.unwrap();
                self.read.extend(buf);
            }
            Step::Write(master, ref beat) => {
                let access = self.access(beat);
                let data: Vec<_> = (0..beat.len).map(|n| beat.value ^ n as u8).collect();
                let d = &mut self.domain;
                let done = d.dma_write(MasterId(master), access, BASE + beat.at, &data);
                done.unwrap();
            }
            Step::RegisterRead(master) => d.register_read(MasterId(master)),
            Step::Alias(entry, page) => d.map_non_cacheable(BASE + entry, BASE + page, PAGE),
        }
    }

    /// All that is known of all lines.
    pub fn lines(&mut self) -> Vec<String> {
        let all = 0..RAM / LINE;
        all.map(|n| format!("line {n}: {:?}", self.domain.lines.with_cold(n)))
            .collect()
    }
}
