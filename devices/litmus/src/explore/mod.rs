// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The exhaustive explorer: all that the architecture allows a program to do, and nothing else.
//!
//! A state is what took effect so far, and what memory and caches hold. From each state go all
//! steps whose predecessors are done, and what may happen at any moment: a line that may be cached
//! is filled, a clean copy dropped, a dirty line written back. What a read may return in any state
//! where it may happen are its *legal values*; a read with two is *ambiguous*. A write whose value
//! is in no copy any more, though nobody wrote after it, is *destroyed*; it is *lost* if somebody
//! may read then, or the end is reached so.
//!
//! Each event takes effect at one moment for all observers (the architecture is
//! other-multi-copy-atomic), but a CPU's load may get the value of its own store before that.

mod slice;
mod state;

use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

pub use state::Gone;

use self::slice::{Effect, Slice};
use self::state::{AT_FIRST, Copy, State};
use crate::order::Parts;
use crate::program::{Granules, Program, Symbols};

/// States after which the explorer gives up on a granule.
pub const MAX_STATES: usize = 1 << 18;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "more than {most} states for {bytes}: make the case smaller (fewer unordered events on \
     one line, fewer polls)"
)]
pub struct TooLarge {
    /// The granule.
    pub bytes: String,
    /// The limit.
    pub most: usize,
}

/// The legal values of some bytes of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// The read, by index.
    pub event: usize,
    /// Bytes with the same values.
    pub bytes: Granules,
    /// Legal values.
    pub all: Symbols,
    /// Those that are legal while no write is destroyed.
    pub intact: Symbols,
}

/// A write that may be destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lost {
    /// The write, by index; none: what was dirty at first.
    pub write: Option<usize>,
    /// By what.
    pub how: Gone,
    /// Of which bytes.
    pub bytes: Granules,
    /// Whether it can be missed: read, or left so at the end. If not, somebody overwrites it.
    pub missed: bool,
    /// Whether somebody may read then.
    pub read: bool,
}

/// All there is to know about a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Legal values, by read and bytes.
    pub reads: Vec<Values>,
    /// Writes that may be destroyed.
    pub lost: Vec<Lost>,
    /// Polls (bit = index) that may wait for ever although the value was written.
    pub stuck: u32,
    /// Polls that can never end.
    pub never: u32,
    /// States visited.
    pub states: usize,
}

impl Answer {
    /// The bytes of a read that are ambiguous.
    pub fn ambiguous(&self, event: usize) -> Granules {
        let mine = self.reads.iter().filter(|r| r.event == event);
        mine.filter(|r| r.all.len() > 1)
            .fold(Granules::NONE, |all, r| all.or(r.bytes))
    }

    /// Whether each read has one value, nothing is lost and no poll waits for ever.
    pub fn safe(&self) -> bool {
        self.stuck == 0
            && self.reads.iter().all(|r| r.all.len() <= 1)
            && !self.lost.iter().any(|l| l.missed)
    }
}

/// Explores a program.
///
/// # Errors
/// If it has too many states.
pub fn explore(program: &Program) -> Result<Answer, TooLarge> {
    explore_in(program, &Parts::of(program), MAX_STATES)
}

/// Explores a program in a given order of its events, up to so many states for one granule, at most
/// [`MAX_STATES`].
///
/// # Errors
/// If it has more.
pub fn explore_in(program: &Program, order: &Parts, most: usize) -> Result<Answer, TooLarge> {
    let most = most.min(MAX_STATES);
    let mut answer = Answer::default();
    let polls = program.events.iter().enumerate();
    answer.never = polls
        .filter(|(_, e)| e.poll().is_some())
        .fold(0, |all, (i, _)| all | 1 << i);
    for class in classes(program) {
        let Some(granule) = class.iter().next() else {
            continue;
        };
        let slice = Slice::of(program, order, granule);
        let mut search = Search::new(&slice, most);
        search.run().map_err(|()| TooLarge {
            bytes: program.ranges(Granules::one(granule)),
            most,
        })?;
        search.answer(class, &mut answer);
    }
    answer.reads.sort_by_key(|r| (r.event, r.bytes));
    merge(&mut answer);
    Ok(answer)
}

/// Granules that fare alike: same line, same contents, touched by the same events.
fn classes(program: &Program) -> Vec<Granules> {
    let polled = program.polled();
    let mut classes: Vec<(u32, Granules)> = Vec::new();
    for g in 0..8 * program.lines() {
        let touching = (program.events.iter().enumerate())
            .filter(|(_, e)| e.bytes().has(g))
            .fold(0, |all, (i, _)| all | 1 << i);
        let initial = program.initial[usize::from(g)];
        if touching == 0 && initial.dirty.is_none() {
            continue;
        }
        let same = classes.iter_mut().find(|(events, class)| {
            let first = class.iter().next().unwrap_or(0);
            *events == touching
                && first / 8 == g / 8
                && program.initial[usize::from(first)] == initial
                && !polled.has(g)
                && !polled.has(first)
        });
        match same {
            Some((_, class)) => *class = class.or(Granules::one(g)),
            None => classes.push((touching, Granules::one(g))),
        }
    }
    classes.into_iter().map(|(_, class)| class).collect()
}

