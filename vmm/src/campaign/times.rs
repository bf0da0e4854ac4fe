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
}
