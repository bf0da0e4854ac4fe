// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Memory of whole pages, at their start: what `O_DIRECT` reads into and writes from, and code that
//! came there by such a read.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Private pages.
#[derive(Debug)]
pub struct Pages {
    base: NonNull<u8>,
    len: usize,
}

impl Pages {
    /// `len` zero bytes.
    pub fn new(len: usize) -> io::Result<Self> {
        Self::map(len, ProtFlags::READ | ProtFlags::WRITE)
    }

    fn map(len: usize, prot: ProtFlags) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nobody.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), len, prot, MapFlags::PRIVATE) }?;
        let base =
            NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Pages { base, len })
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: a private mapping of `len` bytes, all initialised, as long as `self`; it changes in
        // system calls that borrow it only.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed by nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: ours, and nobody refers to it any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast::<c_void>(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

/// Pages with code in them.
#[derive(Debug)]
pub struct Code(Pages);

impl Code {
    /// `len` bytes of memory, to be filled by way of [`Code::bytes`].
    pub fn new(len: usize) -> io::Result<Self> {
        Pages::map(len, ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC).map(Code)
    }

    /// What is to be executed.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Calls the function at the start, which takes nothing and returns a number; before that it does
    /// what an arm64 program owes to code that it has changed (DDI 0487, B2.4.4).
    ///
    /// # Safety
    /// There must be such a function.
    pub unsafe fn call(&self) -> u64 {
        synchronise(&self.0);
        let start = self.0.base.as_ptr();
        // SAFETY: the caller's promise; the memory is executable.
        let function: extern "C" fn() -> u64 = unsafe { std::mem::transmute(start) };
        function()
    }
}

/// Makes instruction fetches see what loads see.
#[cfg(target_arch = "aarch64")]
fn synchronise(code: &[u8]) {
    use std::arch::asm;

    let ctr: u64;
    // SAFETY: user space may read the register (Documentation/arch/arm64/cpu-feature-registers.rst).
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack)) };
    // Words of the smallest line, as powers of two.
    let line = |shift: u32| 4_usize << (ctr >> shift & 0xf);
    let (data, instructions) = (line(16), line(0));
    for piece in code.chunks(data) {
        // SAFETY: an address in a mapping; it changes nothing that a load sees.
        unsafe { asm!("dc cvau, {}", in(reg) piece.as_ptr(), options(nostack)) };
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb ish", options(nostack)) };
    for piece in code.chunks(instructions) {
        // SAFETY: as for the other.
        unsafe { asm!("ic ivau, {}", in(reg) piece.as_ptr(), options(nostack)) };
    }
    // SAFETY: barriers.
    unsafe { asm!("dsb ish", "isb", options(nostack)) };
}

/// For the agent's own tests only.
#[cfg(not(target_arch = "aarch64"))]
fn synchronise(_: &[u8]) {}
