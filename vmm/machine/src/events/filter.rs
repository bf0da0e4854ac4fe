// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which events a run keeps, and how many: the `[log]` table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use staleline_devices::events::{Kind, Kinds};

use crate::names;

/// Bounds of [`LogSettings::limit_mib`].
pub const LIMIT_MIB: std::ops::RangeInclusive<u32> = 1..=4096;

/// Not kept unless asked for: there are many, and few that matter.
const NOT_BY_DEFAULT: [Kind; 2] = [Kind::Register, Kind::Fence];

/// Kinds of events to keep: `default`, `all`, `off`, or kinds with commas between them, of which
/// `default` may be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Filter(pub Kinds);

impl Default for Filter {
    /// What people ask for first.
    fn default() -> Self {
        let kept = Kind::ALL.into_iter();
        Filter(kept.filter(|kind| !NOT_BY_DEFAULT.contains(kind)).collect())
    }
}

impl Filter {
    fn all() -> Self {
        Filter(Kind::ALL.into_iter().collect())
    }

    /// The names of the kinds.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|kind| names::name(&kind)).collect()
    }
}

/// The kind of that name.
///
/// # Errors
/// A sentence that names all there are.
pub fn kind(name: &str) -> Result<Kind, String> {
    names::parse(name).ok_or_else(|| {
        format!(
            "`{name}` is no kind of event; there are {}",
            names::list(&Kind::ALL)
        )
    })
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Filter(Kinds::NONE));
        }
        let mut kinds = Vec::new();
        for word in text.split(',').map(str::trim) {
            match word {
                "default" => kinds.extend(Filter::default().0.iter()),
                "all" => kinds.extend(Kind::ALL),
                name => kinds.push(kind(name).map_err(|e| format!("{e}; or default, all, off"))?),
            }
        }
        Ok(Filter(kinds.into_iter().collect()))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            filter if *filter == Filter::default() => f.write_str("default"),
            filter if *filter == Filter::all() => f.write_str("all"),
            filter if filter.0.is_empty() => f.write_str("off"),
            filter => f.write_str(&filter.names().join(",")),
        }
    }
}

impl TryFrom<String> for Filter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> String {
        filter.to_string()
    }
}

/// The `[log]` table of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogSettings {
    /// What is kept.
    #[serde(default)]
    pub filter: Filter,
    /// At most so many MiB of it, and an eighth more of findings.
    #[serde(default = "default_limit_mib")]
    pub limit_mib: u32,
}

/// [`LogSettings::limit_mib`] unless set: some millions of events.
const DEFAULT_LIMIT_MIB: u32 = 16;

fn default_limit_mib() -> u32 {
    DEFAULT_LIMIT_MIB
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings {
            filter: Filter::default(),
            limit_mib: default_limit_mib(),
        }
    }
}

impl LogSettings {
    /// Whether nothing was changed.
    pub fn is_default(&self) -> bool {
        *self == LogSettings::default()
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        u64::from(self.limit_mib) << 20
    }
}
