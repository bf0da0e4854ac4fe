// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What came of a fault: whether it was noticed, by whom, and rightly.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use staleline_devices::coherency::census::{CountedBarrier, CountedNeighbours};
use staleline_devices::coherency::report::{MaintenanceOp, MaintenanceReport, Need};
use staleline_devices::cpu::{Barrier, CacheOp, LINE, MAX_CPUS};
use staleline_devices::dma::Direction;
use staleline_devices::faults::{Fault, OperationFault, Until};
use staleline_devices::soc::report::SocReport;
use staleline_results::{self as results, GuestEnd, HazardEntry, HazardKind, RunResult, Verdict};

use super::heard::is_told;
use super::points::beside;

/// What came of a run with faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The sanitizer has found it, and wrong bytes were seen.
    DetectedVisible,
    /// The sanitizer has found it, and nobody has seen a wrong byte.
    DetectedLatent,
    /// Software has done wrong, wrong bytes were seen or maintenance left out without which they could have been,
    /// and the sanitizer has not said so.
    Miss,
    /// The sanitizer has found something, and not that.
    Misdiagnosed,
    /// Hardware has done wrong, and the sanitizer, which takes it to be right, calls it an error of software's.
    Blamed,
    /// The same as without.
    NoEffect,
    /// Hardware has done wrong, and wrong bytes were seen: nothing that software could be blamed for.
    HardwareCorruption,
    /// A device, a driver or the guest's programs have told of an error, and no wrong byte was seen.
    Noticed,
    /// The guest's kernel has crashed, or reported on itself.
    Crash,
    /// The guest came to no end.
    Hang,
    /// Faults of which the first kept the second from taking place.
    NotReached,
    /// The run says nothing.
    InfraError,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 12] = [
        Outcome::Miss,
        Outcome::Misdiagnosed,
        Outcome::DetectedVisible,
        Outcome::DetectedLatent,
        Outcome::Blamed,
        Outcome::HardwareCorruption,
        Outcome::Noticed,
        Outcome::Crash,
        Outcome::Hang,
        Outcome::NoEffect,
        Outcome::NotReached,
        Outcome::InfraError,
    ];

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::DetectedVisible => "detected-visible",
            Outcome::DetectedLatent => "detected-latent",
            Outcome::Miss => "miss",
            Outcome::Misdiagnosed => "misdiagnosed",
            Outcome::Blamed => "blamed",
            Outcome::NoEffect => "no-effect",
            Outcome::HardwareCorruption => "hardware-corruption",
            Outcome::Noticed => "noticed",
            Outcome::Crash => "crash",
            Outcome::Hang => "hang",
            Outcome::NotReached => "not-reached",
            Outcome::InfraError => "infra-error",
        }
    }

    /// By its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Outcome::ALL
            .into_iter()
            .find(|outcome| outcome.name() == name)
    }

    /// Whether it is a fault of ours.
    pub fn is_ours(self) -> bool {
        matches!(self, Outcome::Miss | Outcome::Misdiagnosed)
    }

    /// Whether harm was done that nobody has told of.
    pub fn is_silent(self) -> bool {
        matches!(self, Outcome::Miss | Outcome::HardwareCorruption)
    }
}

/// What came of a run, and what it is told by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// What came of it.
    pub outcome: Outcome,
    /// The kinds of what was found, each once.
    pub found: Vec<HazardKind>,
    /// Wrong bytes, where most were seen.
    pub corrupt: u64,
    /// Why that is so, if it needs to be said.
    pub why: Option<String>,
}

/// What the sanitizer may say of a fault, where and when.
#[derive(Debug)]
struct Expected {
    kinds: Vec<HazardKind>,
    /// Physical addresses.
    memory: Vec<Range<u64>>,
    of: Of,
}

/// What has gone wrong.
#[derive(Debug)]
enum Of {
    /// A maintenance operation.
    Operation {
        number: u32,
        at: u64,
        /// What its absence leaves to be found, until another does the same.
        absent: Vec<HazardKind>,
        /// It should have cleaned and has not: what was written before may be thrown away later.
        not_cleaned: bool,
    },
    /// A barrier.
    Barrier(Window),
}

/// What a barrier keeps in order: what comes before it, since the one before, from what comes behind, until the next.
#[derive(Debug, Clone, Copy)]
struct Window {
    barrier: CountedBarrier,
    /// When the one before came that orders everything; 0: none that is known.
    since: u64,
}

