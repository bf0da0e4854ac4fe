// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The explorer against a second one that saves nothing: whole states, reads as steps, no slices,
//! no classes of bytes. Slow, short, and hard to get wrong.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashSet};

use staleline_litmus::explore::explore;
use staleline_litmus::generate::{Shape, program};
use staleline_litmus::order::{Order, Parts, forwards};
use staleline_litmus::program::{Granules, Policy, Program, View};

#[derive(Clone, PartialEq, Eq, Hash)]
struct Whole {
    done: Vec<bool>,
    memory: Vec<u8>,
    /// For each line: its values, and whether it is dirty.
    cache: Vec<Option<(Vec<u8>, bool)>>,
    /// For each granule: the event that wrote last (none: nobody), and whether what it wrote was
    /// destroyed.
    last: Vec<(Option<usize>, u8, bool)>,
}

#[derive(Default, Debug, PartialEq, Eq)]
struct Outcome {
    /// (read, granule): values.
    values: BTreeMap<(usize, u8), BTreeSet<u8>>,
    /// (write, granule): lost and missed.
    lost: BTreeSet<(Option<usize>, u8)>,
}

impl Whole {
    fn fill(&mut self, line: usize) {
        if self.cache[line].is_none() {
            let values = self.memory[8 * line..8 * line + 8].to_vec();
            self.cache[line] = Some((values, false));
        }
    }

    fn clean(&mut self, line: usize) {
        if let Some((values, dirty @ true)) = &mut self.cache[line] {
            self.memory[8 * line..8 * line + 8].copy_from_slice(values);
            *dirty = false;
        }
    }

    fn read(&self, g: usize, coherent: bool) -> u8 {
        match &self.cache[g / 8] {
            Some((values, _)) if coherent => values[g % 8],
            _ => self.memory[g],
        }
    }

    fn judge(&mut self) {
        for g in 0..self.memory.len() {
            let (_, value, gone) = self.last[g];
            let there = self.memory[g] == value || self.read(g, true) == value;
            self.last[g].2 = gone || !there;
        }
    }

    fn write(&mut self, program: &Program, event: usize, view: View, value: u8) {
        let bytes = program.events[event].bytes();
        let allocates = view == View::Snooping && program.policy == Policy::Allocate;
        for line in bytes.lines().map(usize::from) {
            if view == View::WriteBack || allocates {
                self.fill(line);
                self.cache[line].as_mut().unwrap().1 = true;
            } else if view == View::Snooping {
                self.clean(line);
                self.judge();
                self.cache[line] = None;
            }
        }
        for g in bytes.iter().map(usize::from) {
            if view == View::WriteBack || allocates {
                self.cache[g / 8].as_mut().unwrap().0[g % 8] = value;
            } else {
                self.memory[g] = value;
            }
            self.last[g] = (Some(event), value, false);
        }
    }
}

/// Whether no line feels another order than all lines together: here, events are not taken apart.
fn same_order_everywhere(program: &Program, order: &Order) -> bool {
    let parts = Parts::of(program);
    (0..program.lines()).all(|line| {
        let here = parts.on(1 << line);
        let touches = |e: usize| {
            let event = &program.events[e];
            let maintains = event.maintains().is_some_and(|(_, l)| l == line);
            maintains || event.bytes().meets(Granules::line(line))
        };
        (0..program.events.len()).filter(|e| touches(*e)).all(|b| {
            let mut before = (0..b).filter(|a| touches(*a));
            before.all(|a| here.is_before(a, b) == order.is_before(a, b))
        })
    })
}

