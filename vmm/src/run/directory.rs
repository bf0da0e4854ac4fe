// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The directory a run writes: `run.json`, `result.json`, `events.bin`, `events.jsonl`, `console.log`,
//! `junit.xml`.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use staleline_support::files;
use staleline_support::lock::Lock;

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
/// For a debugger: how it comes to the guest.
pub const DEBUGGER: &str = "staleline.gdb";
/// Of the smallest run that fails in one way: the scenario,
pub const SCENARIO: &str = "scenario.toml";
/// what was told of its findings,
pub const DIAGNOSTIC: &str = "diagnostic.txt";
/// and the command that does it.
pub const COMMAND: &str = "command";
/// Where a pilot run's files go.
pub const PILOT: &str = "pilot";
/// Where a tracing pass's files go while it lasts.
pub const TRACE: &str = "trace";
/// Where the engine leaves files of its own.
pub const ENGINE: &str = "engine";

/// Where runs go if nothing else is said.
pub const DEFAULT_ROOT: &str = "runs";

/// Bytes of a JSON file of an earlier run: a result has less than 64 MiB (SPECIFICATION.md).
const MAX_BYTES: u64 = 256 << 20;

/// Runs of one name in one place.
const MAX_NUMBER: u32 = 1_000_000;

/// What a run writes there.
pub const FILES: [&str; 10] = [
    SPEC, RESULT, LOG, EVENTS, CONSOLE, JUNIT, DEBUGGER, SCENARIO, DIAGNOSTIC, COMMAND,
];
/// And where the engine works meanwhile.
pub const DIRECTORIES: [&str; 3] = [PILOT, TRACE, ENGINE];

/// A run's own directory, which no other run takes as long as this lives.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
    /// It was not there before.
    made: bool,
    _lock: Arc<Lock>,
}

impl RunDir {
    /// Takes `path`, which must be new or empty.
    ///
    /// # Errors
    /// [`Error::OutputExists`], [`Error::OutputTaken`], [`Error::OutputBusy`], [`Error::Output`].
    pub fn create(path: &Path) -> Result<Self, Error> {
        let dir = Self::take(path)?;
        match look(path)? {
            Holds::Nothing => dir.begin(),
            Holds::Run => Err(Error::OutputExists {
                path: path.to_owned(),
            }),
            Holds::Other => Err(Error::OutputTaken {
                path: path.to_owned(),
            }),
        }
    }

    /// Takes the directory that the user has named, over an earlier run if it is to be replaced, or the next free one
    /// below a directory for runs of that name.
    ///
    /// # Errors
    /// As [`create_next`], [`RunDir::create`] and [`RunDir::replace`].
    pub fn choose(
        named: Option<&Path>,
        replace: bool,
        (root, name): (&Path, &str),
    ) -> Result<Self, Error> {
        match named {
            Some(path) if replace => Self::replace(path),
            Some(path) => Self::create(path),
            None => Self::next(root, name),
        }
    }

    /// Takes the next free directory below `root` for runs of that name.
    ///
    /// # Errors
    /// As [`create_next`] and [`RunDir::create`].
    pub fn next(root: &Path, name: &str) -> Result<Self, Error> {
        let dir = Self::create(&create_next(root, name)?)?;
        Ok(RunDir { made: true, ..dir })
    }

    /// As [`RunDir::create`], but an earlier run may be there, whose files are removed.
    ///
    /// # Errors
    /// [`Error::OutputTaken`], [`Error::OutputBusy`], [`Error::Output`].
    pub fn replace(path: &Path) -> Result<Self, Error> {
        let dir = Self::take(path)?;
        if look(path)? == Holds::Other {
            return Err(Error::OutputTaken {
                path: path.to_owned(),
            });
        }
        let output = |source| Error::Output {
            path: path.to_owned(),
            source,
        };
        for old in FILES {
            match std::fs::remove_file(dir.file(old)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(output(e)),
                _ => {}
            }
        }
        for old in DIRECTORIES {
            match std::fs::remove_dir_all(dir.file(old)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(output(e)),
                _ => {}
            }
        }
        dir.begin()
    }

    fn take(path: &Path) -> Result<Self, Error> {
        let made = !path.exists();
        Ok(RunDir {
            path: path.to_owned(),
            made,
            _lock: Arc::new(lock(path)?),
        })
    }

