// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Programs made from a program, to find out where a difference comes from.

use staleline_litmus::order::Parts;
use staleline_litmus::program::{
    Barrier, Dc, Does, Event, Granules, MAX_EVENTS, MAX_OBSERVERS, Observer, Op, Orders, Policy,
    Program, Scope, View, ZERO,
};

/// Other orders of a program's events that are looked at.
const MAX_ORDERS: usize = 1000;

/// Events of a changed program: the explorer has sets of so many.
const MAX_CHANGED: usize = MAX_EVENTS + 8;

/// The same events in other orders that are as possible: one, and what its observer does after it,
/// comes later than what others do, or a fetch ahead comes earlier; and the same of that.
pub(crate) fn other_orders(program: &Program) -> Vec<Program> {
    let mut all = one_later(program);
    let mut next = 0;
    let first = all.len();
    while next < first && all.len() < MAX_ORDERS {
        for other in one_later(&all[next]) {
            if !all.contains(&other) {
                all.push(other);
            }
        }
        next += 1;
    }
    let later: Vec<Program> = all[..first].to_vec();
    all.extend(one_alone_later(program));
    all.extend(one_alone_early(program));
    // What is done again after a second doorbell may be what the first one asked for.
    for other in &later {
        for other in one_alone_early(other) {
            if all.len() < MAX_ORDERS && !all.contains(&other) {
                all.push(other);
            }
        }
    }
    all
}

/// Whether CPUs do the same in the same order.
pub(crate) fn same_on_cpus(a: &Program, b: &Program) -> bool {
    let cpus = |e: &&Event| matches!(e.by, Observer::Cpu(_));
    a.events
        .iter()
        .filter(cpus)
        .eq(b.events.iter().filter(cpus))
}

/// An access of a master earlier, or all of one master as early as they may come.
fn one_alone_early(program: &Program) -> Vec<Program> {
    let order = Parts::of(program).on(u8::MAX);
    let mut all = Vec::new();
    for i in 0..program.events.len() {
        if matches!(program.events[i].by, Observer::Cpu(_)) {
            continue;
        }
        let free = |j: &usize| !order.is_before(*j, i);
        for j in (0..i).rev().take_while(free) {
            let mut other = program.clone();
            let moved = other.events.remove(i);
            other.events.insert(j, moved);
            all.push(other);
        }
    }
    let one = |dev| as_early_as_started(program, &|i| program.events[i].by == Observer::Dev(dev));
    all.extend((0..MAX_OBSERVERS).map(one).filter(|p| p != program));
    all
}

/// The same with accesses of masters as early as they may come; `which`: by index.
fn as_early_as_started(program: &Program, which: &dyn Fn(usize) -> bool) -> Program {
    early(program, &|i, _| which(i)).0
}

/// The same with accesses of masters that do not snoop, and writes of others, as early as they may come, each
/// behind what masters did before; what is written into the cache, also behind what CPUs store to its lines.
/// Also the index of each event before.
pub(crate) fn masters_early(program: &Program) -> (Program, Vec<usize>) {
    masters_early_but(program, &|_, _| false)
}

/// The same, but what is written through the caches stays behind what CPUs store to its lines if another such
/// write of the line follows: that one pushes out the store, and takes it to be before both. None: nothing is so.
pub(crate) fn masters_early_that_push_last(program: &Program) -> Option<(Program, Vec<usize>)> {
    let order = Parts::of(program).on(u8::MAX);
    let events = &program.events;
    let stays = |i: usize, j: usize| {
        let lines = lines(&events[i]);
        let stored = events[j].write().is_some() && events[j].bytes().meets(lines);
        let mut later = events.iter().enumerate().skip(i + 1);
        stored
            && program.policy == Policy::WriteThrough
            && snooping_write(&events[i])
            && later
                .any(|(k, e)| snooping_write(e) && e.bytes().meets(lines) && !order.is_before(j, k))
    };
    let any = (0..events.len()).any(|i| (0..i).any(|j| stays(i, j)));
    any.then(|| masters_early_but(program, &stays))
}

/// `stays`: whether the one event stays behind the other all the same.
fn masters_early_but(
    program: &Program,
    stays: &dyn Fn(usize, usize) -> bool,
) -> (Program, Vec<usize>) {
    let by_master = |i: usize| matches!(program.events[i].by, Observer::Dev(_));
    let may = |i: usize, j: usize| {
        let (e, before) = (&program.events[i], &program.events[j]);
        let writes = e.write().map(|(view, _)| view);
        match e.read().or(writes) {
            Some(View::NonSnooping) => !is_prefetch(e),
            Some(View::Snooping) if program.policy == Policy::Allocate => {
                writes.is_some() && !(before.write().is_some() && before.bytes().meets(lines(e)))
            }
            Some(View::Snooping) => writes.is_some(),
            _ => false,
        }
    };
    early(program, &|i, j| !by_master(j) && may(i, j) && !stays(i, j))
}

