// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where two logs begin to differ.
//!
//! Two questions, as they have different answers. *Is it the same run?* Then each event is the same, at the
//! same time, of the same memory, by the same line of code. Two kernels are never that, from their first
//! instruction on. *Is the same done?* Then the same CPUs and devices do the same things in the same order,
//! in functions of the same names, on as many lines and bytes, whenever, and in whichever memory.

use std::path::Path;

use serde::Serialize;
use staleline_devices::coherency::hazard::Actor;
use staleline_devices::cpu::{ChainId, SiteId};
use staleline_devices::dma::TransferId;
use staleline_devices::events::{Cached, Event, Kind};
use staleline_events::LogError;

use super::pieces::{self, Pieces};
use crate::events::{Entry, Item};
use crate::exit::Error;
use crate::query::{Names, Telling, Told};

/// Where two logs part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// The first event that is not the very same.
    pub first: Option<Parting>,
    /// The first at which something else is done. What the cache does by itself, accesses of CPUs, waits,
    /// registers and barriers that complete nothing are left out here.
    pub done: Option<Parting>,
    /// What keeps the logs from being compared to their ends, a sentence each.
    pub lacks: Vec<String>,
}

/// The place in both logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parting {
    /// How many events were alike before.
    pub alike: u64,
    /// What happens in the one; none if it is at its end.
    pub a: Option<Told>,
    /// And in the other.
    pub b: Option<Told>,
}

/// Compares the logs of two runs, given by directory or log.
///
/// # Errors
/// Those of [`Telling::open`]; [`Error::Log`] for one that is damaged. One that was cut is compared as far
/// as it goes.
pub fn find(a: &Path, b: &Path) -> Result<Divergence, Error> {
    let (a, b) = (Telling::open(a)?, Telling::open(b)?);
    let mut lacks = Vec::new();
    let mut names = (a.names(), b.names());
    let first = part((&a, &b), &mut names, Alike::Same, &mut lacks)?;
    let done = match first {
        None => None,
        Some(_) => part((&a, &b), &mut names, Alike::Done, &mut Vec::new())?,
    };
    Ok(Divergence { first, done, lacks })
}

/// When two events are alike.
#[derive(Clone, Copy, PartialEq)]
enum Alike {
    Same,
    Done,
}

/// A log's events that count, until it ends; whatever else comes up is noted.
struct Side<'a, I> {
    entries: I,
    log: &'a Telling,
    name: &'static str,
    alike: Alike,
    /// What is told in pieces, if that is to be one.
    pieces: Pieces,
    is_over: bool,
}

impl<I: Iterator<Item = Result<Entry, LogError>>> Side<'_, I> {
    fn next(&mut self, lacks: &mut Vec<String>) -> Result<Option<(Entry, Event)>, Error> {
        while !self.is_over {
            match self.entries.next() {
                None => {
                    self.is_over = true;
                    self.pieces.finish();
                }
                Some(Err(cut @ LogError::CutShort { .. })) => {
                    self.pieces.lose();
                    lacks.push(format!("the log of {} has no end: {cut}", self.name));
                    self.is_over = true;
                }
                Some(Err(e)) => return Err(self.log.unreadable(e)),
                Some(Ok(entry)) => match entry.item {
                    Item::Event(event) if self.counts(&entry, &event) => {
                        return Ok(Some((entry, event)));
                    }
                    Item::Full => {
                        self.pieces.lose();
                        lacks.push(format!(
                            "the log of {} is full at @{}: of what follows, only findings were kept",
                            self.name, entry.at
                        ));
                    }
                    _ => {}
                },
            }
        }
        Ok(None)
    }

    /// Whether it is compared: not if it is more of what has been.
    fn counts(&mut self, entry: &Entry, event: &Event) -> bool {
        let done = || match event.kind() {
            Kind::Transfer
            | Kind::Dma
            | Kind::Maintenance
            | Kind::Handover
            | Kind::Interrupt
            | Kind::Finding
            | Kind::Signal => true,
            Kind::Barrier
            | Kind::Fence
            | Kind::Register
            | Kind::Cache
            | Kind::Access
            | Kind::Wait => false,
        };
        self.alike == Alike::Same || (done() && !self.pieces.take(entry, event))
    }
}

fn part(
    logs: (&Telling, &Telling),
    names: &mut (Names<'_>, Names<'_>),
    alike: Alike,
    lacks: &mut Vec<String>,
) -> Result<Option<Parting>, Error> {
    let side = |log: &'static str, telling| -> Result<_, Error> {
        let telling: &Telling = telling;
        Ok(Side {
            entries: telling.entries()?,
            log: telling,
            name: log,
            alike,
            pieces: Pieces::default(),
            is_over: false,
        })
    };
    let (mut a, mut b) = (side("A", logs.0)?, side("B", logs.1)?);
    let mut count = 0;
    let (mut at, pair) = loop {
        let pair = (a.next(lacks)?, b.next(lacks)?);
        if let Some(unlike) = pieces::unlike((&mut a.pieces, &mut b.pieces)) {
            break (unlike, pair);
        }
        let same = match &pair {
            (None, None) => return Ok(None),
            (Some((ea, a)), Some((eb, b))) => match alike {
                Alike::Same => ea.at == eb.at && is_same((a, b), names),
                Alike::Done => does_same((a, b), names),
            },
            _ => false,
        };
        if !same {
            break (count, pair);
        }
        count += 1;
    };
    // What has begun before may turn out to be unlike.
    a.pieces.close();
    b.pieces.close();
    while pieces::wait((&a.pieces, &b.pieces), at) {
        let more = (a.next(lacks)?.is_some(), b.next(lacks)?.is_some());
        if let Some(unlike) = pieces::unlike((&mut a.pieces, &mut b.pieces)) {
            at = at.min(unlike);
        }
        if more == (false, false) {
            break;
        }
    }
    let last = if at == count { pair } else { (None, None) };
    let told = |pieces: &Pieces, last: Option<(Entry, Event)>, names: &mut Names<'_>| {
        let whole = pieces.whole(at).or(last);
        whole.map(|(entry, event)| names.told(&entry, &event))
    };
    Ok(Some(Parting {
        alike: at,
        a: told(&a.pieces, last.0, &mut names.0),
        b: told(&b.pieces, last.1, &mut names.1),
    }))
}

