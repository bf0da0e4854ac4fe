// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a finished kernel consists of.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A finished kernel in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// The stack's name, followed by `~<mutant>` if there is one on top of it, and by `+<config>`
    /// for each additional configuration.
    pub name: String,
    /// The release as the kernel itself reports it, e.g. `6.12.117-begin-end-access`.
    pub version: String,
    /// File names of the patches, in order of application.
    pub stack: Vec<String>,
    /// Identity of the source: its name and content hash.
    pub source: String,
    /// Hash over everything that went in (hexadecimal SHA-256).
    pub hash: String,
    /// SHA-256 of the bootable image, in hexadecimal. A record in the cache that has none is
    /// taken for unfinished.
    #[serde(default)]
    pub image_hash: Option<String>,
    /// First lines of the compiler's and the linker's `--version`.
    pub toolchain: String,
    /// Options that the configuration asks for and this source doesn't have.
    #[serde(default)]
    pub unmet_options: Vec<String>,
    /// The bootable image.
    #[serde(default)]
    pub image: PathBuf,
    /// ELF file with symbols and line tables.
    #[serde(default)]
    pub vmlinux: PathBuf,
    /// Symbol addresses.
    #[serde(default)]
    pub system_map: PathBuf,
    /// The complete configuration.
    #[serde(default)]
    pub config: PathBuf,
}

impl Kernel {
    /// Its files are in `dir`.
    pub(super) fn locate(&mut self, dir: &Path) {
        self.image = dir.join("Image");
        self.vmlinux = dir.join("vmlinux");
        self.system_map = dir.join("System.map");
        self.config = dir.join("config");
    }
}
