// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! How a long step shows that it is alive.

use std::io::{IsTerminal as _, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Where a step tells what it is doing.
pub trait Progress: Sync {
    /// A new step begins, and ends the one before. `counted` are its [`advance`](Self::advance) calls.
    fn begin(&self, what: &str, counted: Counted);

    /// As [`begin`](Self::begin), for a step that is not counted.
    fn step(&self, what: &str) {
        self.begin(what, Counted::default());
    }

    /// One more thing of the current step is done; `detail` says which.
    fn advance(&self, detail: &str);

    /// What the current step is at.
    fn detail(&self, what: &str);

    /// Something the user should know, also after the step.
    fn note(&self, text: &str);

    /// Whether the user does not want the work to go on. Who does something long asks now and then.
    fn cancelled(&self) -> bool {
        false
    }
}

/// What is counted in a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many there will be, an estimate, or `None` if nobody knows.
    total: Option<u64>,
    /// What they are, for people: `files`.
    things: &'static str,
}

impl Counted {
    /// So many things, about.
    #[must_use]
    pub fn of(things: &'static str, total: impl Into<Option<u64>>) -> Self {
        Counted {
            total: total.into(),
            things,
        }
    }

    /// How far it is.
    fn told(self, done: u64) -> String {
        let about = self
            .total
            .map_or_else(String::new, |n| format!(" of about {n}"));
        let apart = if self.things.is_empty() { "" } else { " " };
        format!("{done}{about}{apart}{}", self.things)
    }
}

/// How fast it is, and when it will be over if it stays so; nothing before there is something to go by.
fn pace(done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if done == 0 || seconds < 1.0 {
        return String::new();
    }
    let rate = done as f64 / seconds;
    let left = total.map(|total| total.saturating_sub(done) as f64 / rate);
    let left = left.map(|left| match left {
        left if left < 120.0 => format!(", {left:.0} s left"),
        left if left < 7200.0 => format!(", {:.0} min left", left / 60.0),
        left => format!(", {:.1} h left", left / 3600.0),
    });
    format!(", {rate:.2} a second{}", left.unwrap_or_default())
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _: &str, _: Counted) {}
    fn advance(&self, _: &str) {}
    fn detail(&self, _: &str) {}
    fn note(&self, _: &str) {}
}

/// On this process's standard error: a bar or a spinner on a terminal, else a line per step and one
/// now and then while it lasts.
pub struct Stderr {
    shown: Shown,
    cancelled: Box<dyn Fn() -> bool + Send + Sync>,
}

enum Shown {
    Bar(ProgressBar),
    Lines(Lines<std::io::Stderr>),
}

