// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which bytes of a difference each class covers.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use staleline_devices::coherency::Policy;
use staleline_devices::coherency::hazard::{HazardKind, Why};
use staleline_litmus::explore::{Answer, Gone, MAX_STATES, explore, explore_in};
use staleline_litmus::order::Parts;
use staleline_litmus::program::{Granules, Program};
use staleline_litmus::races::Races;
use staleline_litmus::repair;
use staleline_litmus::symptom::Symptom;

use super::Class;
use super::difference::{Difference, bytes, groundless, same_in, unexplained};
use super::order::{ASSUMED, Assumed, answered, maintenance_in_flight};
use crate::domain::{Error, Found, findings};
use crate::variants;

/// A program, and what is known of it, to explain a difference by.
pub struct Known<'a> {
    pub(super) program: &'a Program,
    answer: &'a Answer,
    pub(super) replacement: Policy,
    pub(super) seed: u64,
    races: OnceCell<Races>,
}

impl<'a> Known<'a> {
    /// `answer` is the explorer's; the domain ran under that policy and seed.
    pub fn new(program: &'a Program, answer: &'a Answer, replacement: Policy, seed: u64) -> Self {
        Known {
            program,
            answer,
            replacement,
            seed,
            races: OnceCell::new(),
        }
    }

    fn races(&self) -> Races {
        *self.races.get_or_init(|| Races::of(self.program))
    }

