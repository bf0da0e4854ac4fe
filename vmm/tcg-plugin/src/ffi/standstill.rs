// SPDX-License-Identifier: GPL-2.0-or-later
//! Stops the guest for its snapshot: right behind the store that ends a line on its console, whatever the host does.
//!
//! With icount, a store to a device of QEMU's is the last instruction of its block of code. QEMU is told to stop in
//! the callback for that store, and the callback waits until it is about to: so the CPU executes nothing more, and
//! guest time does not go on as it does for a CPU that waits for an interrupt. Both functions are not part of the
//! plugin interface; QEMUs that can load modules, as distributions build them, export them.

use std::ffi::{CStr, c_int, c_void};
use std::fs::File;
use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use qemu_plugin_sys::{
    qemu_plugin_mem_get_value, qemu_plugin_mem_value_type as Kind, qemu_plugin_meminfo_t,
};
use staleline_devices::state::Saved;
use staleline_machine::board::UART;
use staleline_machine::engine::abi::{FromPlugin, SaveAt};
use staleline_machine::snapshot::Until;

use super::PATIENCE;
use crate::control;

/// `RUN_STATE_PAUSED` (QEMU's `qapi/run-state.json`; the same since QEMU 1.2).
const PAUSED: c_int = 4;

/// How often to look whether QEMU is about to stop.
const LOOK: Duration = Duration::from_micros(20);

/// What is looked for, and where the state goes.
pub(super) struct Standstill {
    until: Until,
    fd: c_int,
}

impl Standstill {
    pub fn new(at: &SaveAt) -> Self {
        Standstill {
            until: Until::new(at.after.clone()),
            fd: at.fd,
        }
    }

    /// Whether the store of a memory callback, to that physical address, is what is waited for.
    pub fn is_due(&mut self, pa: u64, info: qemu_plugin_meminfo_t) -> bool {
        // The data register is the first.
        pa == UART && self.until.is_over(stored(info))
    }

    /// Saves and stops; to be called once it is due, in that callback.
    ///
    /// # Errors
    /// For the user.
    pub fn stop(&self, saved: &Saved, accesses: u64) -> Result<(), String> {
        let failed = |e: &dyn std::error::Error| format!("the snapshot cannot be written: {e}");
        let sealed = saved.seal().map_err(|e| failed(&e))?;
        File::options()
            .write(true)
            .open(format!("/proc/self/fd/{}", self.fd))
            .and_then(|mut file| file.write_all(&sealed))
            .map_err(|e| failed(&e))?;
        control::send(&FromPlugin::Saved { accesses });
        stop_qemu()
    }
}

/// The low byte of what was stored.
fn stored(info: qemu_plugin_meminfo_t) -> u8 {
    // SAFETY: this is called in a memory callback, with its argument; the type says which field is there.
    unsafe {
        let value = qemu_plugin_mem_get_value(info);
        match value.type_ {
            Kind::QEMU_PLUGIN_MEM_VALUE_U8 => value.data.u8_,
            Kind::QEMU_PLUGIN_MEM_VALUE_U16 => value.data.u16_ as u8,
            Kind::QEMU_PLUGIN_MEM_VALUE_U32 => value.data.u32_ as u8,
            Kind::QEMU_PLUGIN_MEM_VALUE_U64 => value.data.u64_ as u8,
            Kind::QEMU_PLUGIN_MEM_VALUE_U128 => value.data.u128_.low as u8,
        }
    }
}

/// A function of QEMU's.
fn symbol(name: &CStr) -> Result<*mut c_void, String> {
    // SAFETY: the name is a string.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    match found.is_null() {
        false => Ok(found),
        true => Err(format!(
            "this QEMU does not export {}, by which its guests are stopped for a snapshot: use one that is built \
             with modules, as distributions do",
            name.to_string_lossy()
        )),
    }
}

fn stop_qemu() -> Result<(), String> {
    type VmStop = unsafe extern "C" fn(c_int) -> c_int;
    type IsRunning = unsafe extern "C" fn() -> bool;
    let (vm_stop, is_running) = (symbol(c"vm_stop")?, symbol(c"runstate_is_running")?);
    // SAFETY: these are the functions' declarations (QEMU's `include/sysemu/runstate.h`, later `include/system/`,
    // 9.2 to 11.1).
    let (vm_stop, is_running) = unsafe {
        (
            std::mem::transmute::<*mut c_void, VmStop>(vm_stop),
            std::mem::transmute::<*mut c_void, IsRunning>(is_running),
        )
    };
    // SAFETY: it may be called on the thread of a CPU, where it asks the main loop to stop, and this CPU to leave
    // its code.
    unsafe { vm_stop(PAUSED) };
    let deadline = Instant::now() + PATIENCE;
    // SAFETY: it only looks at a variable.
    while unsafe { is_running() } {
        if Instant::now() > deadline {
            return Err("QEMU does not stop".into());
        }
        thread::sleep(LOOK);
    }
    Ok(())
}
