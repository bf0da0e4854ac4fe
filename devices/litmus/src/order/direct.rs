// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What comes directly before what: the rules, of two events at a time.

use crate::program::{
    Barrier, Does, Event, Granules, MAX_EVENTS, MAX_LINES, Observer, Op, Orders, Program, Scope,
};

/// Parts that come before a part: bit = index.
pub(super) type Set = [u64; WORDS];

/// Enough for each event of a repaired program on each line.
pub(super) const WORDS: usize = ((MAX_EVENTS + 8) * MAX_LINES).div_ceil(64);

pub(super) fn add(set: &mut Set, others: &Set) {
    for (word, more) in set.iter_mut().zip(others) {
        *word |= more;
    }
}

fn bit(observer: Observer) -> u8 {
    match observer {
        Observer::Cpu(n) => 1 << (n & 3),
        Observer::Dev(n) => 0x10 << (n & 3),
    }
}

/// Observers other than its own that an event concerns: bits 0 to 3 CPUs, 4 to 7 masters.
pub(super) fn concerns(program: &Program, event: &Event) -> u8 {
    let touched = match &event.op {
        // What one master does may set off another.
        Op::Doorbell(_) | Op::Wait(_) => return 0xf0,
        Op::Acquire(cpu) => return bit(event.by) | bit(Observer::Cpu(*cpu)),
        Op::Dc { line, .. } => Granules::line(*line),
        _ => event.bytes(),
    };
    let others = program.events.iter().filter(|e| {
        let mut lines = e.bytes().lines();
        e.by != event.by && lines.any(|l| touched.meets(Granules::line(l)))
    });
    others.fold(0, |all, e| all | bit(e.by))
}

/// Observers that a barrier does not order anything for.
fn beyond(scope: Scope, cpu: u8) -> u8 {
    match scope {
        Scope::Own => !bit(Observer::Cpu(cpu)),
        Scope::Inner => 0xf0,
        Scope::Everyone { .. } => 0,
    }
}

/// What an event is to the barriers of a CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Load,
    Store,
    Maintenance,
    /// Neither: barriers, and what gives no order.
    Nothing,
}

/// What an event is on a CPU: an acquire is a store (the release) on the one that it takes from.
fn class(event: &Event, cpu: u8) -> Class {
    if let Op::Acquire(from) = event.op
        && event.by != Observer::Cpu(cpu)
        && from == cpu
    {
        return Class::Store;
    }
    if event.by != Observer::Cpu(cpu) {
        return Class::Nothing;
    }
    match &event.op {
        Op::Access {
            does: Does::Write(_),
            ..
        }
        | Op::Doorbell(_) => Class::Store,
        Op::Access { .. } | Op::Wait(_) | Op::Acquire(_) => Class::Load,
        Op::Dc { op, .. } if op.zeroes() => Class::Store,
        Op::Dc { .. } => Class::Maintenance,
        _ => Class::Nothing,
    }
}

fn barrier_orders(barrier: Barrier, first: Class, second: Class) -> bool {
    if first == Class::Nothing || second == Class::Nothing {
        return false;
    }
    match barrier.orders {
        Orders::Full => true,
        Orders::Stores => first == Class::Store && (barrier.completes || second == Class::Store),
        Orders::Loads => {
            first == Class::Load && (barrier.completes || second != Class::Maintenance)
        }
    }
}

/// Whether event `i` comes directly before event `j`, further down the list.
pub(super) fn ordered(events: &[Event], concerns: &[u8], i: usize, j: usize) -> bool {
    let (a, b) = (&events[i], &events[j]);
    across(a, b) || on_device(a, b) || {
        (0..crate::program::MAX_OBSERVERS).any(|cpu| on_cpu(events, concerns, i, j, cpu))
    }
}

/// Doorbells and waits order different observers.
fn across(a: &Event, b: &Event) -> bool {
    let prefetch = matches!(
        b.op,
        Op::Access {
            does: Does::Prefetch,
            ..
        }
    );
    match (&a.op, &b.op) {
        (_, Op::Wait(d)) if a.by == Observer::Dev(*d) => true,
        (Op::Doorbell(d), _) => b.by == Observer::Dev(*d) && !prefetch,
        _ => false,
    }
}

fn on_device(a: &Event, b: &Event) -> bool {
    let prefetch = matches!(
        b.op,
        Op::Access {
            does: Does::Prefetch,
            ..
        }
    );
    let bounds = |e: &Event| matches!(e.op, Op::Begin { .. } | Op::End { .. });
    matches!(a.by, Observer::Dev(_)) && a.by == b.by && !prefetch && !bounds(a) && !bounds(b)
}

