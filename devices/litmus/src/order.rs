// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which events must take effect before which: the architecture's rules on one observer, and what
//! orders different ones.
//!
//! The list of events gives each observer's program order, not a global one. Masters act in list
//! order. On one CPU there is order only
//! - between accesses of the same bytes with the same attribute, but for a load after a store: it
//!   may return the store's value before that is visible to anybody else ([`forwards`]),
//! - between maintenance and cacheable accesses or maintenance of the same line (DDI 0487,
//!   "Ordering and completion of data and instruction cache instructions"); a load finds what the
//!   maintenance left, but does not complete it for anybody: what follows the load is not behind
//!   the maintenance ([`Order::local`]),
//! - from a poll to later stores (control dependency),
//! - by barriers: full ones order all, also maintenance; store barriers stores, load barriers
//!   loads against loads and stores; a DSB of either kind holds back all that follows,
//! - from a wait for a device to all that follows.
//!
//! An access that spans lines is a part on each, and the parts are ordered one by one.
//!
//! A barrier whose domain leaves an observer out gives no order between two events that both
//! concern it: `dmb ish` between a store and a doorbell is nothing to a master. A DSB of any domain
//! holds back what follows until the loads before it have their values. Where a CPU within the domain
//! polls the second one, what it does behind a full barrier of its own is ordered (`seen.rs`). (Another
//! order of the two for it alone is lost: the result may then be wider than the architecture's.)

mod direct;
mod seen;

pub use direct::forwards;

use self::direct::{Set, WORDS, add, cacheable, concerns, found_by, ordered};
use crate::program::{Event, Granules, Observer, Op, Program};

/// Order that is taken to be there, or not, against the architecture: of two events of one CPU,
/// whether the first comes before the second, which is later in program order; none: as it is.
pub type Assume<'a> = &'a dyn Fn(&Event, &Event) -> Option<bool>;

/// The order of all parts of all events.
#[derive(Debug, Clone)]
pub struct Parts {
    events: usize,
    /// Of each part, the event and the line; none: the event is not wide.
    of: Vec<(usize, Option<u8>)>,
    before: Vec<Set>,
    local: Vec<Set>,
}

impl Parts {
    /// Of a program.
    pub fn of(program: &Program) -> Self {
        Parts::assuming(program, &|_, _| None)
    }

    /// Of a program, as if its order were another.
    pub fn assuming(program: &Program, assume: Assume<'_>) -> Self {
        let mut of = Vec::new();
        let mut parts = Vec::new();
        for (event, e) in program.events.iter().enumerate() {
            match &e.op {
                Op::Access { does, view, bytes } if bytes.lines().count() > 1 => {
                    for line in bytes.lines() {
                        of.push((event, Some(line)));
                        let bytes = bytes.and(Granules::line(line));
                        let (does, view) = (*does, *view);
                        let op = Op::Access { does, view, bytes };
                        parts.push(Event { by: e.by, op });
                    }
                }
                _ => {
                    of.push((event, None));
                    parts.push(e.clone());
                }
            }
        }
        // More than there is room for are not written, and not made by repairs.
        of.truncate(64 * WORDS);
        parts.truncate(64 * WORDS);
        let (before, local) = close(program, &of, &parts, assume);
        Parts {
            events: program.events.len(),
            of,
            before,
            local,
        }
    }

    /// What these lines (bit = number) feel of it.
    pub fn on(&self, lines: u8) -> Order {
        let here = |part: usize| self.of[part].1.is_none_or(|line| lines >> line & 1 != 0);
        let events = |set: &Set| {
            let parts = (0..self.of.len()).filter(|p| set[p / 64] >> (p % 64) & 1 != 0);
            let parts = parts.filter(|p| here(*p));
            parts.fold(0_u32, |all, p| all | 1 << self.of[p].0)
        };
        let mut order = Order {
            before: vec![0; self.events],
            local: vec![0; self.events],
        };
        for (part, (event, _)) in self.of.iter().enumerate().filter(|(p, _)| here(*p)) {
            order.before[*event] |= events(&self.before[part]);
            order.local[*event] |= events(&self.local[part]);
        }
        order
    }
}

/// What comes before each part, and what comes before it for itself only.
fn close(
    program: &Program,
    of: &[(usize, Option<u8>)],
    parts: &[Event],
    assume: Assume<'_>,
) -> (Vec<Set>, Vec<Set>) {
    let concerns: Vec<u8> = parts.iter().map(|e| concerns(program, e)).collect();
    let mut before = vec![Set::default(); parts.len()];
    let mut local = vec![Set::default(); parts.len()];
    let held_back = seen::held_back(program, of, parts);
    for j in 0..parts.len() {
        let held = held_back.as_ref().map_or_else(Set::default, |h| h[j]);
        for i in (0..j).filter(|i| of[*i].0 != of[j].0) {
            // All edges go down the list, so the closure is complete in one pass.
            let mut chain = before[i];
            chain[i / 64] |= 1 << (i % 64);
            let found = found_by(parts, i, j);
            let cpu = matches!(parts[i].by, Observer::Cpu(_)) && parts[i].by == parts[j].by;
            let assumed = cpu.then(|| assume(&parts[i], &parts[j])).flatten();
            if found && assumed != Some(false) {
                add(&mut local[j], &chain);
            }
            let is = || !(found && cacheable(&parts[j])) && ordered(parts, &concerns, i, j);
            let is = || held[i / 64] >> (i % 64) & 1 != 0 || is();
            if assumed.unwrap_or_else(is) {
                add(&mut before[j], &chain);
            }
        }
    }
    (before, local)
}

/// The order as some lines feel it: for each event, the set (bit = index) of those that come
/// before it.
#[derive(Debug, Clone)]
pub struct Order {
    before: Vec<u32>,
    local: Vec<u32>,
}

impl Order {
    /// Of a program, as all lines together feel it: an event comes before another if any part
    /// comes before any.
    pub fn of(program: &Program) -> Self {
        Parts::of(program).on(u8::MAX)
    }

    /// The events that a load comes after, but not what comes after the load.
    pub fn local(&self, event: usize) -> u32 {
        self.local.get(event).copied().unwrap_or(0)
    }

    /// The events before `event`.
    pub fn before(&self, event: usize) -> u32 {
        self.before.get(event).copied().unwrap_or(0)
    }

    /// Whether `a` comes before `b`.
    pub fn is_before(&self, a: usize, b: usize) -> bool {
        self.before(b) >> a & 1 != 0
    }

    /// Whether neither comes before the other.
    pub fn race(&self, a: usize, b: usize) -> bool {
        a != b && !self.is_before(a, b) && !self.is_before(b, a)
    }
}
