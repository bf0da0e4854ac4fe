// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a log tells in pieces: an operation that finds lines in several states, or a transfer that moves bytes now
//! and then. How many pieces there are depends on the cache and on time; how much they are together does not, and
//! is known once the last has come.

use std::collections::BTreeMap;

use staleline_devices::cpu::CpuId;
use staleline_devices::dma::TransferId;
use staleline_devices::events::Event;

use crate::events::Entry;

/// Operations and transfers of a log that are followed at a time, at most.
const MOST: usize = 1 << 12;

/// What pieces are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whole {
    Operation { cpu: CpuId, number: u32 },
    Moved { transfer: TransferId, write: bool },
}

impl Whole {
    fn of(event: &Event) -> Option<Self> {
        match *event {
            Event::Maintained { cpu, operation, .. } => Some(Whole::Operation {
                cpu,
                number: operation,
            }),
            Event::Moved {
                transfer, write, ..
            } if transfer != TransferId::CONTROL => Some(Whole::Moved { transfer, write }),
            _ => None,
        }
    }
}

/// The pieces that have come, as one event.
#[derive(Debug, Clone, PartialEq)]
struct Sum {
    whole: Whole,
    /// The first.
    entry: Entry,
    event: Event,
    is_over: bool,
}

/// What one log tells in pieces, by the number of the first in the log's own count.
#[derive(Debug, Default)]
pub struct Pieces {
    sums: BTreeMap<u64, Sum>,
    open: BTreeMap<Whole, u64>,
    /// How many events have been counted.
    counted: u64,
    /// Nothing new is followed.
    is_closed: bool,
    /// Those that have been over, or given up, since they were asked for.
    settled: Vec<u64>,
}

impl Pieces {
    /// Takes the next event. Whether it is more of what has begun, and does not count.
    pub fn take(&mut self, entry: &Entry, event: &Event) -> bool {
        let whole = Whole::of(event);
        if let Some(number) = whole.and_then(|whole| self.open.get(&whole)) {
            if let Some(sum) = self.sums.get_mut(number) {
                grow(&mut sum.event, event);
            }
            return true;
        }
        match *event {
            Event::Closed { transfer, .. } => {
                for write in [false, true] {
                    self.end(Whole::Moved { transfer, write });
                }
            }
            // A CPU does one operation after the other.
            Event::Maintained { cpu, .. } => {
                let of_cpu = |number| Whole::Operation { cpu, number };
                let before = self.open.range(of_cpu(0)..=of_cpu(u32::MAX));
                let before: Vec<Whole> = before.map(|(whole, _)| *whole).collect();
                before.into_iter().for_each(|whole| self.end(whole));
            }
            _ => {}
        }
        let number = self.counted;
        self.counted += 1;
        if let Some(whole) = whole.filter(|_| !self.is_closed) {
            self.open.insert(whole, number);
            let sum = Sum {
                whole,
                entry: entry.clone(),
                event: *event,
                is_over: false,
            };
            self.sums.insert(number, sum);
            if self.sums.len() > MOST
                && let Some((oldest, _)) = self.sums.first_key_value()
            {
                self.give_up(*oldest);
            }
        }
        false
    }

    /// Follows what has begun to its end, and nothing else.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// The log has come to its end: operations are over, and what transfers still open would have moved, nobody
    /// knows.
    pub fn finish(&mut self) {
        let open: Vec<(Whole, u64)> = self.open.iter().map(|(w, n)| (*w, *n)).collect();
        for (whole, number) in open {
            match whole {
                Whole::Operation { .. } => self.end(whole),
                Whole::Moved { .. } => self.give_up(number),
            }
        }
    }

    /// The log tells no more of what has begun.
    pub fn lose(&mut self) {
        let open: Vec<u64> = self.open.values().copied().collect();
        open.into_iter().for_each(|number| self.give_up(number));
    }

    fn end(&mut self, whole: Whole) {
        if let Some(number) = self.open.remove(&whole)
            && let Some(sum) = self.sums.get_mut(&number)
        {
            sum.is_over = true;
            self.settled.push(number);
        }
    }

    fn give_up(&mut self, number: u64) {
        if let Some(sum) = self.sums.remove(&number) {
            self.open.remove(&sum.whole);
            self.settled.push(number);
        }
    }

    /// Whether something that began before this is not settled.
    fn waits_before(&self, number: u64) -> bool {
        self.sums.range(..number).next().is_some()
    }

    /// What the count has at that number, if it is followed: its first piece, and all that has come.
    pub fn whole(&self, number: u64) -> Option<(Entry, Event)> {
        let sum = self.sums.get(&number)?;
        Some((sum.entry.clone(), sum.event))
    }

    fn is_open(&self, number: u64) -> bool {
        self.sums.get(&number).is_some_and(|sum| !sum.is_over)
    }
}

/// Whether one has to read on to know that nothing before this number is unlike, and all of what it is.
pub fn wait((a, b): (&Pieces, &Pieces), number: u64) -> bool {
    [a, b]
        .iter()
        .any(|side| side.waits_before(number) || side.is_open(number))
}

/// Compares what both have done with. The first that they have not done as much of.
pub fn unlike((a, b): (&mut Pieces, &mut Pieces)) -> Option<u64> {
    let mut settled = std::mem::take(&mut a.settled);
    settled.append(&mut b.settled);
    let mut first: Option<u64> = None;
    for number in settled {
        let common = a.counted.min(b.counted);
        match (a.sums.get(&number), b.sums.get(&number)) {
            (Some(one), Some(other)) if one.is_over && other.is_over => {
                if amount(&one.event) == amount(&other.event) {
                    a.sums.remove(&number);
                    b.sums.remove(&number);
                } else {
                    first = Some(first.map_or(number, |first| first.min(number)));
                }
            }
            // One of them cannot say.
            (Some(_), None) | (None, Some(_)) if number < common => {
                for side in [&mut *a, &mut *b] {
                    side.give_up(number);
                    side.settled.retain(|given_up| *given_up != number);
                }
            }
            _ => {}
        }
    }
    first
}

/// Lines, or bytes.
fn amount(event: &Event) -> u64 {
    match *event {
        Event::Maintained { lines, .. } => lines,
        Event::Moved { len, .. } => len,
        _ => 0,
    }
}

fn grow(event: &mut Event, by: &Event) {
    let more = amount(by);
    if let Event::Maintained { lines: n, .. } | Event::Moved { len: n, .. } = event {
        *n = n.saturating_add(more);
    }
}
