// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The page, as its template wants it.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use askama::Template;
use staleline_results::RunResult;
use staleline_support::files;

use super::article::{self, Article, Where};
use super::costs::{self, Bar, Chart};
use super::source::Source;
use crate::exit::Error;
use crate::report::human::{self, plain_corrupt, plain_report};
use crate::report::sheet::Sheet;
use crate::result::program;

/// What a page begins with.
const BEGIN: &[u8; 15] = b"<!doctype html>";

/// Findings that are told, at most.
const ARTICLES: usize = 200;

/// A page.
#[derive(Debug, Template)]
#[template(path = "page.html")]
pub struct Page {
    version: &'static str,
    /// What it is about.
    pub title: String,
    /// The verdict's name, or another word for what came of it.
    pub verdict: &'static str,
    /// What was run, in a sentence.
    pub lead: String,
    /// Why the verdict is not pass.
    pub reasons: Vec<String>,
    /// Label and text.
    pub facts: Vec<(&'static str, String)>,
    /// Cells, if there is more than one run.
    pub matrix: Option<Cells>,
    /// Tables of a campaign.
    pub sheets: Vec<Sheet>,
    /// Findings.
    articles: Vec<Article>,
    /// What is not told of them, a sentence each.
    more: Vec<String>,
    /// What the guest's kernel has reported, and corrupt data.
    reports: Vec<Report>,
    /// What maintenance cost.
    charts: Vec<Chart>,
    /// What was left out.
    notes: Vec<String>,
    /// A command that does it again.
    pub replay: String,
}

/// A report of the guest's kernel.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What the terminal says of it.
    pub text: String,
    /// Cells in which it was, the one that is told first.
    pub cells: Vec<Where>,
}

/// A matrix.
#[derive(Debug, Clone, Default)]
pub struct Cells {
    /// What tells cells apart; the last may be wide.
    pub columns: Vec<String>,
    /// Cells.
    pub rows: Vec<CellRow>,
    /// The matrix's own rows: its name, what it is, how many cells, and what came of them.
    pub named: Vec<[String; 4]>,
    /// All cells in a sentence.
    pub sum: String,
    /// Names of cells that were not run.
    pub left: Vec<String>,
}

/// A cell.
#[derive(Debug, Clone, Default)]
pub struct CellRow {
    /// What tells it apart.
    pub key: Vec<String>,
    /// Name of its verdict.
    pub verdict: &'static str,
    /// What was expected.
    pub expected: String,
    /// It is not as expected, and that is not known.
    pub is_bad: bool,
    /// It is not as expected, and that is known.
    pub known: bool,
    /// Why.
    pub why: String,
    /// A command that does it again.
    pub replay: String,
    /// Kinds of findings, each with the place on the page that tells one; empty if none does.
    pub findings: Vec<(String, String)>,
    /// Wrong bytes.
    pub corrupt: u64,
    /// Lines of maintenance on memory that devices transfer.
    pub bar: Bar,
}

impl Page {
    /// Without anything in it.
    pub fn new(title: String, verdict: &'static str) -> Self {
        Page {
            version: env!("CARGO_PKG_VERSION"),
            title,
            verdict,
            lead: String::new(),
            reasons: Vec::new(),
            facts: Vec::new(),
            matrix: None,
            sheets: Vec::new(),
            articles: Vec::new(),
            more: Vec::new(),
            reports: Vec::new(),
            charts: Vec::new(),
            notes: Vec::new(),
            replay: String::new(),
        }
    }

    /// Of one run.
    pub fn of_run(result: &RunResult, description: &str, source: &Source<'_>) -> Self {
        let kernel = result.kernel.as_ref();
        let name = kernel.map_or_else(|| "no kernel".into(), |k| k.name.clone());
        let title = format!("{} on {name}", result.scenario);
        let mut page = Page::new(title, result.verdict.name());
        page.lead = description.to_owned();
        page.reasons.clone_from(&result.reasons);
        page.facts = facts(result);
        for article in article::of(result, source, &|_| false) {
            page.add(article);
        }
        let may_follow = result.has_errors();
        let reports = result.guest.complaints();
        page.reports = reports
            .map(|r| plain_report(r, may_follow, &result.replay))
            .chain(result.data.corrupt_ends().map(plain_corrupt))
            .map(|text| Report {
                text,
                ..Report::default()
            })
            .collect();
        page.charts = costs::charts(&result.maintenance);
        page.notes.clone_from(&result.notes);
        page.replay.clone_from(&result.replay);
        page
    }

