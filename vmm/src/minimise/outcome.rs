// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! When two runs have come to the same.

use std::collections::BTreeSet;

use clap::ValueEnum;
use staleline_results::{Class, Diagnostic, GuestEnd, HazardEntry, RunResult, Verdict};

/// What has to stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Keep {
    /// The verdict, and with it the exit code.
    Verdict,
    /// And the kinds of findings, all of them and no other.
    Kinds,
    /// And of each what is missing, and between which functions or masters.
    #[default]
    Diagnosis,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// What was told, each once.
    pub told: BTreeSet<String>,
}

impl Outcome {
    /// Of a run, as far as it has to stay.
    pub fn of(result: &RunResult, keep: Keep) -> Self {
        let told = match keep {
            Keep::Verdict => BTreeSet::new(),
            Keep::Kinds | Keep::Diagnosis => told(result, keep),
        };
        Outcome {
            verdict: result.verdict,
            told,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let told: Vec<&str> = self.told.iter().map(String::as_str).collect();
        match told.is_empty() {
            true => self.verdict.name().to_owned(),
            false => format!("{}: {}", self.verdict.name(), told.join("; ")),
        }
    }
}

fn told(result: &RunResult, keep: Keep) -> BTreeSet<String> {
    let whole = keep == Keep::Diagnosis;
    let with = |what: &str, where_: String| match whole {
        true => format!("{what} {where_}"),
        false => what.to_owned(),
    };
    let causes = result.causes().filter_map(|at| result.diagnostics.get(at));
    let causes = causes.filter(|d| d.class == Class::Error);
    let shown = |d: &Diagnostic| {
        let finding = result.hazards.get(d.shown);
        let between = finding.map_or_else(String::new, HazardEntry::between);
        let missing = finding.map_or("", |h| &h.missing);
        format!("{between} ({})", without_numbers(missing))
    };
    let mut all: BTreeSet<String> = causes.map(|d| with(d.kind.name(), shown(d))).collect();
    // What a finding stands for need not be seen in the data; what has none is.
    if all.is_empty() {
        let ends = result.data.corrupt_ends();
        all.extend(ends.map(|end| with("corrupt-data", format!("at {}", end.name))));
    }
    let reports = result.guest.complaints();
    all.extend(
        reports.map(|report| with(report.class.what(), format!("in {}", report.function()))),
    );
    if let Some(GuestEnd::TimedOut) = result.guest.end {
        all.insert("the guest came to no end".into());
    }
    // Whatever else there is to be said of a run that has no finding.
    if all.is_empty() {
        let reasons = result.reasons.iter();
        all.extend(reasons.map(|why| without_numbers(why)));
    }
    all
}

/// Sentences are the same, whatever numbers stand in them.
fn without_numbers(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    words.by_ref().for_each(|word| {
        let end = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let number = end.starts_with(|c: char| c.is_ascii_digit());
        plain.push_str(if number { "N" } else { end });
        plain.push_str(word.get(end.len()..).unwrap_or_default());
    });
    plain
}

/// Why nothing can be learnt from a run, if that is so.
pub fn says_nothing(result: &RunResult) -> Option<String> {
    let first = || result.reasons.first().cloned().unwrap_or_default();
    match &result.guest.end {
        None => Some(first()),
        Some(GuestEnd::Died { what }) => Some(what.clone()),
        Some(GuestEnd::Interrupted | GuestEnd::Left) => Some("it was stopped".into()),
        Some(GuestEnd::PoweredOff | GuestEnd::TimedOut) => {
            let never = result.injected.iter().find(|one| one.at.is_none());
            never
                .filter(|_| result.verdict == Verdict::InfraError)
                .map(|one| format!("{} did not happen: the run never came to it", one.fault))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_sentences_are_none_of_their_sense() {
        assert_eq!(
            without_numbers("usb-host checked 120 of 61200 bytes, at 0x45a0!"),
            "usb-host checked N of N bytes, at N!"
        );
        assert_eq!(without_numbers("axi4 a-1"), "axi4 a-N");
        assert_eq!(without_numbers(""), "");
    }
}