/// Puts together what differs in bytes only.
fn merge(answer: &mut Answer) {
    let mut reads: Vec<Values> = Vec::new();
    for r in std::mem::take(&mut answer.reads) {
        let same = |o: &&mut Values| (o.event, o.all, o.intact) == (r.event, r.all, r.intact);
        match reads.iter_mut().find(same) {
            Some(other) => other.bytes = other.bytes.or(r.bytes),
            None => reads.push(r),
        }
    }
    answer.reads = reads;
    let mut lost: Vec<Lost> = Vec::new();
    for l in std::mem::take(&mut answer.lost) {
        let same = |o: &&mut Lost| {
            (o.write, o.how, o.missed, o.read) == (l.write, l.how, l.missed, l.read)
        };
        match lost.iter_mut().find(same) {
            Some(other) => other.bytes = other.bytes.or(l.bytes),
            None => lost.push(l),
        }
    }
    lost.sort();
    answer.lost = lost;
}

/// A value that counts only if certain polls end.
struct Conditional {
    state: u32,
    look: usize,
}

struct Search<'a> {
    slice: &'a Slice,
    most: usize,
    states: Vec<State>,
    known: FxHashMap<State, u32>,
    /// From, to: kept only if a value hangs on a poll.
    edges: Vec<(u32, u32)>,
    keep_edges: bool,
    conditional: Vec<Conditional>,
    all: Vec<Symbols>,
    intact: Vec<Symbols>,
    /// Write, how, missed, read.
    lost: Vec<(u8, Gone, bool, bool)>,
    stuck: u32,
}

impl<'a> Search<'a> {
    fn new(slice: &'a Slice, most: usize) -> Self {
        Search {
            slice,
            most,
            states: Vec::new(),
            known: FxHashMap::default(),
            edges: Vec::new(),
            keep_edges: slice.looks.iter().any(|l| l.if_done != 0),
            conditional: Vec::new(),
            all: vec![Symbols::default(); slice.looks.len()],
            intact: vec![Symbols::default(); slice.looks.len()],
            lost: Vec::new(),
            stuck: 0,
        }
    }

    fn run(&mut self) -> Result<(), ()> {
        self.visit(None, self.slice.initial)?;
        let mut next = 0;
        while let Some(state) = self.states.get(next).copied() {
            let from = u32::try_from(next).map_err(|_| ())?;
            self.look(from, &state);
            self.spontaneous(from, &state)?;
            let moved = self.steps(from, &state)?;
            if !moved {
                self.stop(&state);
            }
            next += 1;
        }
        self.settle();
        Ok(())
    }

    fn visit(&mut self, from: Option<u32>, state: State) -> Result<(), ()> {
        let number = u32::try_from(self.states.len()).map_err(|_| ())?;
        let to = match self.known.entry(state) {
            Entry::Occupied(e) => *e.get(),
            Entry::Vacant(e) => {
                if self.states.len() >= self.most {
                    return Err(());
                }
                e.insert(number);
                self.states.push(state);
                number
            }
        };
        if let Some(from) = from.filter(|_| self.keep_edges) {
            self.edges.push((from, to));
        }
        Ok(())
    }

    /// What each read returns, if it happens now.
    fn look(&mut self, number: u32, state: &State) {
        for (i, look) in self.slice.looks.iter().enumerate() {
            if look.before & !state.done != 0 || look.after & state.done != 0 {
                continue;
            }
            if look.if_done & !state.done == 0 {
                self.count(i, state);
            } else {
                self.conditional.push(Conditional {
                    state: number,
                    look: i,
                });
            }
        }
    }

    fn count(&mut self, look: usize, state: &State) {
        let it = &self.slice.looks[look];
        // The newest store of its own that has not taken effect yet, or else what is there.
        let pending = it.own.first().filter(|(s, _)| state.done >> s & 1 == 0);
        if let Some((_, value)) = pending {
            self.all[look].add(*value);
            self.intact[look].add(*value);
            return;
        }
        let value = state.read(&self.slice.layout, 0, it.coherent);
        self.all[look].add(value);
        if state.gone == Gone::No {
            self.intact[look].add(value);
        } else {
            self.lose(state, true, true);
        }
    }

    fn lose(&mut self, state: &State, missed: bool, read: bool) {
        let same = |l: &&mut (u8, Gone, bool, bool)| (l.0, l.1) == (state.last, state.gone);
        match self.lost.iter_mut().find(same) {
            Some(lost) => {
                lost.2 |= missed;
                lost.3 |= read;
            }
            None => self.lost.push((state.last, state.gone, missed, read)),
        }
    }

    fn spontaneous(&mut self, from: u32, state: &State) -> Result<(), ()> {
        let layout = &self.slice.layout;
        for line in 0..layout.lines {
            let mut next = *state;
            match state.copies[line] {
                Copy::Absent if layout.cacheable[line] => next.fill(layout, line),
                Copy::Absent => continue,
                Copy::Clean => next.drop_copy(layout, line),
                Copy::Dirty => next.clean(layout, line),
            }
            next.judge(layout, None);
            self.visit(Some(from), next)?;
        }
        Ok(())
    }

