// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Diagnostics that one repair cures: of the same maintenance routine, the same store, the same
//! operation that they all lack, or the same place that sees to no maintenance.

use std::cmp::Reverse;

use staleline_devices::coherency::hazard::{Actor, Hazard, HazardKind, Why};
use staleline_devices::cpu::SiteId;

use super::super::advice::{FRESH_PAGE, IMPORTER_CPU};
use super::super::lookup::NO_DEVICE;
use super::super::words::Word as _;
use super::super::{Class, Diagnostic, HazardEntry};
use super::LINE;

/// What a look at two diagnostics needs.
pub(super) struct Findings<'a> {
    pub hazards: &'a [Hazard],
    /// In the same order.
    pub entries: &'a [HazardEntry],
}

impl Findings<'_> {
    /// Those of a diagnostic.
    fn of(&self, diagnostic: usize) -> impl Iterator<Item = &Hazard> {
        let all = self.hazards.iter().zip(self.entries);
        all.filter(move |(_, e)| e.diagnostic == diagnostic)
            .map(|(h, _)| h)
    }

    /// Whether each finding of `one` meets one of the other, at least one of them.
    fn all_meet(&self, one: usize, other: usize, meets: impl Fn(&Hazard, &Hazard) -> bool) -> bool {
        let mut all = self.of(one).peekable();
        all.peek().is_some() && all.all(|h| self.of(other).any(|o| meets(h, o)))
    }

    /// Whether what was thrown away, if `lost` is about that, had been stored before `other` was found:
    /// what would have cleaned the one would have cleaned the other.
    fn stored_before(&self, lost: usize, other: usize) -> bool {
        let before =
            |l: &Hazard, o: &Hazard| l.kind != HazardKind::DiscardedWrite || l.written_at <= o.at;
        self.all_meet(lost, other, before)
    }

    /// The device that a diagnostic is about, if it is about one.
    fn master(&self, d: &Diagnostic) -> Option<&str> {
        let name = self.entries.get(d.shown).map(|e| &*e.master);
        name.filter(|name| *name != NO_DEVICE)
    }

    /// Whether two diagnostics may be about the same device: what a CPU does on its own is about none,
    /// and about any.
    fn of_one_master(&self, a: &Diagnostic, b: &Diagnostic) -> bool {
        match (self.master(a), self.master(b)) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        }
    }
}

/// One diagnostic stands for the other.
fn folded(diagnostics: &mut [Diagnostic], stands: usize, other: usize) {
    if let Some(d) = diagnostics.get_mut(other) {
        d.cause = Some(stands);
    }
}

/// Those that still stand for their cause and fail the run.
fn standing(diagnostics: &[Diagnostic]) -> Vec<usize> {
    let all = diagnostics.iter().enumerate();
    let stand = all.filter(|(_, d)| d.cause.is_none() && d.class == Class::Error);
    let stand: Vec<usize> = stand.map(|(i, _)| i).collect();
    // What others follow from already is left to stand alone: causes have no causes.
    let follows = |i: &usize| diagnostics.iter().any(|d| d.cause == Some(*i));
    stand.into_iter().filter(|i| !follows(i)).collect()
}

/// The maintenance routine that is wrong itself, and how.
pub(super) type Fault = (String, String);

/// What a maintenance routine does, and the barrier at its end, are its own. That it does the wrong
/// thing, or that the barrier is missing or too weak, is one cause, whoever has called the routine,
/// and for whatever device. The one with most wrong bytes stands for it, or else the first.
/// That a routine cleaned what should have been invalidated is its fault only if another diagnostic
/// says so.
pub(super) fn of_a_routine(diagnostics: &mut [Diagnostic], fault: impl Fn(usize) -> Option<Fault>) {
    let mut known: Vec<(Fault, Vec<usize>)> = Vec::new();
    for i in standing(diagnostics) {
        // All findings of a diagnostic have the same.
        let shown = diagnostics.get(i).map(|d| d.shown);
        let Some(fault) = shown.and_then(&fault) else {
            continue;
        };
        match known.iter_mut().find(|(f, _)| *f == fault) {
            Some((_, all)) => all.push(i),
            None => known.push((fault, vec![i])),
        }
    }
    for (_, all) in known {
        let alias = |d: &Diagnostic| d.kind == HazardKind::MismatchedAlias.word();
        let of = |i: &usize| diagnostics.get(*i);
        let proves = |i: &usize| of(i).is_some_and(|d| !alias(d));
        // The first of equals.
        let grave = |i: &usize| of(i).map(|d| Reverse(d.wrong_bytes));
        let stands = all.iter().copied().filter(proves).min_by_key(grave);
        let Some(stands) = stands else {
            continue;
        };
        for other in all.into_iter().filter(|i| *i != stands) {
            folded(diagnostics, stands, other);
        }
    }
}

/// A store that nobody cleaned can be overwritten, or go over what a device has written, and be thrown
/// away by an invalidate. What the former lacks comes between the store and the transfer (for a
/// store into a stale copy: around the store), so that the latter finds nothing to throw away.
pub(super) fn of_a_store(diagnostics: &mut [Diagnostic], findings: &Findings<'_>) {
    let kind =
        |i: &usize, kind: HazardKind| diagnostics.get(*i).is_some_and(|d| d.kind == kind.word());
    let all = standing(diagnostics);
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for lost in all.iter().filter(|i| kind(i, HazardKind::DiscardedWrite)) {
        let clobbers = all.iter().filter(|i| kind(i, HazardKind::WritebackClobber));
        let same = |i: &&usize| findings.all_meet(*lost, **i, by_one_store);
        pairs.extend(clobbers.clone().find(same).map(|stands| (*stands, *lost)));
    }
    for (stands, lost) in pairs {
        folded(diagnostics, stands, lost);
    }
}

