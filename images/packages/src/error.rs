// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Why there is no file system of packages.

use std::io;
use std::path::{Path, PathBuf};

/// The step that failed.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// What cannot be asked for.
    #[error("{0}")]
    BadName(String),
    /// The file that names other sources cannot be read.
    #[error("cannot read {}, which {} names", path.display(), super::SOURCES_ENV)]
    Sources {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A package that the sources do not have, or that cannot be had together with the others.
    #[error("apt cannot do that: {said}")]
    Unknown {
        /// What apt said.
        said: String,
    },
    /// A program that is not installed.
    #[error("making a file system of Debian's packages needs {program}, which is not installed")]
    Missing {
        /// Its name.
        program: &'static str,
    },
    /// A program that has failed.
    #[error("{program} failed ({status}): {said}")]
    Failed {
        /// Which.
        program: &'static str,
        /// How it ended.
        status: String,
        /// What it said.
        said: String,
    },
    /// Sources of the kind `file:`.
    #[error("apt has downloaded nothing, as it does from sources on this machine's own disk")]
    Nothing,
    /// A file operation.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, e.g. `write`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The user does not want it any more.
    #[error("interrupted")]
    Cancelled,
}

/// A program of this machine's.
pub(super) fn program(program: &'static str) -> Result<PathBuf, PackagesError> {
    which::which(program).map_err(|_| PackagesError::Missing { program })
}

impl PackagesError {
    /// Whether it is a mistake of the user's, and not trouble with the machine or the network.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            PackagesError::BadName(_)
                | PackagesError::Sources { .. }
                | PackagesError::Unknown { .. }
        )
    }

    /// What the user can do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        const ELSEWHERE: &str = "the container of ci/hosted/Containerfile has all it takes; or unpack a \
            root file system for arm64, of any distribution and by any means, and name it with --root DIR";
        Some(match self {
            PackagesError::BadName(_) | PackagesError::Unknown { .. } => {
                "packages are named as Debian does, and have to be there for arm64; NAME=VERSION is one of \
                 the versions that the sources have"
                    .into()
            }
            PackagesError::Missing { .. } => format!(
                "it is on every Debian (apt-get install apt dpkg tar); on another system, {ELSEWHERE}"
            ),
            PackagesError::Failed {
                program: "apt-get", ..
            } => format!(
                "see whether the network and apt's sources are all right, and have packages for arm64, \
                 which not every mirror has ({} names a sources file to use instead); without a network, \
                 {ELSEWHERE}",
                super::SOURCES_ENV
            ),
            PackagesError::Sources { .. } => {
                "name a file of apt's, .list or .sources, or none for the machine's own sources".into()
            }
            PackagesError::Nothing => "write copy: for file: in the sources".into(),
            PackagesError::Failed { .. } | PackagesError::Io { .. } => {
                "check free space and permissions there; XDG_CACHE_HOME names another place for the cache"
                    .into()
            }
            PackagesError::Cancelled => return None,
        })
    }

    /// For `map_err` on file operations.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
