// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Finished kernels in the cache.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use staleline_support::{digest, files};

use super::cache::{Cache, to_json};
use super::compile::Built;
use super::error::KernelError;
use super::kernel::Kernel;
use super::module;
use super::plan::Plan;

const RECORD: &str = "kernel.json";

impl Cache {
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
        // Without modules, there are none.
        let symbols = built.build_dir.join(module::SYMBOLS_OF_BUILD);
        if symbols.is_file() {
            let to = kernel.image.with_file_name(module::SYMBOLS);
            fs::copy(&symbols, to).map_err(KernelError::io("copy", &symbols))?;
        }
        let image = digest::file(&kernel.image).map_err(KernelError::io("read", &kernel.image))?;
        kernel.image_hash = Some(image);
        kernel.locate(&target);
        let record = staging.path().join(RECORD);
        files::write_atomically(&record, &to_json(&kernel, &record)?, files::READABLE)
            .map_err(KernelError::io("write", &record))?;
        // Something under this name that `find` doesn't accept is what a broken-off build has left.
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
