// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A guest that is run and judged in memory, as one of many: no directory is left of it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// A directory for what runs leave, which is taken away with it.
pub struct Scratch {
    dir: TempDir,
    /// Numbers of directories.
    next: AtomicU64,
}

impl Scratch {
    /// A new one.
    ///
    /// # Errors
    /// [`Error::Host`] if there is no room for it.
    pub fn new() -> Result<Self, Error> {
        let dir = tempfile::tempdir().map_err(|e| Error::host("cannot make a directory", e))?;
        let next = AtomicU64::new(0);
        Ok(Scratch { dir, next })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
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
