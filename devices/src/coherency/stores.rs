// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Stores that a later store to the same line would hide from whoever was started in between.
//!
//! A line knows when it was last stored to, and which of its bytes were since the barrier before
//! ([`Line::fresh`]). That is all that a master can be judged by that is started now. One that was
//! told between two stores, with no barrier between the first and its release, must be judged by the
//! first when it reads after the second. So at the second, the first is set aside here, with the bytes
//! that it left. That is exact for every byte's last store, however late the master comes.
//!
//! Where the line is drawn: CPUs are taken to order their stores for each other, so a master is only
//! judged by those of the CPU that told it, and a store to a line that another CPU has stored to since
//! the last release hides what that one stored. A byte that was stored both before and after a release may be judged by
//! the later store alone (software that changes what it has handed over). That makes no false alarm.
//! And only the last [`SPANS`] times between barriers in which a master was told are remembered, for
//! each CPU: a store that is overtaken when there were as many more since may be missed. That is told
//! when a master comes that was started at such a time, before when some store was overtaken: as
//! most stores that are so old are no longer of interest to anybody, it is not told before. When there
//! is no room for a store, it is missed too, and the run says so.

pub(super) mod state;

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::line::{Line, OVERTAKEN};
use super::mutate::{Rule, off};
use super::who::Who;
use crate::cpu::MAX_CPUS;
use crate::dma::Doorbell;

/// Times between barriers that are remembered, for each CPU.
pub(super) const SPANS: usize = 4096;

/// Accesses between a barrier and the last release before the next: stores among them are not
/// ordered before that release.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Span {
    /// When the barrier was, in accesses since power-on.
    after: u64,
    /// When the last release was, likewise.
    until: u64,
}

/// What was stored into a line at some time, as far as it was not set aside before.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Stored {
    pub bytes: u64,
    /// When the last of these stores was, in accesses since power-on.
    pub at: u64,
    pub by: Who,
    /// Through a non-cacheable alias.
    pub alias: bool,
}

impl Stored {
    /// Its bytes, if it came before `release` and no barrier that orders it did. A store of another CPU
    /// than told the master is ordered by whatever handed the work over to that one.
    pub fn unordered(&self, release: &Doorbell) -> u64 {
        let same_cpu = self.by.cpu_id().is_none_or(|cpu| cpu == release.cpu);
        if same_cpu && self.at > release.ordered_at && self.at <= release.at {
            self.bytes
        } else {
            0
        }
    }

    /// Its bytes, if nothing orders it before what a master does that was started by `release`: also if
    /// it came after that.
    pub fn may_follow(&self, release: &Doorbell) -> u64 {
        if self.came_after(release) {
            self.bytes
        } else {
            self.unordered(release)
        }
    }

    /// Whether it came after a master was started by `release`.
    pub fn came_after(&self, release: &Doorbell) -> bool {
        let started = release.ordered_at != u64::MAX && !off(Rule::WriteThroughStartedBefore);
        started && self.at > release.at
    }
}

/// What of a CPU is no longer known.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Lost {
    /// When the last release was of the last span that is forgotten; 0: none is.
    until: u64,
    /// The first and the last time of stores that were overtaken, of which nobody can tell any more
    /// whether they came before such a release.
    stores: Option<(u64, u64)>,
}

impl Lost {
    /// A store of that time is overtaken.
    fn overtaken(&mut self, at: u64) {
        if at <= self.until {
            let (first, last) = self.stores.unwrap_or((at, at));
            self.stores = Some((first.min(at), last.max(at)));
        }
    }

    /// Whether a master that was started then may be judged wrongly.
    #[inline]
    fn concerns(&self, release: &Doorbell) -> bool {
        release.at <= self.until
            && self
                .stores
                .is_some_and(|(first, last)| first <= release.at && last > release.ordered_at)
    }
}

/// Stores that were overtaken by others to their line.
#[derive(Debug)]
pub(super) struct Overtaken {
    /// For each CPU, the last [`SPANS`] in order; one ends before the next begins.
    spans: [VecDeque<Span>; MAX_CPUS],
    /// For each CPU.
    lost: [Lost; MAX_CPUS],
    /// Spans forgotten since `by_line` was last cleared of the stores in them.
    forgotten: usize,
    /// The time after the last release; 0: there was none.
    released: u64,
    /// By line number. Of a byte, there is one store at most.
    by_line: HashMap<u64, Vec<Stored>>,
    count: usize,
    limit: usize,
    /// There was no room for some.
    pub full: bool,
    /// A master was judged by less than there was, as its span was forgotten.
    pub spans_full: bool,
}

impl Overtaken {
    /// With room for so many.
    pub fn new(limit: usize) -> Self {
        Overtaken {
            spans: std::array::from_fn(|_| VecDeque::new()),
            lost: [Lost::default(); MAX_CPUS],
            forgotten: 0,
            released: 0,
            by_line: HashMap::new(),
            count: 0,
            limit,
            full: false,
            spans_full: false,
        }
    }

