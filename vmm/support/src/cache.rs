// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where things are kept that can be made again.

use std::io;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;

use super::{digest, files};

/// The cache's directory, which need not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheDir(PathBuf);

/// There is no home directory to keep a cache in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no cache directory: neither XDG_CACHE_HOME nor HOME is set")]
pub struct NoCacheDirectory;

impl CacheDir {
    /// `${XDG_CACHE_HOME:-~/.cache}/staleline`.
    ///
    /// # Errors
    /// [`NoCacheDirectory`].
    pub fn from_environment() -> Result<Self, NoCacheDirectory> {
        etcetera::choose_base_strategy()
            .map(|dirs| Self(dirs.cache_dir().join("staleline")))
            .map_err(|_| NoCacheDirectory)
    }

    /// A directory of the caller's choice.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What is in one of its directories, of which `is_ours` says by the name whether it was made by us.
    #[must_use]
    pub fn entries(&self, name: &str, is_ours: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.0.join(name)).into_iter().flatten();
        let entries = entries.flatten().filter(|entry| {
            let no_link = entry.file_type().is_ok_and(|t| !t.is_symlink());
            no_link && entry.file_name().to_str().is_some_and(&is_ours)
        });
        entries.map(|entry| entry.path()).collect()
    }

    /// Keeps these bytes in one of its directories, by their SHA-256, which is given too, and `suffix`.
    ///
    /// # Errors
    /// That they cannot be written.
    pub fn keep(&self, dir: &str, suffix: &str, bytes: &[u8]) -> io::Result<(PathBuf, String)> {
        let hash = digest::bytes(bytes);
        let path = self.join(dir).join(format!("{hash}{suffix}"));
        if !path.is_file() {
            files::write_atomically(&path, bytes, files::READABLE)?;
        }
        Ok((path, hash))
    }

    /// What of one of its directories is named by [`keep`](Self::keep).
    #[must_use]
    pub fn kept(&self, dir: &str, suffix: &str) -> Vec<PathBuf> {
        self.entries(dir, |name| {
            name.strip_suffix(suffix).is_some_and(digest::is_one)
        })
    }

    /// Something in it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}