/// All bytes of an event's lines.
fn lines(event: &Event) -> Granules {
    let lines = event.bytes().lines().map(Granules::line);
    lines.fold(Granules::NONE, Granules::or)
}

/// The same with a doorbell, and what its master writes through the caches then, ahead of what the CPU stores
/// or maintains before it and nothing orders: what such a write pushes out with the line may as well come
/// after it. One for each master of which that is so.
pub(crate) fn doorbells_early(program: &Program) -> Vec<Program> {
    if program.policy != Policy::WriteThrough {
        return Vec::new();
    }
    let events = &program.events;
    let may = |i: usize, dev: u8| {
        let e = &events[i];
        e.op == Op::Doorbell(dev) || e.by == Observer::Dev(dev) && snooping_write(e)
    };
    let on_its_way = |j: usize| {
        let e = &events[j];
        matches!(e.by, Observer::Cpu(_)) && (e.write().is_some() || e.maintains().is_some())
    };
    (0..MAX_OBSERVERS)
        .filter(|dev| {
            events
                .iter()
                .any(|e| e.by == Observer::Dev(*dev) && snooping_write(e))
        })
        .map(|dev| early(program, &|i, j| may(i, dev) && on_its_way(j)).0)
        .filter(|other| !same_on_cpus(program, other))
        .collect()
}

fn snooping_write(event: &Event) -> bool {
    let master = matches!(event.by, Observer::Dev(_));
    master && matches!(event.write(), Some((View::Snooping, _)))
}

/// `past`: whether the one event may go past the other, by index, if nothing orders them.
fn early(program: &Program, past: &dyn Fn(usize, usize) -> bool) -> (Program, Vec<usize>) {
    let order = Parts::of(program).on(u8::MAX);
    // What has been placed, by index.
    let mut placed: Vec<usize> = Vec::new();
    for i in 0..program.events.len() {
        let stays = |j: &usize| !past(i, *j) || order.is_before(*j, i);
        let place = placed.iter().rposition(stays).map_or(0, |n| n + 1);
        placed.insert(place, i);
    }
    let mut early = program.clone();
    early.events = placed.iter().map(|i| program.events[*i].clone()).collect();
    (early, placed)
}

/// One event later than others, of its own observer too, where nothing orders them.
fn one_alone_later(program: &Program) -> Vec<Program> {
    let order = Parts::of(program).on(u8::MAX);
    let mut all = Vec::new();
    for i in 0..program.events.len() {
        let free = |j: &usize| !order.is_before(i, *j);
        for j in (i + 1..program.events.len()).take_while(free) {
            let mut other = program.clone();
            let moved = other.events.remove(i);
            other.events.insert(j, moved);
            all.push(other);
        }
    }
    all
}

/// The same with each access of several lines taken apart; none: there is no such.
pub(crate) fn apart_by_line(program: &Program) -> Option<Program> {
    let mut other = program.clone();
    other.events.clear();
    for event in &program.events {
        match &event.op {
            Op::Access { does, view, bytes } => {
                other.events.extend(bytes.lines().map(|line| Event {
                    by: event.by,
                    op: Op::Access {
                        does: *does,
                        view: *view,
                        bytes: bytes.and(Granules::line(line)),
                    },
                }));
            }
            _ => other.events.push(event.clone()),
        }
    }
    let more = other.events.len() > program.events.len();
    (more && other.events.len() <= MAX_EVENTS).then_some(other)
}

/// The same with each master told by a doorbell before the first access that nobody has told it to make, by a
/// doorbell or by a word that it polls: behind all that the CPU has done by then. None: there is no such
/// access, or there would be too many events.
pub(crate) fn all_told(program: &Program) -> Option<Program> {
    all_told_at(program).map(|(other, _)| other)
}

/// The same, with the new index of each event.
pub(crate) fn all_told_at(program: &Program) -> Option<(Program, Vec<usize>)> {
    let mut other = program.clone();
    let mut places = Vec::new();
    other.events.clear();
    let (mut told, mut acted) = (0_u8, false);
    for event in &program.events {
        match (event.by, &event.op) {
            (_, Op::Doorbell(dev)) => told |= 1 << dev,
            // What is fetched ahead waits for nothing that it could be told.
            (Observer::Dev(dev), Op::Access { .. } | Op::Begin { .. }) if !is_prefetch(event) => {
                if told >> dev & 1 == 0 && event.poll().is_none() {
                    let ops = [acted.then_some(DSB_SY), Some(Op::Doorbell(dev))];
                    let by = Observer::Cpu(0);
                    let ops = ops.into_iter().flatten();
                    other.events.extend(ops.map(|op| Event { by, op }));
                    acted = true;
                }
                told |= 1 << dev;
            }
            _ => {}
        }
        acted |= matches!(event.by, Observer::Cpu(_));
        places.push(other.events.len());
        other.events.push(event.clone());
    }
    let more = other.events.len() > program.events.len();
    (more && other.events.len() <= MAX_CHANGED).then_some((other, places))
}

