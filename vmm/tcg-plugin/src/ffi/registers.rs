// SPDX-License-Identifier: GPL-2.0-or-later
//! The CPU's registers, as QEMU lets plugins read them.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use qemu_plugin_sys::{
    GByteArray, qemu_plugin_get_registers, qemu_plugin_read_register, qemu_plugin_reg_descriptor,
    qemu_plugin_register,
};

use super::fatal;
use crate::chain::Frame;

// GLib, which is part of every QEMU process.
unsafe extern "C" {
    fn g_byte_array_new() -> *mut GByteArray;
    fn g_byte_array_set_size(array: *mut GByteArray, length: c_uint) -> *mut GByteArray;
    fn g_array_free(array: *mut qemu_plugin_sys::GArray, free_segment: c_int) -> *mut c_char;
}

/// Handles of the CPU's registers.
pub(super) struct Registers {
    x: [Handle; 31],
    /// PSTATE as in SPSR.
    pub pstate: Handle,
    /// The stack pointer.
    pub sp: Handle,
    /// SP_EL0, in which Linux keeps the current task while it is in the kernel.
    pub task: Handle,
    /// CONTEXTIDR_EL1.
    context: Option<Handle>,
    /// Reused by every read.
    buffer: Handle,
}

/// QEMU's handle of a register.
#[derive(Clone, Copy)]
pub(super) struct Handle(*mut c_void);

// SAFETY: QEMU's handles are plain numbers that stay valid; the buffer is used on the vCPU's
// thread only.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Registers {
    /// Asks QEMU for them. Only in the vCPU's initialization.
    pub fn find() -> Result<Self, String> {
        // SAFETY: called in the vCPU's initialization, as QEMU demands. The array holds `len`
        // descriptors, whose strings live as long as the CPU.
        let list = unsafe { qemu_plugin_get_registers() };
        let found = |wanted: &str| -> Result<Handle, String> {
            // SAFETY: as above; the array is freed below, after the last call.
            let descriptors = unsafe {
                std::slice::from_raw_parts(
                    (*list).data.cast::<qemu_plugin_reg_descriptor>(),
                    (*list).len as usize,
                )
            };
            descriptors
                .iter()
                // SAFETY: as above.
                .find(|d| unsafe { CStr::from_ptr(d.name) }.to_bytes() == wanted.as_bytes())
                .map(|d| Handle(d.handle.cast()))
                .ok_or_else(|| format!("QEMU's CPU has no register {wanted}"))
        };
        let mut x = [Handle(std::ptr::null_mut()); 31];
        for (n, handle) in x.iter_mut().enumerate() {
            *handle = found(&format!("x{n}"))?;
        }
        let pstate = found("cpsr")?;
        let sp = found("sp")?;
        let task = found("SP_EL0")?;
        let context = found("CONTEXTIDR_EL1").ok();
        // SAFETY: the array is ours, and nothing refers to it any more.
        unsafe { g_array_free(list, 1) };
        // SAFETY: has no requirements.
        let buffer = unsafe { g_byte_array_new() };
        Ok(Registers {
            x,
            pstate,
            sp,
            task,
            context,
            buffer: Handle(buffer.cast()),
        })
    }

    /// Xn; the zero register for 31.
    pub fn x(&self, n: u8) -> u64 {
        self.x.get(usize::from(n)).map_or(0, |x| self.read(*x))
    }

    /// Where the current call chain starts. Registers that the instruction at hand changes may have
    /// their old or their new value.
    pub fn frame(&self) -> Frame {
        Frame {
            fp: self.x(29),
            lr: self.x(30),
            context: self.context.map(|context| self.read(context)),
        }
    }

    /// A register of up to 64 bits. Only in an execution callback that may read registers.
    pub fn read(&self, register: Handle) -> u64 {
        let buffer = self.buffer.0.cast::<GByteArray>();
        // SAFETY: the buffer is a GLib array that only this function uses, on one thread; the
        // handle is one of QEMU's, and the callbacks were registered with R_REGS. QEMU appends
        // what it reads; the slice covers what the array then holds.
        let bytes = unsafe {
            g_byte_array_set_size(buffer, 0);
            let len = qemu_plugin_read_register(register.0.cast::<qemu_plugin_register>(), buffer);
            if len <= 0 {
                fatal("QEMU cannot read a register of its CPU".into());
            }
            std::slice::from_raw_parts((*buffer).data, (*buffer).len as usize)
        };
        let mut value = [0; 8];
        let len = bytes.len().min(value.len());
        value[..len].copy_from_slice(&bytes[..len]);
        u64::from_le_bytes(value)
    }
}