    /// A master is started, or may be by the word that was just stored. `by_last`: the CPU's last
    /// access is what tells it, and not among those that have to be ordered before.
    pub fn release(&mut self, release: &Doorbell, by_last: bool) {
        if release.at.saturating_sub(u64::from(by_last)) <= release.ordered_at {
            return;
        }
        self.released = release.at + 1;
        let spans = &mut self.spans[release.cpu.index()];
        match spans.back_mut() {
            Some(last) if last.after == release.ordered_at => last.until = release.at,
            _ => {
                if spans.len() >= SPANS {
                    if let Some(span) = spans.pop_front() {
                        self.lost[release.cpu.index()].until = span.until;
                    }
                    self.forgotten += 1;
                }
                spans.push_back(Span {
                    after: release.ordered_at,
                    until: release.at,
                });
            }
        }
    }

    /// Whether a line that was last stored to at `at` may be stored to without more ado.
    #[inline]
    pub fn passes(&self, at: u64) -> bool {
        at >= self.released
    }

    /// Whether a CPU that stored at `at` has told somebody since, with no barrier in between.
    fn matters(&self, by: Who, at: u64) -> bool {
        let between = |spans: &VecDeque<Span>| {
            let first = spans.partition_point(|span| span.until < at);
            spans.get(first).is_some_and(|span| span.after < at)
        };
        match by.cpu_id() {
            Some(cpu) => between(&self.spans[cpu.index()]),
            None => self.spans.iter().any(between),
        }
    }

    /// The same for a store that is overtaken now.
    fn matters_now(&mut self, by: Who, at: u64) -> bool {
        let matters = self.matters(by, at) && !off(Rule::Overtaken);
        if !matters {
            match by.cpu_id() {
                Some(cpu) => self.lost[cpu.index()].overtaken(at),
                None => self.lost.iter_mut().for_each(|lost| lost.overtaken(at)),
            }
        }
        matters
    }

    /// A master that was started by `release` is judged by the order of stores.
    #[inline]
    pub fn judges(&mut self, release: &Doorbell) {
        self.spans_full |= self.lost[release.cpu.index()].concerns(release);
    }

    /// A line is about to be stored to through the cache. What was stored to it before is set aside,
    /// if that matters to somebody.
    pub fn overtake(&mut self, number: u64, line: &mut Line) {
        if line.fresh == 0 || !self.matters_now(line.writer, line.written_at) {
            return;
        }
        let before = Stored {
            bytes: line.fresh,
            at: line.written_at,
            by: line.writer,
            alias: false,
        };
        line.fresh = 0;
        self.set_aside(number, line, before);
    }

    /// The same through a non-cacheable alias. Returns whether `before` was set aside.
    pub fn overtake_alias(&mut self, number: u64, line: &mut Line, before: Stored) -> bool {
        let matters = before.bytes != 0 && self.matters_now(before.by, before.at);
        if matters {
            self.set_aside(number, line, before);
        }
        matters
    }

    fn set_aside(&mut self, number: u64, line: &mut Line, stored: Stored) {
        if line.flags & OVERTAKEN != 0 {
            self.forget(number, line, stored.bytes);
        }
        if self.count >= self.limit && self.forgotten >= SPANS / 2 {
            self.clear_forgotten();
        }
        if self.count >= self.limit {
            self.full = true;
            return;
        }
        line.flags |= OVERTAKEN;
        self.by_line.entry(number).or_default().push(stored);
        self.count += 1;
    }

    /// What belongs to spans that are forgotten. Each call goes through all, so callers see to it
    /// that there is much to gain.
    fn clear_forgotten(&mut self) {
        let oldest = |by: Who| {
            let spans = by.cpu_id().map(|cpu| &self.spans[cpu.index()]);
            let first = spans.and_then(VecDeque::front);
            first.map_or(0, |span| span.after)
        };
        let mut left = 0;
        self.by_line.retain(|_, stores| {
            stores.retain(|s| s.at > oldest(s.by));
            left += stores.len();
            !stores.is_empty()
        });
        self.count = left;
        self.forgotten = 0;
    }

    /// Stores to a line that others have overtaken.
    pub fn of(&self, number: u64, line: &Line) -> &[Stored] {
        if line.flags & OVERTAKEN == 0 {
            return &[];
        }
        self.by_line.get(&number).map_or(&[], Vec::as_slice)
    }

    /// Who stored `bytes` of a line is no longer of interest.
    #[inline]
    pub fn forget(&mut self, number: u64, line: &mut Line, bytes: u64) {
        if line.flags & OVERTAKEN != 0 {
            self.forget_some(number, line, bytes);
        }
    }

