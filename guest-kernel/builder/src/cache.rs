// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where things are kept from one build to the next, and what is known of sources.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use staleline_support::cache::CacheDir;
use staleline_support::digest::{self, short};
use staleline_support::files;
use staleline_support::progress::Progress;

use super::error::KernelError;

/// What of the cache is for kernels.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    pub(super) root: CacheDir,
}

/// What was found out about a file, good while its size and time stay as they are.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Memo {
    size: u64,
    mtime: i64,
    mtime_nsec: i64,
    answer: String,
}

impl Cache {
    pub(super) fn new(root: CacheDir) -> Self {
        Self { root }
    }

    pub(super) fn work_dir(&self, name: &str) -> PathBuf {
        self.root.join("work").join(name)
    }

    /// The memo of a source tree's content.
    pub(super) fn manifest_path(&self, tree: &Path) -> PathBuf {
        let digest = digest::bytes(tree.as_os_str().as_encoded_bytes());
        self.root.join("manifests").join(short(&digest))
    }

    /// SHA-256 of an archive, computed once.
    pub(super) fn archive_digest(
        &self,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<String, KernelError> {
        self.once("sources.json", path, || {
            progress.step("hashing the source archive");
            digest::file(path).map_err(KernelError::io("read", path))
        })
    }

    /// What `ask` finds out about a file, asked once until the file changes. `memo` names the file for
    /// all that is found out in the same way.
    pub(super) fn once(
        &self,
        memo: &str,
        path: &Path,
        ask: impl FnOnce() -> Result<String, KernelError>,
    ) -> Result<String, KernelError> {
        let metadata = fs::metadata(path).map_err(KernelError::io("read", path))?;
        let (size, mtime, mtime_nsec) = (metadata.size(), metadata.mtime(), metadata.mtime_nsec());
        let file = self.root.join(memo);
        // An unreadable memo costs a second, no more.
        let mut memos: BTreeMap<PathBuf, Memo> = fs::read(&file)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default();
        if let Some(memo) = memos.get(path)
            && (memo.size, memo.mtime, memo.mtime_nsec) == (size, mtime, mtime_nsec)
        {
            return Ok(memo.answer.clone());
        }
        let answer = ask()?;
        let memo = Memo {
            size,
            mtime,
            mtime_nsec,
            answer: answer.clone(),
        };
        memos.insert(path.to_owned(), memo);
        files::write_atomically(&file, &to_json(&memos, &file)?, files::READABLE)
            .map_err(KernelError::io("write", &file))?;
        Ok(answer)
    }
}

/// For a file that has to be written.
pub(super) fn to_json(value: &impl Serialize, path: &Path) -> Result<Vec<u8>, KernelError> {
    serde_json::to_vec_pretty(value)
        .map_err(|error| KernelError::io("write", path)(io::Error::from(error)))
}