impl Window {
    /// Those of a run, by number.
    fn all(barriers: &[CountedBarrier]) -> Vec<Self> {
        // Some are counted when it is known what they are for.
        let mut barriers = barriers.to_vec();
        barriers.sort_by_key(|one| one.number);
        let mut since = [0; MAX_CPUS];
        let one = |b: &CountedBarrier| {
            let before = since.get_mut(b.cpu.index());
            let since = before.as_ref().map_or(0, |before| **before);
            if let Some(before) = before.filter(|_| b.barrier.orders_all()) {
                *before = b.at;
            }
            Window { barrier: *b, since }
        };
        barriers.iter().map(one).collect()
    }

    /// Whether nothing but this barrier has kept in order what comes then.
    fn is_alone_at(&self, at: u64) -> bool {
        self.barrier.at < at && at <= self.barrier.followed.unwrap_or(u64::MAX)
    }

    /// Whether the reader came, or the device was started, when nothing but this barrier has kept it in order.
    fn lets_in(&self, hazard: &HazardEntry) -> bool {
        self.is_alone_at(hazard.started_at.unwrap_or(hazard.at))
    }

    /// Whether it is this barrier that has to make what was written seen.
    fn publishes(&self, hazard: &HazardEntry) -> bool {
        self.since < hazard.written_at && hazard.written_at <= self.barrier.at
    }
}

/// The run without faults, as far as judging goes by it.
#[derive(Debug, Clone)]
pub struct Golden {
    maintenance: MaintenanceReport,
    /// By number.
    barriers: Vec<Window>,
    /// By operation.
    neighbours: Vec<CountedNeighbours>,
    /// What masters read, and when they began, in that order.
    reads: Vec<(u64, Range<u64>)>,
    /// What they write, likewise.
    writes: Vec<(u64, Range<u64>)>,
}

impl Golden {
    /// From its machine's report.
    pub fn new(report: &SocReport) -> Self {
        let domain = &report.domain;
        let census = domain.census.as_ref();
        let barriers = census.map_or(&[][..], |census| &census.barriers);
        let transfers = |direction| {
            let all = domain.transfers.iter();
            let of_it = all.filter(move |t| t.transfer.direction == direction);
            of_it.map(|t| (t.opened_at, t.transfer.range())).collect()
        };
        Golden {
            maintenance: domain.maintenance.clone(),
            barriers: Window::all(barriers),
            neighbours: census.map_or_else(Vec::new, |census| census.neighbours.clone()),
            reads: transfers(Direction::FromMemory),
            writes: transfers(Direction::ToMemory),
        }
    }

    /// Whether it is the missing clean at `at` that has a write thrown away. It is not if the write came after
    /// that, or went before; and if a master read it meanwhile, that is what should have been found.
    fn throws_away(&self, at: u64, hazard: &HazardEntry) -> bool {
        let (start, end) = (hazard.first_pa.0, hazard.end_pa.0);
        let from = self.reads.partition_point(|(opened, _)| *opened < at);
        let reads = self.reads.get(from..).unwrap_or_default();
        let mut meanwhile = reads.iter().take_while(|(opened, _)| *opened < hazard.at);
        hazard.written_at < at
            && at <= hazard.at
            && !meanwhile.any(|(_, read)| start < read.end && read.start < end)
    }

    fn barrier(&self, number: u32) -> Option<Window> {
        let found = self
            .barriers
            .binary_search_by_key(&number, |b| b.barrier.number);
        self.barriers.get(found.ok()?).copied()
    }

    /// The maintenance that a barrier completes or orders.
    fn behind(&self, window: &Window) -> impl Iterator<Item = &MaintenanceOp> {
        let barrier = window.barrier;
        let operations = self.maintenance.operations.iter();
        operations.filter(move |op| op.waits_for(&barrier))
    }

    /// Whether an operation is needed on all lines of it that masters touch.
    pub fn needs(&self, number: u32) -> bool {
        self.maintenance
            .operation(number)
            .is_some_and(|op| op.need() == Need::Whole)
    }

    /// Whether a master has read what that operation has cleaned when nothing but a barrier behind it could have
    /// completed that.
    fn publishes(&self, window: &Window, op: &MaintenanceOp) -> bool {
        let from = self
            .reads
            .partition_point(|(opened, _)| *opened <= window.barrier.at);
        let reads = self.reads.get(from..).unwrap_or_default();
        let mut alone = reads
            .iter()
            .take_while(|(opened, _)| window.is_alone_at(*opened));
        window.barrier.barrier.orders_all()
            && op.op != CacheOp::Invalidate
            && op.need() == Need::Whole
            && alone.any(|(_, read)| op.met(read).is_some())
    }

