// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a matrix was begun with, in its directory (`matrix.json`), so that one that was interrupted can be
//! gone on with: the same cells, run by the same program.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use staleline_results::{RunResult, Verdict};
use staleline_support::files;
use staleline_support::lock::Lock;

use super::{Cell, Matrix};
use crate::engine::EngineKind;
use crate::evidence::{Artifacts, GuestFile};
use crate::exit::Error;
use crate::run::directory::{self, RunDir};

/// Its name.
pub const FILE: &str = "matrix.json";

/// Version of its format.
const SCHEMA: u32 = 1;

/// A larger one is none of ours.
const MAX_BYTES: u64 = 256 << 20;

/// What says which cells a matrix has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The matrix file; none for the built-in one.
    pub file: Option<PathBuf>,
    /// What runs the guests.
    pub engine: EngineKind,
    /// More kernel command line, for all.
    #[serde(default)]
    pub append: Option<String>,
}

impl Origin {
    /// The cells, as its file is now.
    ///
    /// # Errors
    /// What is wrong with the file or what it names.
    pub fn cells(&self) -> Result<Vec<Cell>, Error> {
        Matrix::load(self.file.as_deref())?.cells(self.engine, self.append.as_deref())
    }
}

/// What a matrix was begun with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    schema: u32,
    #[serde(flatten)]
    origin: Origin,
    /// What runs it all.
    program: String,
    cells: Vec<Cell>,
}

/// A matrix that can be run: where, and what of it is done.
#[derive(Debug)]
pub struct Begun {
    /// All cells.
    pub cells: Vec<Cell>,
    /// Its directory.
    pub out: PathBuf,
    /// The results there are, by the cell's name.
    pub done: BTreeMap<String, RunResult>,
    _lock: Lock,
}

/// Begins a matrix in `out`, which must be new or empty, or with `force` an earlier matrix's. `program` says
/// what runs it.
///
/// # Errors
/// If the directory holds something else, or is in use.
pub fn begin(
    origin: Origin,
    cells: Vec<Cell>,
    program: String,
    (out, force): (&Path, bool),
) -> Result<Begun, Error> {
    let lock = directory::lock(out)?;
    let output = |source| Error::Output {
        path: out.to_owned(),
        source,
    };
    if out.join(FILE).is_file() {
        if !force {
            return Err(Error::OutputExists {
                path: out.to_owned(),
            });
        }
        remove(out)?;
    }
    if std::fs::read_dir(out).map_err(output)?.next().is_some() {
        return Err(Error::OutputTaken {
            path: out.to_owned(),
        });
    }
    let absolute = |path| std::path::absolute(path).map_err(output);
    let record = Record {
        schema: SCHEMA,
        origin: Origin {
            file: origin.file.map(absolute).transpose()?,
            ..origin
        },
        program,
        cells,
    };
    let json = serde_json::to_vec(&record).map_err(|e| output(e.into()))?;
    files::write_whole(&out.join(FILE), &json, files::READABLE).map_err(output)?;
    Ok(Begun {
        cells: record.cells,
        out: out.to_owned(),
        done: BTreeMap::new(),
        _lock: lock,
    })
}

/// Goes on with a matrix.
///
/// # Errors
/// [`Error::CannotResume`] if its file, what that names, or the program is not what it was.
pub fn resume(out: &Path, program: &str) -> Result<Begun, Error> {
    let record = read(out)?;
    let lock = directory::lock(out)?;
    let refused = |why: String| Error::CannotResume {
        path: out.to_owned(),
        why,
    };
    if record.program != program {
        return Err(refused("staleline or its plugin is another one now".into()));
    }
    let cells = record.origin.cells()?;
    if cells.len() != record.cells.len() {
        let (now, then) = (cells.len(), record.cells.len());
        return Err(refused(format!(
            "its file has {now} cells now, it had {then}"
        )));
    }
    if let Some((now, _)) = cells
        .iter()
        .zip(&record.cells)
        .find(|(now, then)| now != then)
    {
        return Err(refused(format!(
            "its file, or a scenario that it names, has changed: cell {}",
            now.name
        )));
    }
    let done = cells.iter().filter_map(|cell| {
        let result = directory::read_json(&out.join(&cell.name), directory::RESULT);
        // What says nothing is done again.
        let result: RunResult = result.ok()?;
        let says = !result.interrupted && result.verdict != Verdict::InfraError;
        says.then(|| (cell.name.clone(), result))
    });
    let done = done.collect();
    Ok(Begun {
        cells,
        out: out.to_owned(),
        done,
        _lock: lock,
    })
}

/// What of a guest's making is not as it was when that result came of it.
pub fn differs(before: &RunResult, now: &Artifacts) -> Option<&'static str> {
    let kernel = before.kernel.as_ref();
    let hash = |file: &Option<GuestFile>| file.as_ref().map(|file| file.hash.clone());
    let image = &now.kernel.image_hash;
    let same_image = image.is_none() || kernel.is_some_and(|k| k.image_hash == *image);
    if kernel.is_none_or(|k| k.hash != now.kernel.hash) || !same_image {
        Some("the kernel")
    } else if before.initrd_hash != hash(&now.initrd) {
        Some("the guest's initramfs")
    } else if before.disk_hash != hash(&now.disk) {
        Some("the guest's disk")
    } else if before.inputs != now.inputs {
        Some("what the guest is given")
    } else {
        None
    }
}

fn read(out: &Path) -> Result<Record, Error> {
    let not_ours = |why: String| Error::NotARun {
        path: out.to_owned(),
        why,
    };
    let path = out.join(FILE);
    let record = directory::read_bounded(&path, MAX_BYTES)
        .map_err(|e| not_ours(format!("it is no matrix's directory: {FILE}: {e}")))?;
    let record: Record = serde_json::from_slice(&record)
        .map_err(|e| not_ours(format!("{FILE} is not valid: {e}")))?;
    match record.schema {
        SCHEMA => Ok(record),
        other => Err(not_ours(format!(
            "{FILE} has schema {other}, this program reads {SCHEMA}"
        ))),
    }
}

/// Removes an earlier matrix's results, and nothing else.
fn remove(out: &Path) -> Result<(), Error> {
    let record = read(out)?;
    for cell in &record.cells {
        let mut parts = Path::new(&cell.name).components();
        let plain = matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        );
        let dir = out.join(&cell.name);
        if plain && dir.is_dir() {
            let dir = RunDir::replace(&dir)?;
            let _ = std::fs::remove_file(dir.file(directory::EVENTS));
            let _ = std::fs::remove_dir(dir.path());
        }
    }
    let _ = std::fs::remove_file(out.join(directory::JUNIT));
    std::fs::remove_file(out.join(FILE)).map_err(|source| Error::Output {
        path: out.join(FILE),
        source,
    })
}
