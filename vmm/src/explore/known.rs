// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Seeds that have failed: a file to which lines are added, and of which none is ever changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::Error;
use crate::run::directory;
use crate::spec::RunSpec;

/// Its name.
pub const FILE: &str = "failures.jsonl";

/// Bytes of it that are read.
const MOST: u64 = 64 << 20;

/// A run that has failed, or does so no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// From which it was drawn.
    pub seed: u64,
    /// What did not hold.
    pub diagnosis: String,
    /// Whether that is over: a later run of the same has come to something else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fixed: bool,
    /// How long it is, in CPU accesses.
    pub accesses: u64,
    /// The program that has run it.
    pub program: String,
    /// The run, whole, as the same seed may be another run to a later program.
    pub spec: Box<RunSpec>,
}

/// The file.
pub struct Failures {
    path: PathBuf,
    file: File,
    /// By diagnosis, the shortest that is known to fail.
    open: BTreeMap<String, Known>,
    /// Lines that say nothing.
    pub damaged: usize,
}

impl Failures {
    /// The file in that directory, which is made if there is none.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let output = |source| Error::Output {
            path: path.clone(),
            source,
        };
        let mut options = File::options();
        let mut file = options
            .create(true)
            .append(true)
            .open(&path)
            .map_err(output)?;
        let bytes = directory::read_bounded(&path, MOST).map_err(output)?;
        // A line that was cut short ends here.
        if bytes.last().is_some_and(|last| *last != b'\n') {
            file.write_all(b"\n").map_err(output)?;
        }
        let mut failures = Failures {
            file,
            open: BTreeMap::new(),
            damaged: 0,
            path: path.clone(),
        };
        let text = String::from_utf8_lossy(&bytes);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match serde_json::from_str(line) {
                Ok(known) => {
                    failures.learn(known);
                }
                Err(_) => failures.damaged += 1,
            }
        }
        Ok(failures)
    }

    /// Those that fail, the shortest first.
    pub fn open_ones(&self) -> Vec<Known> {
        let mut all: Vec<Known> = self.open.values().cloned().collect();
        all.sort_by_key(|known| known.accesses);
        all
    }

    /// Whether it says something new.
    fn learn(&mut self, known: Known) -> bool {
        let before = self.open.get(&known.diagnosis);
        if known.fixed {
            let same = before.is_some_and(|before| before.seed == known.seed);
            return same && self.open.remove(&known.diagnosis).is_some();
        }
        if before.is_some_and(|before| before.accesses <= known.accesses) {
            return false;
        }
        self.open.insert(known.diagnosis.clone(), known);
        true
    }

    /// Adds a line, if it says something new: another diagnosis, a shorter run of one, or that one is over.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub fn add(&mut self, known: Known) -> Result<bool, Error> {
        let line = serde_json::to_vec(&known);
        let mut line = line.map_err(|e| Error::host("cannot write JSON", e))?;
        line.push(b'\n');
        if !self.learn(known) {
            return Ok(false);
        }
        let written = self.file.write_all(&line);
        written.map_err(|source| Error::Output {
            path: self.path.clone(),
            source,
        })?;
        Ok(true)
    }
}
