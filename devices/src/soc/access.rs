// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The guest's accesses to register windows: split and merged to whole words for the devices.

use std::ops::Range;

use super::{Soc, WINDOW};
use crate::events::{Event, Kind};
use crate::registers::Register;

/// Words that one access can touch: 64 bytes, not aligned.
const MAX_WORDS: usize = 17;

/// What an item of the run hash is about, above everything else in it; see [`super::LINE_CHANGE`].
const REGISTER_READ: u64 = 1 << 58;
const REGISTER_WRITE: u64 = 2 << 58;

/// The bits of the word at `offset` that a write of the bytes `written` carries, both in a window.
fn lanes(written: &Range<u64>, offset: u64) -> u32 {
    (0..4)
        .filter(|byte| written.contains(&(offset + byte)))
        .fold(0, |lanes, byte| lanes | 0xff << (8 * byte))
}

impl Soc {
    /// The registers that an access at `pa` covers: slot, and word offsets.
    fn words(&self, pa: u64, size: usize) -> Option<(usize, Range<u64>)> {
        let offset = pa.checked_sub(self.windows_start)?;
        let slot = (offset / WINDOW) as usize;
        // The last device may have two.
        let second = slot == self.slots.len() && self.wide && slot > 0;
        let slot = if second { slot - 1 } else { slot };
        let at = offset - slot as u64 * WINDOW;
        let end = (at + size as u64).min(at / WINDOW * WINDOW + WINDOW);
        (slot < self.slots.len()).then_some((slot, at / 4 * 4..end))
    }

    /// The register at `offset` of a device, if it is declared.
    fn declared(&self, slot: usize, offset: u64) -> Option<&Register> {
        let registers = self.slots.get(slot)?.device.registers();
        let at = registers.binary_search_by_key(&offset, |r| r.offset).ok()?;
        registers.get(at)
    }

    /// Adds a register access to the run hash. `lanes` is 0 for a read.
    fn hash_access(&mut self, slot: usize, offset: u64, lanes: u32, value: u32) {
        let kind = if lanes == 0 {
            REGISTER_READ
        } else {
            REGISTER_WRITE
        };
        self.domain
            .hash_external(kind | (((slot as u64) << 16) + offset));
        self.domain
            .hash_external(u64::from(lanes & 0x0808_0808) << 32 | u64::from(value));
    }

    /// Tells that the last register access read or wrote these bytes.
    pub(super) fn note_register(&mut self, write: bool, data: &[u8]) {
        let (cpu, site, pa) = self.domain.tap().register;
        self.domain.note(Kind::Register, || {
            let mut value = [0; 8];
            let shown = data.len().min(8);
            value[..shown].copy_from_slice(&data[..shown]);
            Event::Register {
                cpu,
                site,
                pa,
                // At most 64.
                len: data.len() as u8,
                write,
                value: u64::from_le_bytes(value),
            }
        });
    }

    pub(super) fn load_registers(&mut self, pa: u64, data: &mut [u8]) {
        // What lies past the last register is nobody's.
        data.fill(0);
        self.register_accesses += 1;
        let Some((slot, words)) = self.words(pa, data.len()) else {
            return;
        };
        if let Some(master) = self.slots.get(slot).and_then(|s| s.master) {
            self.domain.register_read(master);
        }
        // All words at once; effects come after.
        let mut bytes = [0; 4 * MAX_WORDS];
        for (word, offset) in bytes.chunks_exact_mut(4).zip(words.clone().step_by(4)) {
            let value = self.slots.get(slot).map_or(0, |s| s.device.peek(offset));
            word.copy_from_slice(&value.to_le_bytes());
            self.hash_access(slot, offset, 0, value);
        }
        let start = ((pa - self.windows_start) % 4) as usize;
        for (data, byte) in data.iter_mut().zip(&bytes[start..]) {
            *data = *byte;
        }
        self.note_register(false, data);
        for offset in words.step_by(4) {
            self.with(slot, |device, ctx| device.read_effect(offset, ctx));
        }
    }

    pub(super) fn store_registers(&mut self, pa: u64, data: &[u8]) {
        self.register_accesses += 1;
        let Some((slot, words)) = self.words(pa, data.len()) else {
            return;
        };
        let start = pa - self.windows_start - slot as u64 * WINDOW;
        let written = start..start + data.len() as u64;
        let mut bytes = [0; 4 * MAX_WORDS];
        let first = (start % 4) as usize;
        for (byte, data) in bytes[first..].iter_mut().zip(data) {
            *byte = *data;
        }
        for (word, offset) in bytes.chunks_exact(4).zip(words.step_by(4)) {
            let value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            self.store_register(slot, offset, value, lanes(&written, offset));
        }
    }

    /// A store of the bytes `lanes` of `value` to one register.
    fn store_register(&mut self, slot: usize, offset: u64, value: u32, lanes: u32) {
        self.hash_access(slot, offset, lanes, value & lanes);
        let word = match self.declared(slot, offset) {
            Some(register) => {
                let current = self.slots.get(slot).map_or(0, |s| s.device.peek(offset));
                register.merge(current, value, lanes)
            }
            None => (lanes == u32::MAX).then_some(value),
        };
        if let Some(word) = word {
            self.with(slot, |device, ctx| device.write(offset, word, ctx));
        }
        if let (Some(windows), Some(s)) = (&self.windows, self.slots.get(slot)) {
            windows.restore(slot, s.device.as_ref(), offset);
        }
    }
}
