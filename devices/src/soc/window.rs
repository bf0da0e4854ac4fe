// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A register window: memory that always holds what a driver would read.
//!
//! The guest's loads and stores go to this memory without asking anybody. After each store, and
//! after everything else that happens to the device, the window is brought up to date.

use vm_memory::{Bytes, MmapRegion, VolatileMemory};

use crate::bus::Device;

/// One device's window.
pub(super) struct Window {
    /// Offset in the mapping.
    start: u64,
    /// What the declared registers showed last, by their order.
    shown: Vec<u32>,
}

impl Window {
    pub fn new(start: u64) -> Self {
        Window {
            start,
            shown: Vec::new(),
        }
    }

    fn put(&self, mapping: &MmapRegion, offset: u64, value: u32) {
        // Offsets are below the window's size, which the mapping has room for.
        let stored = mapping.as_volatile_slice().store(
            value.to_le(),
            (self.start + offset) as usize,
            std::sync::atomic::Ordering::Relaxed,
        );
        debug_assert!(stored.is_ok(), "register {offset:#x} outside the mapping");
    }

    /// The word the guest stored at `offset`.
    pub fn stored(&self, mapping: &MmapRegion, offset: u64) -> u32 {
        let at = (self.start + offset) as usize;
        let value: Result<u32, _> = mapping
            .as_volatile_slice()
            .load(at, std::sync::atomic::Ordering::Relaxed);
        value.map(u32::from_le).unwrap_or(0)
    }

    /// After a guest's store at `offset`: shows the device's value there again.
    pub fn restore(&self, mapping: &MmapRegion, device: &dyn Device, offset: u64) {
        self.put(mapping, offset, device.peek(offset));
    }

    /// Shows the registers whose value has changed.
    pub fn refresh(&mut self, mapping: &MmapRegion, device: &dyn Device) {
        let registers = device.registers();
        let first = self.shown.len() != registers.len();
        if first {
            self.shown = vec![0; registers.len()];
        }
        for (i, register) in registers.iter().enumerate() {
            let value = device.peek(register.offset);
            if first || self.shown[i] != value {
                self.shown[i] = value;
                self.put(mapping, register.offset, value);
            }
        }
    }
}
