// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The 64-byte header of an arm64 `Image` (`Documentation/arch/arm64/booting.rst`).

use std::io::{ErrorKind, Read};
use std::path::Path;

use super::BootError;

const HEADER_BYTES: usize = 64;
/// "ARM\x64", at offset 56.
const MAGIC: u32 = 0x644d_5241;
/// In `flags`: the kernel is big-endian.
const FLAG_BIG_ENDIAN: u64 = 1;

/// What loading needs to know of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageHeader {
    /// Distance of the image from its 2 MiB aligned base, in bytes.
    pub text_offset: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes the kernel needs from its start on, with its bss; never less than the file's.
    pub memory_bytes: u64,
}

impl ImageHeader {
    /// Reads the header from the start of `file`, which has `file_bytes`.
    ///
    /// # Errors
    /// [`BootError::Read`] if reading fails, [`BootError::NotAnImage`] if it is something else,
    /// with what it looks like; `path` is for the message.
    pub fn read(file: &mut impl Read, file_bytes: u64, path: &Path) -> Result<Self, BootError> {
        let mut header = [0; HEADER_BYTES];
        match file.read_exact(&mut header) {
            Ok(()) => parse(&header, file_bytes).map_err(|why| BootError::NotAnImage {
                path: path.to_owned(),
                why,
            }),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Err(BootError::NotAnImage {
                path: path.to_owned(),
                why: format!("it is shorter than a header of {HEADER_BYTES} bytes"),
            }),
            Err(source) => Err(BootError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }
}

fn word(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(bytes)
}

fn parse(header: &[u8; HEADER_BYTES], file_bytes: u64) -> Result<ImageHeader, String> {
    if word(header, 56) & 0xffff_ffff != u64::from(MAGIC) {
        return Err(match header {
            [0x1f, 0x8b, ..] => "it is gzip-compressed",
            [0x7f, b'E', b'L', b'F', ..] => "it is an ELF file (vmlinux?)",
            [b'M', b'Z', 0, 0, b'z', b'i', b'm', b'g', ..] => "it is a compressed EFI zboot image",
            _ => "the magic number is missing",
        }
        .into());
    }
    let image_size = word(header, 16);
    if image_size == 0 {
        return Err("it has no image size (a kernel before 3.17)".into());
    }
    if word(header, 24) & FLAG_BIG_ENDIAN != 0 {
        return Err("it is a big-endian kernel".into());
    }
    Ok(ImageHeader {
        text_offset: word(header, 8),
        file_bytes,
        memory_bytes: image_size.max(file_bytes),
    })
}
