// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A count of everything that a fault can be of, for who plans some: with the numbers that faults go by.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::limits::MAX_COUNTED;
use crate::cpu::{Barrier, BarrierAccess, CpuId, LINE, MAX_CPUS};
use crate::dma::{Content, MasterId, TransferId};
use crate::events::Cached;

/// What lies beside the lines of a maintenance operation: what one that does a line more than it should may throw
/// away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedNeighbours {
    /// The operation's number.
    pub operation: u32,
    /// Of the line before its first, whether stores to it were not cleaned, when that was done.
    pub before: bool,
    /// Likewise of the line behind its last.
    pub behind: bool,
}

/// A barrier that completes or orders maintenance, or is its CPU's last before a device is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedBarrier {
    /// Its number.
    pub number: u32,
    /// Whose.
    pub cpu: CpuId,
    /// Which.
    pub barrier: Barrier,
    /// The first and the last operation of its CPU that was not complete before it; 0: none.
    pub operations: (u32, u32),
    /// The master that is started next by the CPU, if no other barrier comes before.
    pub starts: Option<MasterId>,
    /// When, in accesses since power-on.
    pub at: u64,
    /// When the next barrier of its CPU comes that completes maintenance, whether there is any or not.
    #[serde(default)]
    pub followed: Option<u64>,
}

/// An interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedInterrupt {
    /// Its number.
    pub number: u32,
    /// The line.
    pub irq: u8,
    /// When, in accesses since power-on.
    pub at: u64,
}

/// A master's access to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedAccess {
    /// Its number.
    pub number: u32,
    /// Whose.
    pub master: MasterId,
    /// The transfer it is of.
    pub transfer: TransferId,
    /// What its bytes are.
    pub content: Content,
    /// Whether it writes.
    pub write: bool,
    /// Whether it snoops.
    pub snoops: bool,
    /// First byte.
    pub pa: u64,
    /// Bytes.
    pub len: u32,
    /// The last four of its bytes.
    pub word: u32,
    /// How the cache held its first line before.
    pub found: Cached,
    /// Whether a CPU's stores to its bytes there were not cleaned.
    pub uncleaned: bool,
    /// Who has to do with that line next.
    pub next: Option<Next>,
    /// When, in accesses of CPUs since power-on.
    pub at: u64,
}

/// Who has to do with a line after a master's access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Next {
    /// A CPU loads what the master has written.
    Cpu,
    /// A master reads.
    Reads(MasterId),
    /// A master writes.
    Writes(MasterId),
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// In order of operations.
    #[serde(default)]
    pub neighbours: Vec<CountedNeighbours>,
    /// In order.
    pub barriers: Vec<CountedBarrier>,
    /// In order.
    pub interrupts: Vec<CountedInterrupt>,
    /// In order.
    pub accesses: Vec<CountedAccess>,
    /// There were more than there is room for ([`MAX_COUNTED`] of each).
    pub full: bool,
}

/// Takes the count, if it is wanted.
#[derive(Debug, Default)]
pub(super) struct Counter {
    census: Option<Census>,
    /// Each CPU's last barrier, if no device was started since and it is not counted.
    last: [Option<CountedBarrier>; MAX_CPUS],
    /// Of the barriers that are counted, how many there were by each CPU's last that completes maintenance.
    followed: [usize; MAX_CPUS],
    /// By line: which of the accesses had to do with it last, if nobody has since.
    lines: HashMap<u64, usize>,
}

fn push<T>(all: &mut Vec<T>, full: &mut bool, one: T) {
    match all.len() < MAX_COUNTED {
        true => all.push(one),
        false => *full = true,
    }
}

impl Counter {
    pub fn new(wanted: bool) -> Self {
        Counter {
            census: wanted.then(Census::default),
            last: Default::default(),
            followed: Default::default(),
            lines: HashMap::new(),
        }
    }

    /// Whether it is wanted.
    #[inline]
    pub fn counts(&self) -> bool {
        self.census.is_some()
    }

    /// The count so far.
    pub fn census(&self) -> Option<Census> {
        self.census.clone()
    }

    pub fn barrier(&mut self, barrier: CountedBarrier) {
        let Some(census) = &mut self.census else {
            return;
        };
        let cpu = barrier.cpu;
        if barrier.barrier.reaches_masters() && barrier.barrier.access == BarrierAccess::Full {
            let since = &mut self.followed[cpu.index()];
            let unfollowed = census.barriers.get_mut(*since..).unwrap_or_default();
            *since += unfollowed.len();
            for earlier in unfollowed.iter_mut().filter(|earlier| earlier.cpu == cpu) {
                earlier.followed = earlier.followed.or(Some(barrier.at));
            }
        }
        let last = &mut self.last[cpu.index()];
        if barrier.operations == (0, 0) {
            *last = Some(barrier);
        } else {
            *last = None;
            push(&mut census.barriers, &mut census.full, barrier);
        }
    }

    /// `cpu` starts a device.
    pub fn doorbell(&mut self, cpu: CpuId, master: MasterId) {
        let Some(census) = &mut self.census else {
            return;
        };
        let starts = Some(master);
        match self.last[cpu.index()].take() {
            Some(last) => {
                let last = CountedBarrier { starts, ..last };
                push(&mut census.barriers, &mut census.full, last);
            }
            None => {
                let mut barriers = census.barriers.iter_mut().rev();
                if let Some(last) = barriers.find(|barrier| barrier.cpu == cpu) {
                    last.starts = last.starts.or(starts);
                }
            }
        }
    }

    /// One more line is done of an operation.
    pub fn neighbours(&mut self, counted: CountedNeighbours) {
        let Some(census) = &mut self.census else {
            return;
        };
        // Those of other CPUs may be on their way, too; an operation's first line is in order.
        let mut latest = census.neighbours.iter_mut().rev().take(MAX_CPUS);
        if let Some(one) = latest.find(|one| one.operation == counted.operation) {
            one.behind = counted.behind;
        } else if census.neighbours.len() < MAX_COUNTED {
            // No fault is lost by what does not fit: it only goes by less.
            census.neighbours.push(counted);
        }
    }

    pub fn interrupt(&mut self, interrupt: CountedInterrupt) {
        if let Some(census) = &mut self.census {
            push(&mut census.interrupts, &mut census.full, interrupt);
        }
    }

    pub fn access(&mut self, access: CountedAccess) {
        let next = match access.write {
            true => Next::Writes(access.master),
            false => Next::Reads(access.master),
        };
        let first = access.pa / LINE;
        let last = (access.pa + u64::from(access.len).max(1) - 1) / LINE;
        for line in first..=last {
            self.next(line, next);
        }
        let Some(census) = &mut self.census else {
            return;
        };
        if census.accesses.len() < MAX_COUNTED {
            self.lines.insert(first, census.accesses.len());
        }
        push(&mut census.accesses, &mut census.full, access);
    }

    /// Somebody has to do with a line, by its address.
    pub fn next(&mut self, line: u64, next: Next) {
        let index = self.lines.remove(&line);
        let Some(census) = &mut self.census else {
            return;
        };
        if let Some(access) = index.and_then(|index| census.accesses.get_mut(index)) {
            access.next = Some(next);
        }
    }
}