    /// Whether an operation is needed, as above, and masters read or write its memory in transfers after that.
    pub fn needs_for_a_transfer(&self, number: u32) -> bool {
        let is_met = |op: &MaintenanceOp| {
            let mut all = self.reads.iter().chain(&self.writes);
            all.any(|(opened, memory)| op.at < *opened && op.met(memory).is_some())
        };
        self.needs(number) && self.maintenance.operation(number).is_some_and(is_met)
    }

    /// Whether the next that masters do with an operation's memory is to read it.
    fn is_read_next(&self, op: &MaintenanceOp) -> bool {
        let next = |all: &[(u64, Range<u64>)]| {
            let from = all.partition_point(|(opened, _)| *opened < op.at);
            let mut behind = all.get(from..).unwrap_or_default().iter();
            let touched = behind.find(|(_, memory)| op.met(memory).is_some());
            touched.map_or(u64::MAX, |(opened, _)| *opened)
        };
        next(&self.reads) < next(&self.writes)
    }

    /// Whether a fault of software leaves undone what this run has needed, by what masters have done in it: then the
    /// sanitizer has to say so, whoever sees a wrong byte. That it does not follow from this need not mean that
    /// nothing is wrong: of those faults, wrong bytes have to tell.
    fn has_to_be_found(&self, fault: Fault) -> bool {
        match fault {
            // What comes when it should have been done for long may as well not come.
            Fault::Operation(
                number,
                OperationFault::Drop | OperationFault::Delay(Until::Start | Until::End),
            ) => {
                let op = self.maintenance.operation(number);
                op.is_some_and(|op| op.need() > Need::None)
            }
            Fault::Operation(number, OperationFault::As(what)) => {
                let op = self.maintenance.operation(number);
                // As an invalidate, it throws away what a CPU has stored.
                let throws_away = || beside(&self.neighbours, number).is_some_and(|one| one.own);
                op.is_some_and(|op| match (op.op, what) {
                    (CacheOp::Invalidate, CacheOp::Clean) => op.need() > Need::None,
                    (CacheOp::Clean, CacheOp::Invalidate) => {
                        throws_away() || op.need() == Need::Whole && self.is_read_next(op)
                    }
                    // It may be needed for what it invalidates.
                    (CacheOp::CleanInvalidate, CacheOp::Invalidate) => throws_away(),
                    _ => false,
                })
            }
            Fault::Operation(number, OperationFault::Skip { from, count }) => {
                let op = self.maintenance.operation(number);
                let skipped = op.and_then(|op| Some((op, op.in_order(from, count)?)));
                skipped.is_some_and(|(op, mut lines)| lines.any(|at| op.was_needed_at(at)))
            }
            // It throws away what a CPU has stored.
            Fault::Operation(
                number,
                what @ (OperationFault::WidenBefore | OperationFault::WidenAfter),
            ) => {
                let op = self.maintenance.operation(number);
                let written = beside(&self.neighbours, number).is_some_and(|one| match what {
                    OperationFault::WidenBefore => one.before,
                    _ => one.behind,
                });
                written && op.is_some_and(|op| op.op == CacheOp::Invalidate)
            }
            // It is done, but nothing has completed it.
            Fault::Operation(number, OperationFault::Delay(Until::Barrier)) => {
                let op = self.maintenance.operation(number);
                op.is_some_and(|op| {
                    let mut windows = self.barriers.iter();
                    let its_own = windows.find(|window| op.waits_for(&window.barrier));
                    its_own.is_some_and(|window| self.publishes(window, op))
                })
            }
            Fault::Barrier(number, what) => self.barrier(number).is_some_and(|window| {
                let CountedBarrier {
                    barrier,
                    alone_for_stores,
                    alone_for_loads,
                    ..
                } = window.barrier;
                // To who is started behind it, a DMB for all is as good as what completes.
                let left = what.applied(barrier);
                let stays = |good: fn(Barrier) -> bool| left.is_some_and(good);
                alone_for_stores && !stays(Barrier::orders_stores_for_masters)
                    || alone_for_loads && !stays(Barrier::orders_loads_from_masters)
                    || !stays(Barrier::orders_all)
                        && self.behind(&window).any(|op| self.publishes(&window, op))
            }),
            _ => false,
        }
    }

