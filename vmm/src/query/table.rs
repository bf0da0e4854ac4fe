// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Events as a table for people: one line each.

use std::io::{self, Write};

use staleline_devices::coherency::LINE;
use staleline_devices::coherency::hazard::Actor;
use staleline_devices::cpu::SiteId;
use staleline_support::text;

use super::context::Context;
use super::survey::{Before, Survey};
use super::{Form, Query, words};
use crate::events::{Entry, Item};

/// The table.
pub struct Table {
    begun: bool,
    /// What comes before the first event of the line asked for.
    before: Option<Before>,
}

/// One line of it.
#[derive(Default)]
struct Row {
    sequence: Option<u64>,
    at: Option<u64>,
    who: String,
    range: Option<(u64, u64)>,
    what: String,
    site: Option<SiteId>,
}

impl Table {
    pub fn new(query: &Query, survey: &Survey) -> Self {
        // Of one line only: of several, each had its own past.
        let one = query.line.is_some() && query.kinds.is_empty();
        let before = survey
            .before
            .filter(|before| one && query.is_within(before.at));
        Table {
            begun: false,
            before,
        }
    }

    fn row(&mut self, out: &mut dyn Write, context: &Context<'_>, row: &Row) -> io::Result<()> {
        if !self.begun {
            self.begun = true;
            writeln!(
                out,
                "{:>8} {:>10}  {:<14} {:<19} {:<11} what",
                "record", "time", "who", "address", "DMABUF"
            )?;
        }
        let number = |n: Option<u64>, mark: &str| n.map_or(String::new(), |n| format!("{mark}{n}"));
        let range = row.range.map(|(pa, len)| format!("{pa:#x}+{len}"));
        let buffer = row.range.and_then(|(pa, _)| context.buffer(pa));
        let buffer = buffer.map(|(index, offset)| format!("{index}+{offset:#x}"));
        write!(
            out,
            "{:>8} {:>10}  {:<14} {:<19} {:<11} {}",
            number(row.sequence, ""),
            number(row.at, "@"),
            row.who,
            range.unwrap_or_default(),
            buffer.unwrap_or_default(),
            row.what
        )?;
        match row.site.and_then(|site| context.place(site)) {
            Some(place) => writeln!(out, "; {place}"),
            None => writeln!(out),
        }
    }

    /// What the line was before events tell of it, when the time has come.
    fn past(&mut self, out: &mut dyn Write, context: &Context<'_>, at: u64) -> io::Result<()> {
        let Some(before) = self.before.filter(|before| before.at <= at) else {
            return Ok(());
        };
        self.before = None;
        let row = Row {
            at: Some(before.at),
            who: context.actor(&before.by),
            range: Some((before.pa, LINE)),
            what: "brought into the cache, or written there (as known when DMA began)".into(),
            site: match before.by {
                Actor::Cpu { site, .. } => Some(site),
                Actor::Unknown | Actor::Device { .. } => None,
            },
            ..Row::default()
        };
        self.row(out, context, &row)
    }
}

impl Form for Table {
    fn entry(
        &mut self,
        out: &mut dyn Write,
        context: &Context<'_>,
        entry: &Entry,
    ) -> io::Result<()> {
        let row = match &entry.item {
            Item::Event(event) => {
                self.past(out, context, entry.at)?;
                Row {
                    sequence: Some(entry.sequence),
                    at: Some(entry.at),
                    who: words::who(event, context),
                    range: words::address(event),
                    what: words::what(event, context),
                    site: words::site(event),
                }
            }
            Item::Run(json) => Row {
                sequence: Some(entry.sequence),
                who: "staleline".into(),
                what: step(json),
                ..Row::default()
            },
            Item::Full => Row {
                at: Some(entry.at),
                who: "log".into(),
                what: "is full: of what follows, only findings were kept".into(),
                ..Row::default()
            },
            Item::Machine(_) | Item::End(_) => return Ok(()),
        };
        self.row(out, context, &row)
    }
}

/// A step of the runner in words: its name, and what it says about itself in a word or two.
fn step(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let field = |key: &str| Some(text::plain(value.get(key)?.as_str()?));
    let name = field("event").unwrap_or_else(|| "step".into());
    match ["what", "replay", "verdict"].into_iter().find_map(field) {
        Some(more) => format!("{name}: {more}"),
        None => name,
    }
}
