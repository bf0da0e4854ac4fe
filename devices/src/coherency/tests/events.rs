// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The domain against the oracle, over random events.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::prelude::*;

use super::rig::{self, BASE, SNOOPS};
use crate::coherency::findings::Occurrence;
use crate::coherency::hazard::{HazardKind, Why};
use crate::coherency::line::{CLEANED, DIVERGED, MAYBE_DIRTY, State, WATCHED};
use crate::coherency::oracle::{LINE, Oracle, PAGE, pieces};
use crate::coherency::{Domain, Policy, SnoopWrite};
use crate::cpu::{Barrier, CacheOp, ChainId, CpuId, MemoryType, SiteId};
use crate::dma::{Access, Direction, DmaMemory, Doorbell, MasterId, Order, Transfer, TransferId};

const RAM: usize = 3 * PAGE;

/// The page that has a non-cacheable alias, as lines, and where its table entry stands.
const ALIASED: Range<usize> = 64..128;
const ENTRY: u64 = BASE + 2 * PAGE as u64 + 512;

/// The lines where things happen: neighbours, and both sides of page borders.
const LINES: [usize; 6] = [0, 1, 63, 64, 127, 128];

#[derive(Debug, Clone)]
enum Event {
    Load(usize, usize),
    Store(usize, usize, u8),
    Zva(usize),
    NcLoad(usize, usize),
    NcStore(usize, usize, u8),
    Maintain(CacheOp, usize),
    Dsb,
    Doorbell(u8),
    /// In one of the transfers opened so far, if it is of this master.
    Read(u8, usize, usize, usize),
    Write(u8, usize, usize, usize, u8),
    Open(u8, Direction, usize, usize),
    /// Closes one of the transfers opened so far, or another try at one.
    Close(usize),
    Evict(usize),
    Fill(usize),
}

fn at() -> impl Strategy<Value = usize> {
    (0..LINES.len(), 0..LINE).prop_map(|(line, byte)| LINES[line] * LINE + byte)
}

fn line() -> impl Strategy<Value = usize> {
    (0..LINES.len()).prop_map(|line| LINES[line])
}

/// Start and length of an access: often within few bytes, so that accesses meet.
fn span(most: usize) -> impl Strategy<Value = (usize, usize)> {
    let few = (0..LINES.len(), 0..4usize, 1..5usize)
        .prop_map(|(line, byte, len)| (LINES[line] * LINE + byte, len));
    let any = (at(), 1..=most);
    prop_oneof![few, any].prop_map(|(at, len)| (at, len.min(RAM - at)))
}

/// The CPU's accesses do not cross pages.
fn cpu_span() -> impl Strategy<Value = (usize, usize)> {
    span(LINE).prop_map(|(at, len)| (at, len.min(PAGE - at % PAGE)))
}

fn op() -> impl Strategy<Value = CacheOp> {
    prop_oneof![
        Just(CacheOp::Clean),
        Just(CacheOp::Invalidate),
        Just(CacheOp::CleanInvalidate)
    ]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::ToMemory), Just(Direction::FromMemory)]
}

fn event() -> impl Strategy<Value = Event> {
    let master = || 0..SNOOPS.len() as u8;
    // Few values, so that a lost write is sometimes not seen.
    let value = || 0..3u8;
    prop_oneof![
        4 => cpu_span().prop_map(|(at, len)| Event::Load(at, len)),
        4 => (cpu_span(), value()).prop_map(|((at, len), v)| Event::Store(at, len, v)),
        1 => line().prop_map(Event::Zva),
        1 => cpu_span().prop_map(|(at, len)| Event::NcLoad(aliased(at), len)),
        1 => (cpu_span(), value()).prop_map(|((at, len), v)| Event::NcStore(aliased(at), len, v)),
        5 => (op(), at()).prop_map(|(op, at)| Event::Maintain(op, at)),
        2 => Just(Event::Dsb),
        2 => master().prop_map(Event::Doorbell),
        4 => (master(), 0..4usize, span(200)).prop_map(|(m, t, (at, len))| Event::Read(m, t, at, len)),
        5 => (master(), 0..4usize, span(200), value())
            .prop_map(|(m, t, (at, len), v)| Event::Write(m, t, at, len, v)),
        1 => (master(), direction(), span(200)).prop_map(|(m, d, (at, len))| Event::Open(m, d, at, len)),
        1 => (0..6usize).prop_map(Event::Close),
        2 => line().prop_map(Event::Evict),
        2 => line().prop_map(Event::Fill),
    ]
}

