// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A guest that is run and judged in memory, as one of many: no directory is left of it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::backend::{Attempt, Backend};
use super::directory;
use crate::engine::Snapshot;
use crate::evidence::Artifacts;
use crate::evidence::console::ConsoleText;
use crate::evidence::record::Evidence;
use crate::exit::Error;
use crate::result::fold::Fold;
use crate::spec::RunSpec;

/// Runs guests so.
#[derive(Clone, Copy)]
pub struct Once<'a> {
    /// The rest of the program.
    pub backend: &'a dyn Backend,
    /// An existing directory for what runs leave, which is taken away.
    pub scratch: &'a Path,
    /// Numbers of directories.
    pub next: &'a AtomicU64,
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
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let dir = self.scratch.join(number.to_string());
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
