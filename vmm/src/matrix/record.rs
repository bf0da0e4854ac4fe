// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a matrix was begun with, in its directory (`matrix.json`), so that one that was interrupted can be
//! gone on with: the same cells, run by the same program.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use staleline_results::Verdict;
use staleline_support::lock::Lock;
use staleline_support::{digest, files};

use super::Cell;
use super::Extent;
use super::outcome::Outcome;
use super::partition::Partition;
use super::rows::Row;
use crate::engine::EngineKind;
use crate::exit::Error;
use crate::run::directory::{self, RunDir};

/// Its name.
pub const FILE: &str = "matrix.json";

/// What came of the cells: one JSON object a line, in the order in which they ended.
pub const CELLS: &str = "cells.jsonl";

/// Version of its format.
const SCHEMA: u32 = 2;

/// A larger one is none of ours.
const MAX_BYTES: u64 = 256 << 20;

/// What says which cells there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// A matrix file; none for the built-in one.
    Matrix(Option<PathBuf>),
    /// Mutants by name, or all of the stacks of these names; all without.
    Mutants(Vec<String>),
}

impl Asked {
    /// The command that runs it.
    pub fn command(&self) -> &'static str {
        match self {
            Asked::Matrix(_) => "matrix",
            Asked::Mutants(_) => "mutants",
        }
    }
}

/// What says which cells are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Where they come from.
    pub asked: Asked,
    /// What runs the guests.
    pub engine: EngineKind,
    /// More kernel command line, for all.
    #[serde(default)]
    pub append: Option<String>,
    /// The share that is run here.
    #[serde(default)]
    pub partition: Option<Partition>,
    /// How much of a matrix.
    #[serde(default)]
    pub extent: Extent,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.asked {
            Asked::Matrix(Some(file)) => write!(f, "{}", file.display())?,
            Asked::Matrix(None) => f.write_str("the matrix that is built in")?,
            Asked::Mutants(_) => f.write_str("mutants")?,
        }
        if self.extent.brief {
            f.write_str(", in brief")?;
        }
        match self.partition {
            Some(share) => write!(f, ", of which this is share {share}"),
            None => Ok(()),
        }
    }
}

/// The cells of an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cells {
    /// Those of the share that is run here.
    pub here: Vec<Cell>,
    /// Hash over those of all shares.
    pub all: String,
    /// What they are about.
    pub rows: Vec<Row>,
}

impl Cells {
    /// Of all cells, which are about these rows, those of a share.
    ///
    /// # Errors
    /// [`Error::Host`].
    pub fn of(
        mut all: Vec<Cell>,
        rows: Vec<Row>,
        partition: Option<Partition>,
    ) -> Result<Self, Error> {
        let json = serde_json::to_vec(&all).map_err(|e| Error::host("cannot write JSON", e))?;
        if let Some(partition) = partition {
            all.retain(|cell| partition.has(&cell.name));
        }
        Ok(Cells {
            here: all,
            all: digest::bytes(json),
            rows,
        })
    }
}

/// Says which cells an origin has now.
pub type Resolve<'a> = &'a dyn Fn(&Origin) -> Result<Cells, Error>;

/// What a matrix was begun with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    schema: u32,
    /// Where its cells come from.
    #[serde(flatten)]
    pub origin: Origin,
    /// What runs it all.
    pub program: String,
    /// Hash over the cells of all shares.
    pub all: String,
    /// Those of this share.
    pub cells: Vec<Cell>,
    /// What they are about.
    #[serde(default)]
    pub rows: Vec<Row>,
}

/// A matrix that can be run: where, and what of it is done.
#[derive(Debug)]
pub struct Begun {
    /// Where its cells come from.
    pub origin: Origin,
    /// All cells.
    pub cells: Vec<Cell>,
    /// What they are about.
    pub rows: Vec<Row>,
    /// Its directory.
    pub out: PathBuf,
    /// What has come of those that are done, by name.
    pub done: BTreeMap<String, Outcome>,
    outcomes: Mutex<File>,
    _lock: Lock,
}

impl Begun {
    /// Writes down what came of a cell.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub fn enter(&self, outcome: &Outcome) -> Result<(), Error> {
        let path = || self.out.join(CELLS);
        let output = |source| Error::Output {
            path: path(),
            source,
        };
        let mut line = serde_json::to_vec(outcome).map_err(|e| output(e.into()))?;
        line.push(b'\n');
        let mut file = self.outcomes.lock().unwrap_or_else(|e| e.into_inner());
        file.write_all(&line).map_err(output)
    }
}

/// Begins a matrix in `out`, which must be new or empty, or with `force` an earlier matrix's. `program` says
/// what runs it.
///
/// # Errors
/// If the directory holds something else, or is in use.
pub fn begin(
    origin: Origin,
    cells: Cells,
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
    let asked = match origin.asked {
        Asked::Matrix(Some(file)) => {
            Asked::Matrix(Some(std::path::absolute(file).map_err(output)?))
        }
        other => other,
    };
    let record = Record {
        schema: SCHEMA,
        origin: Origin { asked, ..origin },
        program,
        all: cells.all,
        cells: cells.here,
        rows: cells.rows,
    };
    let json = serde_json::to_vec(&record).map_err(|e| output(e.into()))?;
    files::write_whole(&out.join(FILE), &json, files::READABLE).map_err(output)?;
    let outcomes = File::create_new(out.join(CELLS)).map_err(output)?;
    Ok(Begun {
        origin: record.origin,
        cells: record.cells,
        rows: record.rows,
        out: out.to_owned(),
        done: BTreeMap::new(),
        outcomes: Mutex::new(outcomes),
        _lock: lock,
    })
}

