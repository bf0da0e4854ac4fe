// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Two matrices side by side, cell by cell.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;
use staleline_results::{LineCost, Verdict};

use super::engines::{self, Difference, Ran};
use super::numbers::{Both, Lines};
use crate::board::settings::CachePolicy;
use crate::engine::EngineKind;
use crate::exit::Error;
use crate::matrix::Cell;
use crate::matrix::columns::Axis;
use crate::matrix::outcome::Outcome;
use crate::matrix::record;

/// Cells that differ in one thing go together: `kernel`, or `kernel=A,B` for those that have A on the one
/// side, and B on the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    axis: Axis,
    only: Option<(String, String)>,
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, values) = match text.split_once('=') {
            Some((name, values)) => (name, Some(values)),
            None => (text, None),
        };
        let axis = Axis::ALL.into_iter().find(|axis| axis.name() == name);
        let axis = axis.ok_or_else(|| {
            let all = Axis::ALL.map(Axis::name).join(", ");
            format!("`{name}` is nothing that tells cells apart; these are: {all}")
        })?;
        let only = match values.map(|values| values.split_once(',')) {
            None => None,
            Some(Some((a, b))) if !a.is_empty() && !b.is_empty() => Some((a.into(), b.into())),
            Some(_) => return Err(format!("write it as {name}, or as {name}=A,B")),
        };
        Ok(By { axis, only })
    }
}

/// A cell that both have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// What they have in common.
    pub cell: String,
    /// Whether anything differs that counts.
    pub differs: bool,
    /// What the runs say.
    pub verdict: (Verdict, Verdict),
    /// Kinds of findings that fail them.
    pub findings: (Vec<String>, Vec<String>),
    /// Bytes that were wrong.
    pub corrupt_bytes: Both,
    /// Maintenance of memory that devices transfer; of results without that, of all that is accounted.
    pub lines: Lines,
    /// What differs between the engines that ran it, if these are two.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<Difference>,
}

/// Two matrices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Matrices {
    /// Whether anything differs that counts: a verdict, kinds of findings, corrupt bytes, what maintenance
    /// cost, or whether a cell is there. Where engines differ, a verdict and kinds of findings for which that is
    /// no reason.
    pub differs: bool,
    /// Directories.
    pub a: String,
    /// Of the other.
    pub b: String,
    /// Cells that both have, in the order of A.
    pub cells: Vec<Pair>,
    /// Cells that only the one has.
    pub only_a: Vec<String>,
    /// Cells that only the other has.
    pub only_b: Vec<String>,
    /// Cells that were not run, or say nothing, in either.
    pub silent: Vec<String>,
}

/// Compares two matrices.
///
/// # Errors
/// [`Error::NotARun`] for what is no matrix, or damaged; [`Error::Option`] if cells do not pair like that.
pub fn compare(a: &Path, b: &Path, by: Option<&By>) -> Result<Matrices, Error> {
    let only = |get: fn(&(String, String)) -> &String| {
        let by = by?;
        Some((by.axis, get(by.only.as_ref()?).as_str()))
    };
    let axis = by.map(|by| by.axis);
    let sides = (
        Side::read(a, axis, only(|(a, _)| a))?,
        Side::read(b, axis, only(|(_, b)| b))?,
    );
    let mut silent = Vec::new();
    let (mut cells, mut only_a) = (Vec::new(), Vec::new());
    for key in &sides.0.order {
        let a = sides.0.cells.get(key);
        match (a, sides.1.cells.get(key)) {
            (Some(Some(a)), Some(Some(b))) => cells.push(pair(key, a, b)),
            (_, Some(_)) => silent.push(key.clone()),
            (_, None) => only_a.push(key.clone()),
        }
    }
    let in_a = |key: &&String| !sides.0.cells.contains_key(*key);
    let only_b: Vec<String> = sides.1.order.iter().filter(in_a).cloned().collect();
    let alone = !only_a.is_empty() || !only_b.is_empty();
    Ok(Matrices {
        differs: alone || cells.iter().any(|pair| pair.differs),
        a: a.display().to_string(),
        b: b.display().to_string(),
        cells,
        only_a,
        only_b,
        silent,
    })
}

