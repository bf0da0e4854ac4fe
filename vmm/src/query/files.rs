// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A run's files.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use staleline_events::LogError;
use staleline_protocol::report::Report;
use staleline_results::{Buffer, RunResult};

use crate::events::EventReader;
use crate::evidence::console::Console;
use crate::exit::Error;
use crate::run::directory;

/// A log and what lies beside it.
pub struct Run {
    log: PathBuf,
    /// The directory it is in.
    dir: PathBuf,
    /// If the run has got so far.
    pub result: Option<RunResult>,
}

impl Run {
    /// The run in a directory, or the one of a log.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let log = directory::log_of(path)?;
        let dir = log.parent().map(Path::to_owned).unwrap_or_default();
        let result = directory::read_json(&dir, directory::RESULT).ok();
        Ok(Run { log, dir, result })
    }

    /// All that is in the log.
    pub fn entries(&self) -> Result<EventReader<BufReader<File>>, LogError> {
        let file = File::open(&self.log)?;
        EventReader::new(BufReader::with_capacity(1 << 16, file))
    }

    /// For an error of [`Run::entries`].
    pub fn unreadable(&self, source: LogError) -> Error {
        Error::Log {
            path: self.log.clone(),
            source,
        }
    }

    /// The DMABUFs, by what the result says.
    pub fn buffers(&self) -> &[Buffer] {
        self.result.as_ref().map_or(&[], |r| &r.buffers)
    }

    /// What the agent has told.
    pub fn reports(&self) -> Vec<Report> {
        let console = Console::read(&self.dir.join(directory::CONSOLE));
        console.unwrap_or_default().reports
    }
}
