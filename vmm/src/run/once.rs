// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A guest that is run and judged in memory, as one of many: no directory is left of it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use staleline_support::lock::Lock;
use tempfile::TempDir;

use super::backend::{Attempt, Backend};
use super::directory;
use crate::engine::Snapshot;
use crate::evidence::Artifacts;
use crate::evidence::console::ConsoleText;
use crate::evidence::record::Evidence;
use crate::exit::Error;
use crate::result::fold::Fold;
use crate::spec::RunSpec;

/// Host time of a guest that counts as hung, in times of one that comes to its end; and at least, in seconds.
const HANGS: u32 = 10;
const HANGS_AT_LEAST: u32 = 5;

/// Seconds after which a guest counts as hung, if another like it took so long; at most what its scenario allows.
pub fn hangs_after(took: Duration, allowed: u32) -> u32 {
    let seconds = (took * HANGS).as_secs().saturating_add(1);
    let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
    seconds.clamp(HANGS_AT_LEAST, allowed.max(HANGS_AT_LEAST))
}

/// How names of scratch directories begin.
const SCRATCH: &str = "staleline-scratch-";

/// For so long after its last run nobody else takes away one that is not locked: it may have been made just now, or be
/// on a file system without locks.
const UNLOCKED: Duration = Duration::from_secs(600);

/// A directory for what runs leave, which is taken away with it; or by the next, if it is killed.
pub struct Scratch {
    dir: TempDir,
    /// Goes when the directory has gone: what is locked is not taken away by others.
    _lock: Option<Lock>,
    /// Numbers of directories.
    next: AtomicU64,
}

impl Scratch {
    /// A new one.
    ///
    /// # Errors
    /// [`Error::Host`] if there is no room for it.
    pub fn new() -> Result<Self, Error> {
        Self::new_in(&std::env::temp_dir())
    }

    fn new_in(parent: &Path) -> Result<Self, Error> {
        let host = |e| Error::host("cannot make a directory", e);
        let mut named = tempfile::Builder::new();
        let dir = named.prefix(SCRATCH).tempdir_in(parent).map_err(host)?;
        let lock = Lock::alone(dir.path()).map_err(host)?;
        // That something is left of others is no trouble of this one.
        let _ = take_away_unused(parent, dir.path());
        Ok(Scratch {
            dir,
            _lock: lock,
            next: AtomicU64::new(0),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Takes away scratch directories of this user's that nobody uses: who made them was killed.
fn take_away_unused(parent: &Path, own: &Path) -> std::io::Result<()> {
    let user = own.symlink_metadata()?.uid();
    for entry in std::fs::read_dir(parent)?.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(SCRATCH));
        if !is_ours || path == own {
            continue;
        }
        // Whatever others of this name are, in a directory that all users write to, they are left alone.
        let Ok(about) = path.symlink_metadata() else {
            continue;
        };
        let age = SystemTime::now().duration_since(about.modified()?);
        if !about.is_dir() || about.uid() != user || age.is_ok_and(|age| age < UNLOCKED) {
            continue;
        }
        if let Ok(Some(_nobody_else)) = Lock::alone(&path) {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
    Ok(())
}

/// Runs guests so.
#[derive(Clone, Copy)]
pub struct Once<'a> {
    /// The rest of the program.
    pub backend: &'a dyn Backend,
    /// For what runs leave.
    pub scratch: &'a Scratch,
}

impl Once<'_> {
    /// Runs a guest; names are looked up as far as `named` has them.
    ///
    /// # Errors
    /// An infrastructure error.
    pub fn run(
        &self,
        spec: &RunSpec,
        (artifacts, named): (&Artifacts, &Artifacts),
        (census, snapshot): (bool, Option<&Snapshot>),
    ) -> Result<Fold, Error> {
        let number = self.scratch.next.fetch_add(1, Ordering::Relaxed);
        let dir = self.scratch.path().join(number.to_string());
        let host = |e| Error::host(format!("cannot use {}", dir.display()), e);
        std::fs::create_dir(&dir).map_err(host)?;
        let execution = self.backend.execute(Attempt {
            spec,
            artifacts,
            drop_operation: None,
            census,
            trace: &[],
            events: None,
            snapshot,
            attended: None,
            dir: &dir,
        });
        let console = ConsoleText::read(&dir.join(directory::CONSOLE));
        std::fs::remove_dir_all(&dir).map_err(host)?;
        let execution = execution?;
        let mut fold = Fold::new(Box::new(spec.clone()));
        fold.take(Evidence::Guest(Box::new(named.clone())));
        fold.take(Evidence::Console(console.map_err(host)?));
        fold.take(Evidence::Ended(Box::new(execution)));
        Ok(fold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_that_was_killed_has_left_the_next_takes_away() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = parent.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("saved"), "a guest").unwrap();
            path
        };
        let old = |path: &Path| {
            let long_ago = SystemTime::now() - 2 * UNLOCKED;
            let dir = std::fs::File::open(path).unwrap();
            dir.set_modified(long_ago).unwrap();
        };
        let (left, new, foreign) = (
            at("staleline-scratch-left"),
            at("staleline-scratch-new"),
            at("thesis"),
        );
        let linked = parent.path().join("staleline-scratch-link");
        std::os::unix::fs::symlink(&foreign, &linked).unwrap();
        let used = Scratch::new_in(parent.path()).unwrap();
        for path in [&left, &foreign, used.path()] {
            old(path);
        }
        let next = Scratch::new_in(parent.path()).unwrap();
        assert!(!left.exists(), "nobody uses it");
        assert!(new.exists(), "it may be about to be locked");
        assert!(foreign.join("saved").exists() && linked.exists());
        assert!(used.path().exists() && next.path().exists());
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }
}
