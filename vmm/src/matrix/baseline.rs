// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Cells that are known not to come out as expected: a CI job takes them, and nothing worse.

use std::path::Path;

use serde::{Deserialize, Serialize};
use staleline_results::Verdict;
use staleline_support::files;

use super::outcome::Outcome;
use super::runner::CellResult;
use crate::exit::Error;
use crate::scenario::read_config;

/// Version of its format.
const SCHEMA: u32 = 1;

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
    /// Kinds of findings: these, or fewer.
    #[serde(default)]
    findings: Vec<String>,
}

impl Baseline {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Syntax`] or [`Error::Limit`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let origin = path.display().to_string();
        let baseline: Baseline =
            toml::from_str(&read_config(path)?).map_err(|e| Error::Syntax {
                origin: origin.clone(),
                detail: e.to_string().trim_end().to_owned(),
            })?;
        let wrong = if baseline.schema != SCHEMA {
            Some(format!(
                "schema = {} is not known; this program reads schema = {SCHEMA}",
                baseline.schema
            ))
        } else {
            let infra = |known: &&Known| known.verdict == Verdict::InfraError;
            baseline.known.iter().find(infra).map(|known| {
                format!(
                    "cell {}: a run that says nothing is no result that could be known",
                    known.cell
                )
            })
        };
        match wrong {
            Some(what) => Err(Error::Limit { origin, what }),
            None => Ok(baseline),
        }
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
                findings: o.findings.clone(),
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
    fn covers(&self, outcome: &Outcome) -> bool {
        let mut findings = outcome.findings.iter();
        outcome.verdict == self.verdict && findings.all(|f| self.findings.contains(f))
    }
}
