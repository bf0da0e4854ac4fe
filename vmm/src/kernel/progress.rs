// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! How a long build shows that it is alive.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Receives the steps of a build.
pub trait Progress {
    /// A step begins. `total` is the expected number of [`advance`](Self::advance) calls,
    /// an estimate, or `None` if nobody knows.
    fn step(&mut self, what: &str, total: Option<u64>);
    /// One more thing is done; `detail` says which.
    fn advance(&mut self, detail: &str);
    /// Something the user should know.
    fn note(&mut self, text: &str);
    /// Everything is done.
    fn finish(&mut self, summary: &str);
}

/// The presentation for this process's standard error: a bar on a terminal, else a line
/// now and then.
#[must_use]
pub fn for_stderr() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() {
        Box::new(Bar(ProgressBar::hidden()))
    } else {
        Box::new(Lines::new(std::io::stderr(), Duration::from_secs(10)))
    }
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&mut self, _: &str, _: Option<u64>) {}
    fn advance(&mut self, _: &str) {}
    fn note(&mut self, _: &str) {}
    fn finish(&mut self, _: &str) {}
}

struct Bar(ProgressBar);

impl Bar {
    fn style(template: &str) -> ProgressStyle {
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
    }
}

impl Progress for Bar {
    fn step(&mut self, what: &str, total: Option<u64>) {
        self.0.finish_and_clear();
        self.0 = match total {
            Some(total) => ProgressBar::new(total).with_style(Self::style(
                "{prefix} [{bar:30}] {percent}% {elapsed} {wide_msg:.dim}",
            )),
            None => ProgressBar::new_spinner().with_style(Self::style(
                "{spinner} {prefix} {pos} {elapsed} {wide_msg:.dim}",
            )),
        };
        self.0.set_prefix(what.to_owned());
        self.0.enable_steady_tick(Duration::from_millis(200));
    }

    fn advance(&mut self, detail: &str) {
        self.0.inc(1);
        self.0.set_message(detail.to_owned());
    }

    fn note(&mut self, text: &str) {
        self.0.suspend(|| eprintln!("{text}"));
    }

    fn finish(&mut self, summary: &str) {
        self.0.finish_and_clear();
        eprintln!("{summary}");
    }
}

/// Plain lines: one per step, and one each `interval` while a step lasts.
struct Lines<W> {
    out: W,
    interval: Duration,
    step: String,
    total: Option<u64>,
    done: u64,
    last: Instant,
}

impl<W: Write> Lines<W> {
    fn new(out: W, interval: Duration) -> Self {
        let step = String::new();
        Self {
            out,
            interval,
            step,
            total: None,
            done: 0,
            last: Instant::now(),
        }
    }

    fn line(&mut self, text: &str) {
        // A closed stderr is no reason to stop a build.
        let _ = writeln!(self.out, "{text}");
    }
}

impl<W: Write> Progress for Lines<W> {
    fn step(&mut self, what: &str, total: Option<u64>) {
        what.clone_into(&mut self.step);
        (self.total, self.done, self.last) = (total, 0, Instant::now());
        self.line(&format!("{what} ..."));
    }

    fn advance(&mut self, _: &str) {
        self.done += 1;
        if self.last.elapsed() >= self.interval {
            self.last = Instant::now();
            let line = match self.total {
                Some(total) => format!("{} ... {} of about {total}", self.step, self.done),
                None => format!("{} ... {}", self.step, self.done),
            };
            self.line(&line);
        }
    }

    fn note(&mut self, text: &str) {
        self.line(text);
    }

    fn finish(&mut self, summary: &str) {
        self.line(summary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_periodic() {
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out, Duration::from_secs(3600));
        lines.step("compiling", Some(10));
        lines.advance("a.o");
        lines.interval = Duration::ZERO;
        lines.advance("b.o");
        lines.finish("ready");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "compiling ...\ncompiling ... 2 of about 10\nready\n"
        );
    }
}
