// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A comparison for people. Names may come from anybody's files; whoever prints this makes them visible.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::divergence::{Divergence, Parting};
use super::engines::Difference;
use super::matrices::{Matrices, Pair};
use super::numbers::{Both, Lines};
use super::runs::{Findings, Runs, Side};
use crate::query::Told;
use crate::report::Layout;

/// Where the text behind a label begins, at least.
const LABELS: usize = 3;

/// Labels of what is compared are padded to this.
const PARTS: [&str; 4] = ["verdict ", "data    ", "findings", "log     "];

/// Rows told of each list, at most.
const ROWS: usize = 40;

/// Text that is put together line by line. Writing to a string cannot fail.
struct Page {
    text: String,
    layout: Layout,
}

impl Page {
    fn new(layout: Layout) -> Self {
        Page {
            text: String::new(),
            layout,
        }
    }

    /// A paragraph.
    fn says(&mut self, text: &str) {
        self.labelled("", "", text);
    }

    /// A paragraph with a label before it, in a column of its own below `indent`.
    fn labelled(&mut self, indent: &str, label: &str, text: &str) {
        let column = match label.is_empty() {
            true => indent.len(),
            false => (indent.len() + label.len() + 2).max(LABELS),
        };
        let wrapped = self.layout.wrapped(text, column);
        let before = format!("{indent}{label}");
        for (n, line) in wrapped.lines().enumerate() {
            let before = if n == 0 { &*before } else { "" };
            let _ = writeln!(self.text, "{before:column$}{line}");
        }
    }

    fn gap(&mut self) {
        self.text.push('\n');
    }

    /// A table whose columns from that one on are numbers.
    fn table(&mut self, header: &[&str], rows: &[Vec<String>], numbers: usize) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(self.layout.width()).unwrap_or(u16::MAX));
        table.set_header(header);
        for row in rows.iter().take(ROWS) {
            table.add_row(row);
        }
        for column in table.column_iter_mut().skip(numbers) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let _ = writeln!(self.text, "{}", table.trim_fmt());
        if rows.len() > ROWS {
            let more = rows.len() - ROWS;
            let _ = writeln!(self.text, " ... and {more} more (--format json has all)");
        }
    }
}

/// Two runs.
pub fn runs(r: &Runs, layout: Layout) -> String {
    let mut page = Page::new(layout);
    for (name, side) in [("A", &r.a), ("B", &r.b)] {
        page.labelled("", name, &side.path);
        page.labelled("   ", "", &made_of(side));
        for reason in &side.reasons {
            page.labelled("   ", "", reason);
        }
    }
    page.gap();
    let [verdict, data, findings, log] = PARTS;
    let said = both_words(r.a.verdict.name(), r.b.verdict.name());
    page.labelled("", verdict, &said);
    let checked = format!(
        "{} bytes checked, {} corrupt",
        both_numbers(r.bytes),
        both_numbers(r.corrupt_bytes)
    );
    page.labelled("", data, &checked);
    if r.findings.is_empty() {
        page.labelled("", findings, "none in either");
    } else {
        page.says(findings);
        for f in r.findings.iter().take(ROWS) {
            finding(&mut page, f);
        }
        if let Some(more) = r.findings.len().checked_sub(ROWS).filter(|n| *n > 0) {
            page.labelled(
                "  ",
                "",
                &format!("... and {more} more (--format json has all)"),
            );
        }
    }
    page.gap();
    costs(&mut page, r);
    page.gap();
    match &r.log {
        Some(log) => divergence(&mut page, log),
        None => {
            let unknown = "one of them has none: where they part is not known";
            page.labelled("", log, unknown);
        }
    }
    page.gap();
    page.says(match r.differs {
        true => "They differ.",
        false => "Nothing differs that counts.",
    });
    page.text
}

fn made_of(s: &Side) -> String {
    let exporter = s.exporter.as_ref().map(|e| format!(", exporter {e}"));
    format!(
        "{} on {}{}, cache {}, seed {}: {}",
        s.scenario,
        s.kernel,
        exporter.unwrap_or_default(),
        s.cache,
        s.seed,
        s.verdict.name()
    )
}

fn both_words(a: &str, b: &str) -> String {
    match a == b {
        true => format!("{a} in both"),
        false => format!("A {a}, B {b}"),
    }
}

fn both_numbers(both: Both) -> String {
    match both.differs() {
        false => both.a.to_string(),
        true => format!("{} and {}", both.a, both.b),
    }
}

