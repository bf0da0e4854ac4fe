// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Evidence as the log of a run holds it, in the order in which it was found.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use staleline_events::{Assembly, LogError, Reader, append_long};
use staleline_results::{Dropped, Log, Tracing};

use super::console::ConsoleText;
use super::{Artifacts, Execution};
use crate::engine::chains::{Forgotten, TracedAccess};
use crate::spec::RunSpec;

/// One of the things that a result is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// What is to be run: the first of all.
    Spec(Box<RunSpec>),
    /// What the guest is made of.
    Guest(Box<Artifacts>),
    /// The maintenance operation that is going to be suppressed.
    Dropped(Dropped),
    /// What the guest said.
    Console(ConsoleText),
    /// How much of what happened on the machine this log holds.
    Log(Log),
    /// How the guest ended, and the machine's report.
    Ended(Box<Execution>),
    /// The same run was done again, for call chains.
    Traced(Traced),
    /// The run came to nothing, for this reason.
    Trouble(String),
}

/// What a second pass was good for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Traced {
    /// How it went.
    pub tracing: Tracing,
    /// The call chains, if it was the same run.
    pub accesses: Vec<TracedAccess>,
    /// Loads and stores that nobody looked for.
    pub forgotten: Option<Forgotten>,
}

/// Appends it to a log. Nobody else may be writing.
///
/// # Errors
/// Those of the file, and `FileTooLarge` beyond [`staleline_events::MAX_LONG`].
pub fn append(log: &mut File, evidence: &Evidence) -> io::Result<()> {
    append_long(log, |document| {
        let mut out = BufWriter::with_capacity(1 << 16, document);
        serde_json::to_writer(&mut out, evidence)?;
        out.flush()
    })
}

/// Passes all that a log holds on to `to`, in order.
///
/// # Errors
/// [`LogError`].
pub fn read(log: &Path, mut to: impl FnMut(Evidence)) -> Result<(), LogError> {
    let log = BufReader::with_capacity(1 << 16, File::open(log)?);
    let mut assembly = Assembly::default();
    for frame in Reader::new(log)? {
        if let Some(document) = assembly.take(&frame?)? {
            let document = BufReader::with_capacity(1 << 16, document);
            let evidence = serde_json::from_reader(document);
            to(evidence.map_err(|e| LogError::Record(e.to_string()))?);
        }
    }
    Ok(())
}
