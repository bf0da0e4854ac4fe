// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Evidence as the log of a run holds it, in the order in which it was found.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use staleline_events::{Assembly, LogError, Reader, Tag, append_long};
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
    /// The user interrupted it.
    Interrupted,
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

/// What tells the last of the runner's steps from the others.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Step {
    Finished,
    #[serde(other)]
    Other,
}

/// Passes all that a log holds on to `to`, in order.
///
/// # Errors
/// [`LogError`]; one that lacks the runner's last step is cut short, too, be its frames whole.
pub fn read(log: &Path, mut to: impl FnMut(Evidence)) -> Result<(), LogError> {
    let log = BufReader::with_capacity(1 << 16, File::open(log)?);
    let mut assembly = Assembly::default();
    let mut records = 0;
    let mut is_over = false;
    for frame in Reader::new(log)? {
        let frame = frame?;
        records += u64::from(frame.records);
        if frame.tag == Tag::RUN {
            is_over |= matches!(serde_json::from_slice(&frame.payload), Ok(Step::Finished));
        }
        if let Some(document) = assembly.take(&frame)? {
            let document = BufReader::with_capacity(1 << 16, document);
            let evidence = serde_json::from_reader(document);
            to(evidence.map_err(|e| LogError::Record(e.to_string()))?);
        }
    }
    if assembly.is_partial() || !is_over {
        return Err(LogError::CutShort { records });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Also where it ends between two frames of one document.
    #[test]
    fn a_log_that_ends_within_a_document_is_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.bin");
        let mut log = File::create_new(&path).unwrap();
        staleline_events::begin(&mut log).unwrap();
        append(&mut log, &Evidence::Trouble("first".into())).unwrap();
        let first = log.metadata().unwrap().len();
        // What does not shrink takes several frames.
        let mut state = 1u32;
        let long = (0..1 << 21).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'0' + (state >> 24) as u8 % 64)
        });
        let long = long.collect();
        append(&mut log, &Evidence::Trouble(long)).unwrap();
        let mut bytes = Vec::new();
        File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        let frames = Reader::new(&bytes[..]).unwrap();
        let last = frames.map(Result::unwrap).last().unwrap().payload.len();
        assert!(last + 64 < bytes.len() - first as usize, "it is one frame");

        let before_last = bytes.len() - last;
        for cut in before_last - 64..before_last {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let mut seen = 0;
            let ends = read(&path, |_| seen += 1);
            assert!(
                matches!(ends, Err(LogError::CutShort { .. })),
                "{cut}: {ends:?}"
            );
            assert_eq!(seen, 1);
        }
    }

    #[test]
    fn a_log_without_the_runners_last_step_is_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.bin");
        let mut log = File::create_new(&path).unwrap();
        staleline_events::begin(&mut log).unwrap();
        append(&mut log, &Evidence::Interrupted).unwrap();
        let step = |log: &mut File, event: &str| {
            let json = serde_json::json!({ "event": event, "verdict": "fail" }).to_string();
            staleline_events::append(log, Tag::RUN, 1, json.as_bytes()).unwrap();
        };
        let ends = || read(&path, |_| ());
        step(&mut log, "data");
        assert!(matches!(ends(), Err(LogError::CutShort { records: 1 })));
        step(&mut log, "finished");
        ends().unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(ends(), Err(LogError::CutShort { records: 1 })));
    }
}
