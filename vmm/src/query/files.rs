// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a run has left: its log, and nothing else.

use std::cell::OnceCell;
use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::{Path, PathBuf};

use staleline_events::LogError;
use staleline_protocol::report::Report;
use staleline_results::{Buffer, RunResult};

use crate::board::Board;
use crate::events::{EventReader, Filter};
use crate::exit::Error;
use crate::result::fold::Fold;
use crate::run::directory;

/// A log, and what follows from its evidence. Files beside it may be gone, or of another run.
pub struct Run {
    log: PathBuf,
    /// None if the run is too old for that, or was stopped before there was any.
    evidence: Option<Fold>,
    result: OnceCell<Option<RunResult>>,
}

impl Run {
    /// The run in a directory, or the one of a log.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let log = directory::log_of(path)?;
        // What keeps it from being read to its end is told when the events are.
        let (evidence, _) = Fold::so_far(&log);
        Ok(Run {
            log,
            evidence,
            result: OnceCell::new(),
        })
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

    /// The result, as `staleline report` gives it: made when it is first asked for, as much has to be
    /// looked up for it.
    pub fn result(&self) -> Option<&RunResult> {
        let result = || self.evidence.as_ref().map(Fold::result);
        self.result.get_or_init(result).as_ref()
    }

    /// The DMABUFs, by what the result says.
    pub fn buffers(&self) -> &[Buffer] {
        self.result().map_or(&[], |r| &r.buffers)
    }

    /// What the agent has told.
    pub fn reports(&self) -> &[Report] {
        self.evidence.as_ref().map_or(&[], Fold::reports)
    }

    /// The kinds of events that were to be kept.
    pub fn filter(&self) -> Option<Filter> {
        Some(self.evidence.as_ref()?.spec().scenario.log.filter)
    }

    /// The guest's RAM.
    pub fn ram(&self) -> Option<Vec<Range<u64>>> {
        let board = &self.evidence.as_ref()?.spec().scenario.board;
        Some(Board::bare(board).ram())
    }
}
