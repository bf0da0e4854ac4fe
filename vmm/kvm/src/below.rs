// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The image of DRAM where nobody but the machine works on it.
//!
//! It holds what was loaded. Hardly any page of that is ever looked at, so nothing is copied: the files are mapped
//! there, privately.

use std::io;
use std::os::fd::AsFd as _;

use rustix::mm::{MapFlags, ProtFlags, mmap};
use vm_memory::{Bytes as _, MmapRegion, VolatileMemory as _};

use crate::error::KvmError;
use crate::initial::{Initial, Mapped};
use crate::memory::want_large_pages;
use crate::snapshot::PAGE;

/// An image of `bytes` that holds what a guest boots from, and zeros elsewhere. The files must stay as they are for
/// as long as it is there.
///
/// # Errors
/// [`KvmError::Os`].
pub fn dram(bytes: u64, initial: &Initial) -> Result<MmapRegion, KvmError> {
    let make = KvmError::os("make the image of DRAM");
    let len = usize::try_from(bytes).map_err(|_| KvmError::BadRequest("too much RAM"))?;
    let memory = MmapRegion::new(len).map_err(|e| make(io::Error::other(e)))?;
    // It is written here and there, a few lines at a time: large pages would have to be cleared for these.
    want_large_pages(&memory, false).map_err(&make)?;
    for mapped in initial.mapped() {
        map(&memory, mapped)?;
    }
    for (page, bytes) in initial.own() {
        let at = offset(page)?;
        let written = memory.as_volatile_slice().write_slice(bytes, at);
        written.map_err(|e| KvmError::os("write an image")(io::Error::other(e)))?;
    }
    Ok(memory)
}

/// Where a page is.
fn offset(page: u64) -> Result<usize, KvmError> {
    let bytes = page.checked_mul(PAGE as u64);
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or(KvmError::BadRequest("an image outside RAM"))
}

/// Maps pages of a file.
fn map(memory: &MmapRegion, mapped: &Mapped) -> Result<(), KvmError> {
    let failed = KvmError::os("map an image");
    let (first, end) = (offset(mapped.pages.start)?, offset(mapped.pages.end)?);
    let bytes = end - first;
    let place = memory.get_slice(first, bytes);
    let place = place.map_err(|e| failed(io::Error::other(e)))?;
    let (prot, flags) = (
        ProtFlags::READ | ProtFlags::WRITE,
        MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE,
    );
    let start = place.ptr_guard_mut().as_ptr();
    // SAFETY: whole pages within a mapping that this has made, of which nobody has a reference, are replaced by
    // others of the same protection, which are unmapped with it.
    unsafe { mmap(start.cast(), bytes, prot, flags, mapped.file.as_fd(), 0) }
        .map_err(|e| failed(e.into()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;

    use staleline_machine::boot::{ImageFile, Piece, RAM_BASE, Which};

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
            let memory = dram(BYTES, &Initial::new(&pieces).unwrap()).unwrap();
            let mut expected = vec![0; BYTES as usize];
            let (at, len) = (at as usize, len as usize);
            expected[at..at + len].copy_from_slice(&content[..len]);
            expected[BYTES as usize - 3..].fill(7);
            let mut held = vec![1; BYTES as usize];
            memory.as_volatile_slice().copy_to(&mut held[..]);
            assert!(held == expected, "{at:#x} {len:#x}");
            let slice = memory.as_volatile_slice();
            slice.write_slice(&[0; 4], at).unwrap();
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
            let made = Initial::new(&[piece]).and_then(|initial| dram(BYTES, &initial));
            assert!(made.is_err());
        }
    }
}
