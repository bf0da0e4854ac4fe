// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Guests that are saved, and go on from there.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use super::EngineError;
use super::error::os;

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

/// A snapshot that is being written: it is there once it is whole.
pub(super) struct Saving {
    file: PathBuf,
    new: NamedTempFile,
    is_empty: bool,
}

impl Saving {
    /// Into that file.
    pub(super) fn begin(file: &Path) -> Result<Self, EngineError> {
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
        // Whoever kills us finds it, and knows what it is.
        let new = Builder::new()
            .prefix(".staleline-snapshot-")
            .tempfile_in(dir.unwrap_or(Path::new(".")));
        Ok(Saving {
            file: file.to_owned(),
            new: new.map_err(os("write the snapshot"))?,
            is_empty: true,
        })
    }

    /// Puts it in its place; not if the guest has not come so far, which its result says.
    pub(super) fn end(self) -> Result<(), EngineError> {
        if self.is_empty {
            log::warn!(
                "{} was not written: the guest has ended before its first step",
                self.file.display()
            );
            return Ok(());
        }
        let kept = self.new.persist(&self.file);
        kept.map_err(|e| os("write the snapshot")(e.error))?;
        Ok(())
    }
}

impl Write for Saving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.is_empty = false;
        self.new.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.new.flush()
    }
}
