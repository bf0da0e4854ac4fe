// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The part of a program that one granule can feel.
//!
//! Lines are coupled by order only, and order is closed transitively, so what happens on other
//! lines need not be explored, unless a poll waits for it. Reads change nothing (a fill may happen
//! at any moment anyway): they are not steps, but looked at in each state where they may happen.

use super::state::{AT_FIRST, Copy, Gone, Layout, SLOTS, State};
use crate::order::{Order, Parts, forwards};
use crate::program::{Granules, Policy, Program, Symbol, View};

/// What a step does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Effect {
    /// A write into the cache; `slots` is a bit mask.
    Cached {
        line: usize,
        slots: u8,
        value: Symbol,
    },
    /// A write to the PoC.
    Memory { slots: u8, value: Symbol },
    /// A write to the PoC that cleans and invalidates first.
    Through {
        line: usize,
        slots: u8,
        value: Symbol,
    },
    /// Maintenance.
    Maintain {
        line: usize,
        clean: bool,
        invalidate: bool,
    },
    /// Waits until the slot has this value.
    Poll {
        slot: usize,
        coherent: bool,
        value: Symbol,
    },
}

/// An event that changes something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub event: u8,
    /// Steps before it: bit = index of the event.
    pub before: u32,
    pub effect: Effect,
}

/// A read of slot 0.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub event: usize,
    pub coherent: bool,
    /// Steps that must have taken effect.
    pub before: u32,
    /// Steps that must not.
    pub after: u32,
    /// Stores that it may read from before they take effect, newest first: event and value.
    pub own: Vec<(u8, Symbol)>,
    /// Polls earlier in program order that it need not wait for: if one never ends, the read was
    /// never made.
    pub if_done: u32,
}

/// A slice.
#[derive(Debug)]
pub(super) struct Slice {
    pub layout: Layout,
    pub steps: Vec<Step>,
    pub looks: Vec<Look>,
    pub polls: u32,
    pub initial: State,
}

impl Slice {
    /// What `granule` feels of a program.
    pub fn of(program: &Program, order: &Parts, granule: u8) -> Self {
        let mut granules = vec![granule];
        granules.extend(program.polled().iter().filter(|g| *g != granule));
        granules.truncate(SLOTS);
        let mut lines: Vec<u8> = Vec::new();
        let mut layout = Layout {
            slots: granules.len(),
            ..Layout::default()
        };
        for (slot, g) in granules.iter().enumerate() {
            let line = g / 8;
            let index = lines.iter().position(|l| *l == line).unwrap_or_else(|| {
                lines.push(line);
                lines.len() - 1
            });
            layout.line[slot] = index;
            layout.cacheable[index] = program.cacheable(line);
        }
        layout.lines = lines.len();
        let order = order.on(lines.iter().fold(0, |all, line| all | 1 << line));
        let view = Places {
            program,
            granules: &granules,
            lines: &lines,
        };
        let mut steps: Vec<Step> = Vec::new();
        for event in 0..program.events.len() {
            steps.extend(view.effects(event).into_iter().map(|effect| Step {
                event: event as u8,
                before: 0,
                effect,
            }));
        }
        let all = steps.iter().fold(0, |all, s| all | 1 << s.event);
        for step in &mut steps {
            let event = usize::from(step.event);
            step.before = order.before(event) & all;
            // Nothing but a poll is a step and a load.
            if matches!(step.effect, Effect::Poll { .. }) {
                step.before |= order.local(event) & all;
            }
        }
        let polls = (0..program.events.len())
            .filter(|e| program.events[*e].poll().is_some())
            .fold(0, |all, e| all | 1 << e);
        let looks = view.looks(&order, &steps, granule, polls);
        Slice {
            layout,
            looks,
            polls,
            initial: view.initial(&layout),
            steps,
        }
    }
}

/// Slots and lines of a slice, by the program's numbers.
struct Places<'a> {
    program: &'a Program,
    granules: &'a [u8],
    lines: &'a [u8],
}

