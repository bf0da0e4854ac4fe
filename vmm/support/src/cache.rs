// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where things are kept that can be made again.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;

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

    /// Something in it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}
