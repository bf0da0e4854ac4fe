// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Accesses to the UART that cost no exit to the VMM, of which a console takes two for each character.
//!
//! What registers would give stands in a page that the guest has at their place, and may not write: KVM reports the
//! writes, as if nothing were there (Documentation/virt/kvm/api.rst, 4.35, KVM_MEM_READONLY). Characters that are
//! written KVM keeps in a ring until the CPU comes out for something else (4.116), as long as a character changes
//! nothing that can be read: while the UART says that there is room.

use std::sync::Arc;

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VcpuFd, VmFd};
use staleline_machine::board::{UART, UART_BYTES};
use vm_memory::{Bytes as _, MmapRegion, VolatileMemory as _};

use crate::error::KvmError;
use crate::uart::{self, Uart};

/// The slot of guest memory that the page is. RAM is the first.
const SLOT: u32 = 1;

/// A page of registers, and whether characters are kept.
#[derive(Debug)]
pub struct Shortcut {
    vm: Arc<VmFd>,
    page: MmapRegion,
    /// Whether they may be.
    keeps: bool,
    is_keeping: bool,
    is_shown: bool,
}

impl Shortcut {
    /// For a guest with these CPUs, which may keep characters if it has but one and `keeps` says so. None if KVM
    /// cannot do that, or its pages are of another size: then each access is an exit.
    ///
    /// # Errors
    /// [`KvmError`].
    pub fn new(
        (kvm, vm): (&Kvm, &Arc<VmFd>),
        vcpus: &mut [VcpuFd],
        keeps: bool,
    ) -> Result<Option<Self>, KvmError> {
        let len = UART_BYTES as usize;
        let is_page = rustix::param::page_size() == len;
        if !is_page || !kvm.check_extension(Cap::ReadonlyMem) {
            return Ok(None);
        }
        let what = "give the guest the UART's registers";
        let page = MmapRegion::new(len);
        let page = page.map_err(|e| KvmError::os(what)(std::io::Error::other(e)))?;
        let slot = kvm_userspace_memory_region {
            slot: SLOT,
            flags: KVM_MEM_READONLY,
            guest_phys_addr: UART,
            memory_size: UART_BYTES,
            userspace_addr: page.as_ptr() as u64,
        };
        // SAFETY: the mapping is of that length, and stays as long as this, which lives until the CPUs' threads have
        // ended: they have it.
        unsafe { vm.set_user_memory_region(slot) }.map_err(KvmError::kvm(what))?;
        // The ring is read without barriers, which is right only where a single thread fills and empties it.
        let keeps = match vcpus {
            [vcpu] if keeps && kvm.check_extension(Cap::CoalescedMmio) => {
                let map = vcpu.map_coalesced_mmio_ring();
                map.map_err(KvmError::kvm("map the ring of what the guest has written"))?;
                true
            }
            _ => false,
        };
        Ok(Some(Shortcut {
            vm: Arc::clone(vm),
            page,
            keeps,
            is_keeping: false,
            is_shown: false,
        }))
    }

    /// Whether characters may be kept.
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// The UART is now so. No CPU may be about to see what it was.
    ///
    /// # Errors
    /// [`KvmError`].
    pub fn show(&mut self, uart: &Uart) -> Result<(), KvmError> {
        let page = self.page.as_volatile_slice();
        let failed = |e| KvmError::os("show the UART's registers")(std::io::Error::other(e));
        // What comes after these says what it is, and stays.
        let end = match self.is_shown {
            true => uart::CHANGES,
            false => UART_BYTES,
        };
        for at in (0..end).step_by(4) {
            let value = uart.read(at);
            let at = at as usize;
            if page.load::<u32>(at, ORDER).map_err(failed)? != value {
                page.store(value, at, ORDER).map_err(failed)?;
            }
        }
        clean(&self.page, end as usize);
        self.is_shown = true;
        let keep = self.keeps && uart.has_room();
        if keep != self.is_keeping {
            let data = IoEventAddress::Mmio(UART + uart::DR);
            let set = match keep {
                true => self.vm.register_coalesced_mmio(data, 4),
                false => self.vm.unregister_coalesced_mmio(data, 4),
            };
            set.map_err(KvmError::kvm("have characters kept"))?;
            self.is_keeping = keep;
        }
        Ok(())
    }
}

const ORDER: std::sync::atomic::Ordering = std::sync::atomic::Ordering::Relaxed;

/// The guest reads the page as registers, that is from memory, past the caches.
fn clean(page: &MmapRegion, bytes: usize) {
    /// Bytes of the shortest line that there is.
    const SHORTEST: usize = 16;
    for at in (0..bytes.min(page.size())).step_by(SHORTEST) {
        let line = page.as_ptr().wrapping_add(at);
        // SAFETY: the address is in the page. The instruction changes no byte and no flag; Linux lets programs
        // do it (Documentation/arch/arm64: SCTLR_EL1.UCI).
        unsafe { std::arch::asm!("dc cvac, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: it only waits.
    unsafe { std::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
}
