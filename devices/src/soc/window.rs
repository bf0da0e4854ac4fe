// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Register windows that are memory, for engines whose CPUs read and write them without asking
//! anybody: memory that always holds what a driver would read.

use std::sync::atomic::Ordering;

use vm_memory::{Bytes, MmapRegion, VolatileMemory};

use super::WINDOW;
use crate::bus::Device;

/// The memory behind all windows, one after the other, and what it shows.
pub(super) struct Windows {
    memory: MmapRegion,
    /// For each device, what its declared registers showed last, by their order.
    shown: Vec<Vec<u32>>,
}

impl Windows {
    /// For as many devices, of which the last may have more windows than one; `None` if the memory is too
    /// small for them.
    pub fn new(memory: MmapRegion, devices: usize, more: usize) -> Option<Self> {
        let bytes = (devices + more) as u64 * WINDOW;
        (bytes <= memory.size() as u64).then(|| Windows {
            memory,
            shown: vec![Vec::new(); devices],
        })
    }

    #[cfg(test)]
    pub fn memory(&self) -> &MmapRegion {
        &self.memory
    }

    fn put(&self, index: usize, offset: u64, value: u32) {
        let at = index as u64 * WINDOW + offset;
        // Offsets are below the window's size, for which there is room.
        let stored =
            self.memory
                .as_volatile_slice()
                .store(value.to_le(), at as usize, Ordering::Relaxed);
        debug_assert!(stored.is_ok(), "register {offset:#x} outside the windows");
    }

    /// After a guest's store at `offset`: shows the device's value there again.
    pub fn restore(&self, index: usize, device: &dyn Device, offset: u64) {
        self.put(index, offset, device.peek(offset));
    }

    /// From now on all that is shown is in doubt.
    pub fn doubt(&mut self) {
        self.shown.iter_mut().for_each(Vec::clear);
    }

    /// Shows the registers whose value has changed.
    pub fn refresh(&mut self, index: usize, device: &dyn Device) {
        let registers = device.registers();
        let Some(shown) = self.shown.get_mut(index) else {
            return;
        };
        let mut shown = std::mem::take(shown);
        let first = shown.len() != registers.len();
        if first {
            shown = vec![0; registers.len()];
        }
        for (shown, register) in shown.iter_mut().zip(registers) {
            let value = device.peek(register.offset);
            if first || *shown != value {
                *shown = value;
                self.put(index, register.offset, value);
            }
        }
        self.shown[index] = shown;
    }
}
