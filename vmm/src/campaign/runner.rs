// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Carries out the runs of a plan, several at a time, and writes down each.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use staleline_devices::faults::{Fault, OperationFault};
use staleline_support::kib;
use staleline_support::progress::{Counted, Progress};
use staleline_support::time::micros;

use super::heard::Heard;
use super::judge::{Judged, Outcome, is_stopped, judge};
use super::plan::Planned;
use super::store::{Entry, Session, Store};
use super::target::{Runs, Target};
use crate::exit::Error;
use crate::run::several;

/// Faults that have to be found: the first operation without which something would be wrong that is of memory of
/// transfers, as most faults are of those, and come when the guest is on its way; and the first of any memory.
pub(super) fn canaries(target: &Target) -> Vec<Fault> {
    let first = |is_needed: &dyn Fn(u32) -> bool| {
        let mut faults = target.points.iter().map(|point| point.fault);
        faults.find(|fault| match *fault {
            Fault::Operation(number, OperationFault::Drop) => is_needed(number),
            _ => false,
        })
    };
    let golden = &target.golden;
    let of_transfers = first(&|number| golden.needs_for_a_transfer(number));
    let any = first(&|number| golden.needs(number));
    let mut all: Vec<Fault> = of_transfers.into_iter().chain(any).collect();
    all.dedup();
    all
}

