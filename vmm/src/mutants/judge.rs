// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whether a mutant's run has found it, and by which check.

use std::fmt;

use serde::Serialize;
use staleline_kernels::Show;
use staleline_results::{Class, KERNEL_REPORT, Party, Place, RunResult, Shown, Step, Verdict};

use super::Trial;
use crate::explain::{CORRUPT_DATA, STALE_COPY};
use crate::report::{RunEvent, human, sarif};

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

/// One thing that the mutant's run has told, and where that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// By which check.
    pub check: Check,
    /// The function, with its offset: the one that is due, where the diagnostic has it in its history; else the
    /// last of a driver or a program that had a part in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// File and line there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// It is what is due, of that kind, with that missing, and names that place.
    pub is_due: bool,
    /// But only its advice does, which comes from the kind of the finding.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_advice: bool,
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
    /// What its run has told, what is due first.
    pub told: Vec<Told>,
    /// What is not as it should be; none if all is.
    pub wrong: Option<String>,
}

/// Judges a trial by the run with the mutant and the one without.
pub fn judge(trial: &Trial, with: &RunResult, without: &RunResult) -> Judged {
    let show = &trial.show;
    let mut by = checks(with);
    let told = told(with, show);
    let unknown = |r: &RunResult| r.verdict == Verdict::InfraError;
    if unknown(with) || unknown(without) {
        let which = if unknown(with) { with } else { without };
        return Judged {
            fate: Fate::Unknown,
            kind_only: false,
            by,
            told,
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
    let named = told.iter().any(|told| told.is_due);
    if named && by.is_empty() {
        by.push(Check::Hazard(show.finding.clone()));
    }
    let fate = match (named && with.verdict == due, with.verdict) {
        (true, _) => Fate::Killed,
        (false, Verdict::Fail) => Fate::Otherwise,
        (false, _) => Fate::Survived,
    };
    let wrong = if self::told(without, show).iter().any(|told| told.is_due) {
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
    let mut due = told.iter().filter(|told| told.is_due);
    let kind_only = fate == Fate::Killed && named && due.all(|told| told.by_advice);
    Judged {
        fate,
        kind_only,
        by,
        told,
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

/// What a run tells, one for each diagnostic that stands for its cause: whether it is of the kind that is due,
/// misses what is due, and prints the place. For bytes that are wrong, the place is the end where they were.
fn told(result: &RunResult, show: &Show) -> Vec<Told> {
    let mut all = Vec::new();
    let mut add = |check, text: String, seen: &str, at: Option<(String, String)>| {
        let (function, line) = at.unzip();
        let is_due = names(&flat(&text), show);
        all.push(Told {
            check,
            function,
            line,
            is_due,
            by_advice: is_due && !flat(seen).contains(&show.place),
        });
    };
    for event in RunEvent::of_result(result) {
        match event {
            RunEvent::Hazard {
                explained,
                consequences,
            } => {
                let told = [&*explained].into_iter().chain(&consequences);
                let mut told = told.map(|explained| &explained.diagnostic);
                let of_cause = &explained.diagnostic;
                let at = told.find_map(|d| due_site(&d.history, &show.place));
                let whole = human::plain(&explained, &consequences, "");
                let check = Check::Hazard(of_cause.kind.name().into());
                let at = at.or_else(|| sarif::site(of_cause));
                let mut seen = (*explained).clone();
                seen.diagnostic.help.clear();
                seen.diagnostic.notes.clear();
                add(check, whole, &human::plain(&seen, &[], ""), at);
            }
            RunEvent::KernelReport { report, may_follow } => {
                let at = report.place.as_ref().and_then(|place| {
                    site_in(place, |shown| is_due(shown, &show.place))
                        .or_else(|| site_in(place, |_| true))
                });
                let text = human::plain_report(&report, may_follow, "");
                add(Check::KernelReport, text.clone(), &text, at);
            }
            RunEvent::Data { data } => {
                for end in data.ends.iter().filter(|end| end.corrupt > 0) {
                    let text = human::plain_corrupt(end);
                    add(Check::Data, text.clone(), &text, None);
                }
            }
            _ => {}
        }
    }
    all.sort_by_key(|told| !told.is_due);
    all
}

/// Where a history goes through the function or file that `place` names, the latest first.
fn due_site(history: &[Step], place: &str) -> Option<(String, String)> {
    history.iter().rev().find_map(|step| match &step.who {
        Party::Cpu { place: at, .. } => site_in(at, |shown| is_due(shown, place)),
        _ => None,
    })
}

/// Whether it is a function that `place` names by its whole name, or of that file.
fn is_due(shown: &Shown<'_>, place: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut words = place.split(|c| !is_word(c));
    words.any(|word| word == shown.function) || shown.file == Some(place)
}

/// The first function on the way to a place that is `wanted`, and has a line.
fn site_in(place: &Place, wanted: impl Fn(&Shown<'_>) -> bool) -> Option<(String, String)> {
    let mut va = Vec::new();
    let shown = place.all_shown(&mut va);
    let mut with_line = shown
        .iter()
        .filter(|shown| wanted(shown))
        .filter_map(|shown| {
            let line = format!("{}:{}", shown.file?, shown.line?);
            Some((shown.name(), line))
        });
    with_line.next()
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
    use staleline_results::{Event, Frame, Hex};

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
        assert!(killed.told[0].is_due && killed.told[0].check == Check::Data);
        let elsewhere = judge(&trial("checked at dac"), &with, &without);
        assert_eq!(elsewhere.fate, Fate::Otherwise);
        assert!(!killed.kind_only);
        assert!(!elsewhere.told[0].is_due);
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
            let told = told(&result, &show);
            let due = told.iter().find(|told| told.is_due);
            due.map(|told| told.by_advice)
        };
        assert_eq!(named("helped()"), Some(true));
        assert_eq!(named("noted()"), Some(true));
        assert_eq!(named("axi-dmac-rx"), Some(false));
        assert_eq!(named("nowhere"), None);
    }

    #[test]
    fn the_place_that_is_due_is_told_by_its_line_wherever_the_history_has_it() {
        let frame = |function: &str, file: &str, line| Frame {
            function: function.into(),
            file: Some(file.into()),
            line: Some(line),
            text: None,
            path: None,
        };
        let place = |frames: Vec<Frame>| Place {
            va: Hex(0xffff_8000_8000_0000),
            kernel: true,
            symbol: Some(format!("{}+0x18", frames[frames.len() - 1].function)),
            module: None,
            program: None,
            frames,
            stack: None,
        };
        let step = |place| Step {
            at: 1,
            what: Event::Stored,
            who: Party::Cpu { cpu: None, place },
        };
        let history = [
            step(place(vec![frame("clean", "a.S", 7)])),
            step(place(vec![
                frame("inlined", "c.h", 3),
                frame("map", "b.c", 9),
            ])),
            step(place(vec![frame("read", "d.rs", 5)])),
        ];
        let at = |due: &str| due_site(&history, due).map(|(name, line)| format!("{name} {line}"));
        assert_eq!(at("clean").unwrap(), "clean+0x18 a.S:7");
        assert_eq!(at("let inlined() do it").unwrap(), "inlined c.h:3");
        assert_eq!(at("d.rs").unwrap(), "read+0x18 d.rs:5");
        // No part of a name is a name.
        assert_eq!(at("cleaned maps of"), None);
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
