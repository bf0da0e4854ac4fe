// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What comes behind what, also where one observer hands over to another by a word that is polled:
//! that one is behind the store of the word once it has seen it, which is no order of the two events
//! by themselves.

use crate::order::Order;
use crate::program::{Event, Observer, Op, Program};

/// Of each event, the set (bit = index) of those behind it.
#[derive(Debug, Clone)]
pub struct Reach<'a> {
    events: &'a [Event],
    behind: Vec<u32>,
}

impl<'a> Reach<'a> {
    /// Of a program.
    pub fn of(program: &'a Program) -> Self {
        let events = &program.events[..];
        let order = Order::of(program);
        let is_behind =
            |i: usize, j: usize| order.is_before(i, j) || is_awaited(&events[i], &events[j]);
        let all = 0..events.len();
        let mut behind: Vec<u32> = (all.clone())
            .map(|i| set(all.clone().filter(|j| is_behind(i, *j))))
            .collect();
        for through in all {
            let further = behind[through];
            for set in behind.iter_mut().filter(|set| **set >> through & 1 != 0) {
                *set |= further;
            }
        }
        Reach { events, behind }
    }

    /// Doorbells (bit = index) behind an event.
    pub fn doorbells(&self, event: usize) -> u32 {
        let behind = self.behind.get(event).copied().unwrap_or(0);
        behind & set((0..self.events.len()).filter(|i| self.is_doorbell(*i)))
    }

    /// Doorbells among, or behind, all that a CPU does from an event on: what a full DSB of its own
    /// before that event holds back.
    pub fn doorbells_from(&self, cpu: Observer, event: usize) -> u32 {
        // A release to a CPU that acquires from it is a store of its own.
        let held_back = |i: &usize| match self.events[*i].op {
            Op::Acquire(from) if cpu == Observer::Cpu(from) => true,
            _ => self.events[*i].by == cpu,
        };
        let held_back = (event..self.events.len()).filter(held_back);
        held_back.fold(0, |all, i| {
            let itself = u32::from(self.is_doorbell(i)) << i;
            all | itself | self.doorbells(i)
        })
    }

    fn is_doorbell(&self, event: usize) -> bool {
        matches!(self.events[event].op, Op::Doorbell(_))
    }
}

fn set(events: impl Iterator<Item = usize>) -> u32 {
    events.fold(0, |all, i| all | 1 << i)
}

/// Whether a poll waits for what another observer stores here.
fn is_awaited(store: &Event, poll: &Event) -> bool {
    let (Some((_, stored)), Some((_, awaited))) = (store.write(), poll.poll()) else {
        return false;
    };
    stored == awaited && store.by != poll.by && store.bytes().meets(poll.bytes())
}
