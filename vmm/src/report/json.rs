// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! JSON: the event stream, one object a line, or the result alone.

use std::io::{self, Write};

use super::{Reporter, RunEvent};

/// Writes every event as one line.
pub struct Lines<W>(pub W);

impl<W: Write> Reporter for Lines<W> {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, event)?;
        self.0.write_all(b"\n")?;
        self.0.flush()
    }
}

/// Writes the result when it is there.
pub struct Final<W>(pub W);

impl<W: Write> Reporter for Final<W> {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        if let RunEvent::Finished { result, .. } = event {
            serde_json::to_writer_pretty(&mut self.0, result)?;
            self.0.write_all(b"\n")?;
        }
        self.0.flush()
    }
}
