// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Declarative register files: one table says what exists, what it reads after reset, and which
//! bits a write can change. Devices add behaviour on top; they never mask by hand.

use std::borrow::Cow;

use crate::state::{Invalid, same};

/// One 32-bit register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register {
    /// Byte offset in the device's window, a multiple of 4.
    pub offset: u64,
    /// Name as in the driver or data sheet.
    pub name: &'static str,
    /// Value after reset.
    pub reset: u32,
    /// Bits that a write stores.
    pub writable: u32,
    /// Bits that a write of 1 clears.
    pub w1c: u32,
    /// Other bits whose writing has an effect: commands, counters, ports of FIFOs.
    pub acts: u32,
}

impl Register {
    /// A register that reads `reset` whatever is written.
    pub const fn ro(offset: u64, name: &'static str, reset: u32) -> Self {
        Register {
            offset,
            name,
            reset,
            writable: 0,
            w1c: 0,
            acts: 0,
        }
    }

    /// A register of which `writable` bits can be stored, zero after reset.
    pub const fn rw(offset: u64, name: &'static str, writable: u32) -> Self {
        Register {
            offset,
            name,
            reset: 0,
            writable,
            w1c: 0,
            acts: 0,
        }
    }

    /// A register whose bits `w1c` are set by the device and cleared by writing 1.
    pub const fn w1c(offset: u64, name: &'static str, w1c: u32) -> Self {
        Register {
            offset,
            name,
            reset: 0,
            writable: 0,
            w1c,
            acts: 0,
        }
    }

    /// The same register with another reset value.
    pub const fn with_reset(self, reset: u32) -> Self {
        Register { reset, ..self }
    }

    /// The same register, whose bits `acts` the device acts on when they are written.
    pub const fn with_acts(self, acts: u32) -> Self {
        Register { acts, ..self }
    }

    /// The word that a write of only the bytes in `lanes` (their bits set) comes to, if the
    /// register reads `current`: bits that are stored stay as they are in the other bytes, and
    /// nothing there is cleared or acted on. `None` if no byte written has a bit that matters.
    ///
    /// The other bytes of `value` mean nothing.
    pub fn merge(&self, current: u32, value: u32, lanes: u32) -> Option<u32> {
        let matters = lanes == u32::MAX || lanes & (self.writable | self.w1c | self.acts) != 0;
        matters.then_some(value & lanes | current & self.writable & !lanes)
    }
}

/// Values of the registers of one table.
#[derive(Debug, Clone)]
pub struct RegisterFile {
    table: Cow<'static, [Register]>,
    values: Vec<u32>,
}

impl RegisterFile {
    /// All registers at their reset values. `table` must be sorted by offset without repeats;
    /// [`RegisterFile::check`] says so in the device's unit test.
    ///
    /// A table that depends on the device's configuration is given as a `Vec`.
    pub fn new(table: impl Into<Cow<'static, [Register]>>) -> Self {
        let table = table.into();
        RegisterFile {
            values: table.iter().map(|r| r.reset).collect(),
            table,
        }
    }

    /// The table.
    pub fn table(&self) -> &[Register] {
        &self.table
    }

    /// Whether `table` is well formed: sorted, aligned, no bit both stored and cleared or acted on
    /// by a write.
    pub fn check(table: &[Register]) -> bool {
        table.windows(2).all(|w| w[0].offset < w[1].offset)
            && table.iter().all(|r| {
                let overlap = r.writable & r.w1c | r.writable & r.acts | r.w1c & r.acts;
                r.offset % 4 == 0 && overlap == 0
            })
    }

    fn index(&self, offset: u64) -> Option<usize> {
        self.table.binary_search_by_key(&offset, |r| r.offset).ok()
    }

    /// The value at `offset`; zero where nothing is declared.
    pub fn get(&self, offset: u64) -> u32 {
        self.index(offset).map_or(0, |i| self.values[i])
    }

    /// Sets all bits, as the device itself does. Ignored where nothing is declared.
    pub fn set(&mut self, offset: u64, value: u32) {
        if let Some(i) = self.index(offset) {
            self.values[i] = value;
        }
    }

    /// Sets the bits of `mask` to those of `value`, as the device itself does.
    pub fn modify(&mut self, offset: u64, mask: u32, value: u32) {
        let old = self.get(offset);
        self.set(offset, old & !mask | value & mask);
    }

    /// A guest's write: stores and clears what the table allows, returns the new value.
    /// Ignored where nothing is declared.
    pub fn write(&mut self, offset: u64, value: u32) -> u32 {
        let Some(i) = self.index(offset) else {
            return 0;
        };
        let r = &self.table[i];
        let kept = self.values[i] & !r.writable & !(r.w1c & value);
        self.values[i] = kept | value & r.writable;
        self.values[i]
    }

    /// The values, in order of the table: a state of this file.
    pub fn values(&self) -> &[u32] {
        &self.values
    }

    /// Takes the values of another file with the same table over.
    ///
    /// # Errors
    /// [`Invalid`] if there are more or fewer than registers. Which values a register may have is the
    /// device's business.
    pub fn set_values(&mut self, values: Vec<u32>) -> Result<(), Invalid> {
        same("number of registers", &values.len(), &self.values.len())?;
        self.values = values;
        Ok(())
    }

    /// Back to the reset values.
    pub fn reset(&mut self) {
        for (value, r) in self.values.iter_mut().zip(self.table.iter()) {
            *value = r.reset;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Register] = &[
        Register::ro(0, "VERSION", 0x0004_0461),
        Register::rw(4, "MASK", 3).with_reset(3),
        Register::w1c(8, "PENDING", 3),
    ];

    #[test]
    fn a_guest_changes_only_what_the_table_allows() {
        assert!(RegisterFile::check(TABLE));
        let mut f = RegisterFile::new(TABLE);
        assert_eq!(
            (f.get(0), f.get(4), f.get(8), f.get(12)),
            (0x0004_0461, 3, 0, 0)
        );
        for (offset, want) in [(0, 0x0004_0461), (4, 3), (8, 0), (12, 0)] {
            assert_eq!(f.write(offset, u32::MAX), want);
        }
        f.set(8, 3);
        assert_eq!(f.write(8, 1), 2);
        f.reset();
        assert_eq!(f.get(8), 0);
    }

    #[test]
    fn a_narrow_write_changes_only_its_bytes() {
        let r = Register {
            writable: 0x0000_ff0f,
            w1c: 0x00f0_0000,
            acts: 0x0f00_0000,
            ..Register::ro(0, "ALL", 0)
        };
        assert!(RegisterFile::check(&[r]));
        let (current, value) = (0xa5a5_a5a5, u32::MAX);
        assert_eq!(r.merge(current, value, u32::MAX), Some(value));
        assert_eq!(r.merge(current, value, 0x0000_00ff), Some(0x0000_a5ff));
        assert_eq!(r.merge(current, value, 0x0000_ff00), Some(0x0000_ff05));
        assert_eq!(r.merge(current, value, 0x00ff_0000), Some(0x00ff_a505));
        assert_eq!(r.merge(current, value, 0xff00_0000), Some(0xff00_a505));
        // The bus may carry anything in the other bytes.
        assert_eq!(r.merge(current, 0x1234_5678, 0xff), Some(0x0000_a578));
        let read_only = Register::ro(0, "VERSION", 7);
        assert_eq!(read_only.merge(7, 1, 0xff), None);
        // Whole words are the device's business.
        assert_eq!(read_only.merge(7, 1, u32::MAX), Some(1));
    }
}
