// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! KTAP version 1 (Documentation/dev-tools/ktap.rst) with one level of subtests, and report lines
//! as diagnostics among it.

use std::fmt::Display;
use std::io::Write;

use staleline_guest::Error;
use staleline_protocol::report::Report;

/// Writer of one KTAP document.
///
/// Write errors are ignored: there is no other place to complain, and the reader notices from the
/// missing plan.
pub struct Ktap<W: Write> {
    out: W,
    tests: u32,
}

impl<W: Write> Ktap<W> {
    /// Starts a document of `tests` tests.
    pub fn new(out: W, tests: u32) -> Self {
        let mut ktap = Ktap { out, tests: 0 };
        ktap.line("", format_args!("KTAP version 1"));
        ktap.line("", format_args!("1..{tests}"));
        ktap
    }

    // A line goes out in one write, so that kernel messages do not end up in its middle.
    fn line(&mut self, indent: &str, text: impl Display) {
        let _ = self.out.write_all(format!("{indent}{text}\n").as_bytes());
    }

    /// The result of a test without subtests, or of one whose subtests have been printed.
    pub fn test(&mut self, name: &str, outcome: &Outcome) {
        self.tests += 1;
        let n = self.tests;
        self.line("", outcome.line(n, name));
    }

    /// Prints a report line.
    pub fn report(&mut self, report: &Report) {
        self.line("", report.to_line());
    }

    /// Starts the subtests of the next test; all of `names` get a result, in this order.
    pub fn subtests(&mut self, names: &'static [&'static str]) -> Subtests<'_, W> {
        self.line("  ", format_args!("KTAP version 1"));
        self.line("  ", format_args!("1..{}", names.len()));
        Subtests {
            ktap: self,
            names,
            done: 0,
        }
    }

    /// Says why nothing more will come.
    pub fn bail_out(&mut self, what: &str) {
        let report = Report::Broken { what: what.into() };
        self.report(&report);
        self.line("", format_args!("Bail out! {}", one_line(what)));
    }
}

/// Result of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Pass,
    /// What was tested is wrong.
    Fail(String),
    /// The test itself could not be carried out.
    Error(String),
    /// Not reached.
    Skip,
}

impl Outcome {
    fn line(&self, number: u32, name: &str) -> String {
        match self {
            Outcome::Pass => format!("ok {number} {name}"),
            Outcome::Fail(why) => format!("not ok {number} {name} # {}", one_line(why)),
            Outcome::Error(why) => format!("not ok {number} {name} # ERROR {}", one_line(why)),
            Outcome::Skip => format!("ok {number} {name} # SKIP not reached"),
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// The phases of one test.
pub struct Subtests<'a, W: Write> {
    ktap: &'a mut Ktap<W>,
    names: &'static [&'static str],
    done: usize,
}

impl<W: Write> Subtests<'_, W> {
    /// Runs the next phase and prints its result. A phase that could not be carried out gives its
    /// error back.
    pub fn phase<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let result = work(self);
        self.result(&match &result {
            Ok(_) => Outcome::Pass,
            Err(e) => Outcome::Error(e.to_string()),
        });
        result
    }

    /// Prints the result of the next phase.
    pub fn result(&mut self, outcome: &Outcome) {
        let name = self.names.get(self.done).copied().unwrap_or("unplanned");
        self.done += 1;
        let n = u32::try_from(self.done).unwrap_or(u32::MAX);
        self.ktap.line("  ", outcome.line(n, name));
    }

    /// Prints a report line.
    pub fn report(&mut self, report: &Report) {
        self.ktap.line("  ", report.to_line());
    }

    /// Marks the phases not reached.
    pub fn finish(mut self) {
        while self.done < self.names.len() {
            self.result(&Outcome::Skip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_run_is_still_complete_ktap() {
        let mut out = Vec::new();
        let mut ktap = Ktap::new(&mut out, 2);
        ktap.test("boot", &Outcome::Pass);
        let mut phases = ktap.subtests(&["devices", "buffers", "data"]);
        phases.phase(|_| Ok(())).unwrap();
        let e = phases
            .phase(|p| {
                p.report(&Report::Process {
                    pid: 1,
                    load_bias: 0,
                });
                Err::<(), _>(Error::Missing {
                    what: "heap".into(),
                    hint: "a\nhint",
                })
            })
            .unwrap_err();
        phases.finish();
        ktap.test("iio-capture", &Outcome::Error(e.to_string()));
        ktap.bail_out(&e.to_string());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "KTAP version 1\n\
             1..2\n\
             ok 1 boot\n\
             \x20 KTAP version 1\n\
             \x20 1..3\n\
             \x20 ok 1 devices\n\
             \x20 # staleline: {\"report\":\"process\",\"pid\":1,\"load_bias\":0}\n\
             \x20 not ok 2 buffers # ERROR no heap; a hint\n\
             \x20 ok 3 data # SKIP not reached\n\
             not ok 2 iio-capture # ERROR no heap; a hint\n\
             # staleline: {\"report\":\"broken\",\"what\":\"no heap; a\\nhint\"}\n\
             Bail out! no heap; a hint\n"
        );
    }
}
