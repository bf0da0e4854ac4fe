// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a guest is given, by name.

use std::path::PathBuf;

/// A file or directory of the host, and where the guest finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// On the host. What is below a directory comes with it.
    pub host: PathBuf,
    /// In the guest, from `/`.
    pub guest: String,
}
