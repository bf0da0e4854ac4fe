// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! How long runs took, and what more of them would cost.

use std::time::Duration;

use super::store::{Entry, Session};

/// Processors for which a cost is told.
const PROCESSORS: [u32; 3] = [1, 16, 64];

/// How long runs took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// Runs of the plan.
    runs: usize,
    /// Runs of guests, repetitions included.
    guests: usize,
    /// From begin to end, all sessions together.
    wall: Duration,
    median: Duration,
    p95: Duration,
    /// For each run of the plan, seconds for which it keeps one of the guests that run at a time from others.
    each: f64,
}

/// That of which a share is not longer, by nearest rank.
fn rank(sorted: &[u64], share: f64) -> Duration {
    #[allow(clippy::cast_sign_loss, reason = "it is not negative")]
    let at = (share * sorted.len() as f64).ceil() as usize;
    let wall = sorted.get(at.saturating_sub(1));
    Duration::from_micros(wall.copied().unwrap_or(0))
}

impl Times {
    /// Of a campaign; none if nothing was run.
    pub fn of(entries: &[Entry], sessions: &[Session]) -> Option<Self> {
        let mut walls: Vec<u64> = entries.iter().map(|entry| entry.wall_us).collect();
        walls.sort_unstable();
        let runs = walls.len();
        if runs == 0 {
            return None;
        }
        let guests = sessions.iter().map(|session| session.guests).sum();
        let wall = sessions.iter().map(|session| session.wall_us).sum();
        // A session whose end was not entered is not among them: what the others took for a guest is taken for its.
        let busy = |session: &Session| session.jobs as f64 * session.wall_us as f64 / 1e6;
        let busy: f64 = sessions.iter().map(busy).sum();
        let each = match guests {
            0 => walls.iter().map(|wall| *wall as f64 / 1e6).sum::<f64>() / runs as f64,
            _ => busy / guests as f64 * (guests.max(runs) as f64 / runs as f64),
        };
        Some(Times {
            runs,
            guests,
            wall: Duration::from_micros(wall),
            median: rank(&walls, 0.5),
            p95: rank(&walls, 0.95),
            each,
        })
    }

    /// In a sentence.
    pub fn text(&self) -> String {
        let Times { median, p95, .. } = self;
        let run = format!(
            "a run's guest takes {:.0} ms (median), {:.0} ms (95 % of them, at most)",
            median.as_secs_f64() * 1e3,
            p95.as_secs_f64() * 1e3
        );
        match self.guests {
            0 => run,
            guests => {
                let seconds = self.wall.as_secs_f64();
                let pace = guests as f64 / seconds.max(0.001);
                format!("{guests} guests in {seconds:.1} s, {pace:.2} a second; {run}")
            }
        }
    }

    /// What so many runs would cost, by what these did.
    pub fn cost(&self, runs: u64) -> String {
        let hours = self.each * runs as f64 / 3600.0;
        let on = PROCESSORS.map(|n| format!("{:.1} h on {n}", hours / f64::from(n)));
        format!(
            "{runs} runs: {:.1} hours of a processor ({}), by {} runs at {:.0} ms each, repetitions and \
             bookkeeping included; once for each target and share, its guest without faults comes on top\n",
            hours,
            on.join(", "),
            self.runs,
            self.each * 1e3
        )
    }
}

/// Share of the runs that may hang and be something else alone, in percent, and how many of them, before it is told.
const BUSY_PERCENT: usize = 10;
const BUSY_LEAST: usize = 5;

/// What is to be told of a host on which runs were stopped by the time only as long as others were made beside them.
pub fn busy(entries: &[Entry], sessions: &[Session]) -> Option<String> {
    let hung = entries.iter().filter(|entry| entry.hung > 0).count();
    if hung < BUSY_LEAST || hung * 100 <= entries.len() * BUSY_PERCENT {
        return None;
    }
    let jobs = sessions.iter().map(|session| session.jobs).max();
    let jobs = jobs.map_or(String::new(), |jobs| format!(" (--jobs {jobs})"));
    Some(format!(
        "warning: {hung} of {} runs were stopped by the time, and were something else when made alone: this host is \
         too busy for so many guests at a time{jobs}; with fewer, it takes less time",
        entries.len()
    ))
}

/// Runs up to which times are told apart.
const SPANS: [usize; 6] = [100, 1000, 10_000, 100_000, 1_000_000, usize::MAX];