impl Stderr {
    /// For this process.
    #[must_use]
    pub fn new() -> Self {
        let shown = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(120));
            Shown::Bar(bar)
        } else {
            return Self::in_lines();
        };
        Stderr {
            shown,
            cancelled: Box::new(|| false),
        }
    }

    /// For this process, in lines though it be at a terminal.
    #[must_use]
    pub fn in_lines() -> Self {
        Stderr {
            shown: Shown::Lines(Lines::new(std::io::stderr(), Duration::from_secs(10))),
            cancelled: Box::new(|| false),
        }
    }

    /// The same, for work that ends when `cancelled` says so.
    #[must_use]
    pub fn until(self, cancelled: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Stderr {
            cancelled: Box::new(cancelled),
            ..self
        }
    }

    /// Makes room for other output.
    pub fn clear(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

impl Default for Stderr {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Stderr {
    fn begin(&self, what: &str, counted: Counted) {
        match &self.shown {
            Shown::Bar(bar) => {
                let things = counted.things;
                let template = match counted.total {
                    Some(_) => format!(
                        "{{prefix}} [{{bar:30}}] {{pos}} of about {{len}} {things} {{elapsed}}, {{per_sec:.dim}}, {{eta}} left {{wide_msg:.dim}}"
                    ),
                    None => "{spinner} {prefix} {elapsed:.dim} {wide_msg:.dim}".into(),
                };
                bar.set_style(
                    ProgressStyle::with_template(&template)
                        .unwrap_or_else(|_| ProgressStyle::default_spinner()),
                );
                bar.reset();
                match counted.total {
                    Some(total) => bar.set_length(total),
                    None => bar.unset_length(),
                }
                bar.set_prefix(what.to_owned());
                bar.set_message(String::new());
            }
            Shown::Lines(lines) => lines.begin(what, counted),
        }
    }

    fn advance(&self, detail: &str) {
        match &self.shown {
            Shown::Bar(bar) => {
                bar.inc(1);
                bar.set_message(detail.to_owned());
            }
            Shown::Lines(lines) => lines.advance(),
        }
    }

    fn detail(&self, what: &str) {
        // Where there is no terminal, details would be as many lines.
        if let Shown::Bar(bar) = &self.shown {
            bar.set_message(what.to_owned());
        }
    }

    fn note(&self, text: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
            Shown::Lines(lines) => lines.note(text),
        }
    }

    fn cancelled(&self) -> bool {
        (self.cancelled)()
    }
}

/// Plain lines: one per step, and one each `interval` while a counted step lasts.
struct Lines<W>(Mutex<State<W>>);

struct State<W> {
    out: W,
    interval: Duration,
    step: String,
    counted: Counted,
    done: u64,
    begun: Instant,
    last: Instant,
}

impl<W: Write> Lines<W> {
    fn new(out: W, interval: Duration) -> Self {
        Lines(Mutex::new(State {
            out,
            interval,
            step: String::new(),
            counted: Counted::default(),
            done: 0,
            begun: Instant::now(),
            last: Instant::now(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State<W>> {
        // Nothing that can panic is done while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, what: &str, counted: Counted) {
        let mut state = self.state();
        what.clone_into(&mut state.step);
        (state.counted, state.done) = (counted, 0);
        (state.begun, state.last) = (Instant::now(), Instant::now());
        state.line(what);
    }

    fn advance(&self) {
        let mut state = self.state();
        state.done += 1;
        if state.last.elapsed() >= state.interval {
            state.last = Instant::now();
            let told = state.counted.told(state.done);
            let pace = pace(state.done, state.counted.total, state.begun.elapsed());
            let line = format!("{}: {told}{pace}", state.step);
            state.line(&line);
        }
    }

    fn note(&self, text: &str) {
        self.state().line(text);
    }
}

impl<W: Write> State<W> {
    fn line(&mut self, text: &str) {
        // A closed stderr is no reason to stop.
        let _ = writeln!(self.out, "staleline: {text}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;

    #[test]
    fn pace_is_told_once_there_is_one() {
        let told = |done, total, seconds| pace(done, total, Duration::from_secs_f64(seconds));
        assert_eq!(told(1, Some(10), 0.5), "");
        assert_eq!(told(0, Some(10), 9.0), "");
        assert_eq!(told(20, Some(60), 10.0), ", 2.00 a second, 20 s left");
        assert_eq!(told(20, Some(2020), 10.0), ", 2.00 a second, 17 min left");
        assert_eq!(
            told(20, Some(1_000_000), 10.0),
            ", 2.00 a second, 138.9 h left"
        );
        assert_eq!(told(20, None, 10.0), ", 2.00 a second");
        // Estimates may be too low.
        assert_eq!(told(20, Some(10), 10.0), ", 2.00 a second, 0 s left");
    }

    #[test]
    fn lines_are_periodic() {
        let mut out = Vec::new();
        let lines = Lines::new(&mut out, Duration::from_secs(3600));
        lines.begin("compiling", Counted::of("files", 10));
        lines.advance();
        lines.state().interval = Duration::ZERO;
        lines.advance();
        lines.begin("unpacking", Counted::of("files", None));
        lines.advance();
        lines.note("ready");
        drop(lines);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "staleline: compiling\nstaleline: compiling: 2 of about 10 files\nstaleline: unpacking\n\
             staleline: unpacking: 1 files\nstaleline: ready\n"
        );
    }
}
