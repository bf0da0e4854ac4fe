// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Takes away results and what the cache keeps: only what Staleline has made, and nothing that is in use.

mod cache;
mod results;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use cache::in_cache;
pub use results::results;

/// What may stay.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policy {
    /// So many of each kind, the latest.
    pub keep: usize,
    /// Whatever is younger than that.
    pub older_than: Option<Duration>,
    /// Only say what would go.
    pub dry_run: bool,
}

/// Something that can go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    path: PathBuf,
    /// Those of one kind are counted together.
    kind: String,
    /// When it was made or last used.
    used: SystemTime,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is gone, or would be.
    Removed,
    /// Of it, what is not ours was left.
    Partly,
    /// Somebody uses it.
    InUse,
    /// It could not be removed, for this reason.
    Failed(String),
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which.
    pub path: PathBuf,
    /// What became of it.
    pub fate: Fate,
    /// Bytes that are free now.
    pub bytes: u64,
}

/// All that was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Whether nothing was done in truth.
    pub dry_run: bool,
    /// In order.
    pub lines: Vec<Line>,
}

impl Done {
    /// Whether all that was to go is gone, or in use.
    pub fn failed(&self) -> bool {
        let mut fates = self.lines.iter().map(|line| &line.fate);
        fates.any(|fate| matches!(fate, Fate::Failed(_)))
    }
}

/// Of all items those that the policy gives away, the oldest first within a kind.
fn chosen(mut items: Vec<Item>, policy: &Policy) -> Vec<Item> {
    items.sort_by(|a, b| (&a.kind, b.used, &b.path).cmp(&(&b.kind, a.used, &a.path)));
    let now = SystemTime::now();
    let mut of_kind = (String::new(), 0);
    items.retain(|item| {
        if of_kind.0 != item.kind {
            of_kind = (item.kind.clone(), 0);
        }
        of_kind.1 += 1;
        let age = now.duration_since(item.used).unwrap_or_default();
        of_kind.1 > policy.keep && policy.older_than.is_none_or(|least| age >= least)
    });
    items.reverse();
    items
}

/// Bytes of a file, or of all files below a directory; links are not followed.
fn size(path: &Path) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else {
        return 0;
    };
    if !metadata.is_dir() {
        return metadata.len();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path())).sum()
}

/// An age: a number with `m`, `h`, `d` or `w` behind it.
///
/// # Errors
/// If it is none.
pub fn age(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no age: write it as 90m, 12h, 30d or 2w");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(seconds).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

/// Bytes for people.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut shown = format!("{bytes} bytes");
    for unit in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        shown = format!("{value:.1} {unit}");
    }
    shown
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (removed, would) = match self.dry_run {
            true => ("would remove", "would free"),
            false => ("removed", "freed"),
        };
        for line in &self.lines {
            let path = line.path.display();
            match &line.fate {
                Fate::Removed => writeln!(f, "{removed} {path} ({})", human(line.bytes))?,
                Fate::Partly => writeln!(
                    f,
                    "{removed} {path} ({}), but for files that are not Staleline's",
                    human(line.bytes)
                )?,
                Fate::InUse => writeln!(f, "kept {path}: in use")?,
                Fate::Failed(why) => writeln!(f, "kept {path}: {why}")?,
            }
        }
        let gone = self.lines.iter();
        let gone = gone.filter(|l| matches!(l.fate, Fate::Removed | Fate::Partly));
        let bytes = self.lines.iter().map(|line| line.bytes).sum();
        writeln!(f, "{would} {} in {} places", human(bytes), gone.count())
    }
}

#[cfg(test)]
mod tests;
