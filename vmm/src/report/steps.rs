// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The runner's steps, as records of the run's log.

use std::io::{self, Write};

use staleline_events::{Tag, append, begin};

use super::{Reporter, RunEvent};

/// Appends every event to a log, but for what the log has otherwise.
pub struct Steps<W>(W);

impl<W: Write> Steps<W> {
    /// Begins a log. `out` buffers nothing: between two steps, a machine may append to it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn begin(mut out: W) -> io::Result<Self> {
        begin(&mut out)?;
        Ok(Steps(out))
    }
}

impl<W: Write> Reporter for Steps<W> {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        // That is in the console's text.
        if matches!(event, RunEvent::Output { .. }) {
            return Ok(());
        }
        let json = serde_json::to_vec(event)?;
        append(&mut self.0, Tag::RUN, 1, &json)
    }
}

/// The steps in a log, one a line.
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "this is for tests")]
pub fn lines(log: &[u8]) -> String {
    let frames = staleline_events::Reader::new(log).unwrap();
    let steps = frames.map(|frame| String::from_utf8(frame.unwrap().payload).unwrap() + "\n");
    steps.collect()
}
