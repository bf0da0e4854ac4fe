// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A page for people, one file that refers to nothing else: what was found, what happened to the lines, by whose
//! code, and what maintenance cost.

pub mod article;
mod axis;
pub mod costs;
pub mod figure;
pub mod lanes;
pub mod page;
pub mod source;

use std::io;
use std::path::PathBuf;

use staleline_devices::coherency::SnoopWrite;

use super::{Reporter, RunEvent};
use page::Page;
use source::Source;

/// Writes a run's page when it is over.
pub struct Html {
    file: PathBuf,
    log: PathBuf,
    description: String,
    snoop_write: SnoopWrite,
}

impl Html {
    /// To `file`, of the run whose log is at `log`. `snoop_write`: what a write that snoops does on its board.
    pub fn new(file: PathBuf, log: PathBuf, snoop_write: SnoopWrite) -> Self {
        Html {
            file,
            log,
            description: String::new(),
            snoop_write,
        }
    }
}

impl Reporter for Html {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        match event {
            RunEvent::RunStarted { description, .. } => {
                self.description.clone_from(description);
                Ok(())
            }
            RunEvent::Finished { result, .. } => {
                let source = Source::of(&self.log, self.snoop_write);
                let page = Page::of_run(result, &self.description, &source);
                page.write(&self.file)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
