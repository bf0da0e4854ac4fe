// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Content hashes: SHA-256, printed in hexadecimal.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Hashes fields so that no two different lists of fields look the same: each is preceded by its
/// length.
#[derive(Debug, Default)]
pub struct FieldHasher(Sha256);

impl FieldHasher {
    /// One more field.
    pub fn field(&mut self, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.0.update((value.len() as u64).to_le_bytes());
        self.0.update(value);
    }

    /// A field and what it is called.
    pub fn named(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.field(name);
        self.field(value);
    }

    /// The hash of all fields.
    #[must_use]
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// Hash of what can be read.
///
/// # Errors
/// Those of the reader.
pub fn reader(mut input: impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut input, &mut Writer(&mut hasher))?;
    Ok(hex(&hasher.finalize()))
}

struct Writer<'a>(&'a mut Sha256);

impl io::Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hash of a file's content.
///
/// # Errors
/// When it cannot be read.
pub fn file(path: &Path) -> io::Result<String> {
    // Large chunks: images have tens of megabytes.
    reader(io::BufReader::with_capacity(1 << 20, File::open(path)?))
}

/// Hash of bytes.
#[must_use]
pub fn bytes(data: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(data))
}

/// The first 16 hexadecimal digits: enough for a name in a directory.
#[must_use]
pub fn short(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

/// Whether that is a digest, whole or as [`short`] gives it.
#[must_use]
pub fn is_one(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    [16, 64].contains(&text.len()) && text.bytes().all(hex)
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn bytes_readers_and_files_have_one_hash() {
        assert_eq!(bytes("abc"), ABC);
        assert_eq!(reader(&b"abc"[..]).unwrap(), ABC);
        let mut named = tempfile::NamedTempFile::new().unwrap();
        io::Write::write_all(&mut named, b"abc").unwrap();
        assert_eq!(file(named.path()).unwrap(), ABC);
        assert_eq!(short(ABC), "ba7816bf8f01cfea");
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let hash = |fields: &[&str]| {
            let mut hasher = FieldHasher::default();
            fields.iter().for_each(|field| hasher.field(field));
            hasher.finish()
        };
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_ne!(hash(&["abc"]), hash(&["abc", ""]));
        let mut named = FieldHasher::default();
        named.named("ab", "c");
        assert_eq!(named.finish(), hash(&["ab", "c"]));
    }
}