fn finding(page: &mut Page, f: &Findings) {
    let missing = match f.missing.is_empty() {
        true => String::new(),
        false => format!("; missing: {}", f.missing),
    };
    let told = match f.fails {
        true => "",
        false => " (told, fails no run)",
    };
    let what = format!("{}{told}: {}{missing}", f.kind, f.place);
    page.labelled("  ", "", &what);
    let side = |name: &str, findings: u64, lines: u64, wrong: u64| match findings {
        0 => format!("{name} none"),
        n => format!("{name} {n} on {lines} lines, {wrong} bytes wrong"),
    };
    let sides = format!(
        "{}; {}",
        side("A", f.findings.a, f.lines.a, f.wrong_bytes.a),
        side("B", f.findings.b, f.lines.b, f.wrong_bytes.b)
    );
    page.labelled("    ", "", &sides);
}

fn costs(page: &mut Page, r: &Runs) {
    let row = |what: String, both: Both| {
        vec![
            what,
            both.a.to_string(),
            both.b.to_string(),
            both.ratio_text(),
        ]
    };
    let c = &r.costs;
    page.says("cost of maintenance on memory that devices transfer");
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (what, both) in c.transferred.named() {
        rows.push(row(what.to_owned(), both));
    }
    rows.push(row(
        "instructions on the data path".into(),
        c.path_instructions,
    ));
    rows.push(row("loads and stores there".into(), c.path_accesses));
    rows.push(row("share of the path, ppm".into(), c.path_share_ppm));
    rows.push(row("lines, all that is accounted".into(), c.total.lines));
    page.table(&["", "A", "B", "B/A"], &rows, 1);
    let lines = |lines: &Lines| lines.lines;
    let pair = |p: &super::runs::Pair| {
        let name = |device: &Option<String>| device.clone().unwrap_or_else(|| "none".into());
        match (&p.before, &p.after) {
            (None, None) => "no transfer".into(),
            (before, after) => format!("{} -> {}", name(before), name(after)),
        }
    };
    let pairs = c.pairs.iter().map(|p| row(pair(p), lines(&p.lines)));
    let pairs: Vec<_> = pairs.collect();
    if !pairs.is_empty() {
        page.gap();
        page.table(&["lines between devices", "A", "B", "B/A"], &pairs, 1);
    }
    let callers = c.callers.iter();
    let callers: Vec<_> = callers
        .map(|f| row(f.function.clone(), lines(&f.lines)))
        .collect();
    if !callers.is_empty() {
        page.gap();
        page.table(&["lines by caller", "A", "B", "B/A"], &callers, 1);
    }
}

fn divergence(page: &mut Page, log: &Divergence) {
    let [.., label] = PARTS;
    match &log.first {
        None => page.labelled("", label, "the same from begin to end"),
        Some(parting) => {
            let alike = match parting.alike {
                0 => "no event is the very same:".into(),
                n => format!("the first {n} events are the very same, then:"),
            };
            page.labelled("", label, &alike);
            told(page, parting);
        }
    }
    match &log.done {
        Some(parting) => {
            let alike = format!(
                "whenever, and in whichever memory: {} transfers, accesses of devices, operations, starts, \
                 interrupts, calls and findings are alike, then:",
                parting.alike
            );
            page.labelled("", &" ".repeat(label.len()), &alike);
            told(page, parting);
        }
        None if log.first.is_some() => {
            let alike = "whenever, and in whichever memory: the same is done";
            page.labelled("", &" ".repeat(label.len()), alike);
        }
        None => {}
    }
    for lack in &log.lacks {
        page.labelled("", &" ".repeat(label.len()), lack);
    }
}

fn told(page: &mut Page, parting: &Parting) {
    for (name, told) in [("A", &parting.a), ("B", &parting.b)] {
        let text = match told {
            None => "has come to its end".into(),
            Some(told) => event(told),
        };
        page.labelled("  ", name, &text);
    }
}

fn event(t: &Told) -> String {
    let address = t.address.as_ref().map(|a| format!(" {a}"));
    let place = t.place.as_ref().map(|p| format!("; {p}"));
    format!(
        "#{} @{} {}{}: {}{}",
        t.record,
        t.at,
        t.who,
        address.unwrap_or_default(),
        t.what,
        place.unwrap_or_default()
    )
}

