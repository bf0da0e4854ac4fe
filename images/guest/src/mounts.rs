// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! File systems of the kernel.

use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::error::{Context, Error};

/// A file system of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mount {
    /// Devices, and the plan.
    Sys,
    /// Page map, memory map.
    Proc,
    /// Device nodes.
    Dev,
    /// USB gadgets; needs `Sys`.
    Config,
}

impl Mount {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Mount::Sys => ("sysfs", "/sys"),
            Mount::Proc => ("proc", "/proc"),
            Mount::Dev => ("devtmpfs", "/dev"),
            Mount::Config => ("configfs", "/sys/kernel/config"),
        }
    }

    /// Mounts it in its usual place; fine if it is there already.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn mount(self) -> Result<(), Error> {
        let (fstype, target) = self.names();
        mount(fstype, fstype, Path::new(target))
    }
}

/// Mounts a file system of the kernel, making the mount point if need be. Fine if it is there
/// already.
///
/// # Errors
/// If the kernel refuses.
pub fn mount(source: &str, fstype: &str, target: &Path) -> Result<(), Error> {
    let attempt = || rustix::mount::mount(source, target, fstype, MountFlags::empty(), None);
    let result = match attempt() {
        Err(Errno::NOENT) => {
            fs::create_dir_all(target).file("create", target)?;
            attempt()
        }
        other => other,
    };
    match result {
        Err(Errno::BUSY) => Ok(()),
        other => other.file("mount", target),
    }
}