    /// The classes that cover a difference; none: not all of it is known.
    ///
    /// # Errors
    /// [`Error`] if the domain cannot judge another order of the program.
    pub fn classes(
        &self,
        found: &[Found],
        difference: Difference,
    ) -> Result<Option<BTreeSet<Class>>, Error> {
        let mut classes = BTreeSet::new();
        for symptom in Symptom::all(self.answer) {
            let missed = unexplained(self.program, self.answer, &symptom, found);
            if !missed.is_empty() && !self.missed(&symptom, missed, Some(found), &mut classes)? {
                return self.agrees_if_changed();
            }
        }
        let mut extra = difference.extra;
        let behind_stuck = match extra.is_empty() {
            true => Granules::NONE,
            false => self.behind_stuck(found)?,
        };
        type Rule<'b> = (Class, &'b dyn Fn() -> Granules);
        let rules: [Rule<'_>; 8] = [
            (Class::Overwritten, &|| self.overwritten()),
            (Class::NoCacheableView, &|| {
                self.without_cacheable_view(found)
            }),
            (Class::BehindStuck, &|| behind_stuck),
            (Class::Answered, &|| answered(self.program, found)),
            (Class::Touched, &|| self.touched(found)),
            (Class::LastWrite, &|| self.last_write(found)),
            (Class::MaintenanceInFlight, &|| {
                maintenance_in_flight(self.program, found)
            }),
            (Class::PollWaits, &|| self.poll_waits(found)),
        ];
        for (class, covered) in rules {
            if extra.is_empty() {
                break;
            }
            let covered = covered();
            if extra.meets(covered) {
                classes.insert(class);
                extra = extra.without(covered);
            }
        }
        if extra.is_empty() {
            return Ok(Some(classes));
        }
        self.agrees_if_changed()
    }

    /// Whether classes, which are added, cover all of these bytes of a symptom.
    fn missed(
        &self,
        symptom: &Symptom,
        mut missed: Granules,
        found: Option<&[Found]>,
        classes: &mut BTreeSet<Class>,
    ) -> Result<bool, Error> {
        if self.is_behind_stuck(symptom.at()) {
            classes.insert(Class::BehindStuck);
            return Ok(true);
        }
        for (assumed, order) in ASSUMED {
            let (left, unread) = self.left_if(symptom, order);
            for (class, covered) in [
                (None, missed.without(left)),
                (Some(Class::Unread), missed.and(unread)),
            ] {
                if !covered.is_empty() {
                    classes.extend(assumed.iter().copied().chain(class));
                    missed = missed.without(covered);
                }
            }
            if missed.is_empty() {
                return Ok(true);
            }
        }
        let raced = missed.and(symptom.left(self.program, &self.without_caches()));
        let owned = found.unwrap_or_default().iter();
        let owned = owned.filter(|f| f.kind == HazardKind::Ownership);
        let owned = owned.fold(Granules::NONE, |all, f| all.or(f.bytes));
        // That is told.
        missed = missed.without(raced.and(owned));
        let raced = raced.without(owned);
        if !raced.is_empty() {
            classes.insert(Class::Race);
            missed = missed.without(raced);
        }
        if !missed.is_empty() {
            let at_once = match found {
                Some(_) => self.found_if_masters_come_at_once(symptom)?.without(owned),
                None => Granules::NONE,
            };
            let found = missed.without(at_once);
            let found = found.and(self.found_in_other_orders(found)?);
            if !found.is_empty() {
                classes.insert(Class::OtherOrder);
                missed = missed.without(found);
            }
        }
        if !missed.is_empty() && self.same_cause(symptom, missed)? {
            classes.insert(Class::SameCause);
            return Ok(true);
        }
        Ok(missed.is_empty())
    }

    /// Whether one barrier takes away the symptom, or lets the sanitizer find it, and takes away a
    /// finding on the same lines.
    fn same_cause(&self, symptom: &Symptom, missed: Granules) -> Result<bool, Error> {
        let lines = missed.lines().map(Granules::line);
        let lines = lines.fold(Granules::NONE, Granules::or);
        let asks = |f: &&Found| f.kind == HazardKind::MissingBarrier && f.bytes.meets(lines);
        let found = findings(self.program, self.replacement, self.seed)?;
        let before: Vec<&Found> = found.iter().filter(asks).collect();
        if before.is_empty() {
            return Ok(false);
        }
        for repair in repair::single_barriers(self.program) {
            let Some(repaired) = repair.apply(self.program) else {
                continue;
            };
            let found = findings(&repaired, self.replacement, self.seed)?;
            let after = |at: Option<usize>| {
                let here = |f: &&Found| f.at.and_then(|at| repair.original(at)) == at;
                let here = found.iter().filter(here);
                here.fold(Granules::NONE, |all, f| all.or(f.bytes))
            };
            if before.iter().all(|f| f.bytes.meets(after(f.at))) {
                continue;
            }
            let left = || {
                let answer = explore(&repaired).ok()?;
                let all = Symptom::all(&answer).into_iter();
                let all = all.filter_map(|s| s.renumbered(|i| repair.original(i)));
                Some(symptom.left(self.program, &all.collect::<Vec<_>>()))
            };
            let left = left().unwrap_or(missed).and(missed);
            if left.without(bytes(&found)).is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The bytes of a symptom that are left with another order, and of a loss, those of them that nobody
    /// reads then.
    fn left_if(&self, symptom: &Symptom, assumed: Assumed) -> (Granules, Granules) {
        let order = Parts::assuming(self.program, &|a, b| {
            assumed(self.program, a, b).then_some(true)
        });
        let Ok(answer) = explore_in(self.program, &order, MAX_STATES) else {
            return (symptom.bytes(self.program), Granules::NONE);
        };
        let left = symptom.left(self.program, &Symptom::all(&answer));
        let Symptom::Lost { write, .. } = *symptom else {
            return (left, Granules::NONE);
        };
        let read = answer.lost.iter().filter(|l| l.write == write && l.read);
        let read = read.fold(Granules::NONE, |all, l| all.or(l.bytes));
        (left, left.without(read))
    }

    /// What is wrong if the order is another.
    pub fn symptoms_if(&self, assumed: Assumed) -> Vec<Symptom> {
        let order = Parts::assuming(self.program, &|a, b| {
            assumed(self.program, a, b).then_some(true)
        });
        match explore_in(self.program, &order, MAX_STATES) {
            Ok(answer) => Symptom::all(&answer),
            Err(_) => Symptom::all(self.answer),
        }
    }

    /// What is wrong without caches too, and with a barrier after everything a CPU does.
    fn without_caches(&self) -> Vec<Symptom> {
        if self.races().observers.is_empty() {
            return Vec::new();
        }
        let program = variants::without_caches(self.program);
        let order = Parts::assuming(&program, &|_, _| Some(true));
        explore_in(&program, &order, MAX_STATES).map_or(Vec::new(), |a| Symptom::all(&a))
    }

    /// What is found at the event of a symptom if masters come as soon as they are told to: it is to be found
    /// also when they come later. (But not those that read through the caches, nor past a CPU's store those
    /// that write there: they change what comes after.)
    fn found_if_masters_come_at_once(&self, symptom: &Symptom) -> Result<Granules, Error> {
        let (at, dropped_at) = match *symptom {
            Symptom::Ambiguous { read, .. } => (read, None),
            Symptom::Lost {
                write: Some(write),
                how,
                ..
            } => match how {
                Gone::Dropped(at) => (write, Some(usize::from(at))),
                _ => (write, None),
            },
            _ => return Ok(Granules::NONE),
        };
        let loss = matches!(symptom, Symptom::Lost { .. });
        let found = |(early, before): (Program, Vec<usize>)| {
            let mut found = findings(&early, self.replacement, self.seed)?;
            found.retain(|f| {
                let found_at = f.at.and_then(|at| before.get(at)).copied();
                let dropped = dropped_at.is_some() && found_at == dropped_at;
                let dropped = dropped && f.kind == HazardKind::DiscardedWrite;
                // That stores before it are not ordered is no reason for a write to be lost.
                let about = !loss || f.why != Why::Unordered;
                dropped || found_at == Some(at) && about && f.kind != HazardKind::Ownership
            });
            Ok::<_, Error>(bytes(&found))
        };
        let all = found(variants::masters_early(self.program))?;
        // A store between two writes that push out the line need not be found as one behind both.
        match variants::masters_early_that_push_last(self.program) {
            Some(early) if !all.is_empty() => Ok(all.and(found(early)?)),
            _ => Ok(all),
        }
    }

    fn found_in_other_orders(&self, missed: Granules) -> Result<Granules, Error> {
        let mut all = Granules::NONE;
        for other in variants::other_orders(self.program) {
            // What one CPU's own order leaves open is no matter of other observers.
            if !variants::same_on_cpus(self.program, &other) {
                continue;
            }
            all = all.or(bytes(&findings(&other, self.replacement, self.seed)?));
            if missed.without(all).is_empty() {
                return Ok(all);
            }
        }
        // But when a master is told, is.
        for other in variants::doorbells_early(self.program) {
            all = all.or(bytes(&findings(&other, self.replacement, self.seed)?));
        }
        Ok(all)
    }

    fn overwritten(&self) -> Granules {
        let lost = self.answer.lost.iter().filter(|l| !l.missed);
        lost.fold(Granules::NONE, |all, l| all.or(l.bytes))
    }

    fn without_cacheable_view(&self, found: &[Found]) -> Granules {
        let lines = (0..self.program.lines()).filter(|line| !self.program.cacheable(*line));
        let lines = lines.fold(Granules::NONE, |all, line| all.or(Granules::line(line)));
        let cached = |f: &&Found| {
            matches!(
                f.kind,
                HazardKind::MismatchedAlias
                    | HazardKind::MissingInvalidate
                    | HazardKind::WritebackClobber
            )
        };
        let alias = found.iter().filter(cached);
        alias.fold(Granules::NONE, |all, f| all.or(f.bytes.and(lines)))
    }

    /// What is found at events behind a poll that may never end, or because of such events: by a master that
    /// comes upon what the CPU has stored behind the poll.
    fn behind_stuck(&self, found: &[Found]) -> Result<Granules, Error> {
        let at = (found.iter()).filter(|f| f.at.is_some_and(|at| self.is_behind_stuck(at)));
        let all = at.fold(Granules::NONE, |all, f| all.or(f.bytes));
        let Some(happens) = self.without_what_may_never_happen() else {
            return Ok(all);
        };
        let still = bytes(&findings(&happens, self.replacement, self.seed)?);
        Ok(all.or(bytes(found).without(still)))
    }

    /// The program without what stands behind polls that may never end; none: nothing does.
    fn without_what_may_never_happen(&self) -> Option<Program> {
        let mut program = self.program.clone();
        let mut index = 0;
        program.events.retain(|_| {
            index += 1;
            !self.is_behind_stuck(index - 1)
        });
        (program.events.len() < self.program.events.len()).then_some(program)
    }

    fn is_behind_stuck(&self, at: usize) -> bool {
        self.is_behind(self.answer.stuck | self.answer.never, at)
    }

    /// Whether an event is behind one of these polls (bit = index).
    fn is_behind(&self, stuck: u32, at: usize) -> bool {
        if stuck == 0 {
            return false;
        }
        let order = Parts::of(self.program).on(u8::MAX);
        (0..at).filter(|poll| stuck >> poll & 1 != 0).any(|poll| {
            let same = self.program.events[poll].by == self.program.events[at].by;
            same || order.is_before(poll, at)
        })
    }

    fn touched(&self, found: &[Found]) -> Granules {
        let raced = self.races().observers;
        let touched = found.iter().filter(|f| f.kind == HazardKind::Ownership);
        touched.fold(Granules::NONE, |all, f| all.or(f.bytes.and(raced)))
    }

    /// Bytes of a master's writes that are found, of which it is not settled which write was last.
    fn last_write(&self, found: &[Found]) -> Granules {
        let writes = found.iter().filter_map(|f| {
            let at = f.at?;
            let event = self.program.events.get(at)?;
            let open = || {
                let read = variants::read_after(self.program, at)?;
                let answer = explore(&read).ok()?;
                let last = (at + 1..read.events.len()).map(|read| answer.ambiguous(read));
                Some(f.bytes.and(last.fold(Granules::NONE, Granules::or)))
            };
            event.write().and_then(|_| open())
        });
        writes.fold(Granules::NONE, Granules::or)
    }

    /// Bytes on which something is found at a poll, or at what comes behind it in program order, and that
    /// are not in some order in which the poll comes later.
    fn poll_waits(&self, found: &[Found]) -> Granules {
        let events = &self.program.events;
        let behind = |poll: usize, at: usize| poll <= at && events[poll].by == events[at].by;
        let polls = (0..events.len()).filter(|e| events[*e].poll().is_some());
        let polls: Vec<usize> = polls.collect();
        let at_poll = |f: &&Found| {
            let behind = |at: usize| polls.iter().any(|poll| behind(*poll, at));
            f.at.is_some_and(behind)
        };
        // Each with the bytes of it that are found in all orders so far.
        let told = found.iter().filter(at_poll);
        let mut told: Vec<(&Found, Granules)> = told
            .map(|f| (f, groundless(self.program, self.answer, f)))
            .filter(|(_, bytes)| !bytes.is_empty())
            .collect();
        let all = told.iter().fold(Granules::NONE, |all, (_, b)| all.or(*b));
        let orders = match all.is_empty() {
            true => Vec::new(),
            false => variants::other_orders(self.program),
        };
        for other in orders {
            let Ok(found) = findings(&other, self.replacement, self.seed) else {
                continue;
            };
            let seen = OnceCell::new();
            for (f, bytes) in &mut told {
                let mut left = bytes.and(same_in(self.program, f, &other, &found));
                if left == *bytes {
                    left = left.without(*seen.get_or_init(|| {
                        answered(&other, &found).or(maintenance_in_flight(&other, &found))
                    }));
                }
                *bytes = left;
            }
        }
        told.iter().fold(all, |all, (_, left)| all.without(*left))
    }

    /// The classes for which the sanitizer may have found nothing of a symptom, and something else
    /// on its bytes.
    ///
    /// # Errors
    /// [`Error`] if the domain cannot judge another order of the program.
    pub fn classes_of(&self, symptom: &Symptom) -> Result<Option<BTreeSet<Class>>, Error> {
        let mut classes = BTreeSet::new();
        let bytes = symptom.bytes(self.program);
        let all = self.missed(symptom, bytes, None, &mut classes)?;
        Ok(all.then_some(classes))
    }

    /// Whether no cache may hold any of a symptom's lines.
    pub fn uncacheable(&self, symptom: &Symptom) -> bool {
        let mut lines = symptom.bytes(self.program).lines();
        lines.all(|line| !self.program.cacheable(line))
    }

    /// Whether observers race on a symptom's lines.
    pub fn raced(&self, symptom: &Symptom) -> bool {
        symptom.bytes(self.program).meets(self.races().observers)
    }
}
