// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whether a mutant's run has found it, and by which check.

use std::fmt;

use serde::Serialize;
use staleline_kernels::Show;
use staleline_results::{Class, KERNEL_REPORT, RunResult, Verdict};

use super::Trial;
use crate::explain::{CORRUPT_DATA, STALE_COPY};
use crate::report::{RunEvent, human};

/// What failed a mutant's run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// A rule of the sanitizer, by its name.
    Hazard(String),
    /// The guest's kernel reports an error of its own.
    KernelReport,
    /// Bytes were wrong at an end.
    Data,
    /// Something else, in words.
    Other(String),
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Check::Hazard(kind) => kind,
            Check::KernelReport => KERNEL_REPORT,
            Check::Data => "data",
            Check::Other(why) => why,
        })
    }
}

/// What became of a mutant in one trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Found, by the check that should, which names the place, or at least advises about it.
    Killed,
    /// Its run fails, but not, or not only, by what should: found by accident.
    Otherwise,
    /// Its run passes.
    Survived,
    /// Its run, or the one without it, says nothing.
    Unknown,
}

/// A trial, judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// What became of the mutant.
    pub fate: Fate,
    /// It is killed, but only the advice names the place, and that comes from the kind of the finding: nothing that
    /// was seen there does.
    pub kind_only: bool,
    /// Checks that failed its run, in order.
    pub by: Vec<Check>,
    /// What is not as it should be; none if all is.
    pub wrong: Option<String>,
}

/// Judges a trial by the run with the mutant and the one without.
pub fn judge(trial: &Trial, with: &RunResult, without: &RunResult) -> Judged {
    let show = &trial.show;
    let mut by = checks(with);
    let unknown = |r: &RunResult| r.verdict == Verdict::InfraError;
    if unknown(with) || unknown(without) {
        let which = if unknown(with) { with } else { without };
        return Judged {
            fate: Fate::Unknown,
            kind_only: false,
            by,
            wrong: Some(format!(
                "the run says nothing: {}",
                which.reasons.join("; ")
            )),
        };
    }
    // What the kernel merely copies is a note: its run passes.
    let due = match show.finding == STALE_COPY {
        true => Verdict::Pass,
        false => Verdict::Fail,
    };
    let told = names_it(with, show);
    let named = told > Named::No;
    if named && by.is_empty() {
        by.push(Check::Hazard(show.finding.clone()));
    }
    let fate = match (named && with.verdict == due, with.verdict) {
        (true, _) => Fate::Killed,
        (false, Verdict::Fail) => Fate::Otherwise,
        (false, _) => Fate::Survived,
    };
    let wrong = if names_it(without, show) > Named::No {
        Some(format!("{} is found without it, too", show.finding))
    } else {
        match (&trial.survives, fate) {
            (None, Fate::Killed) => wrong_causes(with, show),
            (None, Fate::Otherwise) => Some(format!("{} is due, and not found", due_of(show))),
            (None, _) => Some(format!("it survives, and {} is due", due_of(show))),
            (Some(_), Fate::Survived) => None,
            (Some(why), _) => Some(format!("it is found, though mutant.toml says that {why}")),
        }
    };
    let kind_only = fate == Fate::Killed && told == Named::ByAdvice;
    Judged {
        fate,
        kind_only,
        by,
        wrong,
    }
}

/// What should be found, and where.
fn due_of(show: &Show) -> String {
    match &show.missing {
        Some(missing) => format!("{} ({missing}) at {}", show.finding, show.place),
        None => format!("{} at {}", show.finding, show.place),
    }
}

fn checks(result: &RunResult) -> Vec<Check> {
    let kinds = result.errors().map(|d| Check::Hazard(d.kind.name().into()));
    let mut by: Vec<Check> = kinds.collect();
    by.extend(result.guest.complaints().map(|_| Check::KernelReport));
    by.extend((result.data.corrupt_bytes > 0).then_some(Check::Data));
    by.sort();
    by.dedup();
    if by.is_empty() && result.verdict == Verdict::Fail {
        by.extend(result.reasons.first().cloned().map(Check::Other));
    }
    by
}

/// Whether a diagnostic tells what is due, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    No,
    /// The kind, and the advice names the place.
    ByAdvice,
    /// The place is among what was seen: who took part, what is missing, call chains.
    Yes,
}

/// Whether a diagnostic of the run is of the kind that is due, misses what is due, and prints the place:
/// for bytes that are wrong without any finding, the end where they were.
fn names_it(result: &RunResult, show: &Show) -> Named {
    let texts = RunEvent::of_result(result)
        .into_iter()
        .flat_map(|event| match event {
            RunEvent::Hazard {
                explained,
                consequences,
            } => {
                let whole = human::plain(&explained, &consequences, "");
                let mut seen = *explained;
                seen.diagnostic.help.clear();
                seen.diagnostic.notes.clear();
                vec![(whole, human::plain(&seen, &[], ""))]
            }
            RunEvent::KernelReport { report, may_follow } => {
                let text = human::plain_report(&report, may_follow, "");
                vec![(text.clone(), text)]
            }
            RunEvent::Data { data } => {
                let wrong = data.ends.iter().filter(|end| end.corrupt > 0);
                let texts = wrong.map(human::plain_corrupt);
                texts.map(|text| (text.clone(), text)).collect()
            }
            _ => Vec::new(),
        });
    let named = texts.map(|(whole, seen)| match names(&flat(&whole), show) {
        true if flat(&seen).contains(&show.place) => Named::Yes,
        true => Named::ByAdvice,
        false => Named::No,
    });
    named.max().unwrap_or(Named::No)
}