impl Places<'_> {
    fn slots(&self, bytes: Granules) -> u8 {
        let slots = self.granules.iter().enumerate();
        slots
            .filter(|(_, g)| bytes.has(**g))
            .fold(0, |all, (s, _)| all | 1 << s)
    }

    /// What an event changes: one effect for each line. An event on several lines of the slice
    /// takes effect on all of them at once, which loses interleavings of the parts; only polled
    /// words beside the followed granule could see them.
    fn effects(&self, event: usize) -> Vec<Effect> {
        let event = &self.program.events[event];
        if let Some((view, value)) = event.poll() {
            let slots = self.slots(event.bytes());
            let slot = slots.trailing_zeros() as usize;
            return Vec::from_iter((slots != 0).then_some(Effect::Poll {
                slot,
                coherent: view.coherent(),
                value,
            }));
        }
        let here = |line: &u8| self.lines.iter().position(|l| l == line);
        if let Some((dc, line)) = event.maintains() {
            let some = dc.cleans() || dc.invalidates();
            let line = here(&line).filter(|_| some);
            return Vec::from_iter(line.map(|line| Effect::Maintain {
                line,
                clean: dc.cleans(),
                invalidate: dc.invalidates(),
            }));
        }
        let Some((view, value)) = event.write() else {
            return Vec::new();
        };
        let bytes = event.bytes();
        let slots = self.slots(bytes);
        let touched = bytes.lines().filter_map(|l| here(&l));
        match view {
            View::WriteBack => touched
                .map(|line| Effect::Cached { line, slots, value })
                .collect(),
            View::Snooping if self.program.policy == Policy::Allocate => touched
                .map(|line| Effect::Cached { line, slots, value })
                .collect(),
            View::Snooping => touched
                .map(|line| Effect::Through { line, slots, value })
                .collect(),
            _ => Vec::from_iter((slots != 0).then_some(Effect::Memory { slots, value })),
        }
    }

    fn looks(&self, order: &Order, steps: &[Step], granule: u8, polls: u32) -> Vec<Look> {
        let events = &self.program.events;
        let all = steps.iter().fold(0, |all, s| all | 1_u32 << s.event);
        let mut looks = Vec::new();
        for (event, e) in events.iter().enumerate() {
            let Some(view) = e.read().filter(|_| e.bytes().has(granule)) else {
                continue;
            };
            let before = (order.before(event) | order.local(event)) & all;
            let after = steps
                .iter()
                .filter(|s| order.is_before(event, usize::from(s.event)))
                .fold(0, |all, s| all | 1 << s.event);
            let own = (0..event)
                .filter(|p| events[*p].by == e.by)
                .fold(0, |all, p| all | 1_u32 << p);
            let stores = (events[..event].iter().enumerate().rev())
                .filter(|(_, s)| forwards(s, e) && s.bytes().has(granule))
                .filter_map(|(i, s)| Some((u8::try_from(i).ok()?, s.write()?.1)))
                .collect();
            looks.push(Look {
                event,
                coherent: view.coherent(),
                before,
                after,
                own: stores,
                if_done: own & polls & !before,
            });
        }
        looks
    }

    fn initial(&self, layout: &Layout) -> State {
        let mut state = State {
            done: 0,
            copies: [Copy::Absent; SLOTS],
            memory: [0; SLOTS],
            cached: [0; SLOTS],
            last: AT_FIRST,
            value: 0,
            gone: Gone::No,
        };
        for (slot, g) in self.granules.iter().enumerate() {
            state.memory[slot] = self.program.initial[usize::from(*g)].memory;
        }
        for (line, number) in self.lines.iter().enumerate() {
            if self.program.dirty_at_first(*number) {
                state.fill(layout, line);
                state.copies[line] = Copy::Dirty;
            }
        }
        for (slot, g) in self.granules.iter().enumerate() {
            if let Some(value) = self.program.initial[usize::from(*g)].dirty {
                state.cached[slot] = value;
            }
        }
        state.value = state.read(layout, 0, true);
        state
    }
}