/// Goes on with what was begun of that sort: cells of a matrix, or of mutants.
///
/// # Errors
/// [`Error::CannotResume`] if its file, what that names, or the program is not what it was.
pub fn resume(
    out: &Path,
    sort: &Asked,
    program: &str,
    resolve: Resolve<'_>,
) -> Result<Begun, Error> {
    let record = read(out)?;
    let lock = directory::lock(out)?;
    let refused = |why: String| Error::CannotResume {
        path: out.to_owned(),
        why,
    };
    if std::mem::discriminant(&record.origin.asked) != std::mem::discriminant(sort) {
        let command = record.origin.asked.command();
        return Err(refused(format!(
            "`staleline {command} --resume` goes on with it"
        )));
    }
    if record.program != program {
        return Err(refused("staleline or its plugin is another one now".into()));
    }
    let cells = resolve(&record.origin)?.here;
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
    let (outcomes, done) = outcomes(out)?;
    Ok(Begun {
        origin: record.origin,
        cells,
        rows: record.rows,
        out: out.to_owned(),
        done,
        outcomes: Mutex::new(outcomes),
        _lock: lock,
    })
}

/// What has come of the cells of a matrix, and the file to which more is appended.
///
/// # Errors
/// [`Error::NotARun`], [`Error::Output`].
fn outcomes(out: &Path) -> Result<(File, BTreeMap<String, Outcome>), Error> {
    let path = out.join(CELLS);
    let bytes = read_cells(out)?;
    let append = || {
        let mut file = OpenOptions::new().append(true).open(&path)?;
        // What broke off in a line is done again, and the next begins one.
        if bytes.last().is_some_and(|last| *last != b'\n') {
            file.write_all(b"\n")?;
        }
        Ok(file)
    };
    match append() {
        Ok(file) => Ok((file, saying(out, &bytes))),
        Err(source) => Err(Error::Output { path, source }),
    }
}

/// What has come of the cells of a matrix, by name, as far as it says something and its files are there.
///
/// # Errors
/// [`Error::NotARun`].
pub fn read_outcomes(out: &Path) -> Result<BTreeMap<String, Outcome>, Error> {
    Ok(saying(out, &read_cells(out)?))
}

/// What has come of all cells of a matrix, by name, whatever it says: of each the latest. A line that broke
/// off at the end is left out.
///
/// # Errors
/// [`Error::NotARun`].
pub fn read_all(out: &Path) -> Result<BTreeMap<String, Outcome>, Error> {
    let bytes = read_cells(out)?;
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let mut outcomes = BTreeMap::new();
    for (n, line) in lines.iter().enumerate() {
        let is_last = n + 1 == lines.len();
        match serde_json::from_slice::<Outcome>(line) {
            Ok(outcome) => {
                outcomes.insert(outcome.cell.clone(), outcome);
            }
            // An interrupted matrix that is gone on with ends that line, and begins another.
            Err(e) if e.is_eof() || line.is_empty() || is_last => {}
            Err(e) => {
                return Err(Error::NotARun {
                    path: out.to_owned(),
                    why: format!("line {} of {CELLS} is damaged: {e}", n + 1),
                });
            }
        }
    }
    Ok(outcomes)
}

fn read_cells(out: &Path) -> Result<Vec<u8>, Error> {
    directory::read_bounded(&out.join(CELLS), MAX_BYTES).map_err(|e| Error::NotARun {
        path: out.to_owned(),
        why: format!("cannot read {CELLS}: {e}"),
    })
}

/// Those in the text of [`CELLS`] that say something and whose files are there.
fn saying(out: &Path, bytes: &[u8]) -> BTreeMap<String, Outcome> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let outcomes = lines.filter_map(|line| serde_json::from_slice::<Outcome>(line).ok());
    let says = |o: &Outcome| o.verdict != Verdict::InfraError;
    let is_there =
        |o: &Outcome| is_name(&o.cell) && out.join(&o.cell).join(directory::RESULT).is_file();
    let outcomes = outcomes.filter(|o| says(o) && is_there(o));
    outcomes.map(|o| (o.cell.clone(), o)).collect()
}

/// Whether that is the name of a file, and no way to elsewhere.
pub fn is_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    )
}

/// What a matrix was begun with.
///
/// # Errors
/// [`Error::NotARun`].
pub fn read(out: &Path) -> Result<Record, Error> {
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
        let dir = out.join(&cell.name);
        if is_name(&cell.name) && dir.is_dir() {
            let dir = RunDir::replace(&dir)?;
            let _ = std::fs::remove_file(dir.file(directory::EVENTS));
            let _ = std::fs::remove_dir(dir.path());
        }
    }
    for file in [directory::JUNIT, CELLS] {
        let _ = std::fs::remove_file(out.join(file));
    }
    std::fs::remove_file(out.join(FILE)).map_err(|source| Error::Output {
        path: out.join(FILE),
        source,
    })
}
