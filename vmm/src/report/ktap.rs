// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! KTAP version 1 (Documentation/dev-tools/ktap.rst).

use std::io::{self, Write};

use super::cases::{Case, Status, of};
use super::{Reporter, RunEvent};

/// Writes a run as KTAP when it is over.
pub struct Ktap<W>(pub W);

impl<W: Write> Reporter for Ktap<W> {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        if let RunEvent::Finished { result, .. } = event {
            write(&mut self.0, &of(result), "")?;
        }
        self.0.flush()
    }
}

/// Writes a plan and one result a case; `indent` is two spaces for each level of nesting.
///
/// # Errors
/// Those of the output.
pub fn write(out: &mut dyn Write, cases: &[Case], indent: &str) -> io::Result<()> {
    writeln!(out, "{indent}KTAP version 1")?;
    writeln!(out, "{indent}1..{}", cases.len())?;
    for (i, case) in cases.iter().enumerate() {
        for line in &case.details {
            writeln!(out, "{indent}# {line}")?;
        }
        result(out, i + 1, case, indent)?;
    }
    Ok(())
}

/// Writes one result line.
///
/// # Errors
/// Those of the output.
pub fn result(out: &mut dyn Write, number: usize, case: &Case, indent: &str) -> io::Result<()> {
    let (ok, directive) = match case.status {
        Status::Passed => ("ok", ""),
        Status::Failed => ("not ok", ""),
        Status::Error => ("not ok", " # ERROR"),
        Status::Skipped => ("ok", " # SKIP"),
    };
    // A hash in a name would read as a directive.
    let name = case.name.replace('#', "_");
    writeln!(out, "{indent}{ok} {number} {name}{directive}")
}
