// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The run hash: whether two runs did the same things in the same order.

/// What is hashed; the values only have to differ.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Item {
    Load = 1,
    Store,
    Maintain,
    Barrier,
    DmaRead,
    DmaWrite,
    Fill,
    Evict,
    /// A maintenance instruction that the fault hook suppressed.
    Suppressed,
    External,
}

/// A running 64-bit hash. Good enough to tell runs apart; no defence against an adversary.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunHash(u64);

impl RunHash {
    pub fn new() -> Self {
        RunHash(0x5354_414c_454c_494e)
    }

    /// Adds one item with its address.
    #[inline]
    pub fn add(&mut self, item: Item, value: u64) {
        // Fibonacci hashing with a rotation, so that order counts and high bits come down.
        self.mix(value << 4 ^ item as u64);
    }

    /// Adds data, eight bytes at a time.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(last));
        }
    }

    #[inline]
    fn mix(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    pub fn value(self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_kind_and_address_count() {
        let of = |items: &[(Item, u64)]| {
            let mut h = RunHash::new();
            items.iter().for_each(|(i, v)| h.add(*i, *v));
            h.value()
        };
        let base = of(&[(Item::Load, 1), (Item::Store, 2)]);
        assert_ne!(base, of(&[(Item::Store, 2), (Item::Load, 1)]));
        assert_ne!(base, of(&[(Item::Load, 2), (Item::Store, 2)]));
        assert_ne!(base, of(&[(Item::Load, 1), (Item::Load, 2)]));
        assert_eq!(base, of(&[(Item::Load, 1), (Item::Store, 2)]));
    }
}
