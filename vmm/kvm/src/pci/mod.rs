// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The PCI host bridge, as the guest sees it: configuration space by ECAM, and the registers of the devices
//! behind it, wherever the guest puts them. All accesses come here; nothing is mapped into the guest.

mod function;

use std::sync::{Mutex, PoisonError};

use staleline_machine::board::pci::{ECAM, MEMORY, slot};

pub use function::{Backing, Function};

/// Bits of an address in ECAM below the number of the device.
const DEVICE_AT: u32 = 15;
/// And below that of its function.
const FUNCTION_AT: u32 = 12;

/// The bridge, with all that is behind it.
pub struct Bridge<B> {
    functions: Vec<Mutex<Function<B>>>,
}

impl<B: Backing> Bridge<B> {
    /// With these devices, in this order.
    pub fn new(devices: impl IntoIterator<Item = B>) -> Self {
        let functions = devices.into_iter().map(|b| Mutex::new(Function::new(b)));
        Bridge {
            functions: functions.collect(),
        }
    }

    /// Whether an address is the bridge's.
    #[must_use]
    pub fn claims(&self, pa: u64) -> bool {
        ECAM.contains(&pa) || MEMORY.contains(&pa)
    }

    /// A CPU reads up to 8 bytes. Where nothing is, it gets ones.
    pub fn read(&self, pa: u64, data: &mut [u8]) {
        data.fill(0xff);
        match self.configuration(pa) {
            Some((function, register)) => {
                if let Some(function) = function {
                    self.with(function, |f| f.read_configuration(register, data));
                }
            }
            None => {
                let found = |f: &mut Function<B>| f.read_memory(pa, data);
                self.first(found);
            }
        }
    }

    /// A CPU writes up to 8 bytes.
    pub fn write(&self, pa: u64, data: &[u8]) {
        match self.configuration(pa) {
            Some((function, register)) => {
                if let Some(function) = function {
                    self.with(function, |f| f.write_configuration(register, data));
                }
            }
            None => self.first(|f| f.write_memory(pa, data)),
        }
    }

    /// Of an address in ECAM, the function if there is one, and the register.
    fn configuration(&self, pa: u64) -> Option<(Option<usize>, u16)> {
        let offset = pa.checked_sub(ECAM.start).filter(|_| ECAM.contains(&pa))?;
        let register = (offset & 0xfff) as u16;
        let number = offset >> DEVICE_AT;
        let first = offset >> FUNCTION_AT & 7 == 0;
        let mut all = 0..self.functions.len();
        let index = all.find(|index| u64::from(slot(*index)) == number);
        Some((index.filter(|_| first), register))
    }

    fn with(&self, index: usize, f: impl FnOnce(&mut Function<B>)) {
        if let Some(function) = self.functions.get(index) {
            f(&mut function.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// The first that says it is it.
    fn first(&self, mut is_it: impl FnMut(&mut Function<B>) -> bool) {
        for function in &self.functions {
            if is_it(&mut function.lock().unwrap_or_else(PoisonError::into_inner)) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::function::fake::Fake;
    use super::*;

    fn at(device: u64, register: u64) -> u64 {
        ECAM.start + (device << DEVICE_AT) + register
    }

    fn u32_at(bridge: &Bridge<Fake>, pa: u64) -> u32 {
        let mut data = [0; 4];
        bridge.read(pa, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn devices_are_found_where_they_are_and_nowhere_else() {
        let bridge = Bridge::new([Fake::nvme(), Fake::nvme()]);
        let found: Vec<u64> = (0..32)
            .filter(|d| u32_at(&bridge, at(*d, 0)) != u32::MAX)
            .collect();
        assert_eq!(found, [1, 2]);
        // No other function, and no other bus.
        assert_eq!(u32_at(&bridge, at(1, 1 << FUNCTION_AT)), u32::MAX);
        assert!(!bridge.claims(ECAM.end));
        assert!(bridge.claims(at(31, 0xfff)));
    }

    #[test]
    fn registers_are_where_the_guest_has_put_them() {
        let bridge = Bridge::new([Fake::nvme(), Fake::nvme()]);
        for (device, base) in [(1, 0x1000_0000_u32), (2, 0x1000_4000)] {
            bridge.write(at(device, 0x10), &base.to_le_bytes());
            bridge.write(at(device, 0x14), &[0; 4]);
            bridge.write(at(device, 0x04), &[2, 0]);
        }
        bridge.write(0x1000_4010, &[7, 8]);
        assert_eq!(u32_at(&bridge, 0x1000_4010), 0x0807);
        assert_eq!(u32_at(&bridge, 0x1000_0010), 0);
        assert_eq!(u32_at(&bridge, 0x1000_8000), u32::MAX);
    }
}
