// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Files that the VMM has been sent, by their content.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use staleline_machine::engine::wire::Blob;
use staleline_support::digest;

/// A directory of such files.
#[derive(Debug)]
pub struct Blobs {
    dir: PathBuf,
}

impl Blobs {
    /// In that directory, which exists and is empty.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Blobs {
            dir: dir.to_owned(),
        }
    }

    /// Takes in a file of `len` bytes. If there is no room for it, all of it has been read nevertheless, and nothing
    /// of it is left.
    ///
    /// # Errors
    /// Those of reading and writing; `InvalidData` if it is not what it should be, `UnexpectedEof` if there is less.
    pub fn take(&self, blob: &Blob, from: &mut impl Read, len: u64) -> io::Result<()> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        if !digest::is_one(&blob.0) {
            return Err(invalid(format!("`{}` is no hash", blob.0.escape_debug())));
        }
        let path = self.dir.join(&blob.0);
        let mut from = from.take(len);
        let copied = File::create(&path).and_then(|mut to| io::copy(&mut from, &mut to));
        if let Err(e) = copied {
            let _ = fs::remove_file(&path);
            io::copy(&mut from, &mut io::sink())?;
            return Err(e);
        }
        if from.limit() != 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let found = digest::file(&path)?;
        if found != blob.0 {
            fs::remove_file(&path)?;
            return Err(invalid(format!(
                "a file was damaged on its way: its SHA-256 is {found}, and was {}",
                blob.0
            )));
        }
        Ok(())
    }

    /// Drops a file, if it is there.
    ///
    /// # Errors
    /// Those of removing it.
    pub fn forget(&self, blob: &Blob) -> io::Result<()> {
        match self.find(blob).and_then(fs::remove_file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Where a file is.
    ///
    /// # Errors
    /// `NotFound` if it has not been sent.
    pub fn find(&self, blob: &Blob) -> io::Result<PathBuf> {
        let path = self.dir.join(&blob.0);
        match digest::is_one(&blob.0) && path.is_file() {
            true => Ok(path),
            false => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no file {} has been sent", blob.0.escape_debug()),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_its_content_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path());
        let blob = Blob(digest::bytes(b"content"));
        assert_eq!(
            blobs.find(&blob).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        let damaged = blobs.take(&blob, &mut &b"contend"[..], 7).unwrap_err();
        assert_eq!(damaged.kind(), io::ErrorKind::InvalidData);
        assert!(blobs.find(&blob).is_err());
        let cut = blobs.take(&blob, &mut &b"con"[..], 7).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
        blobs.take(&blob, &mut &b"content and more"[..], 7).unwrap();
        assert_eq!(fs::read(blobs.find(&blob).unwrap()).unwrap(), b"content");
        for _ in 0..2 {
            blobs.forget(&blob).unwrap();
            assert!(blobs.find(&blob).is_err());
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_read_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(&dir.path().join("not there"));
        let mut said = &b"contentnext"[..];
        let blob = Blob(digest::bytes(b"content"));
        let error = blobs.take(&blob, &mut said, 7).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(said, b"next");
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path());
        for name in ["", "..", "/etc/passwd", "a/b"] {
            let blob = Blob(name.into());
            assert!(blobs.find(&blob).is_err(), "{name}");
            assert!(blobs.take(&blob, &mut &b""[..], 0).is_err(), "{name}");
        }
    }
}
