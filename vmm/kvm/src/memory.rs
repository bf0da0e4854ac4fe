// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Guest RAM, as the guest and the machine have it.

use std::fs::File;
use std::io::{self, Seek as _};
use std::ops::Range;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};
use staleline_machine::boot::RAM_BASE;
use vm_memory::{
    Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _,
    GuestRegionMmap, MmapRegion,
};

use crate::error::KvmError;
use crate::snapshot::PAGE;

/// Pages of which there are so many at once, or none: those that a processor translates at once.
pub const LARGE: u64 = 512;

/// Pages in parts that are large ones, or of them.
pub fn parts(pages: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let first = pages.start / LARGE * LARGE;
    let firsts = (first..pages.end).step_by(LARGE as usize);
    firsts.map(move |first| first.max(pages.start)..pages.end.min(first + LARGE))
}

/// Has memory that is touched from now on come in large pages, or in none; a kernel that has none does as it does.
///
/// # Errors
/// What the kernel says.
pub fn want_large_pages(memory: &MmapRegion, large: bool) -> io::Result<()> {
    let advice = match large {
        true => Advice::LinuxHugepage,
        false => Advice::LinuxNoHugepage,
    };
    // SAFETY: the mapping is there while it is borrowed, and no byte of it changes.
    let advised = unsafe { madvise(memory.as_ptr().cast(), memory.size(), advice) };
    match advised {
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

const PROTECTION: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// Guest RAM: one region.
#[derive(Debug)]
pub struct Ram {
    memory: GuestMemoryMmap,
}

impl Ram {
    /// So many bytes, all zero.
    ///
    /// # Errors
    /// [`KvmError::Os`] if there is not so much memory.
    pub fn new(bytes: u64) -> Result<Self, KvmError> {
        let allocate = KvmError::os("allocate guest RAM");
        let len = usize::try_from(bytes).map_err(|_| KvmError::BadRequest("too much RAM"))?;
        let region = MmapRegion::build(
            None,
            len,
            PROTECTION,
            libc::MAP_PRIVATE | libc::MAP_NORESERVE | libc::MAP_ANONYMOUS,
        );
        let region = region.map_err(|e| allocate(io::Error::other(e)))?;
        // Fewer faults, and translations that a CPU finds quickly; most kernels give them only to who asks.
        want_large_pages(&region, true).map_err(&allocate)?;
        let region = GuestRegionMmap::new(region, GuestAddress(RAM_BASE))
            .ok_or(KvmError::BadRequest("too much RAM"))?;
        let memory = GuestMemoryMmap::from_regions(vec![region]);
        let memory = memory.map_err(|e| allocate(io::Error::other(e)))?;
        Ok(Ram { memory })
    }

    /// As the guest has it.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// So large it is.
    pub fn bytes(&self) -> u64 {
        self.memory.iter().map(|region| region.len()).sum()
    }

    /// Writes a page, by its number.
    ///
    /// # Errors
    /// [`KvmError::Os`] if it is outside RAM.
    pub fn write_page(&self, page: u64, bytes: &[u8; PAGE]) -> Result<(), KvmError> {
        let at = GuestAddress(RAM_BASE + page * PAGE as u64);
        let written = self.memory.write_slice(bytes, at);
        written.map_err(|e| KvmError::os("write a page of RAM")(io::Error::other(e)))
    }

    /// Reads pages, by their numbers, from the beginning of a file into memory that holds nothing yet.
    ///
    /// # Errors
    /// [`KvmError::Os`] if they are outside RAM, or the file has less.
    pub fn read_pages(&self, pages: Range<u64>, mut file: &File) -> Result<(), KvmError> {
        let read = KvmError::os("read an image into RAM");
        file.rewind().map_err(&read)?;
        for part in parts(pages) {
            let at = GuestAddress(RAM_BASE + part.start * PAGE as u64);
            let len = (part.end - part.start) * PAGE as u64;
            let len = usize::try_from(len).map_err(|e| read(io::Error::other(e)))?;
            // While the kernel clears memory that it touches itself, no other thread can map any; while it does so for
            // the process, it can.
            let touched = self.memory.write_obj(0u8, at);
            let done =
                touched.and_then(|()| self.memory.read_exact_volatile_from(at, &mut file, len));
            done.map_err(|e| read(io::Error::other(e)))?;
        }
        Ok(())
    }

    /// Has a page hold that, by its number: it is written only if it holds something else.
    ///
    /// # Errors
    /// [`KvmError::Os`] if it is outside RAM.
    ///
    /// # Safety
    /// Nobody else may access it meanwhile.
    pub unsafe fn set_page(&self, page: u64, bytes: &[u8; PAGE]) -> Result<(), KvmError> {
        let place = self.host_address(RAM_BASE + page * PAGE as u64, PAGE)?;
        // SAFETY: the page is within the mapping, which is of whole pages; the caller answers for everybody else.
        let place = unsafe { &mut *place.cast::<[u8; PAGE]>() };
        if place != bytes {
            *place = *bytes;
        }
        Ok(())
    }

    /// Has pages hold nothing, by their numbers.
    ///
    /// # Errors
    /// [`KvmError::Os`] if they are not pages of RAM.
    ///
    /// # Safety
    /// Nobody else may access them meanwhile.
    pub unsafe fn clear(&self, pages: Range<u64>) -> Result<(), KvmError> {
        let (place, len) = self.place(pages)?;
        // SAFETY: they are within the mapping, which stays, and holds zeros where it is anonymous, which it is; the
        // caller answers for everybody else.
        let cleared = unsafe { madvise(place.cast(), len, Advice::LinuxDontNeed) };
        cleared.map_err(KvmError::os("clear guest RAM"))
    }

    /// Has each byte of pages hold that, by their numbers.
    ///
    /// # Errors
    /// [`KvmError::Os`] if they are not pages of RAM.
    ///
    /// # Safety
    /// Nobody else may access them meanwhile.
    pub unsafe fn set(&self, pages: Range<u64>, byte: u8) -> Result<(), KvmError> {
        let (place, len) = self.place(pages)?;
        // SAFETY: they are within the mapping, which stays; the caller answers for everybody else.
        unsafe { place.write_bytes(byte, len) };
        Ok(())
    }

    /// Where pages are mapped, and how many bytes they are.
    fn place(&self, pages: Range<u64>) -> Result<(*mut u8, usize), KvmError> {
        let len = (pages.end - pages.start) * PAGE as u64;
        let len = usize::try_from(len);
        let len = len.map_err(|e| KvmError::os("find pages of RAM")(io::Error::other(e)))?;
        let at = RAM_BASE + pages.start * PAGE as u64;
        Ok((self.host_address(at, len)?, len))
    }

    /// Where in this process so many bytes of RAM are mapped, by their physical address.
    ///
    /// # Errors
    /// [`KvmError::Os`] if any of them is outside RAM.
    pub fn host_address(&self, pa: u64, bytes: usize) -> Result<*mut u8, KvmError> {
        let slice = self.memory.get_slice(GuestAddress(pa), bytes);
        let slice = slice.map_err(|e| KvmError::os("find pages of RAM")(io::Error::other(e)))?;
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
        let map = KvmError::os("map guest RAM");
        let region = self.memory.iter().next();
        let region = region.ok_or(KvmError::BadRequest("no RAM"))?;
        let flags = region.flags();
        // SAFETY: the mapping is of that length and protection, and stays where it is as long as `self` does, which
        // outlives the view. That does not unmap it.
        let view =
            unsafe { MmapRegion::build_raw(region.as_ptr(), region.size(), PROTECTION, flags) };
        view.map_err(|e| map(io::Error::other(e)))
    }

    /// Gives it to a guest.
    ///
    /// # Errors
    /// [`KvmError::Refused`].
    ///
    /// # Safety
    /// The guest borrows nothing: none of its CPUs may run any more when this goes.
    pub unsafe fn give_to(&self, vm: &VmFd) -> Result<(), KvmError> {
        for (slot, region) in self.memory.iter().enumerate() {
            let slot = kvm_userspace_memory_region {
                // Of one.
                slot: slot as u32,
                flags: 0,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
            };
            // SAFETY: the mapping is of that length, and is there for as long as the guest runs.
            unsafe { vm.set_user_memory_region(slot) }
                .map_err(KvmError::kvm("give the guest its memory"))?;
        }
        Ok(())
    }
}
