// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Diagnostics of one cause. What one mistake does is often several findings of several rules: one
//! diagnostic stands for the cause, and says what to do; the others follow from it.
//!
//! Only what is certain is taken for one cause: that to repair the one is to repair the other.

mod same;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use staleline_devices::coherency::hazard::{Actor, Hazard, HazardKind, Why};
use staleline_devices::coherency::report::MaintenanceReport;
use staleline_devices::dma::{MasterId, TransferId};

use same::{Fault, Findings};

use super::advice::{EARLY, SUPPRESSED};
use super::{Class, Diagnostic, HazardEntry};

/// Bytes per line.
const LINE: u64 = 64;

/// Sets [`Diagnostic::cause`] of those that follow from another one's cause. `entries` has the same
/// order as `hazards`; `account` has the maintenance; `accused`: the master of which the device tree lies, if a finding comes from
/// that; `fault`: the routine that is at fault itself, and how.
pub(super) fn find(
    diagnostics: &mut [Diagnostic],
    hazards: &[Hazard],
    entries: &[HazardEntry],
    account: &MaintenanceReport,
    accused: impl Fn(&Hazard) -> Option<MasterId>,
    fault: impl Fn(&Hazard) -> Option<Fault>,
) {
    of_a_lie(diagnostics, hazards, accused);
    of_the_suppressed(diagnostics);
    of_no_wait(diagnostics, hazards, entries, account);
    same::of_a_routine(diagnostics, |shown| fault(hazards.get(shown)?));
    let findings = Findings { hazards, entries };
    same::of_a_store(diagnostics, &findings);
    same::of_an_operation(diagnostics, &findings);
    same::of_a_place(diagnostics, &findings);
}

/// A device tree that lies about a master is one cause, whatever comes of it. The gravest stands for
/// it: an error, and one that manifested; else the first.
fn of_a_lie(
    diagnostics: &mut [Diagnostic],
    hazards: &[Hazard],
    accused: impl Fn(&Hazard) -> Option<MasterId>,
) {
    let mut lies: BTreeMap<MasterId, Vec<usize>> = BTreeMap::new();
    for (i, diagnostic) in diagnostics.iter().enumerate() {
        // All findings of a diagnostic accuse the same master, or none.
        if let Some(master) = hazards.get(diagnostic.shown).and_then(&accused) {
            lies.entry(master).or_default().push(i);
        }
    }
    for told in lies.into_values() {
        let grave = |d: &Diagnostic| (d.class != Class::Error, !d.manifested);
        one_stands_for_all(diagnostics, told, grave);
    }
}

/// One operation was suppressed: whatever it would have prevented has that one cause. The gravest stands
/// for it: an error, and one that manifested, and the largest; else the first.
fn of_the_suppressed(diagnostics: &mut [Diagnostic]) {
    let all = diagnostics.iter().enumerate();
    let all = all.filter(|(_, d)| d.advice == SUPPRESSED && d.cause.is_none());
    let all = all.map(|(i, _)| i).collect();
    let grave = |d: &Diagnostic| (d.class != Class::Error, !d.manifested, Reverse(d.lines));
    one_stands_for_all(diagnostics, all, grave);
}

/// Of these, the first of the least stands for the others.
fn one_stands_for_all<K: Ord>(
    diagnostics: &mut [Diagnostic],
    all: Vec<usize>,
    grave: impl Fn(&Diagnostic) -> K,
) {
    let of = |i: &usize| diagnostics.get(*i).map(&grave);
    let stands = all.iter().copied().min_by_key(of);
    for i in all {
        if let Some(diagnostic) = diagnostics.get_mut(i) {
            diagnostic.cause = stands.filter(|stands| *stands != i);
        }
    }
}

/// Somebody who does not wait for a transfer, invalidates while it is in flight, and then reads,
/// meets the transfer with some of these reads (`ownership`), and with those that come after its end
/// what the invalidate came too early for (`missing-invalidate`). Had the invalidate waited, neither
/// would be: the touch came after it, on the same CPU. That the bytes are not invalidated stands for
/// it, as its advice has all there is to do: wait, then invalidate, then read.
fn of_no_wait(
    diagnostics: &mut [Diagnostic],
    hazards: &[Hazard],
    entries: &[HazardEntry],
    account: &MaintenanceReport,
) {
    let mut early: HashSet<(usize, TooEarly)> = HashSet::new();
    let mut touched: BTreeMap<usize, Vec<Option<TooEarly>>> = BTreeMap::new();
    for (hazard, entry) in hazards.iter().zip(entries) {
        let at = entry.diagnostic;
        match hazard.kind {
            // Of the device's own lines or of those that it had not come to; advice tells the two from
            // all others, below.
            HazardKind::MissingInvalidate if matches!(hazard.why, Why::Early | Why::Absent) => {
                early.extend(TooEarly::of(hazard, account).map(|operation| (at, operation)));
            }
            HazardKind::Ownership => {
                let before = TooEarly::of(hazard, account);
                touched.entry(at).or_default().push(before);
            }
            _ => {}
        }
    }
    for (at, touched) in touched {
        let advised = |i: &usize| {
            let pair = diagnostics.get(*i).zip(diagnostics.get(at));
            pair.is_some_and(|(d, touch)| {
                d.advice == EARLY && d.class == touch.class && d.cause.or(touch.cause).is_none()
            })
        };
        // One touch that did not come after such an invalidate is a mistake of its own.
        let explains = |i: &usize| {
            let is_early = |o: &Option<TooEarly>| o.is_some_and(|o| early.contains(&(*i, o)));
            touched.iter().all(is_early)
        };
        let mut all = 0..diagnostics.len();
        let cause = all.find(|i| advised(i) && explains(i));
        if let Some(diagnostic) = diagnostics.get_mut(at).filter(|_| cause.is_some()) {
            diagnostic.cause = cause;
        }
    }
}

/// An invalidate on all the lines of a finding that came before it, and the transfer that it may not
/// have waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct TooEarly {
    transfer: TransferId,
    operation: u32,
    /// Who read afterwards: user space, or the kernel.
    user: bool,
}

impl TooEarly {
    /// The last invalidate before the finding, if that is by a CPU that has read after it.
    fn of(hazard: &Hazard, account: &MaintenanceReport) -> Option<Self> {
        let Actor::Cpu { cpu, site } = hazard.reader else {
            return None;
        };
        let last = hazard.last_invalidate?;
        let before = last.cpu == cpu && last.at <= hazard.at;
        let known = hazard.transfer != TransferId::CONTROL;
        let covers = || account.covers(&last, &(hazard.first_pa..hazard.end_pa));
        (before && known && covers()).then_some(TooEarly {
            transfer: hazard.transfer,
            operation: last.operation,
            user: site.is_user(),
        })
    }
}

#[cfg(test)]
#[path = "causes_tests.rs"]
mod tests;
