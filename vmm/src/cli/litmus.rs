// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline litmus`: is this sequence safe, and does the coherency domain say the same?

mod domain;
mod select;
mod text;

use clap::Args;
use serde::{Serialize, Serializer};
use staleline_litmus::builtin;
use staleline_litmus::case::Case;
use staleline_litmus::caveat::Caveat;
use staleline_litmus::repair::NoRepair;
use staleline_litmus::verdict::{Outcome, Verdict};

use self::domain::{Agrees, Domain};
use self::select::{select, wrong};
pub use self::text::text;
use super::TextFormat;
use crate::exit::{self, Error};

/// `staleline litmus`.
#[derive(Debug, Args)]
pub struct LitmusArgs {
    /// Cases or families of the corpus, or TOML files [default: the whole corpus].
    #[arg(value_name = "NAME|FILE")]
    pub cases: Vec<String>,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = TextFormat::Human)]
    pub format: TextFormat,
}

/// The judgement of one case, as it is printed.
#[derive(Debug, Serialize)]
pub struct Row {
    case: String,
    title: String,
    #[serde(serialize_with = "outcome")]
    verdict: Outcome,
    /// What the verdict rests on.
    #[serde(serialize_with = "caveats")]
    caveats: Vec<Caveat>,
    reads: Vec<Read>,
    findings: Vec<Found>,
    /// Polls that can never end.
    never: Vec<usize>,
    /// Absent if the file says nothing.
    as_expected: Option<bool>,
    differences: Vec<String>,
    states: usize,
    domain: Domain,
    #[serde(skip)]
    in_detail: bool,
}

#[derive(Debug, Serialize)]
struct Read {
    at: usize,
    event: String,
    bytes: String,
    values: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Found {
    kind: &'static str,
    at: usize,
    event: String,
    bytes: String,
    what: String,
    #[serde(serialize_with = "repair", flatten)]
    repair: Result<String, NoRepair>,
}

/// A repair in JSON.
#[derive(Serialize)]
struct RepairText<'a> {
    /// Absent if there is none.
    repair: Option<&'a str>,
    /// It was not found before the search gave up: there may be one.
    gave_up: bool,
}

fn repair<S: Serializer>(repair: &Result<String, NoRepair>, to: S) -> Result<S::Ok, S::Error> {
    let repair = RepairText {
        repair: repair.as_deref().ok(),
        gave_up: matches!(repair, Err(NoRepair::GaveUp)),
    };
    repair.serialize(to)
}

fn outcome<S: Serializer>(outcome: &Outcome, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(outcome.name())
}

/// A [`Caveat`] in JSON.
#[derive(Serialize)]
struct CaveatText {
    name: &'static str,
    text: &'static str,
}

fn caveats<S: Serializer>(caveats: &[Caveat], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(caveats.iter().map(|c| CaveatText {
        name: c.name(),
        text: c.text(),
    }))
}

impl Row {
    fn of(case: &Case, in_detail: bool) -> Result<Self, Error> {
        let verdict = Verdict::of(case).map_err(|e| Error::Limit {
            origin: format!("case {}", case.id),
            what: e.to_string(),
        })?;
        let program = &case.program;
        let event = |at: usize| {
            let event = program.events.get(at);
            event.map(|e| program.describe(e)).unwrap_or_default()
        };
        let reads = verdict.answer.reads.iter().map(|r| Read {
            at: r.event,
            event: event(r.event),
            bytes: program.ranges(r.bytes),
            values: program.values(r.all),
        });
        let domain = Domain::of(case, &verdict.answer)?;
        let findings = verdict.findings.iter().map(|f| Found {
            kind: f.kind.name(),
            at: f.at,
            event: event(f.at),
            bytes: program.ranges(f.bytes),
            what: text::what(case, f),
            repair: (f.repair.as_ref())
                .map(|r| r.describe(program))
                .map_err(|e| *e),
        });
        Ok(Row {
            case: case.id.clone(),
            title: case.title.clone(),
            verdict: verdict.outcome(),
            caveats: Caveat::of(program),
            reads: reads.collect(),
            findings: findings.collect(),
            never: (0..program.events.len())
                .filter(|e| verdict.answer.never >> e & 1 != 0)
                .collect(),
            as_expected: (case.expected.is_some()).then_some(verdict.differences.is_empty()),
            differences: verdict.differences,
            states: verdict.answer.states,
            domain,
            in_detail,
        })
    }

