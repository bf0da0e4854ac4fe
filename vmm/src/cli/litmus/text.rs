// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Judgements for people.

use std::fmt::Write as _;

use comfy_table::{Table, presets};
use staleline_judge::known::Class;
use staleline_litmus::case::Case;
use staleline_litmus::caveat::Caveat;
use staleline_litmus::due::Finding;
use staleline_litmus::explore::Gone;
use staleline_litmus::repair::NoRepair;
use staleline_litmus::symptom::Symptom;
use staleline_litmus::verdict::Outcome;

use super::Row;
use super::domain::Agrees;

/// What is wrong, in words.
pub(super) fn what(case: &Case, finding: &Finding) -> String {
    let mut all: Vec<String> = Vec::new();
    for symptom in &finding.symptoms {
        let one = of_symptom(case, symptom);
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all.join("; ")
}

fn of_symptom(case: &Case, symptom: &Symptom) -> String {
    let writer = |write: Option<usize>| match write.and_then(|w| case.program.events.get(w)) {
        Some(e) => format!("what `{}` wrote", case.program.describe(e)),
        None => "what was dirty at first".to_owned(),
    };
    match *symptom {
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

/// What to do if no repair is named.
fn instead(no_repair: NoRepair) -> &'static str {
    match no_repair {
        NoRepair::NothingHelps => {
            "no operation put in at one place helps: order the accesses (wait, doorbell, acquire), or \
             give them lines of their own"
        }
        NoRepair::GaveUp => {
            "none found, but the search gave up before it had tried all: an operation put in may help \
             all the same; ask about fewer events, or fewer lines, to have all tried"
        }
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
        let (domain, agree) = (row.domain.cell(), row.domain.agree());
        let verdict = marked(row);
        table.add_row([
            row.case.as_str(),
            &verdict,
            &due,
            &domain,
            &agree,
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
    let unsafe_ones = rows.iter().filter(|r| r.verdict == Outcome::Unsafe).count();
    let stuck = match rows.iter().filter(|r| r.verdict == Outcome::Stuck).count() {
        0 => String::new(),
        n => format!(", stuck: {n}"),
    };
    let _ = writeln!(
        text,
        "\ncases: {}, unsafe: {unsafe_ones}{stuck}, other than their files say: {differ}",
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
    let mut differ: Vec<(Class, Vec<&str>)> = Vec::new();
    for row in rows {
        for class in &row.domain.classes {
            match differ.iter_mut().find(|(c, _)| c == class) {
                Some((_, cases)) => cases.push(&row.case),
                None => differ.push((*class, vec![&row.case])),
            }
        }
    }
    differ.sort_by_key(|(class, _)| *class);
    for (class, cases) in differ {
        let (name, reason) = (class.name(), class.reason());
        let _ = writeln!(text, "  {name}: {reason} ({})", cases.join(", "));
    }
    caveats(rows, &mut text);
    text
}

/// The verdict, with a mark if it rests on something that is in doubt.
fn marked(row: &Row) -> String {
    let mark = if row.caveats.is_empty() { "" } else { "*" };
    format!("{}{mark}", row.verdict.name())
}

fn caveats(rows: &[Row], text: &mut String) {
    let mut all: Vec<Caveat> = rows.iter().flat_map(|r| r.caveats.clone()).collect();
    all.sort();
    all.dedup();
    for caveat in all {
        let cases = rows.iter().filter(|r| r.caveats.contains(&caveat));
        let cases: Vec<&str> = cases.map(|r| r.case.as_str()).collect();
        let (name, what) = (caveat.name(), caveat.text());
        let _ = writeln!(text, "  * {name}: {what} ({})", cases.join(", "));
    }
}

fn detail(row: &Row, text: &mut String) {
    let _ = writeln!(text, "\n{}: {}", row.case, marked(row));
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
        let repair = match &f.repair {
            Ok(repair) => repair,
            Err(no_repair) => instead(*no_repair),
        };
        let _ = writeln!(text, "    repair  {repair}");
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
