// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a witness is told is what happened, and that it is told changes nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::rig::{self, BASE};
use super::steps::{RAM, Run, config, step};
use crate::coherency::line::{DMA, LOGGED};
use crate::coherency::{Domain, LINE, Policy, SnoopWrite};
use crate::cpu::{Barrier, CacheOp, ChainId, CpuId, MemoryType, SiteId};
use crate::dma::{Access, Direction, DmaMemory as _, MasterId, Order, Transfer};
use crate::events::{Cached, Event, Kind, Kinds, Witness};

type Logged = Arc<Mutex<Vec<(u64, Event)>>>;

/// Keeps all that it is told.
#[derive(Default)]
struct Memory(Logged);

impl Witness for Memory {
    fn event(&mut self, at: u64, event: &Event) {
        self.0.lock().unwrap().push((at, *event));
    }
    fn rest(&mut self) {}
    fn end(&mut self) {}
}

fn watch(domain: &mut Domain, kinds: Kinds) -> Logged {
    let memory = Memory::default();
    let logged = memory.0.clone();
    domain.watch(kinds, Box::new(memory));
    logged
}

fn all() -> Kinds {
    Kind::ALL.into_iter().collect()
}

/// Which lines are in the cache, by what was told of those that masters have touched.
#[derive(Default)]
struct Replayed(BTreeMap<u64, bool>);

impl Replayed {
    fn set(&mut self, pa: u64, lines: u64, cached: bool) {
        let first = (pa - BASE) / LINE;
        for (_, state) in self.0.range_mut(first..first + lines) {
            *state = cached;
        }
    }