    fn begin(self) -> Result<Self, Error> {
        // Find out now, not after the run, whether files can be made here.
        std::fs::write(self.file(EVENTS), "").map_err(|source| Error::Output {
            path: self.path.clone(),
            source,
        })?;
        Ok(self)
    }

    /// Leaves it as it was found, if there is nothing to write there after all.
    pub fn give_up(&self) {
        let empty = self
            .file(EVENTS)
            .metadata()
            .is_ok_and(|about| about.len() == 0);
        // Somebody who finds it empty has all that there is to know.
        if empty && std::fs::remove_file(self.file(EVENTS)).is_ok() && self.made {
            let _ = std::fs::remove_dir(&self.path);
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
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
        files::write_whole(&path, text.as_bytes(), files::READABLE).map_err(|e| fail(e.into()))
    }
}

/// Makes a directory for results and keeps others out of it.
///
/// # Errors
/// [`Error::OutputBusy`], [`Error::Output`].
pub fn lock(path: &Path) -> Result<Lock, Error> {
    std::fs::create_dir_all(path)
        .and_then(|()| Lock::alone(path))
        .map_err(|source| Error::Output {
            path: path.to_owned(),
            source,
        })?
        .ok_or_else(|| Error::OutputBusy {
            path: path.to_owned(),
        })
}

/// What is in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Nothing,
    /// A run, or what one has begun with.
    Run,
    Other,
}

fn look(path: &Path) -> Result<Holds, Error> {
    let output = |source| Error::Output {
        path: path.to_owned(),
        source,
    };
    let is_run = path.join(SPEC).is_file();
    let mut holds = Holds::Nothing;
    for entry in std::fs::read_dir(path).map_err(output)? {
        let name = entry.map_err(output)?.file_name();
        let mut ours = FILES.iter().chain(&DIRECTORIES);
        if !is_run && !ours.any(|o| name == **o) {
            return Ok(Holds::Other);
        }
        holds = Holds::Run;
    }
    Ok(holds)
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

/// Reads a file of at most so many bytes.
///
/// # Errors
/// Those of the file; that it is none, or is larger.
pub fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Only a file has an end for sure.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::other(format!("it has more than {most} bytes"))),
        false => Ok(bytes),
    }
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
    let bytes = read_bounded(&dir.join(name), MAX_BYTES)
        .map_err(|e| not_a_run(format!("cannot read {name}: {e}")))?;
    serde_json::from_slice(&bytes).map_err(|e| not_a_run(format!("{name} is not valid: {e}")))
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
    fn what_comes_to_nothing_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let next = RunDir::next(root.path(), "boot").unwrap();
        let (new, there) = (root.path().join("new"), root.path().join("there"));
        std::fs::create_dir(&there).unwrap();
        for dir in [
            next,
            RunDir::create(&new).unwrap(),
            RunDir::create(&there).unwrap(),
        ] {
            dir.give_up();
        }
        let left = |dir: &Path| std::fs::read_dir(dir).unwrap().count();
        assert!(!new.exists() && left(&there) == 0 && left(&root.path().join("boot")) == 0);
        let used = RunDir::create(&new).unwrap();
        used.write_json(RESULT, &1).unwrap();
        used.give_up();
        assert!(new.join(RESULT).exists());
    }

    #[test]
    fn an_earlier_run_is_replaced_if_that_is_meant() {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::create(root.path()).unwrap();
        dir.write_json(SPEC, &1).unwrap();
        dir.write_json(RESULT, &1).unwrap();
        std::fs::write(dir.file("notes"), "").unwrap();
        let second = RunDir::replace(root.path());
        assert!(matches!(second, Err(Error::OutputBusy { .. })));
        drop(dir);
        let refused = RunDir::create(root.path());
        assert!(matches!(refused, Err(Error::OutputExists { .. })));
        assert!(root.path().join(RESULT).exists());
        RunDir::replace(root.path()).unwrap();
        assert!(!root.path().join(RESULT).exists());
    }

    #[test]
    fn a_file_that_cannot_be_written_whole_is_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::create(root.path()).unwrap();
        dir.write_json(RESULT, &1).unwrap();
        std::fs::create_dir(dir.file(SPEC)).unwrap();
        assert!(matches!(dir.write_json(SPEC, &1), Err(Error::Host { .. })));
        let mut left: Vec<_> = std::fs::read_dir(root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, [EVENTS, RESULT, SPEC]);
    }
}
