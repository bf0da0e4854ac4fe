// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The directory a run writes: `run.json`, `result.json`, `events.bin`, `events.jsonl`, `console.log`,
//! `junit.xml`.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exit::Error;

/// The resolved run.
pub const SPEC: &str = "run.json";
/// The result.
pub const RESULT: &str = "result.json";
/// The log: the runner's steps, and what happened on the machine.
pub const LOG: &str = "events.bin";
/// Of the log, the runner's steps: one JSON object a line.
pub const EVENTS: &str = "events.jsonl";
/// The guest's console.
pub const CONSOLE: &str = "console.log";
/// The result for CI systems.
pub const JUNIT: &str = "junit.xml";
/// Where a pilot run's files go.
pub const PILOT: &str = "pilot";
/// Where a tracing pass's files go while it lasts.
pub const TRACE: &str = "trace";
/// Where the engine leaves files of its own.
pub const ENGINE: &str = "engine";

/// Where runs go if nothing else is said.
pub const DEFAULT_ROOT: &str = "runs";

/// Runs of one name in one place.
const MAX_NUMBER: u32 = 1_000_000;

/// A run's own directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Takes `path`, which must be new, empty, or an earlier run's.
    ///
    /// # Errors
    /// [`Error::OutputTaken`], [`Error::Output`].
    pub fn create(path: &Path) -> Result<Self, Error> {
        let output = |source| Error::Output {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(path).map_err(output)?;
        let ours = [
            SPEC, RESULT, LOG, EVENTS, CONSOLE, JUNIT, PILOT, TRACE, ENGINE,
        ];
        for entry in std::fs::read_dir(path).map_err(output)? {
            let name = entry.map_err(output)?.file_name();
            if !path.join(SPEC).is_file() && !ours.iter().any(|o| name == *o) {
                return Err(Error::OutputTaken {
                    path: path.to_owned(),
                });
            }
        }
        let dir = RunDir(path.to_owned());
        for old in [SPEC, RESULT, LOG, EVENTS, CONSOLE, JUNIT] {
            match std::fs::remove_file(dir.file(old)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(output(e)),
                _ => {}
            }
        }
        for old in [PILOT, TRACE, ENGINE] {
            match std::fs::remove_dir_all(dir.file(old)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(output(e)),
                _ => {}
            }
        }
        // Find out now, not after the run, whether files can be made here.
        std::fs::write(dir.file(EVENTS), "").map_err(output)?;
        Ok(dir)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes a directory in it.
    ///
    /// # Errors
    /// [`Error::Host`].
    pub fn subdirectory(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.file(name);
        std::fs::create_dir_all(&path)
            .map_err(|e| Error::host(format!("cannot make {}", path.display()), e))?;
        Ok(path)
    }

    /// Writes a JSON file.
    ///
    /// # Errors
    /// [`Error::Host`].
    pub fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        let path = self.file(name);
        let fail = |e: Box<dyn std::error::Error + Send + Sync>| {
            Error::host(format!("cannot write {}", path.display()), e)
        };
        let mut text = serde_json::to_string_pretty(value).map_err(|e| fail(e.into()))?;
        text.push('\n');
        std::fs::write(&path, text).map_err(|e| fail(e.into()))
    }
}

/// The log of a run, which is named by its directory or by the log itself.
///
/// # Errors
/// [`Error::NotARun`] if there is none.
pub fn log_of(run: &Path) -> Result<PathBuf, Error> {
    let log = match run.is_dir() {
        true => run.join(LOG),
        false => run.to_owned(),
    };
    if log.is_file() {
        return Ok(log);
    }
    Err(Error::NotARun {
        path: run.to_owned(),
        why: format!("there is no log ({LOG}) of a run"),
    })
}

/// Makes the next free directory `root/name/0001`, `0002`, ...
///
/// # Errors
/// [`Error::Output`].
pub fn create_next(root: &Path, name: &str) -> Result<PathBuf, Error> {
    let parent = root.join(name);
    let output = |source| Error::Output {
        path: parent.clone(),
        source,
    };
    std::fs::create_dir_all(&parent).map_err(output)?;
    for number in 1..MAX_NUMBER {
        let path = parent.join(format!("{number:04}"));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(output(e)),
        }
    }
    Err(output(io::Error::other("too many runs here")))
}

/// Reads a JSON file of an earlier run.
///
/// # Errors
/// [`Error::NotARun`].
pub fn read_json<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<T, Error> {
    let not_a_run = |why: String| Error::NotARun {
        path: dir.to_owned(),
        why,
    };
    let text = std::fs::read_to_string(dir.join(name))
        .map_err(|e| not_a_run(format!("cannot read {name}: {e}")))?;
    serde_json::from_str(&text).map_err(|e| not_a_run(format!("{name} is not valid: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_up_and_foreign_directories_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let a = create_next(root.path(), "boot").unwrap();
        let b = create_next(root.path(), "boot").unwrap();
        assert!(a.ends_with("boot/0001") && b.ends_with("boot/0002"));
        RunDir::create(&a).unwrap();

        let foreign = root.path().join("home");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("thesis.tex"), "x").unwrap();
        assert!(matches!(
            RunDir::create(&foreign),
            Err(Error::OutputTaken { .. })
        ));
    }

    #[test]
    fn an_earlier_run_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::create(root.path()).unwrap();
        dir.write_json(SPEC, &1).unwrap();
        dir.write_json(RESULT, &1).unwrap();
        RunDir::create(root.path()).unwrap();
        assert!(!root.path().join(RESULT).exists());
    }
}