/// Two matrices.
pub fn matrices(m: &Matrices, layout: Layout) -> String {
    let mut page = Page::new(layout);
    page.labelled("", "A", &m.a);
    page.labelled("", "B", &m.b);
    page.gap();
    if !m.cells.is_empty() {
        let shared = shared(&m.cells);
        if !shared.is_empty() {
            page.says(&format!("all cells: {}", shared.join(" ")));
            page.gap();
        }
        let with_findings = m
            .cells
            .iter()
            .any(|p| p.findings != (Vec::new(), Vec::new()));
        let mut header = vec!["cell", "verdict"];
        header.extend(with_findings.then_some("findings"));
        let numbers = header.len();
        header.extend(["lines A", "lines B", "B/A", "needed", "redundant"]);
        let rows: Vec<_> = m
            .cells
            .iter()
            .map(|p| cell(p, &shared, with_findings))
            .collect();
        page.table(&header, &rows, numbers);
        page.gap();
    }
    for (what, cells) in [
        ("only in A", &m.only_a),
        ("only in B", &m.only_b),
        ("not run, or without a verdict, in one of them", &m.silent),
    ] {
        for cell in cells.iter().take(ROWS) {
            page.labelled("", &format!("{what}:"), cell);
        }
        if let Some(more) = cells.len().checked_sub(ROWS).filter(|n| *n > 0) {
            page.says(&format!("{what}: {more} more"));
        }
    }
    between_engines(&mut page, m);
    page.says(&sum(m));
    page.text
}

/// What engines have not found alike, each once, with the cells that it is in.
fn between_engines(page: &mut Page, m: &Matrices) {
    let mut all: BTreeMap<&Difference, Vec<&str>> = BTreeMap::new();
    for pair in &m.cells {
        for difference in &pair.engines {
            all.entry(difference).or_default().push(&pair.cell);
        }
    }
    if all.is_empty() {
        return;
    }
    page.says("between the engines");
    for (difference, cells) in all {
        let why = match &difference.reason {
            Some(reason) => format!("{}, for {reason}", difference.what),
            None => format!("{}, and nothing explains that", difference.what),
        };
        page.labelled("  ", "", &format!("{why}; in {} cells:", cells.len()));
        for cell in cells.iter().take(ROWS) {
            page.labelled("    ", "", cell);
        }
        if let Some(more) = cells.len().checked_sub(ROWS).filter(|n| *n > 0) {
            page.labelled("    ", "", &format!("... and {more} more"));
        }
    }
    page.gap();
}

/// Words that all cells have in common, where there are several.
fn shared(cells: &[Pair]) -> Vec<&str> {
    let [first, _, ..] = cells else {
        return Vec::new();
    };
    let words = first.cell.split(' ').filter(|word| *word != "-");
    let everywhere = |word: &&str| cells.iter().all(|p| p.cell.split(' ').any(|w| w == *word));
    words.filter(everywhere).collect()
}

fn cell(p: &Pair, shared: &[&str], with_findings: bool) -> Vec<String> {
    let own = p.cell.split(' ').filter(|word| !shared.contains(word));
    let own: Vec<&str> = own.collect();
    let findings = match (&p.findings.0, &p.findings.1) {
        (a, b) if a == b => list(a),
        (a, b) => format!("A {}; B {}", list(a), list(b)),
    };
    let verdict = match p.verdict {
        (a, b) if a == b => a.name().to_owned(),
        (a, b) => format!("{} -> {}", a.name(), b.name()),
    };
    let pair = |both: Both| match both.differs() {
        false => both.a.to_string(),
        true => format!("{} -> {}", both.a, both.b),
    };
    let mut row = vec![own.join(" "), verdict];
    row.extend(with_findings.then_some(findings));
    row.extend([
        p.lines.lines.a.to_string(),
        p.lines.lines.b.to_string(),
        p.lines.lines.ratio_text(),
        pair(p.lines.needed),
        pair(p.lines.redundant),
    ]);
    row
}

fn list(findings: &[String]) -> String {
    match findings.is_empty() {
        true => "-".into(),
        false => findings.join(" "),
    }
}

fn sum(m: &Matrices) -> String {
    let count = |what: &dyn Fn(&Pair) -> bool| m.cells.iter().filter(|p| what(p)).count();
    let lines = |p: &Pair| p.lines.lines.b.cmp(&p.lines.lines.a);
    let cells = m.cells.len();
    let verdicts = count(&|p| p.verdict.0 == p.verdict.1);
    let mut text = format!(
        "{cells} cells in both: the verdict is the same in {verdicts}; B maintains fewer lines in {}, \
         more in {}, as many in {}; in {} nothing differs that counts",
        count(&|p| lines(p).is_lt()),
        count(&|p| lines(p).is_gt()),
        count(&|p| lines(p).is_eq()),
        count(&|p| !p.differs),
    );
    let alone = (m.only_a.len(), m.only_b.len());
    if alone != (0, 0) {
        let _ = write!(text, "; {} only in A, {} only in B", alone.0, alone.1);
    }
    text
}
