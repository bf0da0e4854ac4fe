// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A program that is looked for.

/// A program that is not installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub program: String,
    /// The Debian package that brings it.
    pub package: &'static str,
}