/// The same place in the page with the alias.
fn aliased(at: usize) -> usize {
    PAGE + at % PAGE
}

fn data(len: usize, value: u8) -> Vec<u8> {
    (0..len).map(|i| value + (i % 2) as u8).collect()
}

/// A domain and an oracle going through the same.
struct Pair {
    domain: Domain,
    oracle: Oracle,
    opened: Vec<(MasterId, TransferId)>,
    bells: [Doorbell; SNOOPS.len()],
    /// The oracle's cache does what the domain's does.
    same_cache: bool,
    /// All findings so far.
    log: Vec<Occurrence>,
}

impl Pair {
    fn new(policy: Policy, snoop_write: SnoopWrite) -> Self {
        let mut domain = rig::domain(&rig::config(RAM as u64, policy, snoop_write));
        let (pa, len) = (ALIASED.start * LINE, ALIASED.len() * LINE);
        domain.map_non_cacheable(ENTRY, BASE + pa as u64, len as u64);
        Pair {
            domain,
            oracle: Oracle::new(RAM, snoop_write, policy == Policy::Eager, ALIASED),
            opened: Vec::new(),
            bells: [Doorbell::default(); SNOOPS.len()],
            same_cache: matches!(policy, Policy::Lazy | Policy::Eager),
            log: Vec::new(),
        }
    }

    fn store(&mut self, at: usize, data: &[u8]) {
        rig::store(&mut self.domain, at, data, SiteId(2), MemoryType::Cacheable);
        self.oracle.store(at, data);
    }

    fn apply(&mut self, event: &Event) {
        let site = SiteId(1);
        let pa = |at: usize| BASE + at as u64;
        match *event {
            Event::Load(at, len) => {
                self.domain
                    .load(CpuId::BOOT, pa(at), len as u32, site, MemoryType::Cacheable);
                self.oracle.load(at, len);
            }
            Event::Store(at, len, v) => self.store(at, &data(len, v)),
            Event::Zva(line) => self.store(line * LINE, &[0; LINE]),
            Event::NcLoad(at, len) => {
                self.domain.load(
                    CpuId::BOOT,
                    pa(at),
                    len as u32,
                    site,
                    MemoryType::NonCacheable,
                );
                self.oracle.non_cacheable(at, len, None);
            }
            Event::NcStore(at, len, v) => {
                let data = data(len, v);
                let nc = MemoryType::NonCacheable;
                rig::store(&mut self.domain, at, &data, site, nc);
                self.oracle.non_cacheable(at, len, Some(&data));
            }
            Event::Maintain(op, at) => {
                self.domain
                    .maintain(CpuId::BOOT, op, pa(at), site, ChainId(9));
                self.oracle.maintain(op, at);
            }
            Event::Dsb => self.domain.barrier(CpuId::BOOT, Barrier::DSB_SY),
            Event::Doorbell(m) => {
                self.bells[usize::from(m)] = self.domain.doorbell(MasterId(m));
            }
            Event::Read(m, t, at, len) => {
                let mut got = vec![0xee; len];
                let access = self.access(m, t);
                self.domain
                    .dma_read(MasterId(m), access, pa(at), &mut got)
                    .unwrap();
                let expected = if SNOOPS[usize::from(m)] {
                    self.oracle.snooping_read(at, len)
                } else {
                    self.oracle.device_read(at, len)
                };
                if self.same_cache {
                    assert_eq!(got, expected, "data of a DMA read");
                }
            }
            Event::Write(m, t, at, len, v) => {
                let data = data(len, v);
                let access = self.access(m, t);
                self.domain
                    .dma_write(MasterId(m), access, pa(at), &data)
                    .unwrap();
                if SNOOPS[usize::from(m)] {
                    self.oracle.snooping_write(at, &data);
                } else {
                    self.oracle.device_write(at, &data);
                }
            }
            Event::Open(m, direction, at, len) => self.open(m, direction, at, len),
            Event::Close(n) => {
                if let Some((master, id)) = self.opened.get(n) {
                    self.domain.transfer_close(*master, *id);
                }
            }
            Event::Evict(line) => {
                if self.oracle.is_cached(line) {
                    self.domain.evict(line as u64);
                    self.oracle.evict(line);
                }
            }
            Event::Fill(line) => {
                self.domain.speculative_fill(line as u64);
                self.oracle.fill(line);
            }
        }
    }

