// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Shares of one matrix, run by several machines, put together.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::outcome::{MadeOf, Outcome};
use super::record::{self, Begun, Cells, Origin, Record, Resolve};
use super::runner::{CellResult, Ran};
use crate::exit::Error;
use crate::run::directory;
use crate::spec::GuestKey;

/// Puts the results of shares into a directory of their own, `out`, as if one machine had run all cells.
/// What no share has run is left.
///
/// # Errors
/// [`Error::CannotMerge`] if they are not shares of one matrix, run by the same program on the same guests,
/// each cell by one of them.
pub fn merge(
    parts: &[PathBuf],
    out: (&Path, bool),
    resolve: Resolve<'_>,
) -> Result<(Begun, Ran), Error> {
    for (n, path) in parts.iter().enumerate() {
        let real = |path: &Path| path.canonicalize().ok();
        if parts[..n]
            .iter()
            .any(|other| real(other).is_some_and(|other| Some(other) == real(path)))
        {
            return Err(refused(path, "it is named twice"));
        }
    }
    let parts: Vec<Part> = parts
        .iter()
        .map(|path| Part::read(path))
        .collect::<Result<_, _>>()?;
    let first = parts
        .first()
        .ok_or_else(|| refused(out.0, "no share is named"))?;
    for part in &parts[1..] {
        first.fits(part)?;
    }
    guests_are_the_same(&parts)?;
    let mut holders: BTreeMap<&str, &Part> = BTreeMap::new();
    for part in &parts {
        for cell in part.outcomes.keys() {
            if let Some(other) = holders.insert(cell, part) {
                let other = other.path.display();
                return Err(refused(
                    &part.path,
                    &format!("{other} has cell {cell}, too"),
                ));
            }
        }
    }
    let origin = Origin {
        partition: None,
        ..first.record.origin.clone()
    };
    // In the order of the whole, which shares keep.
    let mut cells: Vec<_> = parts
        .iter()
        .flat_map(|p| p.record.cells.iter().cloned())
        .collect();
    if let Ok(now) = resolve(&origin)
        && now.all == first.record.all
    {
        cells = now.here;
    }
    let all = Cells {
        here: cells,
        all: first.record.all.clone(),
        rows: first.record.rows.clone(),
    };
    let begun = record::begin(origin, all, first.record.program.clone(), out)?;
    let mut ran = Ran::default();
    for cell in &begun.cells {
        let Some(part) = holders.get(&*cell.name) else {
            ran.left.push(cell.name.clone());
            continue;
        };
        let Some(outcome) = part.outcomes.get(&cell.name) else {
            continue;
        };
        copy(&part.path.join(&cell.name), &begun.out.join(&cell.name))?;
        begun.enter(outcome)?;
        ran.results.push(CellResult {
            cell: cell.clone(),
            outcome: outcome.clone(),
            known: false,
        });
    }
    Ok((begun, ran))
}

/// A share.
struct Part {
    path: PathBuf,
    record: Record,
    outcomes: BTreeMap<String, Outcome>,
    /// Nobody runs it meanwhile.
    _lock: staleline_support::lock::Lock,
}

impl Part {
    fn read(path: &Path) -> Result<Self, Error> {
        Ok(Part {
            path: path.to_owned(),
            record: record::read(path)?,
            _lock: directory::lock(path)?,
            outcomes: record::read_outcomes(path)?,
        })
    }

    fn fits(&self, other: &Part) -> Result<(), Error> {
        let (a, b) = (&self.record, &other.record);
        let what = if a.program != b.program {
            "was run by another staleline, or with another plugin"
        } else if a.all != b.all || a.origin.engine != b.origin.engine {
            "is of another matrix"
        } else {
            return Ok(());
        };
        let why = format!("it {what} than {}", self.path.display());
        Err(refused(&other.path, &why))
    }
}

fn refused(path: &Path, why: &str) -> Error {
    Error::CannotMerge {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

/// Cells of one guest are of the same guest, whoever ran them.
fn guests_are_the_same(parts: &[Part]) -> Result<(), Error> {
    let mut seen: HashMap<GuestKey<'_>, (&Part, &MadeOf)> = HashMap::new();
    for part in parts {
        for cell in &part.record.cells {
            let Some(outcome) = part.outcomes.get(&cell.name) else {
                continue;
            };
            let guest = cell.spec.guest();
            let (other, made_of) = *seen.entry(guest).or_insert((part, &outcome.guest));
            if let Some(what) = made_of.differs(&outcome.guest) {
                let (cell, other) = (&cell.name, other.path.display());
                let why = format!("{what} of cell {cell} is not that of the same cells in {other}");
                return Err(refused(&part.path, &why));
            }
        }
    }
    Ok(())
}

/// Copies a cell's directory.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    for entry in WalkDir::new(from) {
        let output = |source: std::io::Error| Error::Output {
            path: to.to_owned(),
            source,
        };
        let entry = entry.map_err(|e| output(e.into()))?;
        let Ok(below) = entry.path().strip_prefix(from) else {
            continue;
        };
        let target = to.join(below);
        let kind = entry.file_type();
        if kind.is_dir() {
            std::fs::create_dir_all(&target).map_err(output)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &target).map_err(output)?;
        }
    }
    Ok(())
}
