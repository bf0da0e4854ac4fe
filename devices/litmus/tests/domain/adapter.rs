// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The coherency domain as a judge of cases: an engine and devices that do what the list says, in
//! its order.

use staleline_devices::coherency::{Domain, DomainConfig, Policy, PowerOn, SnoopWrite};
use staleline_devices::cpu::{self, BarrierAccess, BarrierKind, BarrierScope, CacheOp, ChainId};
use staleline_devices::cpu::{MemoryType, SiteId};
use staleline_devices::dma::{
    Access, Content, Direction, DmaMemory, Doorbell, MasterId, Order, Port, Transfer, TransferId,
};
use staleline_litmus::case::Case;
use staleline_litmus::judge::{Found, Judge};
use staleline_litmus::program::{
    self, Dc, Does, Granules, Observer, Op, Orders, Program, Scope, View,
};
use vm_memory::{Bytes, MmapRegion, VolatileMemory};

const BASE: u64 = 0x4000_0000;
const RAM: usize = 8192;
const MASTERS: usize = 4;

/// The domain under one replacement policy.
pub struct DomainJudge {
    pub replacement: Policy,
    pub seed: u64,
}

impl Judge for DomainJudge {
    fn run(&mut self, case: &Case) -> Vec<Found> {
        self.run_program(&case.program)
    }
}

impl DomainJudge {
    pub fn run_program(&mut self, program: &Program) -> Vec<Found> {
        let config = DomainConfig {
            base: BASE,
            ram_bytes: RAM as u64,
            policy: self.replacement,
            snoop_write: match program.policy {
                program::Policy::WriteThrough => SnoopWrite::WriteThrough,
                program::Policy::Allocate => SnoopWrite::Allocate,
            },
            seed: self.seed,
            ports: (0..MASTERS as u8).map(|dev| port(program, dev)).collect(),
            drop_operation: None,
            power_on: PowerOn::Clean,
        };
        let domain = Domain::new(&config, MmapRegion::new(RAM).unwrap()).unwrap();
        let mut play = Play {
            program,
            domain,
            masters: Default::default(),
            found: Vec::new(),
            told: 0,
        };
        play.set_up();
        for event in 0..program.events.len() {
            play.event(event);
            play.collect(Some(event));
        }
        play.found
    }
}

/// The port that makes a master's accesses what they are.
fn port(program: &Program, dev: u8) -> Port {
    let snoops = |write: bool| {
        program.events.iter().any(|e| {
            let mine = e.by == Observer::Dev(dev) && e.write().is_some() == write;
            mine && matches!(
                e.op,
                Op::Access {
                    view: View::Snooping,
                    ..
                }
            )
        })
    };
    match (snoops(false), snoops(true)) {
        (false, false) => Port::Hp,
        (true, true) => Port::Hpc,
        (true, false) => Port::HpcRead,
        (false, true) => Port::HpcWrite,
    }
}

/// What a master is at.
#[derive(Default)]
struct Master {
    bell: Option<Doorbell>,
    /// The word it polled last, since its last doorbell.
    word: Option<u64>,
    /// Open transfers.
    open: Vec<(Direction, Granules, TransferId)>,
}

struct Play<'a> {
    program: &'a Program,
    domain: Domain,
    masters: [Master; MASTERS],
    found: Vec<Found>,
    told: usize,
}

/// Consecutive bytes of a set, in pieces that do not cross lines: address and length.
fn pieces(bytes: Granules) -> Vec<(u64, u32)> {
    let mut pieces: Vec<(u64, u32)> = Vec::new();
    for g in bytes.iter() {
        let pa = BASE + 8 * u64::from(g);
        match pieces.last_mut() {
            Some((at, len)) if *at + u64::from(*len) == pa && !pa.is_multiple_of(64) => *len += 8,
            _ => pieces.push((pa, 8)),
        }
    }
    pieces
}

fn memory(view: View) -> MemoryType {
    match view {
        View::WriteBack => MemoryType::Cacheable,
        _ => MemoryType::NonCacheable,
    }
}