fn naive(program: &Program) -> Option<Outcome> {
    let order = Order::of(program);
    if !same_order_everywhere(program, &order) {
        return None;
    }
    let granules = 8 * usize::from(program.lines());
    let mut first = Whole {
        done: vec![false; program.events.len()],
        memory: program.initial[..granules]
            .iter()
            .map(|i| i.memory)
            .collect(),
        cache: vec![None; granules / 8],
        last: Vec::new(),
    };
    for line in 0..granules / 8 {
        if program.dirty_at_first(line as u8) {
            first.fill(line);
            let (values, dirty) = first.cache[line].as_mut().unwrap();
            *dirty = true;
            for (g, value) in values.iter_mut().enumerate() {
                *value = program.initial[8 * line + g].dirty.unwrap_or(*value);
            }
        }
    }
    first.last = (0..granules)
        .map(|g| (None, first.read(g, true), false))
        .collect();
    let mut outcome = Outcome::default();
    let mut seen = HashSet::from([first.clone()]);
    let mut work = vec![first];
    while let Some(state) = work.pop() {
        if seen.len() > 30_000 {
            return None;
        }
        let mut next = Vec::new();
        for line in 0..state.cache.len() {
            let mut s = state.clone();
            match &state.cache[line] {
                None if program.cacheable(line as u8) => s.fill(line),
                None => continue,
                Some((_, true)) => s.clean(line),
                Some((_, false)) => s.cache[line] = None,
            }
            s.judge();
            next.push(s);
        }
        for (i, e) in program.events.iter().enumerate() {
            let is_read = |e: usize| program.events[e].read().is_some();
            // A read is made in time, or, in this walk, never: nothing waits for it.
            let waits = (0..i).any(|p| {
                let before = order.is_before(p, i) || order.local(i) >> p & 1 != 0;
                before && !is_read(p) && !state.done[p]
            });
            let late = is_read(i)
                && (0..program.events.len())
                    .any(|x| order.is_before(i, x) && !is_read(x) && state.done[x]);
            if state.done[i] || waits || late {
                continue;
            }
            let mut s = state.clone();
            s.done[i] = true;
            if let Some(view) = e.read() {
                for g in e.bytes().iter() {
                    let own = (0..i).rfind(|w| {
                        let store = &program.events[*w];
                        forwards(store, e) && store.bytes().has(g)
                    });
                    if let Some(w) = own.filter(|w| !state.done[*w]) {
                        let value = program.events[w].write().unwrap().1;
                        outcome.values.entry((i, g)).or_default().insert(value);
                        continue;
                    }
                    let value = s.read(usize::from(g), view.coherent());
                    outcome.values.entry((i, g)).or_default().insert(value);
                    let (last, _, gone) = s.last[usize::from(g)];
                    if gone {
                        outcome.lost.insert((last, g));
                    }
                }
            } else if let Some((view, value)) = e.write() {
                s.write(program, i, view, value);
            } else if let Some((dc, line)) = e.maintains() {
                if dc.cleans() {
                    s.clean(usize::from(line));
                    s.judge();
                }
                if dc.invalidates() {
                    s.cache[usize::from(line)] = None;
                }
            }
            s.judge();
            next.push(s);
        }
        let reads = |i: usize| program.events[i].read().is_some();
        if state.done.iter().enumerate().all(|(i, d)| *d || reads(i)) {
            for (g, (last, _, gone)) in (0_u8..).zip(&state.last) {
                if *gone {
                    outcome.lost.insert((*last, g));
                }
            }
        }
        work.extend(next.into_iter().filter(|s| seen.insert(s.clone())));
    }
    Some(outcome)
}

fn quick(program: &Program) -> Outcome {
    let answer = explore(program).unwrap();
    let mut outcome = Outcome::default();
    for r in answer.reads {
        for g in r.bytes.iter() {
            outcome.values.insert((r.event, g), r.all.iter().collect());
        }
    }
    for l in answer.lost.iter().filter(|l| l.missed) {
        outcome.lost.extend(l.bytes.iter().map(|g| (l.write, g)));
    }
    outcome
}

#[test]
fn a_naive_explorer_says_the_same() {
    let (mut compared, mut with_findings) = (0, 0);
    for seed in 0..1500 {
        let shape = Shape {
            events: 4 + (seed % 5) as usize,
            lines: 1 + u8::from(seed % 7 == 0),
            cpus: 1 + u8::from(seed % 3 == 0),
            words: false,
            wild: true,
            unprompted: false,
        };
        let program = program(shape, seed);
        let Some(naive) = naive(&program) else {
            continue;
        };
        compared += 1;
        with_findings += u32::from(!explore(&program).unwrap().safe());
        let events: Vec<String> = program.events.iter().map(|e| program.describe(e)).collect();
        assert_eq!(quick(&program), naive, "seed {seed}\n{}", events.join("\n"));
    }
    println!("{compared} programs compared, {with_findings} with findings");
    assert!(compared > 1000 && with_findings > 200 && compared - with_findings > 100);
}