    #[inline(never)]
    fn forget_some(&mut self, number: u64, line: &mut Line, bytes: u64) {
        let Some(stores) = self.by_line.get_mut(&number) else {
            line.flags &= !OVERTAKEN;
            return;
        };
        let before = stores.len();
        stores.retain_mut(|s| {
            s.bytes &= !bytes;
            s.bytes != 0
        });
        self.count -= before - stores.len();
        if stores.is_empty() {
            self.by_line.remove(&number);
            line.flags &= !OVERTAKEN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{CpuId, SiteId};

    fn release(ordered_at: u64, at: u64) -> Doorbell {
        Doorbell {
            at,
            ordered_at,
            ..Doorbell::default()
        }
    }

    fn stored(bytes: u64, at: u64) -> Line {
        Line {
            fresh: bytes,
            written_at: at,
            ..Line::default()
        }
    }

    #[test]
    fn a_store_matters_to_releases_that_no_barrier_orders_it_before() {
        let mut o = Overtaken::new(8);
        assert!(o.passes(0), "nothing was started yet");
        o.release(&release(10, 11), true);
        assert!(
            o.passes(0),
            "nothing but what started it came after the barrier"
        );
        o.release(&release(10, 20), false);
        o.release(&release(10, 30), false);
        o.release(&release(40, 50), false);
        let passed: Vec<u64> = (0..60)
            .filter(|at| o.matters(Who::cpu(CpuId::BOOT, SiteId(1)), *at))
            .collect();
        let expected: Vec<u64> = (11..=30).chain(41..=50).collect();
        assert_eq!(passed, expected);
        assert!(!o.passes(50) && o.passes(51));
    }

    #[test]
    fn bytes_are_set_aside_once_and_forgotten() {
        let mut o = Overtaken::new(8);
        o.release(&release(0, 10), false);
        o.release(&release(20, 30), false);
        let mut line = stored(0xff, 5);
        o.overtake(7, &mut line);
        assert_eq!((line.fresh, o.count), (0, 1));
        (line.fresh, line.written_at) = (0x0f, 25);
        o.overtake(7, &mut line);
        let of: Vec<_> = o.of(7, &line).iter().map(|s| (s.bytes, s.at)).collect();
        assert_eq!(of, [(0xf0, 5), (0x0f, 25)]);
        let unordered = |o: &Overtaken, line: &Line, release| {
            let all = o.of(7, line).iter();
            all.fold(0, |all, s| all | s.unordered(&release))
        };
        assert_eq!(unordered(&o, &line, release(0, 10)), 0xf0);
        assert_eq!(unordered(&o, &line, release(0, 4)), 0);
        assert_eq!(unordered(&o, &line, release(5, 40)), 0x0f);
        o.forget(7, &mut line, 0x3f);
        assert_eq!(unordered(&o, &line, release(0, 40)), 0xc0);
        o.forget(7, &mut line, 0xff);
        assert_eq!(
            (line.flags & OVERTAKEN, o.count, o.by_line.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn what_is_too_old_makes_room_and_what_does_not_fit_is_told() {
        let mut o = Overtaken::new(4);
        let mut at = 0;
        let mut one = |o: &mut Overtaken, number| {
            o.release(&release(at, at + 10), false);
            let mut line = stored(1, at + 5);
            o.overtake(number, &mut line);
            at += 10;
            line
        };
        let first = one(&mut o, 0);
        for number in 1..4 {
            one(&mut o, number);
        }
        assert!(!o.full);
        one(&mut o, 4);
        assert!(o.full);
        o.full = false;
        for _ in 0..2 * SPANS {
            o.release(&release(at, at + 10), false);
            at += 10;
        }
        let mut line = stored(1, at - 5);
        o.overtake(5, &mut line);
        assert!(!o.full);
        assert_eq!((o.of(0, &first).len(), o.of(5, &line).len()), (0, 1));
    }
    #[test]
    fn a_master_of_a_forgotten_time_is_told_and_no_other() {
        let mut o = Overtaken::new(8);
        let spans = u64::try_from(SPANS).unwrap();
        let old = release(10, 20);
        o.release(&old, false);
        let tell = |o: &mut Overtaken, numbers: std::ops::Range<u64>| {
            for n in numbers {
                o.release(&release(100 * n, 100 * n + 20), false);
            }
        };
        tell(&mut o, 1..spans);
        // Nothing is forgotten yet: an overtaken store is kept, however old.
        let mut line = stored(1, 15);
        o.overtake(7, &mut line);
        o.judges(&old);
        assert_eq!((o.of(7, &line).len(), o.spans_full), (1, false));
        // What is forgotten is no matter while no store of that time is overtaken,
        tell(&mut o, spans..spans + 8);
        o.judges(&old);
        assert!(!o.spans_full);
        // nor while only masters that were told since come.
        let mut line = stored(2, 15);
        o.overtake(8, &mut line);
        assert_eq!(o.of(8, &line).len(), 0, "missed");
        o.judges(&release(100 * spans, 100 * spans + 20));
        o.judges(&release(300, 320));
        assert!(!o.spans_full);
        o.judges(&old);
        assert!(o.spans_full);
    }

    #[test]
    fn what_another_cpu_forgot_is_no_matter() {
        let mut o = Overtaken::new(8);
        for n in 0..=u64::try_from(SPANS).unwrap() {
            o.release(&release(100 * n, 100 * n + 20), false);
        }
        o.overtake(7, &mut stored(1, 15));
        let mut other = release(0, 20);
        other.cpu = CpuId(1);
        o.judges(&other);
        assert!(!o.spans_full);
        o.judges(&release(0, 20));
        assert!(o.spans_full);
    }
}
