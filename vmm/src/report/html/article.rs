// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A finding on the page: what the terminal says of it, and the timeline of its lines.

use staleline_results::{Class, Event, HazardEntry, LINE, Party, RunResult};

use super::figure::{Figure, Subject};
use super::lanes::{Lanes, Rows, Watch};
use super::source::Source;
use crate::report::Explained;
use crate::report::finding::{extent, in_short, in_words};
use crate::report::fold::{self, ChainLine};
use crate::report::headline::headline;
use crate::result::advice::accuses_the_tree;

/// Rows of a timeline, at most.
const ROWS: usize = 16;
/// Stretches of memory in one, at most.
const STRETCHES: usize = 8;

/// A finding.
#[derive(Debug, Clone, Default)]
pub struct Article {
    /// Number on the page, from 1.
    pub number: usize,
    /// Two with the same have the same cause, in whatever runs they were found.
    pub identity: String,
    /// What `explain` knows it by.
    pub topic: &'static str,
    /// `error` or `note`.
    pub level: &'static str,
    /// No byte was wrong.
    pub is_latent: bool,
    /// What is wrong.
    pub headline: String,
    /// Label and text, in the order in which they are read.
    pub facts: Vec<(&'static str, String)>,
    /// Timelines: of the finding that the history tells, and of all lines if there are more.
    pub timelines: Vec<Timeline>,
    /// Why there is none.
    pub no_timeline: String,
    /// The history.
    pub history: Vec<Step>,
    /// Consequences of the same cause, in short.
    pub also: Vec<String>,
    /// A command that shows it again.
    pub replay: String,
    /// Cells in which it was found, the one that is told first.
    pub cells: Vec<Where>,
}

/// A cell in which something was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Where {
    /// Its name.
    pub name: String,
    /// Its row on the page, from 1.
    pub row: usize,
    /// It did not come out as expected.
    pub is_bad: bool,
}

impl Article {
    /// Cells that did not come out as expected.
    pub fn bad_cells(&self) -> usize {
        self.cells.iter().filter(|cell| cell.is_bad).count()
    }
}

/// A timeline.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// What it is about.
    pub about: String,
    /// Its drawing.
    pub figure: Figure,
}

/// A step of the history.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// When, in accesses since power-on.
    pub at: u64,
    /// What.
    pub what: String,
    /// How the CPU came there.
    pub chain: Vec<Frame>,
}

/// A line of a call chain.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// The function, or what is left out.
    pub name: String,
    /// `file:line`.
    pub place: String,
    /// It is a driver's.
    pub driver: bool,
    /// Functions are left out here.
    pub folded: bool,
    /// What stands in that line.
    pub text: String,
}

/// A run's findings. Those whose identity is known get no timeline.
pub fn of(
    result: &RunResult,
    source: &Source<'_>,
    is_known: &dyn Fn(&str) -> bool,
) -> Vec<Article> {
    let shown: Vec<Shown> = result
        .causes()
        .filter_map(|cause| Shown::of(result, cause))
        .collect();
    let mut articles: Vec<Article> = shown.iter().map(|s| text(s, &result.replay)).collect();
    let new = |article: &Article| !is_known(&article.identity);
    let to_draw = articles.iter().zip(&shown).filter(|(a, _)| new(a));
    let watches: Vec<Watch> = to_draw.flat_map(|(_, s)| s.watches()).collect();
    let mut lanes = match source.follow(&watches) {
        Ok(lanes) => Ok(lanes.into_iter()),
        Err(why) => Err(why),
    };
    for (article, shown) in articles.iter_mut().zip(&shown) {
        if !new(article) {
            continue;
        }
        match &mut lanes {
            Ok(lanes) => {
                let its: Vec<Lanes> = lanes.by_ref().take(shown.watches().count()).collect();
                draw(article, shown, &its, source);
            }
            Err(why) => article.no_timeline.clone_from(why),
        }
    }
    articles
}

/// A cause that is told.
struct Shown {
    explained: Explained,
    consequences: Vec<Explained>,
    /// All its findings that are listed: from when to when.
    all: (u64, u64),
}

impl Shown {
    fn of(result: &RunResult, cause: usize) -> Option<Self> {
        let explained = Explained::of(result, result.diagnostics.get(cause)?)?;
        let its = result.hazards.iter().filter(|h| h.diagnostic == cause);
        let (from, to) = (begin(&explained), end(&explained.finding));
        let all = its.fold((from, to), |(from, to), h| {
            (from.min(h.written_at), to.max(end(h)))
        });
        Some(Shown {
            explained,
            consequences: Explained::consequences(result, cause),
            all,
        })
    }

    /// What is to be followed: the lines of the finding that the history tells, and if there are more findings,
    /// those of all.
    fn watches(&self) -> impl Iterator<Item = Watch> {
        let (d, f) = (&self.explained.diagnostic, &self.explained.finding);
        let one = Watch {
            first: f.first_pa.0,
            end: f.end_pa.0,
            from: begin(&self.explained),
            to: end(f),
            finding: Some((d.kind, f.at)),
        };
        let stretches = d.stretches.iter().filter(|_| d.findings > 1);
        let all = stretches.take(STRETCHES).map(|s| Watch {
            first: s.first_pa.0,
            end: s.end_pa.0,
            from: self.all.0,
            to: self.all.1,
            finding: None,
        });
        std::iter::once(one).chain(all)
    }
}

/// When the first step of the history was, without power-on.
fn begin(explained: &Explained) -> u64 {
    let f = &explained.finding;
    let steps = explained.diagnostic.history.iter();
    let steps = steps.filter(|s| !matches!(s.what, Event::PowerOn));
    steps.map(|s| s.at).min().unwrap_or(f.written_at).min(f.at)
}