    /// What may be said of a fault of software; none of hardware's.
    fn expected(&self, fault: Fault) -> Option<Expected> {
        match fault {
            Fault::Operation(number, what) => self.of_operation(number, what),
            Fault::Barrier(number, _) => self.of_barrier(number),
            Fault::Interrupt(..) | Fault::Access(..) | Fault::Host(..) => None,
        }
    }

    fn of_operation(&self, number: u32, what: OperationFault) -> Option<Expected> {
        use HazardKind::{
            DiscardedWrite, MismatchedAlias, MissingBarrier, MissingClean, MissingInvalidate,
            Ownership, SignalledEarly, WritebackClobber,
        };
        let op = self.maintenance.operation(number)?;
        let line = |n: i64| {
            let at = op.first_pa.saturating_add_signed(n * LINE.cast_signed());
            at..at.saturating_add(LINE)
        };
        let memory = match what {
            OperationFault::WidenBefore => vec![line(-1)],
            OperationFault::WidenAfter => vec![line(i64::try_from(op.lines).unwrap_or(0))],
            OperationFault::Skip { from, count } => match op.in_order(from, count) {
                Some(lines) => lines.map(|at| at..at.saturating_add(LINE)).collect(),
                None => op.ranges().collect(),
            },
            _ => op.ranges().collect(),
        };
        // What its absence leaves to be found. What is done as a clean is an invalidate that is not done.
        let absent = match (op.op, what) {
            // With one that does more than it should, nothing of its own is left out.
            (_, OperationFault::WidenBefore | OperationFault::WidenAfter) => Vec::new(),
            (CacheOp::Clean, _) => vec![MissingClean, WritebackClobber, MismatchedAlias],
            (CacheOp::Invalidate, _)
            | (CacheOp::CleanInvalidate, OperationFault::As(CacheOp::Clean)) => {
                vec![MissingInvalidate, WritebackClobber, MismatchedAlias]
            }
            (CacheOp::CleanInvalidate, OperationFault::As(_)) => {
                vec![MissingClean, WritebackClobber, MismatchedAlias]
            }
            (CacheOp::CleanInvalidate, _) => {
                vec![
                    MissingClean,
                    MissingInvalidate,
                    WritebackClobber,
                    MismatchedAlias,
                ]
            }
        };
        let cleans = op.op != CacheOp::Invalidate && what != OperationFault::As(CacheOp::Clean);
        let more: &[HazardKind] = match what {
            OperationFault::Drop | OperationFault::Skip { .. } => &[],
            OperationFault::Delay(Until::Barrier) => &[MissingBarrier],
            // Done in the middle of a transfer, or past a fence, it may do harm of its own.
            OperationFault::Delay(_) => {
                &[MissingBarrier, DiscardedWrite, Ownership, SignalledEarly]
            }
            OperationFault::As(CacheOp::Clean) => &[],
            OperationFault::As(_) => &[DiscardedWrite],
            // It takes, or writes back, what is none of its business.
            OperationFault::WidenBefore | OperationFault::WidenAfter => match op.op {
                CacheOp::Clean => &[WritebackClobber, Ownership],
                CacheOp::Invalidate => &[DiscardedWrite, Ownership],
                CacheOp::CleanInvalidate => &[DiscardedWrite, WritebackClobber, Ownership],
            },
        };
        Some(Expected {
            kinds: absent.iter().chain(more).copied().collect(),
            memory,
            of: Of::Operation {
                number,
                at: op.at,
                absent,
                not_cleaned: cleans,
            },
        })
    }

    /// Whether a finding is what may be said of one of the faults.
    fn fits(&self, expected: &Expected, hazard: &HazardEntry, faults: &[Fault]) -> bool {
        let (start, end) = (hazard.first_pa.0, hazard.end_pa.0);
        let meets = |m: &&Range<u64>| start < m.end && m.start < end;
        let met = expected.memory.iter().find(meets);
        let is_one = expected.kinds.contains(&hazard.kind);
        match &expected.of {
            // Stores to descriptors, too, are ordered by barriers, wherever those are.
            Of::Barrier(barrier) => {
                let is_of_it = met.is_some() || barrier.publishes(hazard);
                is_one && barrier.lets_in(hazard) && (is_of_it || barrier.barrier.alone_for_loads)
            }
            Of::Operation {
                number,
                at,
                absent,
                not_cleaned,
            } => met.is_some_and(|met| {
                let common = start.max(met.start)..end.min(met.end);
                let is_over = absent.contains(&hazard.kind)
                    && self.was_done_since(*number, &common, until(hazard), faults);
                is_one && *at <= hazard.at && !is_over
                    || *not_cleaned
                        && hazard.kind == HazardKind::DiscardedWrite
                        && self.throws_away(*at, hazard)
            }),
        }
    }

