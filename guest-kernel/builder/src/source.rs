// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Kernel sources: the distribution's archive, or a tree of the user's.

use std::fs;
use std::path::{Path, PathBuf};

use staleline_support::digest::{self, short};
use staleline_support::progress::Progress;

use super::cache::Cache;
use super::error::KernelError;
use super::manifest::Manifest;

/// Where Debian's `linux-source-6.12` puts its archive.
pub(super) const DEFAULT_ARCHIVE: &str = "/usr/src/linux-source-6.12.tar.xz";
pub(super) const DEFAULT_PACKAGE: &str = "linux-source-6.12";

/// A source with its content known.
#[derive(Debug)]
pub(super) enum Source {
    /// A tar archive with one top directory.
    Archive { path: PathBuf, digest: String },
    /// An unpacked tree, to be copied.
    Tree {
        path: PathBuf,
        manifest: Manifest,
        digest: String,
    },
}

impl Source {
    pub(super) fn identify(
        path: &Path,
        cache: &Cache,
        progress: &dyn Progress,
    ) -> Result<Self, KernelError> {
        let bad = |reason: &str| KernelError::BadSource {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(_) if path == Path::new(DEFAULT_ARCHIVE) => {
                return Err(KernelError::NoDefaultSource {
                    path: path.to_owned(),
                    package: DEFAULT_PACKAGE,
                });
            }
            Err(error) => return Err(bad(&error.to_string())),
        };
        if path.is_dir() {
            for needed in ["Makefile", "Kconfig", "arch/arm64/Kconfig"] {
                if !path.join(needed).is_file() {
                    return Err(bad(&format!("it has no {needed}")));
                }
            }
            let memo = cache.manifest_path(&path);
            // What is kept here is no source, and changes with each build. One that does not exist yet is not
            // in the way.
            let kept = fs::canonicalize(cache.root.path()).ok();
            let manifest = Manifest::scan(&path, kept.as_deref(), &memo, progress)?;
            let digest = manifest.digest();
            Ok(Self::Tree {
                path,
                manifest,
                digest,
            })
        } else if path.to_string_lossy().contains(".tar") {
            let digest = cache.archive_digest(&path, progress)?;
            Ok(Self::Archive { path, digest })
        } else {
            Err(bad("it is neither a directory nor a tar archive"))
        }
    }

    /// Hash of the content.
    pub(super) fn digest(&self) -> &str {
        match self {
            Self::Archive { digest, .. } | Self::Tree { digest, .. } => digest,
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Archive { path, .. } | Self::Tree { path, .. } => path,
        }
    }

    /// For people: the name and the start of the hash.
    pub(super) fn id(&self) -> String {
        let name = self
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        format!("{name} sha256:{}", self.digest())
    }

    /// The name of the work directory. A tree keeps its directory while it is edited, so
    /// that only what changed is compiled again.
    pub(super) fn work_name(&self) -> String {
        match self {
            Self::Archive { digest, .. } => archive_work_name(digest),
            Self::Tree { path, .. } => {
                format!(
                    "tree-{}",
                    short(&digest::bytes(path.as_os_str().as_encoded_bytes()))
                )
            }
        }
    }

    /// Programs and packages needed to unpack it.
    pub(super) fn unpack_tools(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Tree { .. } => &[],
            Self::Archive { path, .. } => match path.extension().and_then(|ext| ext.to_str()) {
                Some("xz") => &[("tar", "tar"), ("xz", "xz-utils")],
                Some("zst") => &[("tar", "tar"), ("zstd", "zstd")],
                Some("bz2") => &[("tar", "tar"), ("bzip2", "bzip2")],
                Some("gz") => &[("tar", "tar"), ("gzip", "gzip")],
                _ => &[("tar", "tar")],
            },
        }
    }
}

/// The name of the work directory of an archive's source.
fn archive_work_name(digest: &str) -> String {
    format!("archive-{}", short(digest))
}

/// The name of the work directory where the archive was unpacked that has this [`Source::id`]; of a tree, its
/// own name.
pub(super) fn unpacked_work_name(id: &str) -> Option<String> {
    let (_, digest) = id.rsplit_once(" sha256:")?;
    digest::is_one(digest).then(|| archive_work_name(digest))
}