/// When the finding and both transfers were over.
fn end(f: &HazardEntry) -> u64 {
    let last = [closed(&f.writer), closed(&f.reader), Some(f.at)];
    last.into_iter().flatten().max().unwrap_or(f.at)
}

fn closed(party: &Party) -> Option<u64> {
    match party {
        Party::Device {
            transfer: Some(t), ..
        } => t.closed_at,
        _ => None,
    }
}

fn draw(article: &mut Article, shown: &Shown, lanes: &[Lanes], source: &Source<'_>) {
    let Some((one, all)) = lanes.split_first() else {
        return;
    };
    let (d, f) = (&shown.explained.diagnostic, &shown.explained.finding);
    let history: Vec<u64> = d.history.iter().map(|s| s.at).collect();
    // Only where there are several, a party has the number of its CPU.
    let has_number = |party: &Party| matches!(party, Party::Cpu { cpu: Some(_), .. });
    let mut parties = d
        .history
        .iter()
        .map(|s| &s.who)
        .chain([&f.writer, &f.reader]);
    let several_cpus = parties.any(has_number);
    let mut add = |about: String, rows: &Rows, (from, to), history: &[u64]| {
        let mut figure = Figure::of(&Subject {
            from,
            to,
            rows,
            history,
            master: &|id| source.master(id),
            several_cpus: several_cpus || lanes.iter().any(Lanes::has_other_cpus),
        });
        if let (Some(figure), Some(cut)) = (&mut figure, source.cut_at()) {
            let lack = format!(
                "The log was full, or was cut off, at @{cut}: what came then is not shown."
            );
            figure.lacks.extend((cut <= to).then_some(lack));
        }
        let timeline = figure.map(|figure| Timeline { about, figure });
        article.timelines.extend(timeline);
    };
    let watch = one.watch();
    let about = about(f, watch, d.findings);
    add(about, &one.rows(ROWS), (watch.from, watch.to), &history);
    if !all.is_empty() {
        let each = (ROWS / all.len()).max(1);
        let mut rows = Rows::default();
        all.iter().for_each(|lanes| rows.add(lanes.rows(each)));
        let more = d.stretches.len().saturating_sub(all.len()) as u64 + d.more_stretches;
        let but = match more {
            0 => String::new(),
            n => format!(", but for {n} more stretches"),
        };
        let about = format!("All lines of the {} findings{but}", d.findings);
        add(about, &rows, shown.all, &[]);
    }
    if article.timelines.is_empty() {
        article.no_timeline = match source.cut_at() {
            Some(at) if at < watch.from => format!("the log was full, or was cut off, at @{at}"),
            _ => "the log has no event of these lines at that time".into(),
        };
    }
}

fn about(finding: &HazardEntry, watch: Watch, findings: u64) -> String {
    let (first, end) = (finding.first_pa, finding.end_pa);
    let span = end.0.saturating_sub(first.0).div_ceil(LINE);
    let lines = match (finding.lines, span) {
        (1, 1) => "The line".to_owned(),
        (n, span) if n == span => format!("The {n} lines"),
        (1, span) => format!("{span} lines, 1 of them that"),
        (n, span) => format!("{span} lines, {n} of them those"),
    };
    let but = match watch.lines() {
        n if n < span => format!("; the first {n} are followed"),
        _ => String::new(),
    };
    let which = match findings {
        0 | 1 => String::new(),
        n => format!(", the one of {n} findings that the history tells"),
    };
    format!("{lines} of the finding at {first}..{end}{which}{but}")
}

fn text(shown: &Shown, replay: &str) -> Article {
    let explained = &shown.explained;
    let (d, f) = (&explained.diagnostic, &explained.finding);
    let because = d.notes.iter().map(|note| ("because", note.clone()));
    let answer = [("missing", f.missing.clone()), ("help", d.help.clone())];
    let mut facts: Vec<(&str, String)> = match accuses_the_tree(&d.advice) {
        true => because.chain(answer).collect(),
        false => answer.into_iter().chain(because).collect(),
    };
    facts.push(("buffer", extent(d, &explained.buffers)));
    let history = d.history.iter().map(|step| Step {
        at: step.at,
        what: in_words(step),
        chain: match &step.who {
            Party::Cpu { place, .. } => fold::chain(place).into_iter().map(frame).collect(),
            _ => Vec::new(),
        },
    });
    Article {
        identity: identity(explained),
        topic: d.topic(),
        level: match d.class {
            Class::Error => "error",
            Class::StaleCopy => "note",
        },
        is_latent: !d.manifested && d.class == Class::Error,
        headline: headline(d, f),
        facts,
        history: history.collect(),
        also: shown.consequences.iter().map(in_short).collect(),
        replay: replay.to_owned(),
        ..Article::default()
    }
}

/// Rule, advice, and who takes part.
fn identity(explained: &Explained) -> String {
    let (d, f) = (&explained.diagnostic, &explained.finding);
    let who = |party: &Party| match party {
        Party::Unknown => String::new(),
        Party::Cpu { place, .. } => place.function(),
        Party::Device { master, .. } => master.clone(),
    };
    let (writer, reader) = (who(&f.writer), who(&f.reader));
    [
        d.topic(),
        &d.advice,
        &f.missing,
        &f.master,
        &writer,
        &reader,
    ]
    .join("\n")
}

fn frame(line: ChainLine) -> Frame {
    match line {
        ChainLine::Folded { count, of } => Frame {
            name: format!("{count} more of {of}"),
            folded: true,
            ..Frame::default()
        },
        ChainLine::Function {
            name,
            place,
            driver,
            text,
            ..
        } => Frame {
            name,
            place: place.unwrap_or_default(),
            driver,
            folded: false,
            text: text.unwrap_or_default(),
        },
    }
}
