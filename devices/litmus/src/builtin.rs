// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The corpus: the files below `ci/litmus/`.

use crate::case::{self, Case, Error};

macro_rules! builtin {
    ($($name:literal),* $(,)?) => {
        const ALL: &[(&str, &str)] = &[$((
            $name,
            include_str!(concat!("../../../ci/litmus/", $name, ".toml")),
        )),*];
    };
}

builtin![
    "streaming",
    "hand-over",
    "barriers-maintenance",
    "barriers-stores",
    "dc-operations",
    "partial-lines",
    "alias",
    "snooping-ports",
    "pipelines",
    "smp",
    "wide-accesses",
    "reuse",
    "in-flight",
];

/// Names and texts of all files.
pub fn files() -> &'static [(&'static str, &'static str)] {
    ALL
}

/// All cases, by file.
///
/// # Errors
/// If a file is wrong, which a test excludes.
pub fn cases() -> Result<Vec<Case>, Error> {
    let mut all = Vec::new();
    for (name, text) in ALL {
        all.extend(case::parse(text, &format!("built-in litmus file {name}"))?);
    }
    Ok(all)
}