/// Of runs in the order in which they were over: whether the later ones cost what the first did.
pub fn growth(entries: &[Entry], sessions: &[Session]) -> String {
    // What was merged has no such order; and of one that was killed nobody knows how many ran at a time.
    if entries.iter().all(|entry| entry.after_us == 0) || sessions.is_empty() {
        return String::new();
    }
    let mut entries: Vec<&Entry> = entries.iter().collect();
    entries.sort_unstable_by_key(|entry| (entry.after_us, entry.id));
    let jobs = sessions.iter().map(|session| session.jobs).max();
    let jobs = jobs.unwrap_or(1) as f64;
    let (mut first, mut from) = (0, 0);
    let mut rows = Vec::new();
    for span in SPANS {
        let runs = entries.get(first..span.min(entries.len()));
        let Some((runs, last)) = runs.and_then(|runs| Some((runs, runs.last()?))) else {
            break;
        };
        let (n, seconds) = (
            runs.len() as f64,
            last.after_us.saturating_sub(from) as f64 / 1e6,
        );
        let guest = runs.iter().map(|run| run.wall_us as f64 / 1e3).sum::<f64>() / n;
        let most = runs.iter().map(|run| run.rss_kib).max().unwrap_or(0);
        rows.push(format!(
            " {:>7} {:>7} {:>9.2} {guest:>6.0} ms {:>6.0} ms {:>5.0} MiB",
            first + 1,
            first + runs.len(),
            n / seconds.max(0.001),
            seconds * 1e3 * jobs / n - guest,
            most as f64 / 1024.0
        ));
        (first, from) = (first + runs.len(), last.after_us);
    }
    // Of fewer there is nothing to compare.
    if rows.len() < 2 {
        return String::new();
    }
    let head = "    from      to  a second  a guest  beside it   memory";
    format!("runs, in order:\n{head}\n{}", rows.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::heard::Heard;
    use crate::campaign::judge::{Judged, Outcome};

    fn entries(walls: &[u64]) -> Vec<Entry> {
        let entry = |(id, wall_us): (u32, &u64)| Entry {
            id,
            judged: Judged {
                outcome: Outcome::NoEffect,
                found: Vec::new(),
                corrupt: 0,
                why: None,
            },
            heard: Heard::default(),
            run_hash: None,
            same: None,
            wall_us: *wall_us,
            after_us: 0,
            rss_kib: 0,
            hung: 0,
        };
        (0..).zip(walls).map(entry).collect()
    }

    #[test]
    fn times_are_of_runs_and_cost_is_of_processors() {
        assert_eq!(Times::of(&[], &[]), None);
        let walls: Vec<u64> = (1..=100).rev().map(|n| n * 1000).collect();
        let session = Session {
            jobs: 2,
            guests: 55,
            wall_us: 5_500_000,
        };
        let times = Times::of(&entries(&walls), &[session, session]).unwrap();
        assert_eq!(
            times.text(),
            "110 guests in 11.0 s, 10.00 a second; a run's guest takes 50 ms (median), 95 ms (95 % of \
             them, at most)"
        );
        // 22 s of a processor for 100 runs.
        assert_eq!(
            times.cost(1_000_000),
            "1000000 runs: 61.1 hours of a processor (61.1 h on 1, 3.8 h on 16, 1.0 h on 64), by 100 runs at \
             220 ms each, repetitions and bookkeeping included; once for each target and share, its guest \
             without faults comes on top\n"
        );
        // One that was killed has lost its end: a guest is taken for as much as in the other.
        let half = Times::of(&entries(&walls), &[session]).unwrap();
        assert!((half.each - 0.2).abs() < 1e-9, "{half:?}");
        let none = Times::of(&entries(&walls), &[]).unwrap();
        assert!((none.each - 0.0505).abs() < 1e-9, "{none:?}");
        assert!(none.text().starts_with("a run's guest takes"));
    }

    #[test]
    fn a_host_that_is_too_busy_is_told_of() {
        let hung = |hung: usize, of: usize| {
            let mut runs = entries(&vec![1; of]);
            runs.iter_mut().take(hung).for_each(|run| run.hung = 1);
            runs
        };
        let session = Session {
            jobs: 120,
            guests: 112,
            wall_us: 1,
        };
        for (some, of) in [(0, 0), (0, 112), (4, 4), (5, 50), (11, 112)] {
            assert_eq!(busy(&hung(some, of), &[session]), None, "{some} of {of}");
        }
        let told = busy(&hung(12, 112), &[session]).unwrap();
        assert!(
            told.contains("12 of 112") && told.contains("--jobs 120"),
            "{told}"
        );
        assert!(busy(&hung(5, 5), &[]).is_some());
    }

    #[test]
    fn later_runs_are_told_apart_from_the_first() {
        // Two at a time, of 30 ms and 10 ms beside it; from the 1001st on, twice as slow, with more memory.
        let mut runs = entries(&[30_000; 1200]);
        let mut after = 0;
        for (n, run) in runs.iter_mut().enumerate() {
            after += if n < 1000 { 20_000 } else { 40_000 };
            run.after_us = after;
            run.rss_kib = if n < 1000 { 2048 } else { 4096 };
        }
        // They are told in the order in which they were over.
        runs.reverse();
        let session = Session {
            jobs: 2,
            guests: 1200,
            wall_us: after,
        };
        let text = growth(&runs, &[session]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines.len(), 5, "{text}");
        let told = |from, to, pace, beside, memory| {
            vec![from, to, pace, "30", "ms", beside, "ms", memory, "MiB"]
        };
        assert_eq!(lines[2], told("1", "100", "50.00", "10", "2"), "{text}");
        assert_eq!(lines[3], told("101", "1000", "50.00", "10", "2"), "{text}");
        assert_eq!(lines[4], told("1001", "1200", "25.00", "50", "4"), "{text}");
        assert_eq!(growth(&entries(&[1; 100]), &[session]), "");
        assert_eq!(growth(&runs, &[]), "");
        assert_eq!(growth(&[], &[session]), "");
    }
}