    /// Whether the command fails because of it.
    fn fails(&self) -> bool {
        let as_expected = match self.as_expected {
            Some(as_expected) => as_expected,
            None => self.verdict == Outcome::Safe,
        };
        !as_expected || self.domain.agrees == Agrees::No
    }
}

/// Judges all that is asked for.
///
/// # Errors
/// Usage errors.
pub fn judge(args: &LitmusArgs) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    if args.cases.is_empty() {
        for case in builtin::cases().map_err(wrong)? {
            rows.push(Row::of(&case, false)?);
        }
    }
    for name in &args.cases {
        for (case, in_detail) in select(name)? {
            rows.push(Row::of(&case, in_detail)?);
        }
    }
    Ok(rows)
}

/// The exit code: findings or differences that the user did not ask for.
pub fn exit_code(rows: &[Row]) -> u8 {
    if rows.iter().any(Row::fails) {
        exit::FAIL
    } else {
        exit::PASS
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn rows(cases: &[&str]) -> Result<Vec<Row>, Error> {
        judge(&LitmusArgs {
            cases: cases.iter().map(|c| (*c).to_owned()).collect(),
            format: TextFormat::Human,
        })
    }

    #[test]
    fn a_question_of_a_user_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        let file = "schema = 1\n[[case]]\ninit = [\"A+0..64 mem=old\"]\ncacheable = [\"A\"]\n\
                    policy = \"wt\"\nevents = [\"cpu0 store wb A+0..64 = new\", \"cpu0 dsb sy\", \
                    \"cpu0 doorbell dev0\", \"dev0 read ns A+0..64\"]\n";
        std::fs::write(&path, file).unwrap();
        let rows = rows(&[path.to_str().unwrap()]).unwrap();
        assert_eq!(exit_code(&rows), exit::FAIL);
        let text = text(&rows);
        for part in [
            "mine: unsafe",
            "A+0..64 may read old or new",
            "missing-clean at event 3 `dev0 read ns A+0..64`, A+0..64",
            "insert `cpu0 dc cvac A+0` before event 1 (`cpu0 dsb sy`)",
            "domain: agrees (8 runs)",
            "missing-clean at event 3, A+0..64; missing: clean",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    /// The row of a case without expectations, over one cacheable line.
    fn row(events: &[&str]) -> Row {
        let file = format!(
            "schema = 1\n[[case]]\ninit = [\"A+0..64 mem=m\"]\ncacheable = [\"A\"]\npolicy = \
             \"wt\"\nevents = {events:?}\n"
        );
        let cases = staleline_litmus::case::parse(&file, "mine.toml").unwrap();
        Row::of(&cases[0], true).unwrap()
    }

    #[test]
    fn a_poll_that_can_never_end_is_not_safe() {
        let rows = [row(&["cpu0 poll wb A+0..8 == never"])];
        assert_eq!(exit_code(&rows), exit::FAIL);
        let json = serde_json::to_value(&rows).unwrap();
        assert_eq!(json[0]["verdict"], "stuck");
        let text = text(&rows);
        for part in [
            "case-1  stuck",
            "case-1: stuck",
            "stuck: 1",
            "can never end",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn doubts_about_an_answer_are_told() {
        for (name, events) in [
            ("wt-as-cortex-a53", &["cpu0 load wt A+0..8"][..]),
            (
                "dmb-before-doorbell",
                &["cpu0 dc cvac A+0", "cpu0 dmb sy", "cpu0 doorbell dev0"],
            ),
            (
                "handed-over-without-dsb",
                &[
                    "cpu0 store wb A+0..64 = v",
                    "cpu0 dc cvac A+0",
                    "cpu0 dmb sy",
                    "cpu1 acquire cpu0",
                    "cpu1 dsb sy",
                    "cpu1 doorbell dev0",
                    "dev0 read ns A+0..64",
                ],
            ),
        ] {
            let rows = [row(events)];
            assert_eq!(exit_code(&rows), exit::PASS);
            let json = serde_json::to_value(&rows).unwrap();
            assert_eq!(json[0]["caveats"][0]["name"], name);
            let text = text(&rows);
            assert!(text.contains("case-1  safe*"), "{text}");
            assert!(text.contains(&format!("* {name}: ")), "{text}");
        }
        let rows = [row(&["cpu0 load nc A+0..8"])];
        assert!(!text(&rows).contains('*'));
    }

    #[test]
    fn a_search_that_gave_up_is_told_apart_from_one_that_found_nothing() {
        let race = ["dev0 write snoop A+0..64 = d", "cpu0 load wb A+0..64"];
        let told = |row: Row| {
            let rows = [row];
            let json = serde_json::to_value(&rows).unwrap();
            (text(&rows), json[0]["findings"][0].clone())
        };
        let (text, json) = told(row(&race));
        assert!(
            text.contains("repair  no operation put in at one place helps"),
            "{text}"
        );
        assert_eq!(
            (&json["repair"], &json["gave_up"]),
            (&Value::Null, &Value::Bool(false))
        );

        let mut unknown = row(&race);
        unknown.findings[0].repair = Err(NoRepair::GaveUp);
        let (text, json) = told(unknown);
        for part in [
            "the search gave up",
            "ask about fewer events, or fewer lines",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("helps"), "{text}");
        assert_eq!(
            (&json["repair"], &json["gave_up"]),
            (&Value::Null, &Value::Bool(true))
        );

        let events = ["cpu0 store wb A+0..64 = v", "dev0 read ns A+0..64"];
        let (_, json) = told(row(&[
            events[0],
            "cpu0 dsb sy",
            "cpu0 doorbell dev0",
            events[1],
        ]));
        assert_eq!(json["gave_up"], false);
        assert!(
            json["repair"]
                .as_str()
                .unwrap()
                .starts_with("insert `cpu0 dc cvac A+0`")
        );
    }

    #[test]
    fn a_row_on_which_the_domain_differs_fails() {
        let mut row = rows(&["to-device-no-clean"]).unwrap().remove(0);
        assert!(!row.fails());
        row.domain.agrees = Agrees::No;
        assert!(row.fails());
        assert_eq!(exit_code(&[row]), exit::FAIL);
    }

    #[test]
    fn what_the_domain_does_not_judge_is_told() {
        let rows = rows(&["smp"]).unwrap();
        assert_eq!(exit_code(&rows), exit::PASS);
        let judged = |r: &&Row| r.domain.agrees != Agrees::NotJudged;
        assert!(rows.iter().filter(judged).count() < rows.len());
        assert!(text(&rows).contains("not judged"), "{}", text(&rows));
    }

    #[test]
    fn a_file_that_is_wrong_is_a_usage_error_that_says_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.toml");
        let file = "schema = 1\n[[case]]\ninit = [\"A+0..64 mem=old\"]\ncacheable = [\"A\"]\n\
                    policy = \"wt\"\nevents = [\"cpu0 dsb sy\", \"cpu0 dc flush A+0\"]\n";
        std::fs::write(&path, file).unwrap();
        let error = rows(&[path.to_str().unwrap()]).unwrap_err();
        assert_eq!(error.exit_code(), exit::USAGE);
        let text = error.render();
        assert!(text.contains("event 1 (`cpu0 dc flush A+0`)"), "{text}");
        assert!(text.contains("found `flush`"), "{text}");
    }

    #[test]
    fn names_families_and_typing_errors() {
        assert_eq!(rows(&["to-device-no-clean"]).unwrap().len(), 1);
        assert!(rows(&["smp"]).unwrap().len() > 5);
        let error = rows(&["to-device-no-cleen"]).unwrap_err().render();
        assert!(
            error.contains("did you mean `to-device-no-clean`?"),
            "{error}"
        );
    }
}
