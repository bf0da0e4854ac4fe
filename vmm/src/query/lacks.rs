// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a log does not hold of what is asked for: silence would say that it did not happen.

use staleline_devices::events::{Kind, Kinds};
use staleline_events::Ended;

use super::files::Run;
use super::survey::Survey;
use super::{Query, Wanted};
use crate::events::Filter;
use crate::exit::Error;
use crate::names;

/// Kinds that tell of no memory.
const OF_NO_MEMORY: [Kind; 2] = [Kind::Interrupt, Kind::Wait];

/// All of it, a sentence each.
pub fn of(query: &Query, run: &Run, survey: &Survey) -> Vec<String> {
    let mut lacks = Vec::new();
    lacks.extend(address(query, survey));
    lacks.extend(kinds(query, run, survey));
    lacks.extend(survey.ended.as_ref().and_then(end));
    let stopped = match (survey.has_machine && survey.ended.is_none(), survey.is_over) {
        (true, _) => Some("the log of the machine has no end"),
        (false, false) => Some("the log has no end"),
        (false, true) => None,
    };
    lacks.extend(stopped.map(|what| {
        format!("{what}: the run was stopped, or is still going on; what came later is not in it")
    }));
    lacks
}

/// Refuses a line where there is no memory: nothing can have happened to it.
///
/// # Errors
/// [`Error::Option`].
pub fn check_line(query: &Query, run: &Run) -> Result<(), Error> {
    let (Some(line), Some(ram)) = (query.line, run.ram()) else {
        return Ok(());
    };
    if ram.iter().any(|ram| ram.contains(&line)) {
        return Ok(());
    }
    let ram = ram.iter();
    let ram = ram.map(|ram| format!("from {:#x} to {:#x}", ram.start, ram.end - 1));
    Err(Error::Option {
        option: format!("--line {line:#x}"),
        why: format!(
            "there is no RAM at that address; RAM is {}",
            ram.collect::<Vec<_>>().join(" and ")
        ),
    })
}

/// Where there is nothing to tell of.
fn address(query: &Query, survey: &Survey) -> Option<String> {
    let line = query.line?;
    let index = query.buffer.filter(|_| survey.selection.is_nowhere())?;
    Some(format!(
        "--line {line:#x}: this line is not part of DMABUF {index}"
    ))
}

/// Kinds that were not kept.
fn kinds(query: &Query, run: &Run, survey: &Survey) -> Option<String> {
    if !query.wants_events() {
        return None;
    }
    // A machine that keeps nothing has no part in the log.
    let kept = match survey.has_machine {
        true => survey.head.filter,
        false => run.filter()?,
    };
    if kept.0.is_empty() {
        let keep = match query.named().is_empty() {
            true => Filter::default(),
            false => Filter(query.named()),
        };
        return Some(format!(
            "the run kept no events of the machine (--log off): do it again with {}",
            options(&keep.to_string(), keep)
        ));
    }
    if !survey.has_machine {
        let why = "the run ended before there was a machine";
        return survey
            .is_over
            .then(|| format!("no events of a machine are in the log: {why}"));
    }
    let named = query.named();
    let asked = match (named.is_empty(), query.is_of_memory()) {
        (false, _) => named,
        // The life of memory is told by all of these.
        (true, true) => {
            let kinds = Filter::default().0.iter();
            kinds.filter(|kind| !OF_NO_MEMORY.contains(kind)).collect()
        }
        (true, false) => Kinds::NONE,
    };
    let missing: Vec<Kind> = asked
        .iter()
        .filter(|kind| !kept.0.contains(*kind))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let all = Filter(kept.0.iter().chain(missing.iter().copied()).collect());
    let missing: Vec<String> = missing.iter().map(names::name).collect();
    let more = match named.is_empty() {
        true => "default".to_owned(),
        false => missing.join(","),
    };
    Some(format!(
        "the run did not keep events of these kinds: {}; do it again with {}",
        missing.join(", "),
        options(&format!("{kept},{more}"), all)
    ))
}

/// How to ask for that much, or for more.
fn options(value: &str, filter: Filter) -> String {
    let all = "--log all";
    match filter.to_string() == "all" {
        true => all.to_owned(),
        false => format!("--log {value}, or {all}"),
    }
}

/// What a log lacks, by how it ended.
fn end(ended: &Ended) -> Option<String> {
    if let Some(trouble) = &ended.trouble {
        return Some(format!("the log is not complete: {trouble}"));
    }
    let at = ended.full_at?;
    Some(format!(
        "the log is full from @{at} on, and lacks {} events: run with a larger log.limit-mib, or keep \
         fewer kinds with --log",
        ended.lost
    ))
}

impl Query {
    /// The kinds of events that are asked for by name.
    fn named(&self) -> Kinds {
        let events = self.kinds.iter().filter_map(|kind| match kind {
            Wanted::Event(kind) => Some(*kind),
            Wanted::Run => None,
        });
        events.collect()
    }
}

#[cfg(test)]
#[path = "lacks_tests.rs"]
mod tests;
