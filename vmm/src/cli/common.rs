// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What commands have in common: signals, progress, and what they say.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;

use staleline_support::progress::Stderr;
use staleline_support::text;

use super::attend;
use crate::engine::Attendance;
use crate::exit::{self, Error};
use crate::interrupt::Interrupt;
use crate::report::html::page;

/// Signals are asked for from now on.
pub(super) fn watched() -> Result<Interrupt, Error> {
    Interrupt::of_this_process(exit::interrupted)
        .map_err(|e| Error::host("cannot watch for signals", e))
}

/// Guests at a time: as many as are asked for, else one for each processor.
pub(super) fn at_a_time(jobs: Option<u16>) -> usize {
    match jobs {
        Some(jobs) => usize::from(jobs),
        None => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
    }
}

/// Progress of what ends when the user wants no more.
pub(super) fn shown(interrupt: &Interrupt) -> Stderr {
    attend::shown(Attendance::default(), interrupt)
}

/// The exit code: that the user wanted no more goes before all.
pub(super) fn code(interrupt: &Interrupt, otherwise: u8) -> u8 {
    interrupt.signal().map_or(otherwise, exit::interrupted)
}

/// What may have failed because the user wanted no more: then there is nothing to go on with but the exit code.
pub(super) fn or_interrupted<T>(
    interrupt: &Interrupt,
    outcome: Result<T, Error>,
) -> Result<ControlFlow<u8, T>, Error> {
    match (interrupt.signal(), outcome) {
        (Some(signal), Err(e)) => {
            say(&format!("interrupted: {}", e.chain()));
            Ok(ControlFlow::Break(exit::interrupted(signal)))
        }
        (_, outcome) => outcome.map(ControlFlow::Continue),
    }
}

/// An exit code of what may have failed because the user wanted no more.
pub(super) fn unless_interrupted(
    interrupt: &Interrupt,
    outcome: Result<u8, Error>,
) -> Result<u8, Error> {
    or_interrupted(interrupt, outcome).map(|came| match came {
        ControlFlow::Break(interrupted) => interrupted,
        ControlFlow::Continue(otherwise) => code(interrupt, otherwise),
    })
}

/// The page that is to be written, if one is: looked at before anything is run.
pub(super) fn page(file: Option<&Path>) -> Result<Option<&Path>, Error> {
    if let Some(file) = file {
        page::check(file)?;
    }
    Ok(file)
}

pub(super) fn print(text: &str) -> Result<(), Error> {
    written("stdout", anstream::stdout().write_all(text.as_bytes()))
}

pub(super) fn print_json<T: serde::Serialize>(value: &T) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value);
    print(&format!(
        "{}\n",
        text.map_err(|e| Error::host("cannot write JSON", e))?
    ))
}

pub(super) fn written(what: &str, result: io::Result<()>) -> Result<(), Error> {
    match result {
        // Who reads our output may stop to.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::host(format!("cannot write to {what}"), e))
        }
        _ => Ok(()),
    }
}

pub(super) fn say(text: &str) {
    // A closed stderr is no reason to fail.
    let _ = writeln!(io::stderr(), "staleline: {}", text::visible(text));
}