    /// Whether another, with which nothing is wrong, has done to that memory what an operation should have, before
    /// `until`: what is found there then is not of that one.
    fn was_done_since(
        &self,
        number: u32,
        memory: &Range<u64>,
        until: u64,
        faults: &[Fault],
    ) -> bool {
        let Some(op) = self.maintenance.operation(number) else {
            return false;
        };
        let does_the_same = |other: &MaintenanceOp| match op.op {
            CacheOp::Clean => other.op != CacheOp::Invalidate,
            CacheOp::Invalidate => other.op != CacheOp::Clean,
            CacheOp::CleanInvalidate => other.op == CacheOp::CleanInvalidate,
        };
        let all = &self.maintenance.operations;
        let behind = all.partition_point(|other| other.number <= number);
        let mut others = all.get(behind..).unwrap_or_default().iter();
        let is_right = |other: &MaintenanceOp| {
            let mut faults = faults.iter();
            !faults.any(|fault| matches!(fault, Fault::Operation(n, _) if *n == other.number))
        };
        others.any(|other| {
            op.at < other.at
                && other.at < until
                && does_the_same(other)
                && other.covers(memory)
                && is_right(other)
        })
    }

    fn of_barrier(&self, number: u32) -> Option<Expected> {
        let barrier = self.barrier(number)?;
        let done = self.behind(&barrier);
        Some(Expected {
            kinds: vec![HazardKind::MissingBarrier],
            memory: done.flat_map(MaintenanceOp::ranges).collect(),
            of: Of::Barrier(barrier),
        })
    }
}

/// When what is missing should have been done, at the latest.
fn until(hazard: &HazardEntry) -> u64 {
    match hazard.kind {
        HazardKind::MissingClean => hazard.started_at.unwrap_or(hazard.at),
        _ => hazard.at,
    }
}

/// Whether a run was stopped by the time.
pub fn is_stopped(result: &RunResult) -> bool {
    result.guest.end == Some(GuestEnd::TimedOut)
}

/// Judges a run with faults by the one without.
pub fn judge(faults: &[Fault], golden: &Golden, result: &RunResult) -> Judged {
    let mut found: Vec<HazardKind> = result.hazards.iter().map(|h| h.kind).collect();
    found.sort_by_key(|kind| kind.name());
    found.dedup();
    let corrupt = result.data.corrupt_bytes;
    let judged = |outcome, why| Judged {
        outcome,
        found: found.clone(),
        corrupt,
        why,
    };
    // Where the board is as it should be, software is to blame for whatever is wrong.
    let of_host = faults.iter().all(|fault| fault.is_hosts());
    let is_of_hardware = !faults.iter().all(|f| f.is_software() || f.is_hosts());
    if result.interrupted || result.guest.end.is_none() {
        return judged(Outcome::InfraError, result.reasons.first().cloned());
    }
    let missed = missed(faults, golden, result).or_else(|| {
        let explained = result.hazards.iter().any(|h| h.manifested);
        let unexplained = !is_of_hardware && !found.is_empty() && corrupt > 0 && !explained;
        unexplained.then(|| format!("{corrupt} wrong bytes, and no finding is of wrong data"))
    });
    if !found.is_empty() {
        let wrong = match of_host {
            true => done_all_the_same(result),
            false => wrongly_named(faults, golden, result),
        };
        // Beside hardware that is not as it should be, what fits none of software's faults is blamed on software.
        return match (wrong, missed) {
            (Some(_), None) if is_of_hardware => judged(Outcome::Blamed, None),
            (Some(_), Some(missed)) if is_of_hardware => judged(Outcome::Miss, Some(missed)),
            (Some(wrong), _) => judged(Outcome::Misdiagnosed, Some(wrong)),
            (None, Some(missed)) => judged(Outcome::Miss, Some(missed)),
            (None, None) if corrupt > 0 => judged(Outcome::DetectedVisible, None),
            (None, None) => judged(Outcome::DetectedLatent, None),
        };
    }
    if result.data.corrupt_ends().next().is_some() {
        let why = format!("{corrupt} wrong bytes, and no finding");
        return match (missed, is_of_hardware) {
            (Some(missed), true) => judged(Outcome::Miss, Some(missed)),
            (_, false) => judged(Outcome::Miss, Some(why)),
            (None, true) => judged(Outcome::HardwareCorruption, Some(why)),
        };
    }
    if missed.is_some() {
        return judged(Outcome::Miss, missed);
    }
    let reason = result.reasons.first().cloned();
    if !result.saturated.is_empty() && result.verdict != Verdict::Pass {
        // It was checked less than planned.
        return judged(Outcome::InfraError, reason);
    }
    if let Some(report) = result.guest.complaints().next() {
        return judged(Outcome::Crash, Some(report.headline.clone()));
    }
    match &result.guest.end {
        Some(GuestEnd::TimedOut) => return judged(Outcome::Hang, reason),
        Some(GuestEnd::Died { what }) => return judged(Outcome::InfraError, Some(what.clone())),
        _ => {}
    }
    let never = result.injected.iter().find(|one| one.at.is_none());
    let any_did = result.injected.iter().any(|one| one.at.is_some());
    match (result.verdict, never) {
        (Verdict::Pass, _) => judged(Outcome::NoEffect, None),
        (_, Some(never)) if any_did => judged(Outcome::NotReached, Some(never.fault.clone())),
        (_, Some(never)) => judged(
            Outcome::InfraError,
            Some(format!("{} did not happen", never.fault)),
        ),
        // The path has stopped, the guest has said so, and switched itself off.
        _ => judged(Outcome::Noticed, reason),
    }
}

