// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the sanitizer takes to be in order, and what hangs on that.

use staleline_devices::coherency::Policy;
use staleline_devices::coherency::hazard::{HazardKind, Why};
use staleline_litmus::explore::{MAX_STATES, explore_in};
use staleline_litmus::order::Parts;
use staleline_litmus::program::{Event, Granules, Observer, Op, Program, View};
use staleline_litmus::{races, repair};

use super::Class;
use super::difference::wrong;
use crate::domain::{Found, findings};

/// What the sanitizer takes to be in order on one CPU beside what is.
pub type Assumed = fn(&Program, &Event, &Event) -> bool;

/// Its parts, the least first.
pub const ASSUMED: [(&[Class], Assumed); 4] = [
    (&[], |_, _, _| false),
    (&[Class::Dependency], |_, a, b| hangs(a, b)),
    (&[Class::SameLine], same_line),
    (&[Class::Dependency, Class::SameLine], |program, a, b| {
        hangs(a, b) || same_line(program, a, b)
    }),
];

/// Whether `b` may hang on what `a` loads.
fn hangs(a: &Event, b: &Event) -> bool {
    let loads = a.read().is_some() || a.poll().is_some();
    loads && (b.write().is_some() || b.maintains().is_some() || matches!(b.op, Op::Doorbell(_)))
}

/// Whether two accesses of a CPU are to one line. The order of words that are polled is another
/// matter: there the sanitizer looks for barriers; but not between two views of the same word.
fn same_line(program: &Program, a: &Event, b: &Event) -> bool {
    let mut lines = a.bytes().lines().map(Granules::line);
    let words = program.polled();
    let word = a.bytes().meets(words) || b.bytes().meets(words);
    let two_views = || {
        let same_word = a.bytes().and(b.bytes()).meets(words);
        let views = races::view(a).zip(races::view(b));
        same_word && views.is_some_and(|(a, b)| a != b)
    };
    (!word || two_views()) && lines.any(|line| line.meets(b.bytes()))
}

/// What the sanitizer finds of missing barriers, and the explorer too if a store or a poll is not
/// behind maintenance of its line, nor a master's access behind that by way of an access past the cache.
pub(super) fn maintenance_in_flight(program: &Program, found: &[Found]) -> Granules {
    let told = |at_masters: bool| {
        let by_master = |at: usize| matches!(program.events[at].by, Observer::Dev(_));
        let told = (found.iter()).filter(|f| f.kind == HazardKind::MissingBarrier);
        let told = told.filter(|f| !at_masters || f.at.is_some_and(by_master));
        told.fold(Granules::NONE, |all, f| all.or(f.bytes))
    };
    let wrong_if = |behind: fn(&Event) -> bool| {
        let order = Parts::assuming(program, &|a, b| {
            let (_, line) = a.maintains()?;
            let behind = behind(b) && b.bytes().meets(Granules::line(line));
            behind.then_some(false)
        });
        let answer = explore_in(program, &order, MAX_STATES);
        answer.map_or(Granules::NONE, |answer| wrong(program, &answer))
    };
    let all = told(false).and(wrong_if(cached_store_or_poll));
    let others = told(true).without(all);
    let any_past = program.events.iter().any(past_the_cache);
    match others.is_empty() || !any_past {
        true => all,
        false => all.or(others.and(wrong_if(|e| cached_store_or_poll(e) || past_the_cache(e)))),
    }
}

fn cached_store_or_poll(event: &Event) -> bool {
    let view = (event.write().or(event.poll())).map(|(view, _)| view);
    view == Some(View::WriteBack)
}

/// Whether it is a CPU's, and meets maintenance of its line at the PoC, behind a barrier that need not be for
/// anybody else.
fn past_the_cache(event: &Event) -> bool {
    let cpu = matches!(event.by, Observer::Cpu(_));
    cpu && races::view(event).is_some_and(|view| view != View::WriteBack)
}

/// What is found of a line for whose stores and maintenance a master has answered before: it has
/// polled a word of the line, or was told by a doorbell and waited for.
pub(super) fn answered(program: &Program, found: &[Found]) -> Granules {
    let events = &program.events;
    let lines = |bytes: Granules| {
        let lines = bytes.lines().map(Granules::line);
        lines.fold(Granules::NONE, Granules::or)
    };
    let of = |f: &Found| {
        let at = f.at?;
        let (mut all, mut through_caches) = (Granules::NONE, Granules::NONE);
        for (i, e) in events.iter().enumerate().take(at + 1) {
            match &e.op {
                _ if matches!(e.by, Observer::Dev(_)) && e.poll().is_some() => {
                    all = all.or(lines(e.bytes()));
                    if e.poll().is_some_and(|(view, _)| view == View::Snooping) {
                        through_caches = through_caches.or(lines(e.bytes()));
                    }
                }
                Op::Wait(dev) if i < at => {
                    let told = events[..i].iter().rposition(|e| e.op == Op::Doorbell(*dev));
                    let before = events[..told.unwrap_or(0)].iter();
                    all = before.fold(all, |all, e| all.or(lines(e.bytes())));
                }
                _ => {}
            }
        }
        let covered = all.and(f.bytes);
        // Another kind is a consequence of the barrier that is taken to be missing.
        let follows = || match f.kind {
            HazardKind::Ownership => Granules::NONE,
            _ => a_barrier_silences(program, f),
        };
        // A copy that shows the new word cannot be older than what was stored before that.
        let fresh = f.why == Why::StaleStore && !through_caches.and(f.bytes).is_empty();
        let done = f.kind == HazardKind::MissingBarrier || f.why == Why::Late || fresh;
        Some(match covered.is_empty() || done {
            true => covered,
            false => covered.and(follows()),
        })
    };
    found
        .iter()
        .filter_map(of)
        .fold(Granules::NONE, Granules::or)
}

/// Bytes of which a barrier put in somewhere takes a finding away.
fn a_barrier_silences(program: &Program, finding: &Found) -> Granules {
    let mut silenced = Granules::NONE;
    for repair in repair::single_barriers(program) {
        let found = repair
            .apply(program)
            .and_then(|p| findings(&p, Policy::Lazy, 1).ok());
        let Some(found) = found else {
            continue;
        };
        let same = |f: &&Found| {
            f.kind == finding.kind && f.at.and_then(|at| repair.original(at)) == finding.at
        };
        let left = found.iter().filter(same);
        let left = left.fold(Granules::NONE, |all, f| all.or(f.bytes));
        silenced = silenced.or(finding.bytes.without(left));
    }
    silenced
}
