// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Files that the engine's inner half leaves for its outer half: one JSON document each, written
//! and read as a stream, and of bounded size.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most bytes of such a file: 1 GiB. The longest is the machine's report, which grows with
/// transfers (about 200 bytes each) and maintenance operations (about 150).
pub const LIMIT: u64 = 1 << 30;

/// Why there is nothing to be read.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The document is longer than anybody is going to read.
    #[error("the machine's report is longer than its bound of {limit} bytes")]
    TooLarge {
        /// The bound in bytes.
        limit: u64,
    },
    /// It cannot be read, or is something else.
    #[error("cannot read {}, which the engine should have written", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A file of the run's scratch directory; removed when it goes out of scope.
#[derive(Debug)]
pub struct Handover {
    path: PathBuf,
}

impl Handover {
    /// A place for a file that the other half is going to write.
    pub fn at(path: PathBuf) -> Self {
        Handover { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what was written there.
    ///
    /// # Errors
    /// [`HandoverError::TooLarge`] beyond [`LIMIT`], [`HandoverError::Unreadable`] if it cannot be
    /// read or is something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, HandoverError> {
        self.read_up_to(LIMIT)
    }

    fn read_up_to<T: DeserializeOwned>(&self, limit: u64) -> Result<T, HandoverError> {
        let output = |source| HandoverError::Unreadable {
            path: self.path.clone(),
            source,
        };
        let file = File::open(&self.path).map_err(output)?;
        if file.metadata().map_err(output)?.len() > limit {
            return Err(HandoverError::TooLarge { limit });
        }
        let reader = BufReader::with_capacity(1 << 16, file.take(limit));
        serde_json::from_reader(reader).map_err(|e| output(e.into()))
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                log::warn!("cannot remove {}: {e}", self.path.display());
            }
            _ => {}
        }
    }
}

/// Writes a document for a [`Handover`].
///
/// # Errors
/// Those of the file system, and `FileTooLarge` beyond [`LIMIT`], with a text that names it.
pub fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write_up_to(path, value, LIMIT)
}

fn write_up_to(path: &Path, value: &impl Serialize, limit: u64) -> io::Result<()> {
    let file = File::create(path)?;
    to_up_to(BufWriter::with_capacity(1 << 16, file), value, limit)
}

/// Writes one to whoever is to have it instead.
///
/// # Errors
/// As [`write()`].
pub fn to(out: impl Write, value: &impl Serialize) -> io::Result<()> {
    to_up_to(out, value, LIMIT)
}

fn to_up_to(out: impl Write, value: &impl Serialize, limit: u64) -> io::Result<()> {
    let mut out = Bounded {
        out,
        left: limit,
        limit,
    };
    serde_json::to_writer(&mut out, value).map_err(io::Error::from)?;
    out.flush()
}

/// Fails rather than to write more than there is room for.
struct Bounded<W> {
    out: W,
    left: u64,
    limit: u64,
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            return Err(io::Error::new(
                ErrorKind::FileTooLarge,
                format!("it would be longer than its bound of {} bytes", self.limit),
            ));
        };
        let len = self.out.write(bytes)?;
        // As many as asked for, or fewer.
        self.left = left + (bytes.len() - len) as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_comes_back_and_its_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let file = Handover::at(dir.path().join("x.json"));
        write(file.path(), &vec![7u64; 1000]).unwrap();
        assert_eq!(file.read::<Vec<u64>>().unwrap(), [7; 1000]);
        assert!(matches!(
            file.read::<String>(),
            Err(HandoverError::Unreadable { .. })
        ));
        let path = file.path().to_owned();
        drop(file);
        assert!(!path.exists());
        let missing = Handover::at(path).read::<u64>();
        assert!(matches!(missing, Err(HandoverError::Unreadable { .. })));
    }

    #[test]
    fn neither_half_goes_beyond_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let file = Handover::at(dir.path().join("x.json"));
        // Ten digits, quotes and all: [1111111111] is 12 bytes.
        let value = [1_111_111_111u64];
        write_up_to(file.path(), &value, 12).unwrap();
        assert_eq!(file.read_up_to::<[u64; 1]>(12).unwrap(), value);
        match file.read_up_to::<[u64; 1]>(11) {
            Err(e @ HandoverError::TooLarge { limit: 11 }) => {
                assert!(e.to_string().contains("11 bytes"), "{e}");
            }
            other => panic!("{other:?}"),
        }
        let e = write_up_to(file.path(), &value, 11).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::FileTooLarge);
        assert!(e.to_string().contains("11 bytes"), "{e}");
    }
}