/// The finding that says that maintenance is missing which was done, by the account that it gives itself.
fn done_all_the_same(result: &RunResult) -> Option<String> {
    let wrong = |h: &&HazardEntry| {
        let does = |op: results::CacheOp| match h.kind {
            HazardKind::MissingClean => op != results::CacheOp::Invalidate,
            HazardKind::MissingInvalidate => op != results::CacheOp::Clean,
            _ => false,
        };
        let last = h.last_maintenance.as_ref();
        h.why == results::Why::Absent
            && last
                .is_some_and(|last| does(last.op) && h.written_at < last.at && last.at < until(h))
    };
    let other = result.hazards.iter().find(wrong)?;
    Some(format!(
        "{} at {:#x} to {:#x}, of which maintenance it says itself that it was done",
        other.kind.name(),
        other.first_pa.0,
        other.end_pa.0
    ))
}

/// A fault that took place and has to be found, whoever sees a wrong byte. None if all of these were found, or if the
/// guest was stopped by the time: then what would show it may have been still to come; nor of several if somebody tells
/// of an error.
fn missed(faults: &[Fault], golden: &Golden, result: &RunResult) -> Option<String> {
    let took_place = |fault: &Fault| {
        let name = fault.to_string();
        let mut injected = result.injected.iter();
        injected.any(|one| one.fault == name && one.at.is_some())
    };
    let must_be_found = |fault: &&Fault| golden.has_to_be_found(**fault) && took_place(fault);
    let found = |fault: &Fault| {
        let expected = golden.expected(*fault);
        expected.is_some_and(|e| result.hazards.iter().any(|h| golden.fits(&e, h, faults)))
    };
    // Of several, one may have kept from happening what would show another.
    if is_stopped(result) || faults.len() > 1 && is_told(result) {
        return None;
    }
    let mut needed = faults.iter().filter(must_be_found);
    let fault = needed.find(|fault| !found(fault))?;
    Some(format!(
        "{fault} leaves undone what is needed, and there is no finding of it"
    ))
}

/// What is wrong with what was found of faults of software.
fn wrongly_named(faults: &[Fault], golden: &Golden, result: &RunResult) -> Option<String> {
    let expected: Vec<Expected> = faults.iter().filter_map(|f| golden.expected(*f)).collect();
    let fits = |h: &HazardEntry| expected.iter().any(|e| golden.fits(e, h, faults));
    let other = result.hazards.iter().find(|h| !fits(h))?;
    let (start, end) = (other.first_pa.0, other.end_pa.0);
    Some(format!(
        "{} at {start:#x} to {end:#x}, which is not what went wrong, or not where or when",
        other.kind.name()
    ))
}
