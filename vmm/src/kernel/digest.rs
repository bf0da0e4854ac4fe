// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Content hashes.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Hashes named fields so that no two different lists of fields look the same.
#[derive(Default)]
pub(super) struct KeyHasher(Sha256);

impl KeyHasher {
    pub(super) fn field(&mut self, name: &str, value: impl AsRef<[u8]>) {
        for part in [name.as_bytes(), value.as_ref()] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    pub(super) fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// SHA-256 of a file's content, in hexadecimal.
pub(super) fn file(path: &Path) -> io::Result<String> {
    let mut input = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = input.read(&mut chunk)?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(chunk.get(..read).unwrap_or_default());
    }
}

/// SHA-256 of bytes, in hexadecimal.
pub(super) fn bytes(data: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(data))
}

/// The first 16 hexadecimal digits: enough for a directory's name.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
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