/// Whether the faults of this machinery take place and are found: one that must be, on each target that has one. One that
/// is missed or misnamed where another is found is a result as any other of its kind, if it comes with the plan.
///
/// # Errors
/// [`Error::Campaign`] if none is found, one is not that the plan does not have run, one could not be run, or no target
/// has any.
pub fn check(
    runs: Runs<'_>,
    (targets, plan): (&[Target], &[Planned]),
    progress: &dyn Progress,
) -> Result<(), Error> {
    let mut found = false;
    for (number, target) in (0..).zip(targets) {
        let mut others = Vec::new();
        for fault in canaries(target) {
            let name = target.name();
            progress.step(&format!("a fault of {name} that has to be found: {fault}"));
            let mut ran = runs.with(target, &[fault])?;
            // It may have been the host that took the time.
            if is_stopped(&ran.result) {
                ran = runs.with(target, &[fault])?;
            }
            let judged = judge(&[fault], &target.golden, &ran.result);
            let comes = |planned: &Planned| {
                planned.run && planned.target == number && planned.faults == [fault]
            };
            match judged.outcome {
                Outcome::DetectedVisible | Outcome::DetectedLatent => {
                    found = true;
                    others.retain(|(_, comes)| !comes);
                    break;
                }
                Outcome::InfraError => {
                    return Err(Error::Campaign {
                        what: target.name(),
                        why: format!(
                            "{fault}, which has to be found, could not be run: {}",
                            judged.why.as_deref().unwrap_or("nobody knows why")
                        ),
                    });
                }
                other => others.push((
                    format!("{fault} came to {}", other.name()),
                    plan.iter().any(comes),
                )),
            }
        }
        if !others.is_empty() {
            return Err(Error::Campaign {
                what: target.name(),
                why: format!(
                    "maintenance that is needed was left out, and that was not found: {}; so whatever else is \
                     found says nothing",
                    others
                        .iter()
                        .map(|(told, _)| &**told)
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            });
        }
    }
    match found {
        true => Ok(()),
        false => Err(Error::Campaign {
            what: "the campaign".into(),
            why: "no maintenance of any target is needed, so there is no fault of which it is known that it \
                  has to be found"
                .into(),
        }),
    }
}

/// Memory that this process has, in KiB; 0 if nobody tells.
fn memory_kib() -> u64 {
    let about = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    kib::told(&about, "VmRSS").unwrap_or(0)
}

/// Runs what of the plan is to be run here and is not done; gives how many are left. What said nothing is not done:
/// whatever kept it from that may be over.
///
/// # Errors
/// Trouble with writing results.
pub fn run(
    runs: Runs<'_>,
    targets: &[Target],
    plan: &[&Planned],
    (store, jobs): (&Store, usize),
    progress: &dyn Progress,
) -> Result<usize, Error> {
    let begun = Instant::now();
    let earlier = store.entries()?;
    let says = |entry: &&Entry| entry.judged.outcome != Outcome::InfraError;
    let done = earlier.iter().filter(says).map(|entry| entry.id);
    let done: HashSet<u32> = done.collect();
    let after = earlier
        .iter()
        .map(|entry| entry.after_us)
        .max()
        .unwrap_or(0);
    drop(earlier);
    let mut todo: Vec<&Planned> = plan
        .iter()
        .copied()
        .filter(|planned| planned.run && !done.contains(&planned.id))
        .collect();
    // Targets and classes take longer than others: mixed, those that are done tell how long the others will take,
    // and are a fair sample if no more follow.
    todo.sort_by_cached_key(|planned| planned.turn());
    let finished = AtomicUsize::new(0);
    let guests = AtomicUsize::new(0);
    let host = Host::default();
    progress.begin("running faults", Counted::of("faults", todo.len() as u64));
    let go_on = || !progress.cancelled();
    several::each(jobs, Some(todo.len()), go_on, |index| {
        let planned = todo.get(index).copied();
        let with = planned.and_then(|planned| {
            let target = targets.get(planned.target as usize)?;
            Some((planned, target))
        });
        let Some((planned, target)) = with else {
            return Ok(ControlFlow::Break(()));
        };
        let (mut entry, ran) = one((runs, &host), target, planned, progress);
        entry.after_us = after.saturating_add(micros(begun.elapsed()));
        entry.rss_kib = memory_kib();
        guests.fetch_add(ran, Ordering::Relaxed);
        if progress.cancelled() {
            return Ok(ControlFlow::Break(()));
        }
        store.enter(&entry)?;
        finished.fetch_add(1, Ordering::Relaxed);
        progress.advance(&planned.setting());
        Ok(ControlFlow::Continue(()))
    })?;
    let guests = guests.into_inner();
    if guests > 0 {
        store.enter_session(Session {
            jobs: jobs.clamp(1, todo.len().max(1)),
            guests,
            wall_us: micros(begun.elapsed()),
        })?;
    }
    Ok(todo.len() - finished.into_inner())
}

/// The host, which runs share, but for those that are to have it alone.
#[derive(Default)]
struct Host(RwLock<()>);

impl Host {
    // A thread that panics is our bug and ends the program; there are no data that it could leave in halves.
    fn shared<R>(&self, run: impl FnOnce() -> R) -> R {
        let _among_others = self.0.read().unwrap_or_else(PoisonError::into_inner);
        run()
    }

    fn alone<R>(&self, run: impl FnOnce() -> R) -> R {
        let _nobody_else = self.0.write().unwrap_or_else(PoisonError::into_inner);
        run()
    }
}

/// A run that was made.
struct Ran {
    judged: Judged,
    heard: Heard,
    run_hash: Option<String>,
    wall: Duration,
    /// By the time, whatever was found before.
    stopped: bool,
}

impl Ran {
    fn says_nothing(&self) -> bool {
        self.judged.outcome == Outcome::InfraError
    }
}

/// A run of the plan, and how many guests that took. One that says nothing, or is stopped by the time, as it may be
/// the host that took it, is made once more, and alone, so that it is not the others that take it: the entry says if
/// it then was not.
fn one(
    (runs, host): (Runs<'_>, &Host),
    target: &Target,
    planned: &Planned,
    progress: &dyn Progress,
) -> (Entry, usize) {
    let once = || {
        let ran = match runs.with(target, &planned.faults) {
            Ok(ran) => ran,
            Err(e) => {
                let judged = Judged {
                    outcome: Outcome::InfraError,
                    found: Vec::new(),
                    corrupt: 0,
                    why: Some(e.chain()),
                };
                return Ran {
                    judged,
                    heard: Heard::default(),
                    run_hash: None,
                    wall: Duration::ZERO,
                    stopped: false,
                };
            }
        };
        Ran {
            judged: judge(&planned.faults, &target.golden, &ran.result),
            heard: Heard::of(&ran.result),
            stopped: is_stopped(&ran.result),
            run_hash: ran.result.run_hash,
            wall: ran.wall,
        }
    };
    let (mut guests, mut hung) = (0, 0);
    let mut settled = || {
        guests += 1;
        let first = host.shared(once);
        if !(first.stopped || first.says_nothing()) || progress.cancelled() {
            return first;
        }
        // Who waits to be alone may wait for long.
        let again = host.alone(|| (!progress.cancelled()).then(once));
        let Some(again) = again else {
            return first;
        };
        guests += 1;
        // Of one among others it is not known what stopped it, so one alone that says nothing leaves nothing known.
        let is_other = !(again.stopped || again.says_nothing());
        hung += u32::from(first.stopped && is_other);
        again
    };
    let Ran {
        judged,
        heard,
        run_hash,
        wall,
        stopped,
    } = settled();
    // One that was stopped by the time is so somewhere else each time.
    let twice = planned.twice && !stopped && !progress.cancelled();
    // Nor is it another outcome that the host has kept it from coming to any.
    let again = twice.then(&mut settled);
    let again = again.filter(|again| !(again.stopped || again.says_nothing()));
    let same = again
        .map(|again| again.judged == judged && again.heard == heard && again.run_hash == run_hash);
    let run_hash = run_hash.filter(|_| !stopped);
    let entry = Entry {
        id: planned.id,
        judged,
        heard,
        run_hash,
        same,
        wall_us: micros(wall),
        after_us: 0,
        rss_kib: 0,
        hung,
    };
    (entry, guests)
}
