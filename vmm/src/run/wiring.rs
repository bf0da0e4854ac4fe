// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The one place where runs meet kernel builder, initramfs, board and engine.

use std::path::{Path, PathBuf};

use super::backend::{Artifacts, Attempt, Backend, Execution, KernelId, Progress};
use super::prebuilt::Prebuilt;
use super::spec::RunSpec;
use crate::exit::Error;

/// Names another QEMU.
const QEMU_VARIABLE: &str = "STALELINE_QEMU";
/// Names another plugin library.
const PLUGIN_VARIABLE: &str = "STALELINE_TCG_PLUGIN";
/// File name of the plugin library.
const PLUGIN: &str = "libstaleline_tcg.so";

/// The QEMU that runs guests, if there is one.
pub fn qemu() -> Option<PathBuf> {
    match std::env::var_os(QEMU_VARIABLE) {
        Some(path) => Some(path.into()),
        None => which::which("qemu-system-aarch64").ok(),
    }
}

/// The plugin library: named by the environment, or beside our executable.
///
/// # Errors
/// Where it was looked for.
pub fn plugin() -> Result<PathBuf, String> {
    let path = match std::env::var_os(PLUGIN_VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()
            .map_err(|e| e.to_string())?
            .with_file_name(PLUGIN),
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("no {}", path.display()))
    }
}

/// The kernel source that is used if no other is named.
pub fn kernel_source() -> &'static Path {
    Path::new("/usr/src/linux-source-6.12.tar.xz")
}

/// A kernel as `staleline kernel list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KernelRow {
    /// Stack name.
    pub name: String,
    /// Release, if it has been built.
    pub version: Option<String>,
    /// Hash, if it has been built.
    pub hash: Option<String>,
    /// Patches in the stack.
    pub patches: usize,
}

/// Runs guests for real.
pub struct Production;

/// What stands in for the parts that are not there yet.
fn not_wired(what: &str) -> Error {
    Error::NotBuilt {
        what: what.into(),
        help: "this build of staleline holds scenarios and reports only".into(),
    }
}

impl Production {
    /// Builds a kernel: `staleline kernel build`.
    ///
    /// # Errors
    /// Usage or infrastructure errors.
    pub fn build_kernel(
        &self,
        _stack: &str,
        _src: Option<&Path>,
        _progress: &dyn Progress,
    ) -> Result<KernelId, Error> {
        Err(not_wired("the kernel builder"))
    }

    /// Stacks and kernels there are: `staleline kernel list`.
    ///
    /// # Errors
    /// Usage or infrastructure errors.
    pub fn kernels(&self) -> Result<Vec<KernelRow>, Error> {
        Err(not_wired("the kernel builder"))
    }
}

impl Backend for Production {
    fn check(&self, spec: &RunSpec) -> Result<(), Error> {
        if let Some(path) = spec.kernel.path() {
            Prebuilt::find(path)?;
        }
        Ok(())
    }

    fn prepare(&self, _: &RunSpec, _: &dyn Progress) -> Result<Artifacts, Error> {
        Err(not_wired("the tcg engine"))
    }

    fn execute(&self, _: Attempt<'_>) -> Result<Execution, Error> {
        Err(not_wired("the tcg engine"))
    }
}