/// One matrix.
struct Side {
    /// Keys of its cells.
    order: Vec<String>,
    /// What came of them; none if nothing did.
    cells: BTreeMap<String, Option<Ran>>,
}

impl Side {
    fn read(dir: &Path, axis: Option<Axis>, only: Option<(Axis, &str)>) -> Result<Self, Error> {
        let record = record::read(dir)?;
        let mut outcomes = record::read_all(dir)?;
        let wanted = |cell: &&Cell| only.is_none_or(|(axis, value)| axis.of(cell) == value);
        let mut side = Side {
            order: Vec::new(),
            cells: BTreeMap::new(),
        };
        for cell in record.cells.iter().filter(wanted) {
            let key = key(cell, axis);
            let outcome = outcomes.remove(&cell.name);
            let ran = outcome
                .filter(|o| o.verdict != Verdict::InfraError)
                .map(|outcome| Ran {
                    engine: cell.spec.engine,
                    keeps: cell.spec.scenario.board.cache == CachePolicy::Lazy,
                    outcome,
                });
            if side.cells.insert(key.clone(), ran).is_some() {
                return Err(Error::Option {
                    option: "--by".into(),
                    why: format!(
                        "{} has several cells that are {key}: name those that are meant, as in \
                         --by kernel=A,B",
                        dir.display()
                    ),
                });
            }
            side.order.push(key);
        }
        match (side.order.is_empty(), only) {
            (true, Some((axis, value))) => Err(Error::Option {
                option: "--by".into(),
                why: format!(
                    "{} has no cell whose {} is {value}",
                    dir.display(),
                    axis.name()
                ),
            }),
            _ => Ok(side),
        }
    }
}

fn key(cell: &Cell, without: Option<Axis>) -> String {
    let Some(without) = without else {
        return cell.name.clone();
    };
    let others = Axis::ALL.into_iter().filter(|axis| *axis != without);
    let part = |axis: Axis| match axis {
        Axis::Engine if cell.spec.engine == EngineKind::default() => None,
        Axis::Seed => Some(format!("s{}", axis.of(cell))),
        _ => Some(axis.of(cell)),
    };
    let parts: Vec<String> = others.filter_map(part).collect();
    parts.join(" ")
}

fn lines(outcome: &Outcome) -> LineCost {
    outcome.cost.map_or_else(
        || LineCost {
            needed: outcome.maintenance.needed,
            redundant: outcome.maintenance.redundant,
            untouched: outcome.maintenance.untouched,
            ..LineCost::default()
        },
        |cost| cost.transferred,
    )
}

fn pair(key: &str, of_a: &Ran, of_b: &Ran) -> Pair {
    let (a, b) = (&of_a.outcome, &of_b.outcome);
    let lines = match (a.cost, b.cost) {
        (Some(a), Some(b)) => Lines::of(&a.transferred, &b.transferred),
        _ => {
            let old = |o: &Outcome| {
                lines(&Outcome {
                    cost: None,
                    ..o.clone()
                })
            };
            Lines::of(&old(a), &old(b))
        }
    };
    let corrupt_bytes = Both {
        a: a.corrupt_bytes,
        b: b.corrupt_bytes,
    };
    let (engines, differs) = match of_a.engine == of_b.engine {
        true => {
            let differs = a.verdict != b.verdict
                || a.findings != b.findings
                || corrupt_bytes.differs()
                || lines.differ();
            (Vec::new(), differs)
        }
        false => {
            let all = engines::differences(of_a, of_b);
            let counts = all.iter().any(|d| d.reason.is_none());
            (all, counts)
        }
    };
    Pair {
        cell: key.to_owned(),
        differs,
        verdict: (a.verdict, b.verdict),
        findings: (a.findings.clone(), b.findings.clone()),
        corrupt_bytes,
        lines,
        engines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_is_a_word_or_two_values() {
        let by: By = "kernel=begin-end-access,device-to-device".parse().unwrap();
        assert_eq!(by.axis, Axis::Kernel);
        assert_eq!(by.only.unwrap().1, "device-to-device");
        assert_eq!("set".parse::<By>().unwrap().only, None);
        for wrong in ["", "kernels", "kernel=", "kernel=a", "kernel=a,", "=a,b"] {
            assert!(wrong.parse::<By>().is_err(), "{wrong}");
        }
    }
}