/// The very same, up to the numbers that the logs have for places in code.
fn is_same((a, b): (&Event, &Event), names: &mut (Names<'_>, Names<'_>)) -> bool {
    let mut places = a.sites().zip(b.sites());
    without_code(*a) == without_code(*b)
        && places.all(|(a, b)| names.0.place(a) == names.1.place(b))
}

/// The same thing, by the same master or CPU, in a function of the same name.
fn does_same((a, b): (&Event, &Event), names: &mut (Names<'_>, Names<'_>)) -> bool {
    let mut places = a.sites().zip(b.sites());
    deed(*a) == deed(*b)
        && names.0.who(a) == names.1.who(b)
        && places.all(|(a, b)| names.0.place(a).map(function) == names.1.place(b).map(function))
}

/// `clean` of `clean+0x20 arch/arm64/mm/cache.S:176`.
fn function(place: &str) -> &str {
    let end = place.find(['+', ' ']).unwrap_or(place.len());
    &place[..end]
}

fn without_site(actor: Actor) -> Actor {
    match actor {
        Actor::Cpu { cpu, .. } => Actor::Cpu {
            cpu,
            site: SiteId::default(),
        },
        other => other,
    }
}

/// An event without numbers that stand for something only in its own log.
fn without_code(mut event: Event) -> Event {
    match &mut event {
        Event::Maintained { site, chain, .. } => {
            (*site, *chain) = (SiteId::default(), ChainId::default());
        }
        Event::Called { chain, .. } => *chain = ChainId::default(),
        Event::Started { site, .. }
        | Event::Register { site, .. }
        | Event::Accessed { site, .. } => *site = SiteId::default(),
        Event::Found { writer, reader, .. } => {
            (*writer, *reader) = (without_site(*writer), without_site(*reader));
        }
        Event::Filled { by, .. } => *by = without_site(*by),
        Event::UnderDma { cached_by, .. } => *cached_by = without_site(*cached_by),
        Event::Opened { .. }
        | Event::Closed { .. }
        | Event::Moved { .. }
        | Event::Barrier { .. }
        | Event::Interrupt { .. }
        | Event::Evicted { .. }
        | Event::Waited { .. } => {}
    }
    event
}

/// What is done by an event: without time, number, memory, and the state that it meets.
fn deed(event: Event) -> Event {
    let mut event = without_code(event);
    match &mut event {
        Event::Opened {
            transfer,
            pa,
            descriptor,
            started_at,
            ..
        } => {
            *transfer = TransferId::CONTROL;
            (*pa, *descriptor, *started_at) = (0, 0, 0);
        }
        Event::Closed { transfer, .. } => *transfer = TransferId::CONTROL,
        Event::Moved {
            transfer, pa, len, ..
        } => {
            *transfer = TransferId::CONTROL;
            (*pa, *len) = (0, 0);
        }
        Event::Maintained {
            operation,
            pa,
            lines,
            found,
            ..
        } => {
            // How many lines this piece has depends on what it finds in the cache; those of all are compared.
            (*operation, *pa, *lines, *found) = (0, 0, 0, Cached::No);
        }
        Event::Found {
            finding,
            pa,
            bytes,
            wrong,
            ..
        } => (*finding, *pa, *bytes, *wrong) = (0, 0, 0, 0),
        Event::Called { object, .. } => *object = 0,
        _ => {}
    }
    event
}

#[cfg(test)]
mod tests {
    use staleline_devices::cpu::{CacheOp, CpuId};

    use super::*;

    fn maintained(operation: u32, site: u32, pa: u64, lines: u64) -> Event {
        Event::Maintained {
            cpu: CpuId::BOOT,
            op: CacheOp::Clean,
            operation,
            site: SiteId(site),
            chain: ChainId(site),
            pa,
            lines,
            found: Cached::Dirty,
            dropped: false,
        }
    }

    #[test]
    fn numbers_of_a_log_mean_nothing_in_another() {
        let (a, b) = (maintained(7, 1, 64, 2), maintained(7, 9, 64, 2));
        assert_eq!(without_code(a), without_code(b));
        let later = maintained(8, 1, 640, 3);
        assert_ne!(without_code(a), without_code(later));
        assert_eq!(deed(a), deed(later));
        let actor = Actor::Cpu {
            cpu: CpuId::BOOT,
            site: SiteId(7),
        };
        assert_ne!(without_site(actor), actor);
    }

    #[test]
    fn functions_are_known_by_their_names() {
        for place in [
            "clean+0x20 arch/x.S:1",
            "clean",
            "clean lib/y.c",
            "clean+0x4",
        ] {
            assert_eq!(function(place), "clean");
        }
    }
}
