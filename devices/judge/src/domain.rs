// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The coherency domain as a judge of cases: an engine and devices that do what the list says, in
//! its order.

use staleline_devices::coherency::hazard::{HazardKind, Why};
use staleline_devices::coherency::{
    Domain, DomainConfig, ImageError, MAX_OCCURRENCES, Policy, PowerOn, SnoopWrite,
};
use staleline_devices::cpu::{self, CacheOp, ChainId, CpuId, SiteId};
use staleline_devices::dma::{
    Access, Direction, DmaError, DmaMemory, Doorbell, MasterId, Order, Transfer, TransferId,
};
use staleline_litmus::program::{self, Dc, Does, Granules, Observer, Op, Program, View};
use vm_memory::mmap::MmapRegionError;
use vm_memory::{Bytes, MmapRegion, VolatileMemory, VolatileMemoryError};

use crate::translate::{BASE, barrier, content, is_data, memory, pieces, port, whole};

/// Room for the largest program, in whole pages.
const RAM: usize = 4096;
const MASTERS: usize = 4;
/// Where masters have their registers: outside RAM.
const REGISTERS: u64 = 0;
/// Bytes of what a master polls.
const WORD: usize = 4;
/// The place in guest code of what was there at first.
const BEFORE: SiteId = SiteId(99);