impl Play<'_> {
    fn set_up(&mut self) {
        let all = 8 * self.program.lines();
        for g in 0..all {
            let value = self.program.initial[usize::from(g)].memory;
            self.put(BASE + 8 * u64::from(g), 8, value);
        }
        self.domain.loaded(BASE, 8 * u64::from(all));
        // A master that polls has done so all the time.
        for e in &self.program.events {
            if let (Observer::Dev(dev), Some((view, _))) = (e.by, e.poll()) {
                self.access(dev, Does::Read, view, e.bytes());
            }
        }
        for g in 0..all {
            if let Some(value) = self.program.initial[usize::from(g)].dirty {
                self.store(Granules::one(g), View::WriteBack, value, SiteId(99));
            }
        }
        self.domain.barrier(cpu::Barrier::DSB_SY);
        self.collect(None);
    }

    fn put(&mut self, pa: u64, len: u32, value: u8) {
        let slice = self.domain.mapping().as_volatile_slice();
        let data = vec![value + 1; len as usize];
        slice.write_slice(&data, (pa - BASE) as usize).unwrap();
    }

    fn store(&mut self, bytes: Granules, view: View, value: u8, site: SiteId) {
        for (pa, len) in pieces(bytes) {
            self.put(pa, len, value);
            self.domain.store(pa, len, site, memory(view));
        }
    }

    fn event(&mut self, index: usize) {
        let program = self.program;
        let event = &program.events[index];
        let site = SiteId(index as u32 + 1);
        match (event.by, &event.op) {
            (Observer::Cpu(_), Op::Access { does, view, bytes }) => match does {
                Does::Write(value) => self.store(*bytes, *view, *value, site),
                _ => {
                    for (pa, len) in pieces(*bytes) {
                        self.domain.load(pa, len, site, memory(*view));
                    }
                    if let Does::Poll(_) = does {
                        self.completed(index, *bytes);
                    }
                }
            },
            (Observer::Dev(dev), Op::Access { does, bytes, view }) => {
                self.access(dev, *does, *view, *bytes);
            }
            (_, Op::Dc { op, line }) => self.dc(*op, *line, site),
            (_, Op::Barrier(barrier)) => self.domain.barrier(translate(*barrier)),
            (_, Op::Doorbell(dev)) => self.doorbell(index, *dev),
            (_, Op::Wait(dev)) => {
                self.close(*dev);
                self.domain.register_read(MasterId(*dev));
            }
            (
                Observer::Dev(dev),
                Op::Begin {
                    direction, bytes, ..
                },
            ) => {
                if *direction != "from" {
                    self.open(dev, Direction::FromMemory, *bytes);
                }
                if *direction != "to" {
                    self.open(dev, Direction::ToMemory, *bytes);
                }
            }
            // A transfer ends for the CPU when it knows, at the wait.
            _ => {}
        }
    }

    fn dc(&mut self, op: Dc, line: u8, site: SiteId) {
        let pa = BASE + 64 * u64::from(line);
        let op = match op {
            Dc::Cvac | Dc::Cvap | Dc::Cvadp => CacheOp::Clean,
            Dc::Ivac => CacheOp::Invalidate,
            Dc::Civac => CacheOp::CleanInvalidate,
            Dc::Zva | Dc::Gzva => {
                return self.store(Granules::line(line), View::WriteBack, program::ZERO, site);
            }
            Dc::Cvau | Dc::Gva => return,
        };
        self.domain.maintain(op, pa, site, ChainId(site.0));
    }

    /// Tells the master, and opens the transfers that it will make because of it, if the case does
    /// not say when they begin.
    fn doorbell(&mut self, index: usize, dev: u8) {
        self.close(dev);
        let bell = self.domain.doorbell(MasterId(dev));
        let master = &mut self.masters[usize::from(dev)];
        master.bell = Some(bell);
        master.word = None;
        let program = self.program;
        let begins = |e: &program::Event| matches!(e.op, Op::Begin { .. });
        if program
            .events
            .iter()
            .any(|e| e.by == Observer::Dev(dev) && begins(e))
        {
            return;
        }
        for e in &program.events[index + 1..] {
            match &e.op {
                Op::Doorbell(again) if *again == dev => break,
                Op::Access {
                    does: Does::Poll(_),
                    ..
                } if e.by == Observer::Dev(dev) => break,
                Op::Access { does, bytes, .. }
                    if e.by == Observer::Dev(dev)
                        && self.content(dev, *bytes, e.write().is_some()) != Content::Data => {}
                Op::Access { does, bytes, .. } if e.by == Observer::Dev(dev) => match does {
                    Does::Write(_) => self.open(dev, Direction::ToMemory, *bytes),
                    Does::Read => self.open(dev, Direction::FromMemory, *bytes),
                    _ => {}
                },
                _ => {}
            }
        }
    }

    fn order(&self, dev: u8) -> Order {
        let master = &self.masters[usize::from(dev)];
        match (master.word, master.bell) {
            (Some(word), bell) => Order::Handover {
                word,
                idle_until: bell.unwrap_or_default(),
            },
            (None, Some(bell)) => Order::Doorbell(bell),
            (None, None) => Order::Unprompted,
        }
    }

    fn open(&mut self, dev: u8, direction: Direction, bytes: Granules) {
        let order = self.order(dev);
        let (Some((pa, _)), Some((last, len))) = (
            pieces(bytes).first().copied(),
            pieces(bytes).last().copied(),
        ) else {
            return;
        };
        let transfer = Transfer {
            direction,
            pa,
            len: last + u64::from(len) - pa,
            descriptor: 0,
            channel: 0,
        };
        let id = self.domain.transfer_open(MasterId(dev), transfer, order);
        let open = &mut self.masters[usize::from(dev)].open;
        open.push((direction, bytes, id));
    }

    /// A CPU has polled what a master wrote: it knows that what came before is done.
    fn completed(&mut self, index: usize, word: Granules) {
        for dev in 0..MASTERS as u8 {
            let mut earlier = self.program.events[..index].iter();
            if earlier
                .any(|e| e.by == Observer::Dev(dev) && e.write().is_some() && e.bytes().meets(word))
            {
                self.close(dev);
            }
        }
    }

    /// What an access of a master is: it polls its descriptors, and a CPU polls its events.
    fn content(&self, dev: u8, bytes: Granules, write: bool) -> Content {
        let polls = |e: &program::Event| e.poll().is_some();
        let descriptor = |e: &program::Event| {
            let lines = e.bytes().lines().map(Granules::line);
            polls(e)
                && e.by == Observer::Dev(dev)
                && lines.fold(Granules::NONE, Granules::or).meets(bytes)
        };
        let event = |e: &program::Event| {
            write && polls(e) && matches!(e.by, Observer::Cpu(_)) && e.bytes().meets(bytes)
        };
        if self.program.events.iter().any(event) {
            Content::Event
        } else if self.program.events.iter().any(descriptor) {
            Content::Descriptor
        } else {
            Content::Data
        }
    }

    fn close(&mut self, dev: u8) {
        for (_, _, id) in std::mem::take(&mut self.masters[usize::from(dev)].open) {
            self.domain.transfer_close(MasterId(dev), id);
        }
    }

    fn access(&mut self, dev: u8, does: Does, view: View, bytes: Granules) {
        if let Does::Poll(_) = does {
            let word = pieces(bytes).first().map(|(pa, _)| *pa);
            self.masters[usize::from(dev)].word = word;
        }
        let direction = match does {
            Does::Write(_) => Direction::ToMemory,
            _ => Direction::FromMemory,
        };
        let master = &self.masters[usize::from(dev)];
        let transfer = (master.open.iter())
            .find(|(d, owned, _)| *d == direction && bytes.without(*owned).is_empty())
            .map(|(_, _, id)| *id);
        let content = self.content(dev, bytes, matches!(does, Does::Write(_)));
        let access = match (does, transfer) {
            (Does::Prefetch, _) => Access::descriptor(Order::Unprompted),
            (Does::Read | Does::Write(_), Some(id)) => Access::data(id),
            _ => Access {
                content,
                ..Access::descriptor(self.order(dev))
            },
        };
        let access = Access {
            snoop: view == View::Snooping,
            ..access
        };
        for (pa, len) in whole(bytes) {
            match does {
                Does::Write(value) => {
                    let data = vec![value + 1; len];
                    self.domain
                        .dma_write(MasterId(dev), access, pa, &data)
                        .unwrap();
                }
                _ => {
                    let mut data = vec![0; len];
                    self.domain
                        .dma_read(MasterId(dev), access, pa, &mut data)
                        .unwrap();
                }
            }
        }
    }

    /// What has been found since the last time.
    fn collect(&mut self, at: Option<usize>) {
        for o in &self.domain.occurrences()[self.told..] {
            let Some(kind) = o.kind else { continue };
            let granules = (0..8_u8).filter(|g| o.bytes >> (8 * g) & 0xff != 0);
            let bytes = granules
                .map(|g| Granules::one(8 * o.line as u8 + g))
                .fold(Granules::NONE, Granules::or);
            self.found.push(Found {
                kind: kind.name().to_owned(),
                bytes,
                at,
                missing: Some(format!("{:?}", o.why)),
            });
        }
        self.told = self.domain.occurrences().len();
    }
}

/// Like [`pieces`], across lines.
fn whole(bytes: Granules) -> Vec<(u64, usize)> {
    let mut all: Vec<(u64, usize)> = Vec::new();
    for (pa, len) in pieces(bytes) {
        match all.last_mut() {
            Some((at, n)) if *at + *n as u64 == pa => *n += len as usize,
            _ => all.push((pa, len as usize)),
        }
    }
    all
}

fn translate(barrier: program::Barrier) -> cpu::Barrier {
    cpu::Barrier {
        kind: if barrier.completes {
            BarrierKind::Dsb
        } else {
            BarrierKind::Dmb
        },
        access: match barrier.orders {
            Orders::Full => BarrierAccess::Full,
            Orders::Stores => BarrierAccess::Store,
            Orders::Loads => BarrierAccess::Load,
        },
        scope: match barrier.scope {
            Scope::Own => BarrierScope::NonShareable,
            Scope::Inner => BarrierScope::Inner,
            Scope::Everyone { outer: true } => BarrierScope::Outer,
            Scope::Everyone { outer: false } => BarrierScope::System,
        },
    }
}
