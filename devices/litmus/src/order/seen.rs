// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a CPU has come to see by a word that it polls, and so holds back with its own barriers.
//!
//! `store A; dmb ishst; store flag` on one CPU is no order for a master that sees both. But a CPU that
//! has polled `flag` has observed A too, for both are in the inner domain; and a full barrier of its own
//! orders what it has observed before what it does next, for all observers in the barrier's domain
//! (DDI 0487, B2.3: barriers are cumulative). So its clean of A, or its doorbell, is behind that store.
//!
//! This is an order of the store and of what is behind the barrier only. The flag is not behind the
//! store for those outside the inner domain, which is why it is no matter of [`on_cpu`].

use super::direct::{Set, add, cacheable, found_by, on_cpu};
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
    let is_store = |i: usize| matches!(parts[i].by, Observer::Cpu(_)) && parts[i].write().is_some();
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
            for (word, (seen, stores)) in held[j].iter_mut().zip(inner[*poll].iter().zip(stores)) {
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
                add(&mut before[j], &chain);
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
    use crate::program::Program;

    fn program(events: &[&str]) -> Program {
        let file = format!(
            "schema = 1\n[[case]]\ninit = [\"A+0..64 mem=a\", \"B+0..64 mem=b\"]\ncacheable = [\"A\", \
             \"B\"]\npolicy = \"wt\"\nevents = {events:?}\n"
        );
        case::parse(&file, "f").unwrap().remove(0).program
    }

    #[track_caller]
    fn safe(expected: bool, events: &[&str]) {
        let answer = explore(&program(events)).unwrap();
        assert_eq!(answer.safe(), expected, "{events:?}");
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
        // Nor does a master in between hand on what a CPU has not told it in its domain.
        let master = ["cpu1 doorbell dev1", "dev1 write snoop B+0..8 = go", POLL];
        safe(false, &[&[STORE, ISHST][..], &master, &rest].concat());
        // Maintenance for the CPUs only is not done for a master.
        let clean = ["cpu1 dc cvac A+0", "cpu1 dsb ish", FLAG, POLL];
        safe(false, &[&[STORE][..], &clean, &[DSB, BELL, READ]].concat());
    }

    #[test]
    fn a_word_that_somebody_else_may_have_stored() {
        // The file format has no two stores of one value; programs have.
        let other = "cpu2 store wb B+0..8 = other";
        let events = [STORE, ISHST, FLAG, other, POLL, DSB, CLEAN, DSB, BELL, READ];
        let mut program = program(&events);
        program.events[3].op = program.events[2].op.clone();
        assert!(!explore(&program).unwrap().safe());
    }
}
