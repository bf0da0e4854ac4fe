// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A checked stack for people: a line per patch, and below it what is wrong, as a compiler
//! would say it.

use std::fmt::{self, Display, Formatter};

use super::{Checker, Complaint, PatchCheck, StackCheck};

impl Display for StackCheck {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for patch in &self.patches {
            patch.fmt(f)?;
        }
        let complaints = self.complaints();
        write!(
            f,
            "{}: {}, {}, on {}",
            self.name,
            counted(self.patches.len(), "patch", "patches"),
            counted(complaints, "complaint", "complaints"),
            self.source
        )?;
        if complaints > 0 {
            write!(f, "; the log is {}", self.log.display())?;
        }
        writeln!(f)
    }
}

impl Display for PatchCheck {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let verdict = match (self.applies, self.complaints.is_empty()) {
            (true, true) => "ok    ",
            (false, true) => "-     ",
            (_, false) => "wrong ",
        };
        write!(f, "{verdict}{}", self.patch)?;
        if self.applies {
            write!(
                f,
                ": applies, checkpatch.pl, {} with W=1 and sparse",
                counted(self.compiled.len(), "file", "files")
            )?;
            if !self.documented.is_empty() {
                let headers = counted(self.documented.len(), "header", "headers");
                write!(f, ", kernel-doc of {headers}")?;
            }
        }
        writeln!(f)?;
        for complaint in &self.complaints {
            complaint.fmt(f)?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        Ok(())
    }
}

impl Display for Complaint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "  {}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        let text = self.text.replace('\n', "\n    ");
        write!(f, ": {}: {text}", self.level.name())?;
        match (self.by, &self.kind) {
            (Checker::Checkpatch, Some(kind)) => write!(f, " [checkpatch {kind}]")?,
            (Checker::KernelDoc, _) => write!(f, " [kernel-doc]")?,
            _ => {}
        }
        writeln!(f)
    }
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
