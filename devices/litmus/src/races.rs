// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Accesses that nothing orders, whatever their values come to.

use crate::order::Parts;
use crate::program::{Event, Granules, Observer, Program, View};

/// How an event accesses memory; none: it does not.
pub fn view(event: &Event) -> Option<View> {
    let polls = || event.poll().map(|(view, _)| view);
    let writes = || event.write().map(|(view, _)| view);
    event.read().or_else(writes).or_else(polls)
}

/// Lines with two accesses, one of them a write, that nothing orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Races {
    /// Of different observers, or of a master that fetches ahead.
    pub observers: Granules,
    /// Of one CPU, with different attributes.
    pub aliases: Granules,
}

impl Races {
    /// Of a program.
    pub fn of(program: &Program) -> Self {
        let order = Parts::of(program);
        let mut races = Races::default();
        for line in 0..program.lines() {
            let order = order.on(1 << line);
            let line = Granules::line(line);
            let here =
                || (program.events.iter().enumerate()).filter(|(_, e)| e.bytes().meets(line));
            for (i, a) in here().filter(|(_, a)| a.write().is_some()) {
                for (_, b) in here().filter(|(j, _)| order.race(i, *j)) {
                    // Of a master's own, only what it fetches ahead is not in order.
                    if a.by != b.by || matches!(a.by, Observer::Dev(_)) {
                        races.observers = races.observers.or(line);
                    } else if view(a) != view(b) {
                        races.aliases = races.aliases.or(line);
                    }
                }
            }
        }
        races
    }
}