/// Whether the store that was thrown away is the one that the clobber is about.
fn by_one_store(lost: &Hazard, clobber: &Hazard) -> bool {
    let in_time = match clobber.why {
        // Between the transfer's write and the moment when somebody looks.
        Why::StaleStore => clobber.written_at <= lost.written_at && lost.written_at <= clobber.at,
        // The store is the device's to overwrite, and is thrown away after that.
        _ => lost.written_at <= clobber.at && clobber.at <= lost.at,
    };
    let stored = match clobber.why {
        Why::StaleStore => clobber.merged_by,
        _ => clobber.reader,
    };
    let place = place(stored);
    in_time && place.is_some() && place == self::place(lost.writer) && within(lost, clobber)
}

fn place(actor: Actor) -> Option<SiteId> {
    match actor {
        Actor::Cpu { site, .. } => Some(site),
        _ => None,
    }
}

/// Two rules that one missing operation breaks: the advice is the same to the word, the operation
/// would come before the same transfer or, of memory that is nobody's transfer, before the same use,
/// and what the one is about is part of what the other is about. The gravest stands for it: one that
/// manifested; else the larger.
pub(super) fn of_an_operation(diagnostics: &mut [Diagnostic], findings: &Findings<'_>) {
    for small in standing(diagnostics) {
        let all = standing(diagnostics).into_iter().filter(|i| *i != small);
        let mut all = all.filter(|i| same_advice(diagnostics, findings, *i, small));
        let Some(large) = all.find(|i| findings.all_meet(small, *i, part_of)) else {
            continue;
        };
        let manifested = |i: usize| diagnostics.get(i).is_some_and(|d| d.manifested);
        match manifested(small) && !manifested(large) {
            true => folded(diagnostics, small, large),
            false => folded(diagnostics, large, small),
        }
    }
}

/// Fresh pages that their exporter does not clean, and a function that touches a DMABUF without saying
/// so: one repair in one place, whatever rules are broken for want of it, and in whichever transfers.
/// The gravest stands for it: one that manifested; else the one with most wrong bytes, and lines.
pub(super) fn of_a_place(diagnostics: &mut [Diagnostic], findings: &Findings<'_>) {
    for follows in standing(diagnostics) {
        let heads = diagnostics.iter().enumerate();
        let heads = heads.filter(|(i, d)| *i != follows && d.cause.is_none());
        let mut heads = heads.map(|(i, _)| i);
        let Some(other) = heads.find(|i| same_place(diagnostics, findings, *i, follows)) else {
            continue;
        };
        let leads = diagnostics.iter().any(|d| d.cause == Some(other));
        let grave = |i: usize| {
            let d = diagnostics.get(i);
            d.map(|d| (d.manifested, d.wrong_bytes, d.lines))
        };
        match !leads && grave(other) < grave(follows) {
            true => folded(diagnostics, follows, other),
            false => folded(diagnostics, other, follows),
        }
    }
}

fn same_place(all: &[Diagnostic], findings: &Findings<'_>, one: usize, other: usize) -> bool {
    let Some((a, b)) = all.get(one).zip(all.get(other)) else {
        return false;
    };
    let same = match &*a.advice {
        // The first note names the function.
        IMPORTER_CPU => (&a.help, a.notes.first()) == (&b.help, b.notes.first()),
        FRESH_PAGE => {
            let buffers = a.buffers.iter().any(|i| b.buffers.contains(i));
            let cured = || findings.stored_before(one, other) && findings.stored_before(other, one);
            buffers && findings.of_one_master(a, b) && cured()
        }
        _ => false,
    };
    a.class == b.class && a.advice == b.advice && a.kind != b.kind && same
}

fn same_advice(all: &[Diagnostic], findings: &Findings<'_>, one: usize, other: usize) -> bool {
    let Some((a, b)) = all.get(one).zip(all.get(other)) else {
        return false;
    };
    let master = findings.of_one_master(a, b);
    let told = (&a.advice, &a.help, &a.notes) == (&b.advice, &b.help, &b.notes);
    a.kind != b.kind && master && told
}

fn part_of(small: &Hazard, large: &Hazard) -> bool {
    small.transfer == large.transfer && within(small, large)
}

/// Whether all lines of a finding lie in the memory of another, and one of them is sure to be part of
/// that one: of the lines in between, some may be of neither.
fn within(small: &Hazard, large: &Hazard) -> bool {
    let inside = large.first_pa <= small.first_pa && small.end_pa <= large.end_pa;
    let (some, others) = (known(small), known(large));
    let shared = || some.iter().any(|line| others.contains(line));
    inside && (is_dense(large) || shared())
}

/// Lines that a finding is sure to be about: where its memory starts and ends, and what it shows.
fn known(h: &Hazard) -> [u64; 3] {
    [h.first_pa, h.end_pa.saturating_sub(LINE), h.line_pa]
}

/// Whether it is about all lines between the first and the last.
fn is_dense(h: &Hazard) -> bool {
    h.lines.saturating_mul(LINE) >= h.end_pa.saturating_sub(h.first_pa)
}