pub(super) fn on_cpu(events: &[Event], concerns: &[u8], i: usize, j: usize, cpu: u8) -> bool {
    let (a, b) = (&events[i], &events[j]);
    let (first, second) = (class(a, cpu), class(b, cpu));
    if first == Class::Nothing || second == Class::Nothing {
        return false;
    }
    let own = |e: &Event| e.by == Observer::Cpu(cpu);
    // Release: what comes before it, but not maintenance. Acquire: what comes after it, likewise.
    if let Op::Acquire(from) = b.op
        && from == cpu
        && !own(b)
        && first != Class::Maintenance
    {
        return true;
    }
    if matches!(a.op, Op::Acquire(_)) && own(a) && second != Class::Maintenance {
        return true;
    }
    if own(a) && own(b) {
        match (&a.op, &b.op) {
            (Op::Wait(_), _) => return true,
            (Op::Doorbell(x), Op::Doorbell(y) | Op::Wait(y)) if x == y => return true,
            (Op::Access { view: x, .. }, Op::Access { view: y, .. })
                if x == y && a.bytes().meets(b.bytes()) && !forwards(a, b) =>
            {
                return true;
            }
            _ => {}
        }
        if a.poll().is_some() && second == Class::Store {
            return true;
        }
        if same_line(a, b) || same_line(b, a) || zeroes_same(a, b) {
            return true;
        }
    }
    // An invalidate acts on the caches of the inner domain: before it, order within that is enough.
    let caches = b.maintains().is_some_and(|(dc, _)| dc.invalidates());
    // Where nobody sees both, the order counts for what else is behind the second one: for those who
    // see the first.
    let shared = match concerns[i] & concerns[j] {
        0 => concerns[i],
        shared => shared,
    };
    let shared = match (past(a, b) || past(b, a), caches) {
        (true, _) => 0,
        (false, true) => shared & 0x0f,
        (false, false) => shared,
    };
    events[i + 1..j].iter().any(|e| match e.op {
        Op::Barrier(barrier) if e.by == Observer::Cpu(cpu) => {
            // Nothing behind a DSB executes before the loads ahead of it have their values.
            let returned = barrier.completes && first == Class::Load;
            (returned || beyond(barrier.scope, cpu) & shared == 0)
                && barrier_orders(barrier, first, second)
        }
        _ => false,
    })
}

/// Maintenance of a line and an access past the cache of it: both meet at the PoC, which is one place
/// for all, so a barrier for the CPU itself is enough between the two.
fn past(a: &Event, b: &Event) -> bool {
    let line = a.maintains().map(|(_, line)| Granules::line(line));
    line.is_some_and(|line| b.bytes().meets(line)) && !cacheable(b)
}

/// A load that finds what maintenance of its line left: through the cache, or past it behind a full
/// barrier, of whatever domain, for the CPU itself is in each.
pub(super) fn found_by(events: &[Event], i: usize, j: usize) -> bool {
    let (a, b) = (&events[i], &events[j]);
    let line = a.maintains().map(|(_, line)| Granules::line(line));
    let cpu = matches!(a.by, Observer::Cpu(_)) && a.by == b.by;
    let full = |e: &Event| {
        let full = matches!(e.op, Op::Barrier(barrier) if barrier.orders == Orders::Full);
        e.by == a.by && full
    };
    let loads = b.read().is_some() || b.poll().is_some();
    let load = loads && (cacheable(b) || events[i + 1..j].iter().any(full));
    cpu && load && line.is_some_and(|line| b.bytes().meets(line))
}

/// Maintenance of a line that the other one maintains or accesses cacheably.
fn same_line(a: &Event, b: &Event) -> bool {
    let Some((_, line)) = a.maintains() else {
        return false;
    };
    b.maintains().is_some_and(|(_, other)| line == other)
        || (cacheable(b) && b.bytes().meets(Granules::line(line)))
}

pub(super) fn cacheable(event: &Event) -> bool {
    match &event.op {
        Op::Access { view, .. } => *view == crate::program::View::WriteBack,
        Op::Dc { op, .. } => op.zeroes(),
        _ => false,
    }
}

/// `dc zva` is a store of all bytes of the line.
fn zeroes_same(a: &Event, b: &Event) -> bool {
    cacheable(a) && cacheable(b) && a.bytes().meets(b.bytes()) && !forwards(a, b)
}

/// Whether `b`, later in program order, is a load that may get its value from the store `a` of the
/// same CPU while that is not yet visible (DDI 0487, B2.3: a load that reads from a store of its
/// own is not ordered after it for others).
pub fn forwards(a: &Event, b: &Event) -> bool {
    let (Some((stored, _)), Some(loaded)) = (a.write(), b.read()) else {
        return false;
    };
    matches!(a.by, Observer::Cpu(_))
        && a.by == b.by
        && stored == loaded
        && a.bytes().meets(b.bytes())
}
