// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Results of runs and matrices.

use std::fs;
use std::io;
use std::path::Path;

use staleline_support::lock::Lock;

use super::{Done, Fate, Item, Line, Policy, chosen, size};
use crate::matrix::record;
use crate::run::directory;

/// Where replays of a run are, below it.
const REPLAYS: &str = "replay";

/// Takes away results below `root`, where they are by name and number.
pub fn results(root: &Path, policy: &Policy) -> Done {
    let mut items = Vec::new();
    for name in directories(root) {
        for path in directories(&name).filter(|path| is_numbered(path) && is_ours(path)) {
            items.push(Item {
                used: fs::metadata(&path)
                    .and_then(|m| m.modified())
                    .unwrap_or(std::time::UNIX_EPOCH),
                kind: name.display().to_string(),
                path,
            });
        }
    }
    let lines = chosen(items, policy).into_iter().map(|item| Line {
        bytes: 0,
        fate: Fate::Removed,
        path: item.path,
    });
    let lines = lines.map(|line| remove(line, policy.dry_run)).collect();
    Done {
        dry_run: policy.dry_run,
        lines,
    }
}

/// Directories in a directory; links are none.
fn directories(path: &Path) -> impl Iterator<Item = std::path::PathBuf> + use<> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
    entries.map(|entry| entry.path())
}

fn is_numbered(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.len() >= 4 && name.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a run or a matrix was begun there.
fn is_ours(path: &Path) -> bool {
    let files = [directory::SPEC, directory::EVENTS, record::FILE];
    files.iter().any(|name| path.join(name).is_file())
}

fn remove(line: Line, dry_run: bool) -> Line {
    match Lock::alone(&line.path) {
        Ok(Some(_lock)) => match made(&line.path, dry_run) {
            Ok((bytes, true)) => Line { bytes, ..line },
            Ok((bytes, false)) => Line {
                bytes,
                fate: Fate::Partly,
                ..line
            },
            Err(e) => Line {
                fate: Fate::Failed(e.to_string()),
                ..line
            },
        },
        Ok(None) => Line {
            fate: Fate::InUse,
            ..line
        },
        Err(e) => Line {
            fate: Fate::Failed(e.to_string()),
            ..line
        },
    }
}

/// Removes what a run or a matrix has made in its directory, and that if nothing else is there; gives the bytes,
/// and whether all is gone.
fn made(dir: &Path, dry_run: bool) -> io::Result<(u64, bool)> {
    let (mut bytes, mut whole) = (0, true);
    let is_matrix = dir.join(record::FILE).is_file();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, name, kind) = (entry.path(), entry.file_name(), entry.file_type()?);
        let known = |names: &[&str]| names.iter().any(|known| name == **known);
        let file = known(&directory::FILES) || known(&[record::FILE]);
        let inner = known(&directory::DIRECTORIES);
        if kind.is_file() && file || kind.is_dir() && inner {
            bytes += size(&path);
            match dry_run {
                true => {}
                false if kind.is_dir() => fs::remove_dir_all(&path)?,
                false => fs::remove_file(&path)?,
            }
        } else if kind.is_dir()
            && (name == REPLAYS || is_matrix && is_ours(&path) || is_replay(&path))
        {
            let (below, all) = made(&path, dry_run)?;
            bytes += below;
            whole &= all;
        } else {
            whole = false;
        }
    }
    if whole && !dry_run {
        fs::remove_dir(dir)?;
    }
    Ok((bytes, whole))
}

/// Whether it is one of the replays of a run.
fn is_replay(path: &Path) -> bool {
    let parent = path.parent().and_then(Path::file_name);
    parent.is_some_and(|name| name == REPLAYS) && is_numbered(path) && is_ours(path)
}