/// Whether it is what a master fetches ahead, waiting for nothing.
pub(crate) fn is_prefetch(event: &Event) -> bool {
    let does = Does::Prefetch;
    matches!(&event.op, Op::Access { does: it, .. } if *it == does)
}

fn one_later(program: &Program) -> Vec<Program> {
    let order = Parts::of(program).on(u8::MAX);
    let events = &program.events;
    let mut all = Vec::new();
    for (i, moved) in events.iter().enumerate() {
        if is_prefetch(moved) {
            for place in 0..i {
                let mut other = program.clone();
                let moved = other.events.remove(i);
                other.events.insert(place, moved);
                all.push(other);
            }
        }
        // What tells or waits is the order itself.
        if matches!(moved.op, Op::Doorbell(_) | Op::Wait(_) | Op::Acquire(_)) {
            continue;
        }
        for j in i + 1..events.len() {
            let (late, early): (Vec<usize>, Vec<usize>) =
                (i..=j).partition(|k| events[*k].by == moved.by);
            let may = |late: &usize| !early.iter().any(|e| order.is_before(*late, *e));
            if early.last() != Some(&j) || !late.iter().all(may) {
                continue;
            }
            let mut other = program.clone();
            let mut reordered: Vec<Event> = events[..i].to_vec();
            reordered.extend(early.iter().chain(&late).map(|k| events[*k].clone()));
            reordered.extend_from_slice(&events[j + 1..]);
            other.events = reordered;
            all.push(other);
        }
    }
    all
}

/// The same on a machine without caches: all memory is as coherent observers see it.
pub(crate) fn without_caches(program: &Program) -> Program {
    let mut other = program.clone();
    for name in &mut other.names {
        name.cacheable = false;
    }
    for initial in &mut other.initial {
        initial.memory = initial.dirty.take().unwrap_or(initial.memory);
    }
    for event in &mut other.events {
        match &mut event.op {
            Op::Access { view, .. } => {
                *view = match *view {
                    View::WriteBack | View::WriteThrough => View::NonCacheable,
                    View::Snooping => View::NonSnooping,
                    other => other,
                };
            }
            Op::Dc { op, line } if op.zeroes() => {
                event.op = Op::Access {
                    does: Does::Write(ZERO),
                    view: View::NonCacheable,
                    bytes: Granules::line(*line),
                };
            }
            _ => {}
        }
    }
    other
}

const DSB_SY: Op = Op::Barrier(Barrier {
    completes: true,
    orders: Orders::Full,
    scope: Scope::Everyone { outer: false },
});

/// The events up to `at`, with everything settled and read then: masters waited for, caches cleaned
/// and invalidated, all bytes loaded. None: that would be too many events.
pub(crate) fn read_after(program: &Program, at: usize) -> Option<Program> {
    let mut other = program.clone();
    other.events.truncate(at + 1);
    let mut add = |op| {
        let by = Observer::Cpu(0);
        other.events.push(Event { by, op });
    };
    for dev in 0..MAX_OBSERVERS {
        if program.events.iter().any(|e| e.by == Observer::Dev(dev)) {
            add(Op::Wait(dev));
        }
    }
    for name in &program.names {
        add(DSB_SY);
        if name.cacheable {
            for line in name.first..name.first + name.lines {
                add(Op::Dc {
                    op: Dc::Civac,
                    line,
                });
            }
            add(DSB_SY);
        }
        let view = if name.cacheable {
            View::WriteBack
        } else {
            View::NonCacheable
        };
        add(Op::Access {
            does: Does::Read,
            view,
            bytes: name.bytes(),
        });
    }
    (other.events.len() <= MAX_CHANGED).then_some(other)
}

/// The same with the CPU in between before a master's access: it waits for it, maintains the lines of
/// some bytes, and tells it to go on. Also the new index of the access.
pub(crate) fn apart(
    program: &Program,
    access: usize,
    dev: u8,
    bytes: Granules,
    op: Dc,
) -> (Program, usize) {
    let mut ops = vec![Op::Wait(dev), DSB_SY];
    ops.extend(bytes.lines().map(|line| Op::Dc { op, line }));
    ops.extend([DSB_SY, Op::Doorbell(dev)]);
    let count = ops.len();
    let mut other = program.clone();
    for op in ops.into_iter().rev() {
        let by = Observer::Cpu(0);
        other = other.with(access, Event { by, op });
    }
    (other, access + count)
}