    fn open(&mut self, m: u8, direction: Direction, at: usize, len: usize) {
        let transfer = Transfer {
            direction,
            pa: BASE + at as u64,
            bus: None,
            scattered: false,
            len: len as u64,
            descriptor: 0,
            channel: 0,
            snoop: true,
        };
        let order = Order::Doorbell(self.bells[usize::from(m)]);
        let id = self.domain.transfer_open(MasterId(m), transfer, order);
        self.opened.push((MasterId(m), id));
    }

    /// As part of the transfer with index `t`, if it is one of `m`'s; else by its last doorbell.
    fn access(&self, m: u8, t: usize) -> Access {
        let opened = self.opened.get(t).filter(|(master, _)| master.0 == m);
        match opened {
            Some((_, id)) => Access::data(*id),
            None => Access::descriptor(Order::Doorbell(self.bells[usize::from(m)])),
        }
    }

    /// What the domain's own comments promise of a line's state.
    fn check_state(&mut self) {
        for number in 0..(RAM / LINE) as u64 {
            let aliased = ALIASED.contains(&(number as usize));
            let (line, cold) = self.domain.lines.with_cold(number);
            let flags = line.flags & (WATCHED | CLEANED);
            line.watch(cold);
            assert_eq!(
                flags,
                line.flags & (WATCHED | CLEANED),
                "flags, line {number}"
            );
            let maybe_dirty = line.flags & MAYBE_DIRTY != 0;
            assert!(maybe_dirty || line.state != State::Dirty && line.uncleaned == 0);
            assert!(!aliased || line.state != State::Clean || line.flags & DIVERGED == 0);
            assert_eq!(line.uncleaned & (line.unseen | cold.lost), 0);
            assert_eq!(line.firmware & !line.uncleaned, 0);
            let cleaned = cold.cleans.iter_mut().fold(0, |all, clean| {
                assert_eq!(all & clean.bytes, 0, "a byte in two cleans, line {number}");
                all | clean.bytes
            });
            assert_eq!(line.uncleaned & cleaned, 0);
        }
    }

    /// Lines that are not in the cache are the same in both images.
    fn check_invariant(&mut self) {
        let (ram, dram) = (
            rig::ram(&self.domain, 0, RAM),
            rig::dram(&self.domain, 0, RAM),
        );
        for line in 0..RAM / LINE {
            if !self.domain.lines.line(line as u64).cached() {
                let bytes = line * LINE..(line + 1) * LINE;
                assert_eq!(ram[bytes.clone()], dram[bytes], "line {line}");
            }
        }
    }

    /// Whoever reads a wrong byte is found to, or there was a finding when it was lost.
    fn check_findings(&mut self) {
        let log = self.domain.sanitizer.findings.log.as_mut();
        let log = log.map(std::mem::take).unwrap_or_default();
        for found in &log {
            self.oracle.report(found.line, found.bytes);
        }
        if self.same_cache {
            assert_eq!(
                self.oracle.silent(),
                [0usize; 0],
                "bytes read wrongly in silence"
            );
        }
        self.log.extend(log);
    }

    /// Both images, and the invariant that ties them together.
    fn check_data(&mut self) {
        let ram = rig::ram(&self.domain, 0, RAM);
        let dram = rig::dram(&self.domain, 0, RAM);
        let view = self.oracle.view();
        for (line, ..) in pieces(0, RAM) {
            let bytes = line * LINE..(line + 1) * LINE;
            assert_eq!(
                dram[bytes.clone()],
                self.oracle.dram[bytes.clone()],
                "DRAM, line {line}"
            );
            assert_eq!(
                ram[bytes.clone()],
                view[bytes.clone()],
                "coherent view, line {line}"
            );
            let cached = self.domain.lines.line(line as u64).cached();
            assert_eq!(cached, self.oracle.is_cached(line), "presence, line {line}");
        }
        self.check_invariant();
    }

    /// All that the rules have said so far, without what depends on the data.
    fn said(&self) -> Vec<(HazardKind, Why, u64, u64)> {
        let said = self.log.iter();
        said.filter_map(|f| Some((f.kind?, f.why, f.line, f.bytes)))
            .collect()
    }
}

