// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The run hash: whether two runs did the same things in the same order.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::dma::MasterId;

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
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
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

    /// Adds a master's access: where it was, whose, and its data. The data are hashed on their own
    /// first, many bytes at a time, which is most of what DMA would cost otherwise.
    pub fn add_dma(&mut self, item: Item, offset: u64, master: MasterId, data: &[u8]) {
        self.add(item, offset << 8 | u64::from(master.0));
        self.mix(data.len() as u64);
        self.mix(XxHash3_64::oneshot(data));
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

    #[test]
    fn every_bit_of_what_a_master_did_counts() {
        let of = |item, offset, master, data: &[u8]| {
            let mut h = RunHash::new();
            h.add_dma(item, offset, MasterId(master), data);
            h.value()
        };
        for len in [0, 1, 8, 63, 64, 300, 4096] {
            let mut data = vec![0; len];
            let mut all = std::collections::HashSet::new();
            let mut another = |hash| assert!(all.insert(hash), "{len} bytes");
            another(of(Item::DmaWrite, 64, 1, &data));
            another(of(Item::DmaRead, 64, 1, &data));
            another(of(Item::DmaWrite, 65, 1, &data));
            another(of(Item::DmaWrite, 64, 2, &data));
            for bit in 0..len * 8 {
                data[bit / 8] ^= 1 << (bit % 8);
                another(of(Item::DmaWrite, 64, 1, &data));
                data[bit / 8] ^= 1 << (bit % 8);
            }
            data.push(0);
            another(of(Item::DmaWrite, 64, 1, &data));
        }
    }

    #[test]
    fn one_access_is_not_two_of_half_the_size() {
        let data = [7; 128];
        let mut one = RunHash::new();
        one.add_dma(Item::DmaRead, 0, MasterId(0), &data);
        let mut two = RunHash::new();
        two.add_dma(Item::DmaRead, 0, MasterId(0), &data[..64]);
        two.add_dma(Item::DmaRead, 64, MasterId(0), &data[64..]);
        assert_ne!(one.value(), two.value());
    }
}
