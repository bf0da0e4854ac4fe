// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where kernels are kept.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use staleline_support::cache::CacheDir;
use staleline_support::digest::{self, short};
use staleline_support::files;
use staleline_support::progress::Progress;

use super::compile::Built;
use super::error::KernelError;
use super::{Kernel, Plan};

const RECORD: &str = "kernel.json";

/// What of the cache is for kernels.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    root: CacheDir,
}

/// The hash of an archive, good while size and time stay as they are.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ArchiveMemo {
    size: u64,
    mtime: i64,
    mtime_nsec: i64,
    sha256: String,
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
        let metadata = fs::metadata(path).map_err(KernelError::io("read", path))?;
        let (size, mtime, mtime_nsec) = (metadata.size(), metadata.mtime(), metadata.mtime_nsec());
        let file = self.root.join("sources.json");
        // An unreadable memo costs a second, no more.
        let mut memos: BTreeMap<PathBuf, ArchiveMemo> = fs::read(&file)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default();
        if let Some(memo) = memos.get(path)
            && (memo.size, memo.mtime, memo.mtime_nsec) == (size, mtime, mtime_nsec)
        {
            return Ok(memo.sha256.clone());
        }
        progress.step("hashing the source archive");
        let sha256 = digest::file(path).map_err(KernelError::io("read", path))?;
        let memo = ArchiveMemo {
            size,
            mtime,
            mtime_nsec,
            sha256: sha256.clone(),
        };
        memos.insert(path.to_owned(), memo);
        files::write_atomically(&file, &to_json(&memos, &file)?, files::READABLE)
            .map_err(KernelError::io("write", &file))?;
        Ok(sha256)
    }

    fn kernels(&self) -> PathBuf {
        self.root.join("kernels")
    }

    /// The finished kernel with this hash, if all of it is there: a record without the image's hash
    /// is not whole, as nothing says what the image should be.
    pub(super) fn find(&self, hash: &str) -> Option<Kernel> {
        let dir = self.kernels().join(hash);
        let json = fs::read(dir.join(RECORD)).ok()?;
        let mut kernel: Kernel = serde_json::from_slice(&json).ok()?;
        kernel.locate(&dir);
        let complete = [
            &kernel.image,
            &kernel.vmlinux,
            &kernel.system_map,
            &kernel.config,
        ]
        .iter()
        .all(|file| file.is_file());
        (complete && kernel.image_hash.is_some() && kernel.hash == hash).then_some(kernel)
    }

    pub(super) fn list(&self) -> Result<Vec<Kernel>, KernelError> {
        let dir = self.kernels();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(KernelError::io("read", &dir))?,
        };
        let mut kernels = Vec::new();
        for entry in entries {
            let entry = entry.map_err(KernelError::io("read", &dir))?;
            kernels.extend(entry.file_name().to_str().and_then(|hash| self.find(hash)));
        }
        kernels.sort_by(|a, b| (&a.name, &a.version, &a.hash).cmp(&(&b.name, &b.version, &b.hash)));
        Ok(kernels)
    }

    /// Copies a finished build to its place: all of it appears at once, or nothing.
    pub(super) fn publish(&self, plan: &Plan, built: &Built) -> Result<Kernel, KernelError> {
        let kernels = self.kernels();
        fs::create_dir_all(&kernels).map_err(KernelError::io("create", &kernels))?;
        let staging = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(&kernels)
            .map_err(KernelError::io("create a directory in", &kernels))?;
        let target = kernels.join(&plan.hash);
        let mut kernel = Kernel {
            name: plan.name.clone(),
            version: built.version.clone(),
            stack: plan
                .stack
                .patches
                .iter()
                .map(|patch| patch.name.clone())
                .collect(),
            source: plan.source.id(),
            hash: plan.hash.clone(),
            image_hash: None,
            toolchain: plan.toolchain.clone(),
            unmet_options: built.unmet_options.clone(),
            image: PathBuf::new(),
            vmlinux: PathBuf::new(),
            system_map: PathBuf::new(),
            config: PathBuf::new(),
        };
        kernel.locate(staging.path());
        for (from, to) in [
            ("arch/arm64/boot/Image", &kernel.image),
            ("vmlinux", &kernel.vmlinux),
            ("System.map", &kernel.system_map),
            (".config", &kernel.config),
        ] {
            let from = built.build_dir.join(from);
            fs::copy(&from, to).map_err(KernelError::io("copy", &from))?;
        }
        let image = digest::file(&kernel.image).map_err(KernelError::io("read", &kernel.image))?;
        kernel.image_hash = Some(image);
        kernel.locate(&target);
        let record = staging.path().join(RECORD);
        files::write_atomically(&record, &to_json(&kernel, &record)?, files::READABLE)
            .map_err(KernelError::io("write", &record))?;
        // Something under this name that `find` doesn't accept is a ruin.
        if target.exists() && self.find(&plan.hash).is_none() {
            fs::remove_dir_all(&target).map_err(KernelError::io("remove", &target))?;
        }
        match fs::rename(staging.path(), &target) {
            Ok(()) => {
                // It is gone from there: nothing is left to clean up.
                let _ = staging.keep();
            }
            Err(_) if self.find(&plan.hash).is_some() => {}
            Err(error) => return Err(KernelError::io("create", &target)(error)),
        }
        Ok(kernel)
    }
}

impl Kernel {
    fn locate(&mut self, dir: &Path) {
        self.image = dir.join("Image");
        self.vmlinux = dir.join("vmlinux");
        self.system_map = dir.join("System.map");
        self.config = dir.join("config");
    }
}

fn to_json(value: &impl Serialize, path: &Path) -> Result<Vec<u8>, KernelError> {
    serde_json::to_vec_pretty(value)
        .map_err(|error| KernelError::io("write", path)(io::Error::from(error)))
}
