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
//! polls the second one, what it does behind a full barrier of its own is ordered ([`seen`]). (Another
//! order of the two for it alone is lost: the result may then be wider than the architecture's.)

use crate::program::{
    Barrier, Does, Event, Granules, MAX_EVENTS, MAX_LINES, Observer, Op, Orders, Program, Scope,
};

/// Order that is taken to be there, or not, against the architecture: of two events of one CPU,
/// whether the first comes before the second, which is later in program order; none: as it is.
pub type Assume<'a> = &'a dyn Fn(&Event, &Event) -> Option<bool>;

/// Parts that come before a part: bit = index.
type Set = [u64; WORDS];

/// Enough for each event of a repaired program on each line.
const WORDS: usize = ((MAX_EVENTS + 8) * MAX_LINES).div_ceil(64);

fn add(set: &mut Set, others: &Set) {
    for (word, more) in set.iter_mut().zip(others) {
        *word |= more;
    }
}

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

fn bit(observer: Observer) -> u8 {
    match observer {
        Observer::Cpu(n) => 1 << (n & 3),
        Observer::Dev(n) => 0x10 << (n & 3),
    }
}

/// Observers other than its own that an event concerns: bits 0 to 3 CPUs, 4 to 7 masters.
fn concerns(program: &Program, event: &Event) -> u8 {
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
fn ordered(events: &[Event], concerns: &[u8], i: usize, j: usize) -> bool {
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

fn on_cpu(events: &[Event], concerns: &[u8], i: usize, j: usize, cpu: u8) -> bool {
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
fn found_by(events: &[Event], i: usize, j: usize) -> bool {
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

fn cacheable(event: &Event) -> bool {
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

mod seen {
    //! What a CPU has come to see by a word that it polls, and so holds back with its own barriers.
    //!
    //! `store A; dmb ishst; store flag` on one CPU is no order for a master that sees both. But a CPU that
    //! has polled `flag` has observed A too, for both are in the inner domain; and a full barrier of its own
    //! orders what it has observed before what it does next, for all observers in the barrier's domain
    //! (DDI 0487, B2.3: barriers are cumulative). So its clean of A, or its doorbell, is behind that store.
    //!
    //! This is an order of the store and of what is behind the barrier only. The flag is not behind the
    //! store for those outside the inner domain, which is why it is no matter of [`super::on_cpu`].

    use super::{Set, cacheable, found_by, on_cpu};
    use crate::program::{Barrier, Event, Observer, Op, Orders, Program, Scope};

    /// The CPUs, all of them, whoever touches what.
    const INNER: u8 = 0x0f;

    /// For each part, the parts that are stores of other CPUs and are held back by a barrier of its own CPU: only
    /// such as stand further up the list. None: no CPU polls what another one stores.
    pub(super) fn held_back(
        program: &Program,
        of: &[(usize, Option<u8>)],
        parts: &[Event],
    ) -> Option<Vec<Set>> {
        let awaited: Vec<(usize, usize)> = (0..parts.len())
            .filter_map(|poll| stored(program, parts, poll).map(|store| (store, poll)))
            .filter(|(store, poll)| store < poll)
            .collect();
        if awaited.is_empty() {
            return None;
        }
        let inner = as_cpus_see(of, parts, &awaited);
        let is_store =
            |i: usize| matches!(parts[i].by, Observer::Cpu(_)) && parts[i].write().is_some();
        let stores = (0..parts.len()).filter(|i| is_store(*i));
        let stores = stores.fold(Set::default(), |mut all, i| {
            all[i / 64] |= 1 << (i % 64);
            all
        });
        let mut held = vec![Set::default(); parts.len()];
        for (_, poll) in &awaited {
            let by = parts[*poll].by;
            let full = |e: &Event| e.by == by && holds_back_all(e);
            let barrier = (poll + 1..parts.len()).find(|i| full(&parts[*i]));
            let behind = barrier.map_or(parts.len(), |barrier| barrier + 1);
            for j in (behind..parts.len()).filter(|j| parts[*j].by == by) {
                for (word, (seen, stores)) in
                    held[j].iter_mut().zip(inner[*poll].iter().zip(stores))
                {
                    *word |= seen & stores;
                }
            }
        }
        Some(held)
    }

    /// What comes before each part for the CPUs, which are all in the inner domain: on one of them, and from
    /// a store to the poll that waits for it.
    fn as_cpus_see(
        of: &[(usize, Option<u8>)],
        parts: &[Event],
        awaited: &[(usize, usize)],
    ) -> Vec<Set> {
        let concerns = vec![INNER; parts.len()];
        let mut before = vec![Set::default(); parts.len()];
        for j in 0..parts.len() {
            for i in (0..j).filter(|i| of[*i].0 != of[j].0) {
                let found = found_by(parts, i, j) && cacheable(&parts[j]);
                let on_one = |cpu| on_cpu(parts, &concerns, i, j, cpu);
                let same = !found && (0..crate::program::MAX_OBSERVERS).any(on_one);
                if same || awaited.contains(&(i, j)) {
                    let mut chain = before[i];
                    chain[i / 64] |= 1 << (i % 64);
                    super::add(&mut before[j], &chain);
                }
            }
        }
        before
    }

    /// A full barrier for everyone.
    fn holds_back_all(event: &Event) -> bool {
        matches!(
            event.op,
            Op::Barrier(Barrier {
                orders: Orders::Full,
                scope: Scope::Everyone { .. },
                ..
            })
        )
    }

    /// The store of another CPU that a CPU's poll waits for; none: there is no such, or more than one, or what
    /// was there at first ends the poll too, or the two views differ, which promises no order.
    fn stored(program: &Program, parts: &[Event], poll: usize) -> Option<usize> {
        let event = &parts[poll];
        let (view, value) = event.poll()?;
        let is_there = |g: u8| {
            let initial = program.initial[usize::from(g)];
            initial.memory == value || initial.dirty == Some(value)
        };
        if !matches!(event.by, Observer::Cpu(_)) || event.bytes().iter().any(is_there) {
            return None;
        }
        let ends = |e: &Event| {
            let written = e.write().map(|(_, value)| value);
            written == Some(value) && e.bytes().meets(event.bytes())
        };
        let mut all = (0..parts.len()).filter(|i| ends(&parts[*i]));
        let store = all.next().filter(|_| all.next().is_none())?;
        let by = parts[store].by;
        let other = matches!(by, Observer::Cpu(_)) && by != event.by;
        let same_view = parts[store]
            .write()
            .is_some_and(|(stored, _)| stored == view);
        (other && same_view).then_some(store)
    }

    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    mod tests {
        use crate::case;
        use crate::explore::explore;

        #[track_caller]
        fn safe(expected: bool, events: &[&str]) {
            let file = format!(
                "schema = 1\n[[case]]\ninit = [\"A+0..64 mem=a\", \"B+0..64 mem=b\"]\ncacheable = [\"A\", \
             \"B\"]\npolicy = \"wt\"\nevents = {events:?}\n"
            );
            let program = case::parse(&file, "f").unwrap().remove(0).program;
            assert_eq!(explore(&program).unwrap().safe(), expected, "{events:?}");
        }

        const STORE: &str = "cpu1 store wb A+0..64 = n";
        const ISHST: &str = "cpu1 dmb ishst";
        const FLAG: &str = "cpu1 store wb B+0..8 = go";
        const POLL: &str = "cpu0 poll wb B+0..8 == go";
        const DSB: &str = "cpu0 dsb sy";
        const CLEAN: &str = "cpu0 dc cvac A+0";
        const BELL: &str = "cpu0 doorbell dev0";
        const READ: &str = "dev0 read ns A+0..64";
        const SNOOP: &str = "dev0 read snoop A+0..64";

        #[test]
        fn a_store_that_the_cpu_has_seen_that_hands_it_over() {
            let seen = [STORE, ISHST, FLAG, POLL];
            for full in [DSB, "cpu0 dmb sy", "cpu0 dmb osh"] {
                safe(true, &[&seen[..], &[full, CLEAN, DSB, BELL, READ]].concat());
                safe(true, &[&seen[..], &[full, BELL, SNOOP]].concat());
            }
            // By way of a third one, behind a barrier, or because its store hangs on the poll.
            for barrier in [&["cpu2 dmb ish"][..], &[]] {
                let events = [
                    &[STORE, ISHST, FLAG, "cpu2 poll wb B+0..8 == go"][..],
                    barrier,
                    &["cpu2 store wb B+8..16 = on", "cpu0 poll wb B+8..16 == on"],
                    &[DSB, CLEAN, DSB, BELL, READ],
                ];
                safe(true, &events.concat());
            }
        }

        #[test]
        fn what_is_missing_is_missing_still() {
            let rest = [DSB, CLEAN, DSB, BELL, READ];
            // On the CPU that stores: a barrier for the other CPUs, between the two.
            for before in [
                &[STORE, FLAG][..],
                &[STORE, "cpu1 dsb nsh", FLAG],
                &[FLAG, STORE],
            ] {
                safe(false, &[before, &[POLL], &rest].concat());
            }
            // On the one that has seen it: a barrier for the master, the clean, and a barrier behind that.
            let seen = [STORE, ISHST, FLAG, POLL];
            for rest in [
                &[CLEAN, DSB, BELL, READ][..],
                &["cpu0 dmb ish", CLEAN, DSB, BELL, READ],
                &["cpu0 dsb st", CLEAN, DSB, BELL, READ],
                &[DSB, BELL, READ],
                &[DSB, CLEAN, BELL, READ],
                &["cpu0 dmb ish", BELL, SNOOP],
            ] {
                safe(false, &[&seen[..], rest].concat());
            }
            // A master that sees the word itself is not in the domain of that barrier.
            let word = "dev0 poll snoop B+0..8 == go";
            safe(false, &[&seen[..], &[DSB, word, SNOOP]].concat());
            // Somebody else may have stored the word.
            let other = "cpu2 store wb B+0..8 = go";
            safe(
                false,
                &[&[STORE, ISHST, FLAG, other, POLL][..], &rest].concat(),
            );
            // Nor does a master in between hand on what a CPU has not told it in its domain.
            let master = ["cpu1 doorbell dev1", "dev1 write snoop B+0..8 = go", POLL];
            safe(false, &[&[STORE, ISHST][..], &master, &rest].concat());
            // Maintenance for the CPUs only is not done for a master.
            let clean = ["cpu1 dc cvac A+0", "cpu1 dsb ish", FLAG, POLL];
            safe(false, &[&[STORE][..], &clean, &[DSB, BELL, READ]].concat());
        }
    }
}
