// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Guests that are saved, and go on from there.

use std::path::PathBuf;

/// What is done with a guest's snapshot, which is a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Snapshot {
    /// Write it there when the guest has written this line on its console; then the guest goes on.
    Save {
        /// The line, without white space at its end.
        after: &'static str,
        /// Where to.
        file: PathBuf,
    },
    /// Go on from it, in place of booting. It is of the same guest.
    From(PathBuf),
}
