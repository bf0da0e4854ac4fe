// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline litmus`: is this sequence safe, and does the coherency domain say the same?

mod domain;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;
use staleline_litmus::builtin;
use staleline_litmus::case::{self, Case};
use staleline_litmus::due::Finding;
use staleline_litmus::explore::Gone;
use staleline_litmus::symptom::Symptom;
use staleline_litmus::verdict::Verdict;

use self::domain::{Agrees, Domain};
use super::TextFormat;
use crate::exit::{self, Error};
use crate::names;
use crate::scenario::read_config;

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
    verdict: &'static str,
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
    repair: Option<String>,
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
            what: what(case, f),
            repair: f.repair.as_ref().map(|r| r.describe(program)),
        });
        Ok(Row {
            case: case.id.clone(),
            title: case.title.clone(),
            verdict: if verdict.safe() { "safe" } else { "unsafe" },
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
            None => self.findings.is_empty() && self.never.is_empty(),
        };
        !as_expected || self.domain.agrees == Agrees::No
    }
}

/// What is wrong, in words.
fn what(case: &Case, finding: &Finding) -> String {
    let writer = |write: Option<usize>| match write.and_then(|w| case.program.events.get(w)) {
        Some(e) => format!("what `{}` wrote", case.program.describe(e)),
        None => "what was dirty at first".to_owned(),
    };
    match finding.symptom {
        Symptom::Ambiguous { .. } => "the read has more than one legal value".to_owned(),
        Symptom::Lost {
            write,
            how: Gone::Dropped(_),
            ..
        } => format!(
            "{} may be dropped by this event, and is nowhere else",
            writer(write)
        ),
        Symptom::Lost { write, .. } => {
            format!(
                "{} may be overwritten by an older dirty line",
                writer(write)
            )
        }
        Symptom::Stuck { .. } => "the poll may wait for ever for a value that was written".into(),
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

/// The cases of that name, family or file, and whether to print them in detail.
fn select(name: &str) -> Result<Vec<(Case, bool)>, Error> {
    let path = Path::new(name);
    if name.ends_with(".toml") || name.contains('/') || path.is_file() {
        let text = read_config(path)?;
        let mut cases = case::parse(&text, name).map_err(wrong)?;
        if let [only] = &mut cases[..]
            && only.id == "case-1"
        {
            let stem = PathBuf::from(name);
            only.id = stem
                .file_stem()
                .map_or_else(|| only.id.clone(), |s| s.to_string_lossy().into_owned());
        }
        return Ok(cases.into_iter().map(|c| (c, true)).collect());
    }
    let family = builtin::files().iter().find(|(family, _)| *family == name);
    if let Some((family, text)) = family {
        let cases = case::parse(text, family).map_err(wrong)?;
        return Ok(cases.into_iter().map(|c| (c, false)).collect());
    }
    let all = builtin::cases().map_err(wrong)?;
    if let Some(case) = all.iter().find(|c| c.id == name) {
        return Ok(vec![(case.clone(), true)]);
    }
    let families = builtin::files().iter().map(|(family, _)| *family);
    let known = all.iter().map(|c| c.id.as_str()).chain(families);
    let hint = match names::did_you_mean(name, known) {
        Some(similar) => format!("did you mean `{similar}`?"),
        None => "`staleline litmus` lists all".to_owned(),
    };
    Err(Error::Limit {
        origin: "litmus".to_owned(),
        what: format!("there is no case, family or file `{name}`; {hint}"),
    })
}

fn wrong(error: case::Error) -> Error {
    match error {
        case::Error::Syntax { origin, detail } => Error::Syntax { origin, detail },
        case::Error::Limit { origin, what } => Error::Limit { origin, what },
        case::Error::Case {
            origin,
            case,
            place,
            what,
        } => Error::Limit {
            origin,
            what: format!("case `{case}`: {place}: {what}"),
        },
    }
}

/// The exit code: findings or differences that the user did not ask for.
pub fn exit_code(rows: &[Row]) -> u8 {
    if rows.iter().any(Row::fails) {
        exit::FAIL
    } else {
        exit::PASS
    }
}

/// The judgements for people.
pub fn text(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "case",
        "explorer",
        "findings due",
        "domain",
        "agree",
        "as the file says",
    ]);
    for row in rows {
        let due: Vec<String> = (row.findings.iter())
            .map(|f| format!("{} at {}", f.kind, f.at))
            .collect();
        let as_expected = match row.as_expected {
            Some(true) => "ok",
            Some(false) => "differs",
            None => "-",
        };
        let due = due.join(", ");
        let (domain, agree) = (row.domain.cell(), row.domain.agrees.text());
        table.add_row([
            row.case.as_str(),
            row.verdict,
            &due,
            &domain,
            agree,
            as_expected,
        ]);
    }
    let mut text = String::new();
    for line in table.to_string().lines() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for row in rows.iter().filter(|r| r.in_detail || r.fails()) {
        detail(row, &mut text);
    }
    let differ = rows.iter().filter(|r| r.as_expected == Some(false)).count();
    let unsafe_ones = rows.iter().filter(|r| !r.findings.is_empty()).count();
    let _ = writeln!(
        text,
        "\ncases: {}, unsafe: {unsafe_ones}, other than their files say: {differ}",
        rows.len()
    );
    let count = |agrees| rows.iter().filter(|r| r.domain.agrees == agrees).count();
    let _ = writeln!(
        text,
        "domain: {} runs (all replacement policies; a case's own policy for snooping writes, both \
         where there is none); agrees on {}, differs as known on {}, otherwise on {}, not judged {}",
        rows.iter().map(|r| r.domain.runs).sum::<usize>(),
        count(Agrees::Yes),
        count(Agrees::Known),
        count(Agrees::No),
        count(Agrees::NotJudged),
    );
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in rows.iter().filter(|r| r.domain.agrees == Agrees::Known) {
        let reason = row.domain.reason.as_deref().unwrap_or_default();
        match reasons.iter_mut().find(|(r, _)| *r == reason) {
            Some((_, cases)) => cases.push(&row.case),
            None => reasons.push((reason, vec![&row.case])),
        }
    }
    for (reason, cases) in reasons {
        let _ = writeln!(text, "  known: {reason} ({})", cases.join(", "));
    }
    text
}

fn detail(row: &Row, text: &mut String) {
    let _ = writeln!(text, "\n{}: {}", row.case, row.verdict);
    if !row.title.is_empty() {
        let _ = writeln!(text, "  {}", row.title);
    }
    for r in &row.reads {
        let _ = writeln!(
            text,
            "  event {:<2} {}: {} may read {}",
            r.at,
            r.event,
            r.bytes,
            match &r.values[..] {
                [] => "nothing: it is never reached".to_owned(),
                values => values.join(" or "),
            }
        );
    }
    for f in &row.findings {
        let _ = writeln!(
            text,
            "  {} at event {} `{}`, {}",
            f.kind, f.at, f.event, f.bytes
        );
        let _ = writeln!(text, "    because {}", f.what);
        let _ = match &f.repair {
            Some(repair) => writeln!(text, "    repair  {repair}"),
            None => writeln!(
                text,
                "    repair  no operation put in helps: order the accesses (wait, doorbell, \
                 acquire), or give them lines of their own"
            ),
        };
    }
    row.domain.detail(text);
    for poll in &row.never {
        let _ = writeln!(
            text,
            "  event {poll}: the poll can never end: the value is not there by then"
        );
    }
    for difference in &row.differences {
        let _ = writeln!(text, "  differs: {difference}");
    }
}

#[cfg(test)]
mod tests {
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