    /// Adds a report of the guest's kernel; gives its number, or 0 if there are too many.
    pub fn add_report(&mut self, text: String) -> usize {
        if self.reports.len() >= ARTICLES {
            self.too_many();
            return 0;
        }
        self.reports.push(Report {
            text,
            ..Report::default()
        });
        self.reports.len()
    }

    /// The report of that number.
    pub fn report(&mut self, number: usize) -> Option<&mut Report> {
        self.reports.get_mut(number.checked_sub(1)?)
    }

    fn too_many(&mut self) {
        if self.more.is_empty() {
            self.more.push(format!(
                "There are more than {ARTICLES} findings: the others are in the runs' result.json."
            ));
        }
    }

    /// Adds a finding; gives its number, or 0 if there are too many.
    pub fn add(&mut self, mut article: Article) -> usize {
        if self.articles.len() >= ARTICLES {
            self.too_many();
            return 0;
        }
        article.number = self.articles.len() + 1;
        self.articles.push(article);
        self.articles.len()
    }

    /// The finding of that number.
    pub fn article(&mut self, number: usize) -> Option<&mut Article> {
        self.articles.get_mut(number.checked_sub(1)?)
    }

    /// Writes it whole to a file, in place of what may be there.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        // The run may have made it.
        if let Some(why) = is_in_the_way(path) {
            return Err(io::Error::other(why));
        }
        let text = self.render().map_err(io::Error::other)?;
        files::write_whole(path, text.as_bytes(), files::READABLE)
    }
}

/// What the run was, and what there is to say of it in a line each.
fn facts(r: &RunResult) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if r.data.planned > 0 {
        facts.push(("data", human::checked(r)));
    }
    if let Some(program) = &r.guest.program {
        facts.push(("program", program::ended(program)));
    }
    facts.push(("hazards", human::hazards(r)));
    if let Some(kernel) = &r.kernel {
        let text = format!("{} {} ({})", kernel.name, kernel.version, kernel.hash);
        facts.push(("kernel", text));
    }
    let exporter = r.exporter.as_ref().map(|e| format!("exporter {e}, "));
    facts.push((
        "settings",
        format!(
            "{}cache {}, seed {}, engine {}",
            exporter.unwrap_or_default(),
            r.cache,
            r.seed,
            r.engine
        ),
    ));
    let hash = r.run_hash.clone();
    facts.push(("run", hash.unwrap_or_else(|| "broke off".into())));
    facts
}

/// Looks at a file that a page is to be written to, before anything is run.
///
/// # Errors
/// [`Error::Option`] if it is clear that it cannot be.
pub fn check(path: &Path) -> Result<(), Error> {
    let wrong = |why: &str| Error::Option {
        option: format!("--html {}", path.display()),
        why: why.into(),
    };
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(wrong("it names no file")),
    };
    if path.is_dir() {
        return Err(wrong("it is a directory; name a file in it"));
    }
    if let Some(why) = is_in_the_way(path) {
        return Err(wrong(why));
    }
    if !parent.is_dir() {
        return Err(wrong("there is no such directory; make it first"));
    }
    Ok(())
}

/// Why what is at that path is not to be replaced by a page: it is none.
fn is_in_the_way(path: &Path) -> Option<&'static str> {
    let there = fs::symlink_metadata(path).ok()?;
    if !there.is_file() {
        return Some("there is something that is no file, and it is left alone");
    }
    let mut begin = [0; BEGIN.len()];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut begin));
    let is_page = there.len() == 0 || (read.is_ok() && begin == *BEGIN);
    (!is_page).then_some(
        "there is a file that is no page, and it is left alone: name another, or remove it",
    )
}
