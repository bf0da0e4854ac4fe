// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Guest RAM, as the guest and the machine have it.

use std::fs::File;
use std::io;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use staleline_machine::boot::RAM_BASE;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _,
    GuestRegionMmap, MmapRegion,
};

use crate::error::KvmError;

const PROTECTION: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// Guest RAM: one region. Whatever else has a view of it must be gone before this is.
#[derive(Debug)]
pub struct Ram {
    memory: GuestMemoryMmap,
}

impl Ram {
    /// So many bytes: zeros, or what a file holds, which stays as it is.
    ///
    /// # Errors
    /// [`KvmError::Os`] if there is not so much memory.
    pub fn new(bytes: u64, holds: Option<File>) -> Result<Self, KvmError> {
        let allocate = KvmError::os("allocate guest RAM");
        let len = usize::try_from(bytes).map_err(|_| KvmError::BadRequest("too much RAM"))?;
        let anonymous = if holds.is_none() {
            libc::MAP_ANONYMOUS
        } else {
            0
        };
        let region = MmapRegion::build(
            holds.map(|file| FileOffset::new(file, 0)),
            len,
            PROTECTION,
            libc::MAP_PRIVATE | libc::MAP_NORESERVE | anonymous,
        );
        let region = region.map_err(|e| allocate(io::Error::other(e)))?;
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

    /// Where in this process a physical address of RAM is mapped.
    ///
    /// # Errors
    /// [`KvmError::Os`] if it is outside RAM.
    pub fn host_address(&self, pa: u64) -> Result<*mut u8, KvmError> {
        let host = self.memory.get_host_address(GuestAddress(pa));
        host.map_err(|e| KvmError::os("find a page of RAM")(io::Error::other(e)))
    }

    /// The same memory for the machine.
    ///
    /// # Errors
    /// [`KvmError::Os`].
    pub fn view(&self) -> Result<MmapRegion, KvmError> {
        let map = KvmError::os("map guest RAM");
        let region = self.memory.iter().next();
        let region = region.ok_or(KvmError::BadRequest("no RAM"))?;
        let flags = region.flags();
        // SAFETY: the mapping is of that length and protection, and stays where it is as long as `self` does,
        // which outlives the machine (see `guest::run`, where it is declared first). The view does not unmap
        // it.
        let view =
            unsafe { MmapRegion::build_raw(region.as_ptr(), region.size(), PROTECTION, flags) };
        view.map_err(|e| map(io::Error::other(e)))
    }

    /// Gives it to a guest.
    ///
    /// # Errors
    /// [`KvmError::Refused`].
    pub fn give_to(&self, vm: &VmFd) -> Result<(), KvmError> {
        for (slot, region) in self.memory.iter().enumerate() {
            let slot = kvm_userspace_memory_region {
                // Of one.
                slot: slot as u32,
                flags: 0,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
            };
            // SAFETY: the mapping is of that length, and outlives the machine: it is declared before that (see
            // `guest::run`), and the CPUs' threads end before either.
            unsafe { vm.set_user_memory_region(slot) }
                .map_err(KvmError::kvm("give the guest its memory"))?;
        }
        Ok(())
    }
}