    /// Takes all steps that can be taken; false: there is none.
    fn steps(&mut self, from: u32, state: &State) -> Result<bool, ()> {
        let mut moved = false;
        let steps = &self.slice.steps;
        let mut i = 0;
        while let Some(first) = steps.get(i) {
            // The effects of one event stand side by side.
            let parts = steps[i..].iter().take_while(|s| s.event == first.event);
            let count = parts.clone().count();
            i += count;
            if state.done >> first.event & 1 != 0 || first.before & !state.done != 0 {
                continue;
            }
            let mut next = *state;
            next.done |= 1 << first.event;
            let mut waits = false;
            for part in parts {
                waits |= !self.apply(&mut next, part.event, part.effect);
            }
            if !waits {
                moved = true;
                self.visit(Some(from), next)?;
            }
        }
        Ok(moved)
    }

    /// False: a poll that does not find its value.
    fn apply(&mut self, state: &mut State, event: u8, effect: Effect) -> bool {
        let layout = &self.slice.layout;
        let mut dropped_by = None;
        let written = match effect {
            Effect::Cached { line, slots, value } => {
                state.write_cached(layout, line, slots, value);
                (slots & 1 != 0 && layout.line[0] == line).then_some(value)
            }
            Effect::Memory { slots, value } => {
                state.write_memory(slots, value);
                (slots & 1 != 0).then_some(value)
            }
            Effect::Through { line, slots, value } => {
                let on_line = (0..layout.slots)
                    .filter(|s| layout.line[*s] == line)
                    .fold(0, |all, s| all | 1 << s);
                state.clean(layout, line);
                state.drop_copy(layout, line);
                state.judge(layout, None);
                state.write_memory(slots & on_line, value);
                (slots & on_line & 1 != 0).then_some(value)
            }
            Effect::Maintain {
                line,
                clean,
                invalidate,
            } => {
                if clean {
                    state.clean(layout, line);
                    state.judge(layout, None);
                }
                if invalidate {
                    state.drop_copy(layout, line);
                    dropped_by = Some(event);
                }
                None
            }
            Effect::Poll {
                slot,
                coherent,
                value,
            } => return state.read(layout, slot, coherent) == value,
        };
        if let Some(value) = written {
            if state.gone != Gone::No {
                self.lose(state, false, false);
            }
            state.written(event, value);
        }
        state.judge(layout, dropped_by);
        true
    }

    /// A state from which only caches move.
    fn stop(&mut self, state: &State) {
        // Also where a poll waits for ever: then this is the end.
        if state.gone != Gone::No {
            self.lose(state, true, false);
        }
        for step in &self.slice.steps {
            let waits = matches!(step.effect, Effect::Poll { .. });
            let pending = state.done >> step.event & 1 == 0;
            if waits && pending && step.before & !state.done == 0 {
                self.stuck |= 1 << step.event;
            }
        }
    }

    /// Counts the values that hang on polls: those of states from which these polls end.
    fn settle(&mut self) {
        for i in 0..self.slice.looks.len() {
            let if_done = self.slice.looks[i].if_done;
            if !self.conditional.iter().any(|c| c.look == i) {
                continue;
            }
            let ends = self.reach_back(|s| s.done & if_done == if_done);
            let hits: Vec<u32> = (self.conditional.iter())
                .filter(|c| c.look == i && ends[c.state as usize])
                .map(|c| c.state)
                .collect();
            for state in hits {
                let state = self.states[state as usize];
                self.count(i, &state);
            }
        }
    }

    /// The states from which one can be reached that is good.
    fn reach_back(&self, good: impl Fn(&State) -> bool) -> Vec<bool> {
        let mut reach: Vec<bool> = self.states.iter().map(good).collect();
        let mut into: Vec<Vec<u32>> = vec![Vec::new(); self.states.len()];
        for (from, to) in &self.edges {
            into[*to as usize].push(*from);
        }
        let mut work: Vec<u32> = (0_u32..)
            .zip(&reach)
            .filter(|(_, r)| **r)
            .map(|(i, _)| i)
            .collect();
        while let Some(state) = work.pop() {
            for from in std::mem::take(&mut into[state as usize]) {
                if !std::mem::replace(&mut reach[from as usize], true) {
                    work.push(from);
                }
            }
        }
        reach
    }

    fn answer(self, class: Granules, answer: &mut Answer) {
        answer.states += self.states.len();
        let done = self.states.iter().fold(0, |all, s| all | s.done);
        answer.never &= !(done & self.slice.polls);
        answer.stuck |= self.stuck & done;
        let sets = self.all.iter().zip(&self.intact);
        for (look, (all, intact)) in self.slice.looks.iter().zip(sets) {
            answer.reads.push(Values {
                event: look.event,
                bytes: class,
                all: *all,
                intact: *intact,
            });
        }
        for (write, how, missed, read) in self.lost {
            answer.lost.push(Lost {
                write: (write != AT_FIRST).then_some(usize::from(write)),
                how,
                bytes: class,
                missed,
                read,
            });
        }
    }
}
