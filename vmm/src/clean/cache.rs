// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the cache keeps, which can all be made again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use staleline_support::cache::CacheDir;
use staleline_support::lock::Lock;

use crate::engine::EngineKind;
use crate::run::overlay;
use crate::scenario::exec::STDIN_KEPT;

use super::{Done, Fate, Item, Line, Policy, chosen, size};

/// Takes away what is kept in the cache.
pub fn in_cache(cache: &CacheDir, policy: &Policy) -> Done {
    let kernels = staleline_kernels::kept(cache).into_iter();
    let files = staleline_initramfs::kept(cache).into_iter();
    let roots = staleline_packages::kept(cache).into_iter();
    let engines = EngineKind::ALL.iter().flat_map(|kind| kind.kept(cache));
    let inputs = [
        ("standard input", STDIN_KEPT, ""),
        ("overlay", overlay::KEPT, overlay::SUFFIX),
    ];
    let inputs = inputs.into_iter().flat_map(|(kind, dir, suffix)| {
        let all = cache.kept(dir, suffix).into_iter();
        all.map(move |path| (kind, path))
    });
    let all = kernels
        .chain(files)
        .chain(roots)
        .chain(engines)
        .chain(inputs);
    let items = all.map(|(kind, path)| Item {
        used: fs::metadata(&path)
            .and_then(|m| m.modified())
            .unwrap_or(std::time::UNIX_EPOCH),
        kind: kind.into(),
        path,
    });
    let lines = chosen(items.collect(), policy).into_iter();
    let lines = lines.map(|item| remove(item.path, policy.dry_run));
    Done {
        dry_run: policy.dry_run,
        lines: lines.collect(),
    }
}

fn remove(path: PathBuf, dry_run: bool) -> Line {
    let bytes = size(&path);
    let (fate, bytes) = match alone(&path) {
        Ok(Some(_locks)) if dry_run => (Fate::Removed, bytes),
        Ok(Some(_locks)) => match gone(&path) {
            Ok(()) => (Fate::Removed, bytes),
            Err(e) => (Fate::Failed(e.to_string()), 0),
        },
        Ok(None) => (Fate::InUse, 0),
        Err(e) => (Fate::Failed(e.to_string()), 0),
    };
    Line { path, fate, bytes }
}

/// Who builds a kernel holds a file in the tree; all others hold the thing itself.
fn alone(path: &Path) -> io::Result<Option<[Option<Lock>; 2]>> {
    let Some(itself) = Lock::alone(path)? else {
        return Ok(None);
    };
    let builder = path.join("lock");
    match builder.is_file() {
        true => Ok(Lock::alone(&builder)?.map(|lock| [Some(itself), Some(lock)])),
        false => Ok(Some([Some(itself), None])),
    }
}

fn gone(path: &Path) -> io::Result<()> {
    match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}
