// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Contents of files, each read once, and no more of them than there is room for.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use staleline_support::files;

use super::error::InitramfsError;

/// Files that were read.
#[derive(Debug)]
pub(super) struct Contents {
    read: BTreeMap<PathBuf, Arc<[u8]>>,
    most: u64,
    left: u64,
}

impl Contents {
    /// None yet, and room for `most` bytes.
    pub fn new(most: u64) -> Self {
        Contents {
            read: BTreeMap::new(),
            most,
            left: most,
        }
    }

    /// The bytes of a file.
    pub fn read(&mut self, path: &Path) -> Result<Arc<[u8]>, InitramfsError> {
        if let Some(known) = self.read.get(path) {
            return Ok(Arc::clone(known));
        }
        let mut bytes = Vec::new();
        files::open(path)
            .and_then(|file| {
                file.take(self.left.saturating_add(1))
                    .read_to_end(&mut bytes)
            })
            .map_err(InitramfsError::io("read", path))?;
        self.keep(path, bytes)
    }

    /// The bytes of a file, if they are what is looked for. Others take no room.
    pub fn read_if(
        &mut self,
        path: &Path,
        fits: impl FnOnce(&[u8]) -> bool,
    ) -> Result<bool, InitramfsError> {
        if let Some(known) = self.read.get(path) {
            return Ok(fits(known));
        }
        match files::read(path) {
            Ok(bytes) if fits(&bytes) => self.keep(path, bytes).map(|_| true),
            _ => Ok(false),
        }
    }

    fn keep(&mut self, path: &Path, bytes: Vec<u8>) -> Result<Arc<[u8]>, InitramfsError> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or(InitramfsError::TooLarge { most: self.most })?;
        let bytes: Arc<[u8]> = bytes.into();
        self.read.insert(path.to_owned(), Arc::clone(&bytes));
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "before").unwrap();
        let mut contents = Contents::new(9);
        assert_eq!(&*contents.read(&file).unwrap(), b"before");
        fs::write(&file, "afterwards").unwrap();
        assert_eq!(&*contents.read(&file).unwrap(), b"before");
        assert!(contents.read_if(&file, |bytes| bytes == b"before").unwrap());
        let other = dir.path().join("other");
        fs::write(&other, "four").unwrap();
        assert!(!contents.read_if(&other, |_| false).unwrap());
        let e = contents.read(&other).unwrap_err();
        assert!(matches!(e, InitramfsError::TooLarge { most: 9 }), "{e}");
    }
}
