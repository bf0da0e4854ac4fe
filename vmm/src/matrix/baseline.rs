// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Cells that are known not to come out as expected: a CI job takes them, and nothing worse.

use std::path::Path;

use serde::{Deserialize, Serialize};
use staleline_results::{HazardKind, KERNEL_REPORT, Verdict};
use staleline_support::files;

use super::outcome::{Found, Outcome};
use super::runner::CellResult;
use crate::exit::Error;
use crate::scenario::read_config;

/// Version of its format. The first one held kinds of findings alone, with which anything of that kind would pass
/// for known: it is not read.
const SCHEMA: u32 = 2;

/// Cells that are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Baseline {
    schema: u32,
    #[serde(default)]
    known: Vec<Known>,
}

/// A cell and what it comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Known {
    cell: String,
    verdict: Verdict,
    /// Bytes that are wrong at an end: so many, or fewer.
    corrupt_bytes: u64,
    /// Findings: these, or fewer.
    #[serde(default)]
    findings: Vec<Found>,
}

/// What is read first.
#[derive(Deserialize)]
struct Version {
    schema: u32,
}

impl Baseline {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Syntax`] or [`Error::Limit`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let origin = path.display().to_string();
        let text = read_config(path)?;
        let syntax = |e: toml::de::Error| Error::Syntax {
            origin: origin.clone(),
            detail: e.to_string().trim_end().to_owned(),
        };
        let Version { schema } = toml::from_str(&text).map_err(syntax)?;
        if schema != SCHEMA {
            let why = match schema {
                1 => " (that of schema = 1 does not say where, nor how much)",
                _ => "",
            };
            let what = format!(
                "schema = {schema} is not known; this program reads schema = {SCHEMA}: write the baseline anew \
                 with --write-baseline{why}"
            );
            return Err(Error::Limit { origin, what });
        }
        let baseline: Baseline = toml::from_str(&text).map_err(syntax)?;
        match baseline.known.iter().find_map(Known::wrong) {
            Some(what) => Err(Error::Limit { origin, what }),
            None => Ok(baseline),
        }
    }

    /// Cells that it knows and that are not among these.
    pub fn strangers(&self, cells: &[String]) -> Vec<&str> {
        let known = self.known.iter().map(|known| &*known.cell);
        known
            .filter(|cell| !cells.iter().any(|one| one == cell))
            .collect()
    }

    /// Of the cells that are not as expected now.
    pub fn of(results: &[CellResult]) -> Self {
        let known = results
            .iter()
            .map(|r| &r.outcome)
            .filter(|o| o.unexpected.is_some() && o.verdict != Verdict::InfraError)
            .map(|o| Known {
                cell: o.cell.clone(),
                verdict: o.verdict,
                corrupt_bytes: o.corrupt_bytes,
                // Where a finding is says its place.
                findings: o
                    .found
                    .iter()
                    .map(|found| Found {
                        reader: None,
                        ..found.clone()
                    })
                    .collect(),
            });
        Baseline {
            schema: SCHEMA,
            known: known.collect(),
        }
    }

    /// Writes it as a file.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let output = |source| Error::Output {
            path: path.to_owned(),
            source,
        };
        let text = toml::to_string(self).map_err(|e| output(std::io::Error::other(e)))?;
        let text = format!("# Cells that do not come out as expected, which is known.\n{text}");
        files::write_atomically(path, text.as_bytes(), files::READABLE).map_err(output)
    }

    /// Marks the results that are known. Gives the names of cells that are known to be bad and are as
    /// expected now.
    pub fn apply(&self, results: &mut [CellResult]) -> Vec<String> {
        let mut better = Vec::new();
        for result in results {
            let outcome = &result.outcome;
            let Some(known) = self.known.iter().find(|k| k.cell == outcome.cell) else {
                continue;
            };
            if outcome.unexpected.is_none() {
                better.push(outcome.cell.clone());
            } else {
                result.known = known.covers(outcome);
            }
        }
        better
    }
}

impl Known {
    /// Why it cannot be known.
    fn wrong(&self) -> Option<String> {
        let cell = &self.cell;
        if self.verdict == Verdict::InfraError {
            return Some(format!(
                "cell {cell}: a run that says nothing is no result that could be known"
            ));
        }
        let kinds = HazardKind::ALL.map(HazardKind::name);
        let is_kind = |kind: &str| kind == KERNEL_REPORT || kinds.contains(&kind);
        let stranger = self.findings.iter().find(|found| !is_kind(&found.kind))?;
        Some(format!(
            "cell {cell}: there is no finding `{}`; it is one of {}, {KERNEL_REPORT}",
            stranger.kind,
            kinds.join(", ")
        ))
    }

    fn covers(&self, outcome: &Outcome) -> bool {
        let is_known = |found: &Found| self.findings.iter().any(|known| known.covers(found));
        // A cell that was done by an earlier version does not say where things were found.
        let is_told = outcome.found.is_empty() == outcome.findings.is_empty();
        outcome.verdict == self.verdict
            && outcome.corrupt_bytes <= self.corrupt_bytes
            && is_told
            && outcome.found.iter().all(is_known)
    }
}