/// Why the domain cannot judge a program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The domain sees one stream of accesses, in one order.
    #[error("it has more than one CPU, and the domain sees accesses in one order only")]
    SeveralCpus,
    /// No memory.
    #[error("no memory for the domain")]
    Map(#[from] MmapRegionError),
    /// The domain cannot be set up.
    #[error("the domain cannot be set up")]
    Domain(#[from] ImageError),
    /// A value cannot be put into memory.
    #[error("memory of the domain cannot be written")]
    Memory(#[from] VolatileMemoryError),
    /// A master's access is refused.
    #[error("the domain refuses an access of a master")]
    Refused(#[from] DmaError),
    /// There are more findings than the domain keeps.
    #[error("more findings than the domain keeps one by one")]
    TooMany,
}

/// A finding of the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The rule.
    pub kind: HazardKind,
    /// What about the missing operation.
    pub why: Why,
    /// Bytes.
    pub bytes: Granules,
    /// The event it came up at, by index; none: before the first.
    pub at: Option<usize>,
}

/// Whether the domain can judge a program: it sees one CPU's accesses, in one order.
pub fn takes(program: &Program) -> bool {
    let others = |e: &program::Event| matches!(e.by, Observer::Cpu(n) if n > 0);
    !program.events.iter().any(others)
}

/// All findings of the domain on a program, in the order in which they came up. `seed`: of the
/// replacement policy's choices.
///
/// # Errors
/// [`Error`] if the program is beyond the domain, or the host has no memory.
pub fn findings(program: &Program, replacement: Policy, seed: u64) -> Result<Vec<Found>, Error> {
    if !takes(program) {
        return Err(Error::SeveralCpus);
    }
    let config = DomainConfig {
        base: BASE,
        ram_bytes: RAM as u64,
        policy: replacement,
        snoop_write: match program.policy {
            program::Policy::WriteThrough => SnoopWrite::WriteThrough,
            program::Policy::Allocate => SnoopWrite::Allocate,
        },
        seed,
        ports: (0..MASTERS as u8).map(|dev| port(program, dev)).collect(),
        faults: Vec::new(),
        census: false,
        power_on: PowerOn::Clean,
        occurrences: true,
        lazy: None,
    };
    let domain = Domain::new(&config, MmapRegion::new(RAM)?)?;
    let mut play = Play {
        program,
        domain,
        masters: Default::default(),
        found: Vec::new(),
        reported: 0,
    };
    play.set_up()?;
    for event in 0..program.events.len() {
        play.event(event)?;
        play.collect(Some(event));
    }
    if play.domain.occurrences().len() < MAX_OCCURRENCES {
        Ok(play.found)
    } else {
        Err(Error::TooMany)
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
    /// How many of them it was told to make before it polled that word. It does not go on with them:
    /// what it does now is because of the word.
    before: usize,
}

struct Play<'a> {
    program: &'a Program,
    domain: Domain,
    masters: [Master; MASTERS],
    found: Vec<Found>,
    reported: usize,
}

impl Play<'_> {
    fn set_up(&mut self) -> Result<(), Error> {
        let all = 8 * self.program.lines();
        for g in 0..all {
            let value = self.program.initial[usize::from(g)].memory;
            self.put(BASE + 8 * u64::from(g), 8, value)?;
        }
        self.domain.loaded(BASE, 8 * u64::from(all));
        // A master that polls has done so all the time.
        for e in &self.program.events {
            if let (Observer::Dev(dev), Some((view, _))) = (e.by, e.poll()) {
                self.access(dev, Does::Read, view, e.bytes())?;
            }
        }
        for g in 0..all {
            if let Some(value) = self.program.initial[usize::from(g)].dirty {
                self.store(Granules::one(g), View::WriteBack, value, BEFORE)?;
            }
        }
        self.domain.barrier(CpuId::BOOT, cpu::Barrier::DSB_SY);
        self.collect(None);
        Ok(())
    }

    fn put(&mut self, pa: u64, len: u32, value: u8) -> Result<(), Error> {
        let slice = self.domain.mapping().as_volatile_slice();
        // No value is 0, so that none is what memory holds before it is written.
        let data = vec![value.wrapping_add(1); len as usize];
        slice.write_slice(&data, (pa - BASE) as usize)?;
        Ok(())
    }

    /// Most bytes of one access: a granule that is polled is accessed as a word, which is half of it,
    /// and the other half is nobody's.
    fn word(&self, bytes: Granules) -> u32 {
        let polled = bytes.without(self.program.polled()).is_empty();
        if polled { WORD as u32 } else { u32::MAX }
    }

    fn store(&mut self, bytes: Granules, view: View, value: u8, site: SiteId) -> Result<(), Error> {
        for (pa, len) in pieces(bytes) {
            self.put(pa, len, value)?;
            let len = len.min(self.word(bytes));
            self.domain.store(CpuId::BOOT, pa, len, site, memory(view));
        }
        Ok(())
    }

    fn event(&mut self, index: usize) -> Result<(), Error> {
        let program = self.program;
        let event = &program.events[index];
        let site = SiteId(index as u32 + 1);
        match (event.by, &event.op) {
            (Observer::Cpu(_), Op::Access { does, view, bytes }) => match does {
                Does::Write(value) => self.store(*bytes, *view, *value, site)?,
                _ => {
                    for (pa, len) in pieces(*bytes) {
                        self.domain.load(CpuId::BOOT, pa, len, site, memory(*view));
                    }
                    if let Does::Poll(_) = does {
                        self.completed(index, *bytes);
                    }
                }
            },
            (Observer::Dev(dev), Op::Access { does, bytes, view }) => {
                self.access(dev, *does, *view, *bytes)?;
            }
            (_, Op::Dc { op, line }) => self.dc(*op, *line, site)?,
            (_, Op::Barrier(it)) => self.domain.barrier(CpuId::BOOT, barrier(*it)),
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
        Ok(())
    }

    fn dc(&mut self, op: Dc, line: u8, site: SiteId) -> Result<(), Error> {
        let pa = BASE + 64 * u64::from(line);
        let op = match op {
            Dc::Cvac | Dc::Cvap | Dc::Cvadp => CacheOp::Clean,
            Dc::Ivac => CacheOp::Invalidate,
            Dc::Civac => CacheOp::CleanInvalidate,
            Dc::Zva | Dc::Gzva => {
                return self.store(Granules::line(line), View::WriteBack, program::ZERO, site);
            }
            Dc::Cvau | Dc::Gva => return Ok(()),
        };
        self.domain
            .maintain(CpuId::BOOT, op, pa, site, ChainId(site.0));
        Ok(())
    }

    /// Tells the master, and opens the transfers that it will make because of it, if the case does
    /// not say when they begin.
    fn doorbell(&mut self, index: usize, dev: u8) {
        self.close(dev);
        let site = SiteId(index as u32 + 1);
        self.domain
            .register(CpuId::BOOT, REGISTERS, WORD as u32, site, true);
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
                Op::Access { .. } if e.by == Observer::Dev(dev) && !is_data(program, dev, e) => {}
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
                shows: 0,
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
            bus: None,
            scattered: false,
            len: last + u64::from(len) - pa,
            descriptor: 0,
            channel: 0,
            snoop: true,
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

    fn close(&mut self, dev: u8) {
        self.masters[usize::from(dev)].before = 0;
        for (_, _, id) in std::mem::take(&mut self.masters[usize::from(dev)].open) {
            self.domain.transfer_close(MasterId(dev), id);
        }
    }

    fn access(&mut self, dev: u8, does: Does, view: View, bytes: Granules) -> Result<(), Error> {
        if let Does::Poll(_) = does {
            let word = pieces(bytes).first().map(|(pa, _)| *pa);
            let begins =
                |e: &program::Event| e.by == Observer::Dev(dev) && matches!(e.op, Op::Begin { .. });
            let master = &mut self.masters[usize::from(dev)];
            master.word = word;
            if !self.program.events.iter().any(begins) {
                master.before = master.open.len();
            }
        }
        let direction = match does {
            Does::Write(_) => Direction::ToMemory,
            _ => Direction::FromMemory,
        };
        let master = &self.masters[usize::from(dev)];
        let open = master.open.get(master.before..).unwrap_or_default();
        let transfer = open
            .iter()
            .find(|(d, owned, _)| *d == direction && bytes.without(*owned).is_empty())
            .map(|(_, _, id)| *id);
        let content = content(self.program, dev, bytes, matches!(does, Does::Write(_)));
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
            let len = len.min(self.word(bytes) as usize);
            match does {
                Does::Write(value) => {
                    let data = vec![value.wrapping_add(1); len];
                    self.domain.dma_write(MasterId(dev), access, pa, &data)?;
                }
                _ => {
                    let mut data = vec![0; len];
                    self.domain.dma_read(MasterId(dev), access, pa, &mut data)?;
                }
            }
        }
        Ok(())
    }

    /// What has been found since the last time.
    fn collect(&mut self, at: Option<usize>) {
        for o in &self.domain.occurrences()[self.reported..] {
            let Some(kind) = o.kind else { continue };
            let granules = (0..8_u8).filter(|g| o.bytes >> (8 * g) & 0xff != 0);
            let bytes = granules
                .map(|g| Granules::one(8 * o.line as u8 + g))
                .fold(Granules::NONE, Granules::or);
            self.found.push(Found {
                kind,
                why: o.why,
                bytes,
                at,
            });
        }
        self.reported = self.domain.occurrences().len();
    }
}
