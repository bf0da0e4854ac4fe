// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Two runs, or two matrices, side by side: `staleline compare`.

mod divergence;
mod engines;
mod matrices;
mod numbers;
mod pieces;
mod runs;
mod text;

#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;

pub use crate::matrix::columns::Axis;
pub use divergence::{Divergence, Parting};
pub use engines::Difference;
pub use matrices::{By, Matrices};
pub use numbers::{Both, Lines};
pub use runs::Runs;

use crate::exit::{self, Error};
use crate::matrix::record;
use crate::report::Layout;

/// What two things have come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "compared", rename_all = "kebab-case")]
pub enum Comparison {
    /// Two runs.
    Runs(Box<Runs>),
    /// Two matrices.
    Matrices(Matrices),
}

impl Comparison {
    /// Whether anything differs that counts.
    pub fn differs(&self) -> bool {
        match self {
            Comparison::Runs(runs) => runs.differs,
            Comparison::Matrices(matrices) => matrices.differs,
        }
    }

    /// The exit code: that one side says nothing goes before all.
    pub fn exit_code(&self) -> u8 {
        let silent = match self {
            Comparison::Runs(runs) => runs.says_nothing(),
            Comparison::Matrices(m) => !m.silent.is_empty(),
        };
        match (silent, self.differs()) {
            (true, _) => exit::INFRA,
            (false, true) => exit::FAIL,
            (false, false) => exit::PASS,
        }
    }

    /// For people.
    pub fn text(&self, layout: Layout) -> String {
        match self {
            Comparison::Runs(runs) => text::runs(runs, layout),
            Comparison::Matrices(matrices) => text::matrices(matrices, layout),
        }
    }
}

/// Compares two runs, by directory or log, or two matrices, by directory.
///
/// # Errors
/// [`Error::NotARun`] and [`Error::Log`] for what is neither, or damaged; [`Error::Option`] for a way to pair
/// cells that does not fit.
pub fn compare(a: &Path, b: &Path, by: Option<&By>) -> Result<Comparison, Error> {
    let is_matrix = |path: &Path| path.join(record::FILE).is_file();
    match (is_matrix(a), is_matrix(b)) {
        (true, true) => Ok(Comparison::Matrices(matrices::compare(a, b, by)?)),
        (false, false) if by.is_some() => Err(Error::Option {
            option: "--by".into(),
            why: "it is for matrices, and these are none".into(),
        }),
        (false, false) => Ok(Comparison::Runs(Box::new(runs::compare(a, b)?))),
        (true, false) => Err(other(b, a)),
        (false, true) => Err(other(a, b)),
    }
}

/// One of two is no matrix.
fn other(path: &Path, matrix: &Path) -> Error {
    Error::NotARun {
        path: path.to_owned(),
        why: format!(
            "it is no matrix's directory, and {} is one: runs are compared with runs, and matrices \
             with matrices",
            matrix.display()
        ),
    }
}
