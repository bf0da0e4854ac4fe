// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What each kind of finding means and how to fix it.

mod texts;

use std::fmt::Write as _;

use staleline_results::HazardKind;

use crate::exit::Error;
use crate::names;
use staleline_results::{KERNEL_REPORT, Verdict};

/// A kind of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A hazard.
    Hazard(HazardKind),
    /// A report of the guest's kernel on itself.
    KernelReport,
    /// [`CORRUPT_DATA`].
    CorruptData,
    /// [`STALE_COPY`].
    StaleCopy,
    /// [`FAILED`].
    Failed,
    /// [`LATENT`]: no kind of its own, but a word for findings of any.
    Latent,
    /// A run that says nothing of the software under test.
    InfraError,
}

impl Kind {
    /// All.
    pub fn all() -> impl Iterator<Item = Kind> {
        let hazards = HazardKind::ALL.into_iter().map(Kind::Hazard);
        hazards.chain([
            Kind::KernelReport,
            Kind::CorruptData,
            Kind::StaleCopy,
            Kind::Failed,
            Kind::Latent,
            Kind::InfraError,
        ])
    }

    /// Those that something can be found to be.
    pub fn rules() -> impl Iterator<Item = Kind> {
        Kind::all().filter(|kind| !matches!(kind, Kind::Latent | Kind::InfraError))
    }

    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hazard(kind) => kind.name(),
            Kind::KernelReport => KERNEL_REPORT,
            Kind::CorruptData => CORRUPT_DATA,
            Kind::StaleCopy => STALE_COPY,
            Kind::Failed => FAILED,
            Kind::Latent => LATENT,
            Kind::InfraError => Verdict::InfraError.name(),
        }
    }
}

/// An explanation.
#[derive(Debug, Clone, Copy)]
pub struct Explanation {
    /// One sentence.
    pub summary: &'static str,
    /// How it comes to wrong data.
    pub mechanism: &'static str,
    /// What is usually wrong.
    pub cause: &'static str,
    /// What to do.
    pub fix: &'static str,
    /// A command that shows it, if a built-in scenario does.
    pub reproduce: Option<&'static str>,
}

/// Data that is wrong at an end of the path, as text and `explain` call it.
pub const CORRUPT_DATA: &str = "corrupt-data";

/// Stale bytes that only copies of whole pages read, likewise.
pub const STALE_COPY: &str = "stale-copy";

/// A program, or a test of the guest's, that says itself that it has failed, likewise.
pub const FAILED: &str = "failed";

/// What findings are that nobody has been harmed by, likewise.
pub const LATENT: &str = "latent";

/// Other words that are printed, and the kind whose text has them.
const ALSO: [(&str, Kind); 2] = [
    ("manifested", Kind::Latent),
    ("saturated", Kind::InfraError),
];

/// The kind of that name.
///
/// # Errors
/// [`Error::UnknownHazard`].
pub fn find(name: &str) -> Result<Kind, Error> {
    let known = || Kind::all().map(Kind::name);
    let also = ALSO.iter().find(|(word, _)| *word == name);
    Kind::all()
        .find(|k| k.name() == name)
        .or(also.map(|(_, kind)| *kind))
        .ok_or_else(|| Error::UnknownHazard {
            name: name.into(),
            suggestion: names::did_you_mean(name, known()).map(str::to_owned),
            known: known().map(str::to_owned).collect(),
        })
}

/// All kinds, a line each.
pub fn list() -> String {
    let mut text = String::new();
    for kind in Kind::all() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<20}{}", kind.name(), texts::of(kind).summary);
    }
    text
}

/// The explanation of one kind in a sentence.
pub fn summary(kind: Kind) -> &'static str {
    texts::of(kind).summary
}

/// The explanation of one kind.
pub fn text(kind: Kind) -> String {
    let e = texts::of(kind);
    let mut text = format!("{}: {}\n", kind.name(), e.summary);
    for (title, body) in [
        ("What happens", e.mechanism),
        ("Usual cause", e.cause),
        ("Fix", e.fix),
    ] {
        let _ = write!(text, "\n{title}\n{}", indented(body));
    }
    if let Some(command) = e.reproduce {
        let _ = write!(text, "\nReproduce\n    {command}\n");
    }
    text
}

/// Paragraphs and list items, broken into lines.
fn indented(body: &str) -> String {
    const WIDTH: usize = 96;
    let mut parts: Vec<String> = Vec::new();
    for line in body.trim().lines() {
        match parts.last_mut() {
            Some(part) if !line.starts_with("- ") && !part.ends_with(':') => {
                part.push(' ');
                part.push_str(line.trim());
            }
            _ => parts.push(line.trim().to_owned()),
        }
    }
    let mut text = String::new();
    for part in parts {
        let next = if part.starts_with("- ") {
            "      "
        } else {
            "    "
        };
        let options = textwrap::Options::new(WIDTH)
            .break_words(false)
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .initial_indent("    ")
            .subsequent_indent(next);
        text.push_str(&textwrap::fill(&part, options));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_explained() {
        for kind in Kind::all() {
            assert_eq!(find(kind.name()).unwrap(), kind);
            let text = text(kind);
            assert!(text.lines().count() > 12, "{text}");
            assert!(text.lines().all(|l| l.len() <= 100), "{text}");
        }
        assert_eq!(list().lines().count(), Kind::all().count());
    }

    #[test]
    fn commands_that_reproduce_are_valid() {
        use clap::Parser as _;
        for kind in Kind::all() {
            let Some(command) = texts::of(kind).reproduce else {
                continue;
            };
            let cli = crate::cli::Cli::try_parse_from(command.split_whitespace()).unwrap();
            let crate::cli::Command::Run(args) = cli.command else {
                panic!("{command} runs nothing");
            };
            args.spec().unwrap();
        }
    }

    #[test]
    fn a_near_miss_is_suggested() {
        let e = find("mising-clean").unwrap_err();
        assert!(e.render().contains("did you mean `missing-clean`?"));
    }
}
