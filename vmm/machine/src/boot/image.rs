// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The 64-byte header of an arm64 `Image` (`Documentation/arch/arm64/booting.rst`).

//! What a file is too short for is told by what it says of itself: the header jumps to the kernel's
//! entry, which stands behind code and read-only data, and a kernel with an EFI stub has the table of
//! its sections. The header's image size does not tell: it counts the bss, which is in no file.

use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use super::BootError;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
/// "ARM\x64", at offset 56.
const MAGIC: u32 = 0x644d_5241;
/// Where the offset of the PE header stands (`e_lfanew`).
const PE_OFFSET: u64 = 60;
/// "PE\0\0".
const PE_MAGIC: u32 = 0x4550;
/// Bytes from that to the optional header, and of an entry of the section table (PE/COFF, "COFF File
/// Header", "Section Table").
const PE_HEADER: u64 = 24;
const PE_SECTION: u64 = 40;
/// More sections than an `Image` has.
const PE_SECTIONS: u16 = 16;
/// The image stands within 2 MiB from an aligned base.
const MOST_OFFSET: u64 = 2 << 20;
/// More memory than any kernel needs for itself.
pub const MOST_BYTES: u64 = 1 << 30;
/// In `flags`: the kernel is big-endian.
const FLAG_BIG_ENDIAN: u64 = 1;

/// Whether a file that begins with `head` is an `Image`, as far as it says so.
#[must_use]
pub fn is_image(head: &[u8; HEADER_BYTES]) -> bool {
    word(head, 56) & 0xffff_ffff == u64::from(MAGIC)
}

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
    /// with what it looks like, [`BootError::Truncated`]; `path` is for the message.
    pub fn read(
        file: &mut (impl Read + Seek),
        file_bytes: u64,
        path: &Path,
    ) -> Result<Self, BootError> {
        let mut header = [0; HEADER_BYTES];
        match file.read_exact(&mut header) {
            Ok(()) => {
                let parsed = parse(&header, file_bytes).map_err(|why| BootError::NotAnImage {
                    path: path.to_owned(),
                    why,
                })?;
                let short = entry_beyond(&header, file_bytes);
                match short.or_else(|| sections_beyond(file, &header, file_bytes)) {
                    Some(why) => Err(BootError::Truncated {
                        path: path.to_owned(),
                        bytes: file_bytes,
                        why,
                    }),
                    None => Ok(parsed),
                }
            }
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

/// Why the file is too short, if the branch in its first or second word leads out of it.
fn entry_beyond(header: &[u8; HEADER_BYTES], file_bytes: u64) -> Option<String> {
    let words = word(header, 0);
    // B, 26 bits of signed offset in words (Arm ARM DDI 0487, C6.2). With an EFI stub, the first
    // word is another instruction that happens to read "MZ".
    let code = [words as u32, (words >> 32) as u32];
    let (at, branch) = (0u64..)
        .step_by(4)
        .zip(code)
        .find(|(_, w)| w >> 26 == 0b00_0101)?;
    let words = (branch << 6).cast_signed() >> 6;
    let entry = at.checked_add_signed(i64::from(words) * 4)?;
    (entry >= file_bytes).then(|| format!("and its entry point would be at {entry}"))
}

/// Why the file is too short, if it has a table of sections and one of them leads out of it.
fn sections_beyond(
    file: &mut (impl Read + Seek),
    header: &[u8; HEADER_BYTES],
    file_bytes: u64,
) -> Option<String> {
    if !header.starts_with(b"MZ") {
        return None;
    }
    let pe = word(header, PE_OFFSET as usize - 4) >> 32;
    // A file that ends within its headers has no kernel behind them.
    let cut = || format!("and ends in its PE header, which starts at {pe}");
    let Some(coff) = read_at::<{ PE_HEADER as usize }>(file, pe) else {
        return Some(cut());
    };
    if u32::from_le_bytes([coff[0], coff[1], coff[2], coff[3]]) != PE_MAGIC {
        return None;
    }
    let half = |at: usize| u16::from_le_bytes([coff[at], coff[at + 1]]);
    let (sections, optional) = (half(6).min(PE_SECTIONS), half(20));
    let table = pe + PE_HEADER + u64::from(optional);
    for n in 0..u64::from(sections) {
        let Some(entry) = read_at::<{ PE_SECTION as usize }>(file, table + n * PE_SECTION) else {
            return Some(cut());
        };
        let field = |at: usize| {
            let bytes = [entry[at], entry[at + 1], entry[at + 2], entry[at + 3]];
            u64::from(u32::from_le_bytes(bytes))
        };
        // PointerToRawData and SizeOfRawData.
        let end = field(20) + field(16);
        if end > file_bytes {
            return Some(format!("and its sections end at {end}"));
        }
    }
    None
}

fn read_at<const N: usize>(file: &mut (impl Read + Seek), at: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(at)).ok()?;
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

fn word(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(bytes)
}

fn parse(header: &[u8; HEADER_BYTES], file_bytes: u64) -> Result<ImageHeader, String> {
    if !is_image(header) {
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
    let text_offset = word(header, 8);
    if text_offset >= MOST_OFFSET || image_size > MOST_BYTES {
        return Err(format!(
            "its header is damaged: it asks for {image_size} bytes at offset {text_offset:#x}"
        ));
    }
    Ok(ImageHeader {
        text_offset,
        file_bytes,
        memory_bytes: image_size.max(file_bytes),
    })
}