    fn event(&mut self, event: &Event, writes_allocate: bool) -> Result<(), String> {
        match *event {
            Event::UnderDma { pa, cached, .. } => {
                self.0.insert((pa - BASE) / LINE, cached != Cached::No);
            }
            Event::Maintained {
                op,
                pa,
                lines,
                found,
                dropped,
                ..
            } => {
                let first = (pa - BASE) / LINE;
                for (line, cached) in self.0.range(first..first + lines) {
                    if *cached != (found != Cached::No) {
                        return Err(format!("line {line} is told to be {found:?}"));
                    }
                }
                if op != CacheOp::Clean && !dropped {
                    self.set(pa, lines, false);
                }
            }
            Event::Filled { pa, lines, .. } => self.set(pa, lines, true),
            Event::Evicted { pa, lines, .. } => self.set(pa, lines, false),
            Event::Accessed {
                pa,
                past: false,
                filled,
                ..
            } => {
                let before = self.0.get(&((pa - BASE) / LINE)).copied();
                if filled && before == Some(true) {
                    return Err(format!("{pa:#x} is filled twice"));
                }
                self.set(pa, 1, true);
            }
            Event::Moved {
                write: true,
                snoops: true,
                pa,
                len,
                ..
            } if writes_allocate => {
                let lines = (pa + len).div_ceil(LINE) - pa / LINE;
                self.set(pa, lines, true);
            }
            _ => {}
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_in_the_cache_follows_from_what_was_told(
        config in config(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut run = Run::new(&config);
        let logged = watch(&mut run.domain, all());
        for step in &steps {
            run.step(step);
        }
        run.domain.tap().end();
        let mut replayed = Replayed::default();
        let allocate = config.snoop_write == SnoopWrite::Allocate;
        for (at, event) in logged.lock().unwrap().iter() {
            if let Err(why) = replayed.event(event, allocate) {
                return Err(TestCaseError::fail(format!("@{at} {event:?}: {why}")));
            }
        }
        for number in 0..RAM / LINE {
            let line = run.domain.lines.line(number);
            let known = replayed.0.get(&number).copied();
            prop_assert_eq!(known.is_some(), line.flags & DMA != 0, "line {}", number);
            prop_assert_eq!(known.unwrap_or(line.cached()), line.cached(), "line {}", number);
        }
    }

    #[test]
    fn a_witness_changes_nothing(
        config in config(),
        steps in prop::collection::vec(step(), 1..60),
        some in prop::sample::subsequence(&Kind::ALL[..], 0..=Kind::ALL.len()),
    ) {
        let mut alone = Run::new(&config);
        let mut watched = Run::new(&config);
        let kinds: Kinds = some.iter().copied().collect();
        let logged = watch(&mut watched.domain, kinds);
        for step in &steps {
            alone.step(step);
            watched.step(step);
        }
        prop_assert_eq!(alone.domain.report(), watched.domain.report());
        watched.domain.tap().end();
        for number in 0..RAM / LINE {
            watched.domain.lines.line(number).flags &= !LOGGED;
        }
        prop_assert_eq!(alone.lines(), watched.lines());
        let logged = logged.lock().unwrap();
        prop_assert!(logged.iter().all(|(_, event)| kinds.contains(event.kind())));
        prop_assert!(logged.is_sorted_by_key(|(at, _)| *at));
    }

    #[test]
    fn each_finding_and_each_transfer_is_told_at_its_time(
        config in config(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut run = Run::new(&config);
        let kinds = [Kind::Finding, Kind::Transfer].into_iter().collect();
        let logged = watch(&mut run.domain, kinds);
        for step in &steps {
            run.step(step);
        }
        run.domain.tap().end();
        let report = run.domain.report();
        let logged = logged.lock().unwrap();
        for (n, hazard) in report.hazards.iter().enumerate() {
            let first = logged.iter().find_map(|(at, event)| match *event {
                Event::Found { finding, kind, pa, .. } if finding as usize == n + 1 => {
                    Some((*at, kind, pa))
                }
                _ => None,
            });
            prop_assert_eq!(first, Some((hazard.at, hazard.kind, hazard.line_pa)));
        }
        for t in &report.transfers {
            let opened = logged.iter().find_map(|(at, event)| match *event {
                Event::Opened { transfer, master, .. } if transfer == t.id => Some((*at, master)),
                _ => None,
            });
            prop_assert_eq!(opened, Some((t.opened_at, t.master)));
            let closed = logged.iter().find_map(|(at, event)| match *event {
                Event::Closed { transfer, bytes, .. } if transfer == t.id => Some((*at, bytes)),
                _ => None,
            });
            prop_assert_eq!(closed.map(|(at, _)| at), t.closed_at);
        }
    }
}

const DEVICE: MasterId = MasterId(1);
const ONE: CpuId = CpuId::BOOT;
const SITE: SiteId = SiteId(7);

/// What is told of a buffer of two lines that is cleaned, written by a device, invalidated by halves,
/// and read.
#[test]
fn the_life_of_two_lines() {
    let mut d = rig::domain(&rig::config(4096, Policy::Lazy, SnoopWrite::WriteThrough));
    let logged = watch(&mut d, all());
    for at in [0, 64] {
        rig::store(&mut d, at, &[7; 64], SITE, MemoryType::Cacheable);
    }
    let maintain = |d: &mut Domain, op, at| d.maintain(ONE, op, BASE + at, SITE, ChainId(3));
    maintain(&mut d, CacheOp::Clean, 0);
    maintain(&mut d, CacheOp::Clean, 64);
    d.barrier(ONE, Barrier::DSB_SY);
    let doorbell = d.doorbell(DEVICE);
    let transfer = Transfer {
        direction: Direction::ToMemory,
        pa: BASE,
        bus: None,
        scattered: false,
        len: 128,
        descriptor: 0,
        channel: 2,
        snoop: true,
    };
    let id = d.transfer_open(DEVICE, transfer, Order::Doorbell(doorbell));
    for at in [0, 64] {
        let access = Access::data(id);
        d.dma_write(DEVICE, access, BASE + at, &[9; 64]).unwrap();
    }
    d.transfer_close(DEVICE, id);
    maintain(&mut d, CacheOp::Invalidate, 0);
    d.barrier(ONE, Barrier::DSB_SY);
    for at in [0, 8, 64] {
        d.load(ONE, BASE + at, 8, SITE, MemoryType::Cacheable);
    }
    d.tap().end();
    let lines: Vec<_> = logged.lock().unwrap().iter().map(short).collect();
    assert_eq!(
        lines,
        [
            "2 Clean op 1 0x0 2 lines, Dirty",
            "2 barrier after (1, 1), completes",
            "2 told 1",
            "2 transfer 1 open",
            "2 0x0 under DMA, Clean since 1, cleaned by 1",
            "2 write 0x0+64",
            "2 0x40 under DMA, Clean since 2, cleaned by 1",
            "2 write 0x40+64",
            "2 transfer 1 closed, 128 bytes",
            "2 Invalidate op 2 0x0 1 lines, Clean",
            "2 barrier after (2, 2), completes",
            "3 load 0x0+16, filled",
            "5 load 0x40+8",
            "5 found 1 MissingInvalidate on 0x40",
        ]
    );
}

fn short((at, event): &(u64, Event)) -> String {
    let what = match *event {
        Event::Opened { transfer, .. } => format!("transfer {} open", transfer.0),
        Event::Closed {
            transfer, bytes, ..
        } => format!("transfer {} closed, {bytes} bytes", transfer.0),
        Event::Moved { write, pa, len, .. } => {
            let what = if write { "write" } else { "read" };
            format!("{what} {:#x}+{len}", pa - BASE)
        }
        Event::Maintained {
            op,
            operation,
            pa,
            lines,
            found,
            ..
        } => format!(
            "{op:?} op {operation} {:#x} {lines} lines, {found:?}",
            pa - BASE
        ),
        Event::Barrier {
            operations,
            completes,
            ..
        } => {
            let completes = if completes { ", completes" } else { "" };
            format!("barrier after {operations:?}{completes}")
        }
        Event::Started { master, .. } => format!("told {}", master.0),
        Event::Found {
            finding, kind, pa, ..
        } => format!("found {finding} {kind:?} on {:#x}", pa - BASE),
        Event::Accessed {
            store,
            filled,
            pa,
            len,
            ..
        } => {
            let what = if store { "store" } else { "load" };
            let filled = if filled { ", filled" } else { "" };
            format!("{what} {:#x}+{len}{filled}", pa - BASE)
        }
        Event::UnderDma {
            pa,
            cached,
            cached_at,
            clean_op,
            ..
        } => format!(
            "{:#x} under DMA, {cached:?} since {cached_at}, cleaned by {clean_op}",
            pa - BASE
        ),
        _ => format!("{event:?}"),
    };
    format!("{at} {what}")
}