impl Pair {
    /// The hazards of the report sum up the findings.
    fn check_report(&self) {
        let report = self.domain.report();
        let slots = self.log.iter().map(|f| f.slot).max().unwrap_or(0);
        assert_eq!(report.hazards.len(), slots as usize);
        for (slot, hazard) in (1..).zip(&report.hazards) {
            let of = || self.log.iter().filter(|f| f.slot == slot);
            let found = || of().filter(|f| f.kind.is_some());
            assert!(found().all(|f| f.kind == Some(hazard.kind)));
            let lines: BTreeSet<u64> = found().map(|f| f.line).collect();
            let wrong: u64 = of().map(|f| u64::from(f.wrong.count_ones())).sum();
            let ever_wrong: BTreeSet<_> = of()
                .flat_map(|f| {
                    (0..64)
                        .filter(|b| f.wrong >> b & 1 == 1)
                        .map(|b| (f.line, b))
                })
                .collect();
            assert!(hazard.lines >= lines.len() as u64 && hazard.lines <= found().count() as u64);
            assert_eq!(hazard.manifested, wrong > 0);
            assert_eq!(hazard.manifested, hazard.manifested_lines > 0);
            assert!(hazard.wrong_bytes >= ever_wrong.len() as u64 && hazard.wrong_bytes <= wrong);
            assert_eq!(Some(hazard.first_pa), lines.first().map(|l| BASE + l * 64));
            assert_eq!(
                Some(hazard.end_pa),
                lines.last().map(|l| BASE + (l + 1) * 64)
            );
        }
    }
}

fn snoop_write() -> impl Strategy<Value = SnoopWrite> {
    prop_oneof![Just(SnoopWrite::WriteThrough), Just(SnoopWrite::Allocate)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    /// Explicit fills and evictions at any time stand for any policy.
    #[test]
    fn data_is_where_the_oracle_has_it(
        policy in prop_oneof![3 => Just(Policy::Lazy), 1 => Just(Policy::Eager)],
        snoop_write in snoop_write(),
        events in prop::collection::vec(event(), 1..80),
    ) {
        let mut pair = Pair::new(policy, snoop_write);
        for event in &events {
            pair.apply(event);
            pair.check_data();
            pair.check_state();
        }
    }

    /// Nobody ever reads a wrong byte without a finding.
    #[test]
    fn no_byte_is_wrong_in_silence(
        policy in prop_oneof![3 => Just(Policy::Lazy), 1 => Just(Policy::Eager)],
        snoop_write in snoop_write(),
        events in prop::collection::vec(event(), 1..80),
    ) {
        let mut pair = Pair::new(policy, snoop_write);
        for event in &events {
            pair.apply(event);
            pair.check_findings();
        }
        pair.check_report();
    }

    /// The rules look at what software did, so that a policy's luck changes nothing.
    #[test]
    fn findings_do_not_depend_on_the_policy(
        policy in prop_oneof![Just(Policy::Random), Just(Policy::Zynqmp), Just(Policy::Eager)],
        snoop_write in snoop_write(),
        events in prop::collection::vec(event(), 1..80),
    ) {
        let mut pair = Pair::new(policy, snoop_write);
        let mut lazy = Pair::new(Policy::Lazy, snoop_write);
        for event in events.iter().filter(|e| !matches!(e, Event::Evict(_) | Event::Fill(_))) {
            for one in [&mut pair, &mut lazy] {
                one.apply(event);
                one.check_findings();
            }
            pair.check_invariant();
        }
        prop_assert_eq!(pair.said(), lazy.said());
        pair.check_report();
    }
}

/// What met a transfer in flight has been reported as such; what comes after its end has not.
#[test]
fn a_transfer_that_is_over_excuses_no_store() {
    let mut pair = Pair::new(Policy::Lazy, SnoopWrite::WriteThrough);
    let events = [
        Event::Open(1, Direction::ToMemory, 40, 28),
        Event::Zva(1),
        Event::Close(0),
        Event::Store(65, 3, 1),
        Event::Read(1, 0, 64, 2),
    ];
    for event in &events {
        pair.apply(event);
        pair.check_findings();
    }
    pair.check_report();
}
