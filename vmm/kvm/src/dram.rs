// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The image of DRAM where devices of the host work on it, and pages of RAM that are it.
//!
//! A page that the guest accesses by a non-cacheable mapping is one memory for it and for such a device: so the
//! page of the file that is DRAM is mapped in the place of the page of RAM, until that mapping is gone.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use staleline_devices::coherency::Poison;
use staleline_machine::boot::RAM_BASE;
use vm_memory::{Bytes as _, FileOffset, GuestAddress, MmapRegion, VolatileMemory as _};

use crate::error::KvmError;
use crate::memory::Ram;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Most pages that are one memory at a time: each may take two mappings of the 65530 that a process has.
const MAX_SHARED: usize = 16384;

/// The image of DRAM.
#[derive(Debug)]
pub struct Dram {
    file: File,
    memory: MmapRegion,
    /// Pages of RAM that are this, by their number.
    shared: Mutex<BTreeSet<u64>>,
    /// Most of them.
    most: usize,
}

impl Dram {
    /// So many bytes, all zero but for poison.
    ///
    /// # Errors
    /// [`KvmError::Os`] if there is not so much memory, or poison beyond it.
    pub fn new(bytes: u64, poison: &Poison) -> Result<Self, KvmError> {
        let allocate = KvmError::os("allocate the image of DRAM");
        let len = usize::try_from(bytes).map_err(|_| KvmError::BadRequest("too much RAM"))?;
        let file = memfd_create("dram", MemfdFlags::CLOEXEC);
        let file = File::from(file.map_err(|e| allocate(io::Error::from(e)))?);
        file.set_len(bytes).map_err(&allocate)?;
        let mapped = file.try_clone().map_err(&allocate)?;
        let memory = MmapRegion::from_file(FileOffset::new(mapped, 0), len)
            .map_err(|e| allocate(io::Error::other(e)))?;
        let written = poison.write(&memory);
        written.map_err(|e| allocate(io::Error::other(e)))?;
        Ok(Dram {
            file,
            memory,
            shared: Mutex::default(),
            most: MAX_SHARED,
        })
    }

    /// Where in this process what is below so many bytes of RAM is mapped, by their physical address.
    ///
    /// # Errors
    /// [`KvmError::BadRequest`] if any of them is outside RAM.
    pub fn host_address(&self, pa: u64, bytes: usize) -> Result<*mut u8, KvmError> {
        let offset = pa
            .checked_sub(RAM_BASE)
            .and_then(|o| usize::try_from(o).ok());
        let slice = offset.and_then(|o| self.memory.get_slice(o, bytes).ok());
        let slice = slice.ok_or(KvmError::BadRequest("memory outside RAM"))?;
        Ok(slice.ptr_guard_mut().as_ptr())
    }

    /// The same memory for the machine.
    ///
    /// # Errors
    /// [`KvmError::Os`].
    ///
    /// # Safety
    /// The view borrows nothing: it must be gone before this is.
    pub unsafe fn view(&self) -> Result<MmapRegion, KvmError> {
        let (at, len) = (self.memory.as_ptr(), self.memory.size());
        // SAFETY: the mapping is of that length and protection, and stays where it is as long as `self` does, which
        // outlives the view. That does not unmap it.
        let view =
            unsafe { MmapRegion::build_raw(at, len, self.memory.prot(), self.memory.flags()) };
        view.map_err(|e| KvmError::os("map the image of DRAM")(io::Error::other(e)))
    }

    /// From now on, the pages of RAM from `pa` on, `len` bytes, are those here; or, if not `one`, they are RAM's
    /// own again, and hold what these do. What lies outside RAM, or is so already, stays as it is.
    ///
    /// # Errors
    /// [`KvmError::Os`]; [`KvmError::TooManyShared`] beyond [`MAX_SHARED`]: such pages would be two memories.
    pub fn share(&self, ram: &Ram, pa: u64, len: u64, one: bool) -> Result<(), KvmError> {
        let Some(first) = pa.checked_sub(RAM_BASE) else {
            return Ok(());
        };
        let end = first.saturating_add(len).min(self.memory.size() as u64);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        for page in first / PAGE..end / PAGE {
            match one {
                true if shared.contains(&page) => {}
                true if shared.len() >= self.most => {
                    return Err(KvmError::TooManyShared { most: self.most });
                }
                true => {
                    self.map(ram, page)?;
                    shared.insert(page);
                }
                false if shared.remove(&page) => self.unmap(ram, page)?,
                false => {}
            }
        }
        Ok(())
    }

