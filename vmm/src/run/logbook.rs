// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The run's log, from its beginning to what is made of it.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use staleline_events::{Ended, Found, Reader, Tag, append, settle as settled};
use staleline_results::Log;
use staleline_support::files;

use super::directory::{self, RunDir};
use crate::events::{LogSettings, Recording};
use crate::exit::Error;
use crate::report::{Reporter, Reporters, RunEvent, junit, steps};

/// The reporters whose output is in the run's directory; the log among them.
///
/// # Errors
/// [`Error::Output`].
pub fn files(dir: &RunDir) -> Result<Reporters<'static>, Error> {
    let mut reporters = Reporters::default();
    let log = create(dir.file(directory::LOG), steps::Steps::begin)?;
    reporters.add(directory::LOG, log);
    reporters.add(directory::JUNIT, JunitFile(dir.file(directory::JUNIT)));
    Ok(reporters)
}

/// JUnit XML, in a file that is whole once it is there.
struct JunitFile(PathBuf);

impl Reporter for JunitFile {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        let mut text = Vec::new();
        junit::Junit(&mut text).event(event)?;
        match text.is_empty() {
            true => Ok(()),
            false => files::write_whole(&self.0, &text, files::READABLE),
        }
    }
}

fn create<T>(path: PathBuf, begin: impl FnOnce(File) -> io::Result<T>) -> Result<T, Error> {
    let mut options = File::options();
    // The machine appends to the log, too.
    let file = options.create(true).append(true).open(&path);
    file.and_then(begin)
        .map_err(|source| Error::Output { path, source })
}

/// What the machine is to record; none if nothing, or if the run writes no log.
pub fn recording(settings: &LogSettings, dir: &RunDir) -> Option<Recording> {
    let path = dir.file(directory::LOG);
    let wanted = !settings.filter.0.is_empty() && path.is_file();
    // The engine may work elsewhere.
    let path = wanted.then(|| path.canonicalize().ok())??;
    Some(Recording {
        path,
        filter: settings.filter,
        limit: settings.limit(),
    })
}

/// The machine has ended, or was stopped: what it has left in the log.
///
/// # Errors
/// [`Error::Host`].
pub fn settle(recording: &Recording) -> Result<Log, Error> {
    let path = &recording.path;
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::host(format!("cannot go on with {}", path.display()), e)
    };
    let mut options = File::options();
    let mut file = options
        .read(true)
        .append(true)
        .open(path)
        .map_err(|e| failed(e.into()))?;
    let found = settled(&mut file).map_err(|e| failed(e.into()))?;
    let Found {
        records,
        bytes,
        ended,
    } = found;
    let ended = match ended {
        Some(ended) => ended,
        None => {
            let ended = Ended {
                records,
                bytes,
                trouble: Some(format!(
                    "the machine was stopped, and the log is cut short after {records} events"
                )),
                ..Ended::default()
            };
            let json = serde_json::to_vec(&ended).map_err(|e| failed(e.into()))?;
            append(&mut file, Tag::END, 0, &json).map_err(|e| failed(e.into()))?;
            ended
        }
    };
    Ok(Log {
        filter: recording.filter.names(),
        limit: recording.limit,
        bytes,
        records,
        complete: ended.is_complete(),
        lost: ended.lost,
        full_at: ended.full_at,
        trouble: ended.trouble,
    })
}

/// Writes the runner's steps in the log as lines, for those that read JSON. A run without a log has
/// none.
///
/// # Errors
/// [`Error::Host`].
pub fn export(dir: &RunDir) -> Result<(), Error> {
    let (from, to) = (dir.file(directory::LOG), dir.file(directory::EVENTS));
    match export_lines(&from, &to) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::host(
            format!("cannot write {} from {}", to.display(), from.display()),
            e,
        )),
        Ok(()) => Ok(()),
    }
}

fn export_lines(from: &Path, to: &Path) -> io::Result<()> {
    let reader = BufReader::with_capacity(1 << 16, File::open(from)?);
    let mut out = Vec::new();
    for frame in Reader::new(reader).map_err(io::Error::other)? {
        let frame = frame.map_err(io::Error::other)?;
        if frame.tag == Tag::RUN {
            out.write_all(&frame.payload)?;
            out.write_all(b"\n")?;
        }
    }
    files::write_whole(to, &out, files::READABLE)
}

#[cfg(test)]
mod tests {
    use staleline_events::{Block, begin};

    use super::*;

    fn step(reporters: &mut Reporters<'_>, what: &str) {
        let step = RunEvent::Step { what: what.into() };
        reporters.event(&step).unwrap();
    }

    #[test]
    fn a_machine_that_was_stopped_leaves_what_it_wrote_and_the_run_goes_on() {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::create(root.path()).unwrap();
        let mut reporters = files(&dir).unwrap();
        step(&mut reporters, "before");
        let recording = recording(&LogSettings::default(), &dir).unwrap();
        // A machine that is killed while it writes its second block.
        let mut block = Block::default();
        (0..3).for_each(|n| block.push(n, &n).unwrap());
        let (records, payload) = block.payload();
        let path = dir.file(directory::LOG);
        let mut file = File::options().append(true).open(&path).unwrap();
        append(&mut file, Tag::RECORDS, records, payload).unwrap();
        let mut part = Vec::new();
        append(&mut part, Tag::RECORDS, records, payload).unwrap();
        file.write_all(&part[..part.len() - 1]).unwrap();

        let log = settle(&recording).unwrap();
        assert_eq!((log.records, log.complete), (3, false));
        let lacks = log.lacks().unwrap();
        assert!(
            lacks.ends_with("the log is cut short after 3 events"),
            "{lacks}"
        );
        step(&mut reporters, "after");
        export(&dir).unwrap();
        let steps = std::fs::read_to_string(dir.file(directory::EVENTS)).unwrap();
        let steps: Vec<_> = steps.lines().collect();
        assert_eq!(
            steps,
            [
                r#"{"event":"step","what":"before"}"#,
                r#"{"event":"step","what":"after"}"#
            ]
        );
    }

    #[test]
    fn nothing_is_recorded_where_nobody_wants_it() {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::create(root.path()).unwrap();
        // No log was begun.
        assert_eq!(recording(&LogSettings::default(), &dir), None);
        export(&dir).unwrap();
        begin(&mut File::create(dir.file(directory::LOG)).unwrap()).unwrap();
        let off = LogSettings {
            filter: "off".parse().unwrap(),
            ..LogSettings::default()
        };
        assert_eq!(recording(&off, &dir), None);
        assert!(recording(&LogSettings::default(), &dir).is_some());
    }
}