/// A diagnostic in one line, however it was wrapped, without the command that does it again: that names the
/// kernel.
fn flat(diagnostic: &str) -> String {
    let lines = diagnostic.lines();
    let lines = lines.filter(|l| !l.trim_start().starts_with("replay"));
    let words = lines.flat_map(str::split_whitespace);
    words.collect::<Vec<_>>().join(" ")
}

fn names(diagnostic: &str, show: &Show) -> bool {
    let of_kind = ["error", "note"].iter().any(|level| {
        let head = format!("{level}[{}]", show.finding);
        diagnostic.starts_with(&head)
    });
    let missing = diagnostic
        .split_once(" missing ")
        .and_then(|(_, rest)| rest.split_once(" help "))
        .map_or("", |(missing, _)| missing);
    let misses = show.missing.as_deref().is_none_or(|m| missing.contains(m));
    of_kind && misses && diagnostic.contains(&show.place)
}

/// Whether the run tells as many causes as are due, each once. What was corrupt is told besides.
fn wrong_causes(result: &RunResult, show: &Show) -> Option<String> {
    let causes = result.causes().filter_map(|i| result.diagnostics.get(i));
    let causes = causes.filter(|d| d.class == Class::Error).count();
    let told = causes + result.guest.complaints().count();
    let due = match &show.causes {
        Some(several) => several.count,
        // Of bytes alone that are wrong, nobody knows a cause.
        None if [STALE_COPY, CORRUPT_DATA].contains(&&*show.finding) => 0,
        None => 1,
    };
    (told != due).then(|| format!("{told} causes are told, and {due} are due"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineKind;
    use crate::run::fake::{self, FakeBackend};
    use crate::spec::RunSpec;

    #[test]
    fn bytes_that_are_wrong_without_a_finding_are_named_by_their_end() {
        let spec = RunSpec::resolve("iio-capture", "base", EngineKind::default(), &[]).unwrap();
        let wrong = FakeBackend::new(|_, _, console| {
            *console = console.replace("\"corrupt\":0", "\"corrupt\":8");
        });
        let (with, without) = (wrong.run(&spec), FakeBackend::good().run(&spec));
        let trial = |place: &str| Trial {
            mutant: "m".into(),
            mechanism: String::new(),
            survives: None,
            show: Show {
                scenario: "iio-capture".into(),
                set: Vec::new(),
                config: Vec::new(),
                finding: CORRUPT_DATA.into(),
                missing: None,
                place: place.into(),
                causes: None,
            },
            with: String::new(),
            without: String::new(),
        };
        let killed = judge(&trial("checked at user"), &with, &without);
        assert_eq!((killed.fate, killed.wrong), (Fate::Killed, None));
        assert_eq!(killed.by, [Check::Data]);
        let elsewhere = judge(&trial("checked at dac"), &with, &without);
        assert_eq!(elsewhere.fate, Fate::Otherwise);
        assert!(!killed.kind_only);
    }

    #[test]
    fn a_place_that_the_advice_alone_names_is_known_by_its_kind() {
        let spec = RunSpec::resolve("iio-capture", "base", EngineKind::default(), &[]).unwrap();
        let backend = FakeBackend::new(|_, e, _| {
            let hazards = &mut e.report.as_mut().unwrap().domain.hazards;
            hazards.push(fake::stale_read(1, true));
        });
        let mut result = backend.run(&spec);
        let diagnostic = &mut result.diagnostics[0];
        diagnostic.help = "call helped()".into();
        diagnostic.notes = vec!["noted() was called".into()];
        let finding = diagnostic.kind.name();
        let named = |place: &str| {
            let show = Show {
                scenario: String::new(),
                set: Vec::new(),
                config: Vec::new(),
                finding: finding.into(),
                missing: None,
                place: place.into(),
                causes: None,
            };
            names_it(&result, &show)
        };
        assert_eq!(named("helped()"), Named::ByAdvice);
        assert_eq!(named("noted()"), Named::ByAdvice);
        assert_eq!(named("axi-dmac-rx"), Named::Yes);
        assert_eq!(named("nowhere"), Named::No);
    }

    #[test]
    fn a_diagnostic_names_an_error_by_kind_and_missing_operation_and_place() {
        let text = "error[missing-clean]: dmac read 1 line\n  missing   clean (dc cvac)\n            \
                    between\n  help      call f()\n     > g+0x10  a.c:7\n  replay    run base~h\n";
        let text = flat(text);
        let show = |finding: &str, missing: Option<&str>, place: &str| Show {
            scenario: String::new(),
            set: Vec::new(),
            config: Vec::new(),
            finding: finding.into(),
            missing: missing.map(Into::into),
            place: place.into(),
            causes: None,
        };
        let good = show("missing-clean", Some("clean (dc cvac) between"), "g+0x10");
        assert!(names(&text, &good));
        for bad in [
            show("missing-barrier", None, "g+"),
            show("missing-clean", Some("invalidate"), "g+"),
            // Neither is what the help says missing, nor the kernel's name a place.
            show("missing-clean", Some("call"), "g+"),
            show("missing-clean", Some("clean"), "base~h"),
        ] {
            assert!(!names(&text, &bad), "{bad:?}");
        }
    }
}