    fn map(&self, ram: &Ram, page: u64) -> Result<(), KvmError> {
        let place = ram.host_address(RAM_BASE + page * PAGE, PAGE as usize)?;
        let (prot, flags) = (
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::FIXED,
        );
        // SAFETY: `place` is the start of a page within the mapping that is RAM, which is only accessed by
        // volatile accesses, through views of it, and by the guest; KVM follows what is mapped there. It is
        // replaced by memory of the same protection, which stays until RAM is unmapped as a whole.
        let mapped = unsafe {
            mmap(
                place.cast(),
                PAGE as usize,
                prot,
                flags,
                self.file.as_fd(),
                page * PAGE,
            )
        };
        mapped.map_err(|e| KvmError::os("map a page of DRAM")(io::Error::from(e)))?;
        Ok(())
    }

    fn unmap(&self, ram: &Ram, page: u64) -> Result<(), KvmError> {
        let place = ram.host_address(RAM_BASE + page * PAGE, PAGE as usize)?;
        let back = KvmError::os("map a page of RAM");
        let (prot, flags) = (
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::FIXED,
        );
        // SAFETY: as in `map`.
        let mapped = unsafe { mmap_anonymous(place.cast(), PAGE as usize, prot, flags) };
        mapped.map_err(|e| back(io::Error::from(e)))?;
        let mut bytes = [0; PAGE as usize];
        let read = self
            .memory
            .as_volatile_slice()
            .read_slice(&mut bytes, (page * PAGE) as usize);
        read.map_err(|e| back(io::Error::other(e)))?;
        let at = GuestAddress(RAM_BASE + page * PAGE);
        let written = ram.memory().write_slice(&bytes, at);
        written.map_err(|e| back(io::Error::other(e)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_one_memory_until_they_are_not_and_no_more_than_there_is_room_for() {
        let (ram, mut dram) = (
            Ram::new(8 * PAGE).unwrap(),
            Dram::new(8 * PAGE, &Poison::default()).unwrap(),
        );
        dram.most = 3;
        let put = |n: u64, byte: u8| {
            let at = GuestAddress(RAM_BASE + n * PAGE);
            ram.memory().write_slice(&[byte], at).unwrap();
        };
        let held = |n: u64| {
            let mut byte = [0];
            let slice = dram.memory.as_volatile_slice();
            slice.read_slice(&mut byte, (n * PAGE) as usize).unwrap();
            byte[0]
        };
        dram.share(&ram, RAM_BASE + PAGE, 3 * PAGE, true).unwrap();
        // Again, and in part, and what is no page.
        dram.share(&ram, RAM_BASE + 2 * PAGE, PAGE, true).unwrap();
        dram.share(&ram, RAM_BASE - PAGE, PAGE, true).unwrap();
        for n in 0..5 {
            put(n, 7);
            assert_eq!(held(n) == 7, (1..4).contains(&n), "{n}");
        }
        let more = dram
            .share(&ram, RAM_BASE + 5 * PAGE, PAGE, true)
            .unwrap_err();
        assert!(more.to_string().contains("more than 3 pages"), "{more}");
        assert!(more.help().contains("non-cacheable"));
        dram.share(&ram, RAM_BASE + PAGE, PAGE, false).unwrap();
        dram.share(&ram, RAM_BASE + 5 * PAGE, PAGE, true).unwrap();
        put(1, 9);
        put(5, 9);
        assert_eq!((held(1), held(5)), (7, 9));
    }

    /// A device is given memory by this: no byte more than there is.
    #[test]
    fn only_what_is_all_there_has_an_address() {
        const BYTES: u64 = 2 * PAGE;
        let ram = Ram::new(BYTES).unwrap();
        let dram = Dram::new(BYTES, &Poison::default()).unwrap();
        for (pa, bytes, is_there) in [
            (RAM_BASE, BYTES, true),
            (RAM_BASE + PAGE, PAGE, true),
            (RAM_BASE, BYTES + 1, false),
            (RAM_BASE + PAGE, BYTES, false),
            (RAM_BASE - 1, PAGE, false),
            (u64::MAX, PAGE, false),
        ] {
            let bytes = bytes as usize;
            let found = [ram.host_address(pa, bytes), dram.host_address(pa, bytes)];
            assert_eq!(found.map(|at| at.is_ok()), [is_there; 2], "{pa:#x} {bytes}");
        }
    }
}
