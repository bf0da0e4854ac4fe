// SPDX-License-Identifier: GPL-2.0-or-later
//! Which CPU a callback is about.
//!
//! QEMU passes a number, but where CPUs take turns on one thread it is that of the CPU for which the
//! code was *translated* (`gen_cpu_index` in accel/tcg/plugin-gen.c, QEMU 9.2 to 11.1: without
//! CF_PARALLEL the number is a constant of the translated block, and blocks are shared). So with
//! several CPUs it is taken from where QEMU itself has it: its thread-local variable `current_cpu`,
//! which points at the CPU that executes. The variable is not part of the plugin interface; QEMUs
//! that can load modules, as distributions build them, export it.

use std::ffi::{c_uint, c_void};
use std::sync::Mutex;

use staleline_devices::cpu::{CpuId, MAX_CPUS};

/// QEMU's CPU object: only compared.
type Object = *const c_void;

/// QEMU's CPUs, by number, as seen when each was initialized.
static SEEN: Mutex<Seen> = Mutex::new(Seen {
    variable: None,
    objects: Vec::new(),
});

struct Seen {
    /// Address of the variable, on the thread of all CPUs.
    variable: Option<Address>,
    objects: Vec<Address>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Address(usize);

/// Finds the CPU of a callback.
pub(super) struct Current {
    /// Null with one CPU: QEMU's number is right then.
    variable: *const Object,
    objects: [Object; MAX_CPUS],
    last: (Object, CpuId),
}

/// A CPU has been initialized, on the thread that it is going to execute on.
pub(super) fn init(vcpu: c_uint) {
    let Ok(mut seen) = SEEN.lock() else { return };
    // SAFETY: the name is a string; of a thread-local variable dlsym gives the calling thread's.
    let variable = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"current_cpu".as_ptr()) };
    if !variable.is_null() {
        seen.variable = Some(Address(variable.expose_provenance()));
        // SAFETY: QEMU's declaration of the variable is a pointer, and this is its thread.
        let object = unsafe { *variable.cast::<Object>() };
        // The number is right here: this callback is not translated code.
        let place = vcpu as usize;
        if place >= seen.objects.len() {
            seen.objects.resize(place + 1, Address(0));
        }
        seen.objects[place] = Address(object.addr());
    } else {
        seen.objects.push(Address(0));
    }
}

/// What [`init`] has seen, when all CPUs are there.
///
/// # Errors
/// If there are several, and this QEMU does not let them be told apart.
pub(super) fn take() -> Result<Current, String> {
    let seen = SEEN.lock().map_err(|_| "QEMU's CPUs are not known")?;
    let single = Current {
        variable: std::ptr::null(),
        objects: [std::ptr::null(); MAX_CPUS],
        last: (std::ptr::null(), CpuId::BOOT),
    };
    let count = seen.objects.len();
    if count <= 1 {
        return Ok(single);
    }
    if count > MAX_CPUS {
        return Err(format!("{count} CPUs are more than {MAX_CPUS}"));
    }
    let distinct = (0..count).all(|n| {
        let object = seen.objects[n];
        object != Address(0) && !seen.objects[..n].contains(&object)
    });
    let variable = seen.variable.filter(|_| distinct).ok_or(
        "this QEMU does not export current_cpu, and tells plugins wrong CPU numbers where CPUs \
         share a thread: use one that is built with modules, as distributions do, or board.cpus=1",
    )?;
    let mut objects = [std::ptr::null(); MAX_CPUS];
    for (object, seen) in objects.iter_mut().zip(&seen.objects) {
        *object = std::ptr::without_provenance(seen.0);
    }
    Ok(Current {
        variable: std::ptr::with_exposed_provenance(variable.0),
        objects,
        ..single
    })
}

impl Current {
    /// As [`Current::cpu`], if it is still the one that executed last.
    #[inline(always)]
    pub fn same_cpu(&self, vcpu: c_uint) -> Option<CpuId> {
        match self.object() {
            Some(object) => (object == self.last.0).then_some(self.last.1),
            // One CPU: no truncation.
            None => Some(CpuId(vcpu as u8)),
        }
    }

    /// The CPU that executes. `vcpu` is QEMU's number. Only in a callback.
    pub fn cpu(&mut self, vcpu: c_uint) -> CpuId {
        self.same_cpu(vcpu).unwrap_or_else(|| self.switch())
    }

    /// QEMU's object for it, if there are several.
    #[inline(always)]
    fn object(&self) -> Option<Object> {
        // SAFETY: null, or QEMU's thread-local variable, read on the one thread that all CPUs execute
        // on, which is there as long as they are.
        unsafe { self.variable.as_ref() }.copied()
    }

    #[cold]
    #[inline(never)]
    fn switch(&mut self) -> CpuId {
        let object = self.object();
        let mut known = (0..).zip(&self.objects);
        match known.find(|(_, known)| Some(**known) == object) {
            Some((n, known)) => self.last = (*known, CpuId(n)),
            None => super::fatal("QEMU executes on a CPU that it has not announced".into()),
        }
        self.last.1
    }
}
