// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A ring in memory with two indices, each with a bit above it that says how often it has gone round.
//!
//! Source: Arm IHI0070, 3.5.1.

/// A ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queue {
    base: u64,
    bits: u32,
}

impl Queue {
    /// As its base register says; of at most 2^`most` entries.
    pub fn new(register: u64, most: u32) -> Self {
        const ADDRESS: u64 = 0x000f_ffff_ffff_ffe0;
        Queue {
            base: register & ADDRESS,
            bits: ((register & 0x1f) as u32).min(most),
        }
    }

    pub fn entries(self) -> u32 {
        1 << self.bits
    }

    /// Index and wrap bit.
    fn place(self, index: u32) -> u32 {
        index & (2 * self.entries() - 1)
    }

    pub fn is_empty(self, prod: u32, cons: u32) -> bool {
        self.place(prod) == self.place(cons)
    }

    pub fn is_full(self, prod: u32, cons: u32) -> bool {
        self.place(prod) ^ self.place(cons) == self.entries()
    }

    pub fn next(self, index: u32) -> u32 {
        self.place(self.place(index) + 1)
    }

    /// Where the entry of that index is, of so many bytes.
    pub fn at(self, index: u32, bytes: usize) -> u64 {
        self.base + u64::from(index & (self.entries() - 1)) * bytes as u64
    }
}
