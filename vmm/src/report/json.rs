// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! JSON: the result alone.

use std::io::{self, Write};

use super::{Reporter, RunEvent};

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
