// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The image of DRAM where nobody but the machine works on it.
//!
//! It holds what was loaded. Hardly any page of that is ever looked at, so nothing is copied: the files are mapped
//! there, privately.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};
use staleline_machine::boot::{ImageFile, Piece, RAM_BASE};
use vm_memory::{Bytes as _, MmapRegion, VolatileMemory as _};

use crate::error::KvmError;
use crate::snapshot::PAGE;

/// Bytes of a file that are copied at once.
const CHUNK: u64 = 1 << 20;

/// An image of `bytes` that holds these pieces, by their physical addresses, and zeros elsewhere. The files must
/// stay as they are for as long as it is there.
///
/// # Errors
/// [`KvmError::Os`].
pub fn dram(bytes: u64, pieces: &[(u64, Piece<'_>)]) -> Result<MmapRegion, KvmError> {
    let make = KvmError::os("make the image of DRAM");
    let len = usize::try_from(bytes).map_err(|_| KvmError::BadRequest("too much RAM"))?;
    let memory = MmapRegion::new(len).map_err(|e| make(io::Error::other(e)))?;
    // It is written here and there, a few lines at a time: large pages would have to be cleared for these.
    // SAFETY: the mapping is this one's, and stays what it is.
    let advised = unsafe { madvise(memory.as_ptr().cast(), len, Advice::LinuxNoHugepage) };
    match advised {
        // A kernel without large pages.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(e) => return Err(make(e.into())),
    }
    for (pa, piece) in pieces {
        let at = pa.checked_sub(RAM_BASE);
        let at = at.ok_or(KvmError::BadRequest("an image outside RAM"))?;
        match piece {
            Piece::File(ImageFile { file, len, .. }) => {
                let mapped = map(&memory, at, file, *len)?;
                copy(&memory, at, file, mapped..*len)?;
            }
            Piece::Bytes(_, bytes) => write(&memory, at, bytes)?,
        }
    }
    Ok(memory)
}

/// Maps whole pages of a file, and says how many bytes that are.
fn map(memory: &MmapRegion, at: u64, file: &File, len: u64) -> Result<u64, KvmError> {
    let page = PAGE as u64;
    let len = len / page * page;
    if !at.is_multiple_of(page) || len == 0 {
        return Ok(0);
    }
    let failed = KvmError::os("map an image");
    let (Ok(offset), Ok(bytes)) = (usize::try_from(at), usize::try_from(len)) else {
        return Err(KvmError::BadRequest("an image outside RAM"));
    };
    let place = memory.get_slice(offset, bytes);
    let place = place.map_err(|e| failed(io::Error::other(e)))?;
    let (prot, flags) = (
        ProtFlags::READ | ProtFlags::WRITE,
        MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE,
    );
    let start = place.ptr_guard_mut().as_ptr();
    // SAFETY: whole pages within a mapping that this has made, of which nobody has a reference, are replaced by
    // others of the same protection, which are unmapped with it.
    unsafe { mmap(start.cast(), bytes, prot, flags, file.as_fd(), 0) }
        .map_err(|e| failed(e.into()))?;
    Ok(len)
}

fn copy(
    memory: &MmapRegion,
    at: u64,
    file: &File,
    part: std::ops::Range<u64>,
) -> Result<(), KvmError> {
    let mut from = part.start;
    while from < part.end {
        let len = CHUNK.min(part.end - from);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        let read = file.read_exact_at(&mut bytes, from);
        read.map_err(KvmError::os("read an image"))?;
        write(memory, at + from, &bytes)?;
        from += len;
    }
    Ok(())
}

fn write(memory: &MmapRegion, at: u64, bytes: &[u8]) -> Result<(), KvmError> {
    let at = usize::try_from(at).map_err(|_| KvmError::BadRequest("an image outside RAM"))?;
    let written = memory.as_volatile_slice().write_slice(bytes, at);
    written.map_err(|e| KvmError::os("write an image")(io::Error::other(e)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

    use staleline_machine::boot::Which;
    use vm_memory::VolatileMemory as _;

    use super::*;

    const BYTES: u64 = 1 << 20;

    #[test]
    fn it_holds_what_was_loaded_and_the_files_stay_as_they_are() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..3 * PAGE + 77).map(|i| (i % 251) as u8 + 1).collect();
        file.write_all(&content).unwrap();
        let image = |len| {
            Piece::File(ImageFile {
                which: Which::Kernel,
                path: Path::new("Image"),
                file: &file,
                len,
            })
        };
        let all = content.len() as u64;
        // At the start of a page, and not; all of it, whole pages, and less than one.
        for (at, len) in [
            (2 * PAGE as u64, all),
            (PAGE as u64 + 512, all),
            (0, 2 * PAGE as u64),
            (PAGE as u64, 5),
        ] {
            let stub = Piece::Bytes("a stub", vec![7; 3].into());
            let pieces = [(RAM_BASE + at, image(len)), (RAM_BASE + BYTES - 3, stub)];
            let memory = dram(BYTES, &pieces).unwrap();
            let mut expected = vec![0; BYTES as usize];
            let (at, len) = (at as usize, len as usize);
            expected[at..at + len].copy_from_slice(&content[..len]);
            expected[BYTES as usize - 3..].fill(7);
            let mut held = vec![1; BYTES as usize];
            memory.as_volatile_slice().copy_to(&mut held[..]);
            assert!(held == expected, "{at:#x} {len:#x}");
            write(&memory, at as u64, &[0; 4]).unwrap();
        }
        let mut again = vec![0; content.len()];
        file.read_exact_at(&mut again, 0).unwrap();
        assert!(again == content);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let outside = [
            (RAM_BASE - 1, Piece::Bytes("a stub", vec![1].into())),
            (RAM_BASE + BYTES, Piece::Bytes("a stub", vec![1].into())),
        ];
        for piece in outside {
            assert!(dram(BYTES, &[piece]).is_err());
        }
    }
}
