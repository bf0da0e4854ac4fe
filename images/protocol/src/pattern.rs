// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The known contents of a data stream: every 8-byte word says where in the stream it belongs.
//!
//! Word *k* of the stream with seed *s* is a bijective mix of *k* and *s*. So a checker that knows
//! the seed can tell, for every byte, whether it is right, and for a wrong word, whether it is an
//! older part of the same stream (stale data) or something else.

use serde::{Deserialize, Serialize};

/// Bytes per pattern word.
pub const WORD: usize = 8;

/// A seeded stream of self-identifying words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
}

/// What a check of a piece of the stream found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// Bytes compared.
    pub bytes: u64,
    /// Bytes that differ from the pattern.
    pub corrupt: u64,
    /// Stream offset in bytes of the first one that differs.
    pub first: Option<u64>,
}

impl Mismatch {
    /// Adds the result of a later piece.
    pub fn merge(&mut self, later: Mismatch) {
        self.bytes += later.bytes;
        self.corrupt += later.corrupt;
        self.first = self.first.or(later.first);
    }

    /// Counts the bytes of a piece of up to a word, at `offset` of the stream, in which `bits` are
    /// wrong.
    #[inline]
    fn add(&mut self, offset: u64, bits: u64) {
        if bits == 0 {
            return;
        }
        let wrong = bits.to_le_bytes().iter().filter(|b| **b != 0).count();
        self.corrupt += wrong as u64;
        let first = u64::from(bits.trailing_zeros() / u8::BITS);
        self.first.get_or_insert(offset.wrapping_add(first));
    }
}

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection on 64-bit words.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

// The inverse of `mix`: modular inverses of its multipliers, shifts undone from the top.
fn unmix(mut z: u64) -> u64 {
    z = z ^ (z >> 31) ^ (z >> 62);
    z = z.wrapping_mul(0x3196_42b2_d24d_8ec3);
    z = z ^ (z >> 27) ^ (z >> 54);
    z = z.wrapping_mul(0x96de_1b17_3f11_9089);
    z ^ (z >> 30) ^ (z >> 60)
}

impl Pattern {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        // Spread small seeds, so that streams of neighbouring seeds share no words nearby.
        Pattern {
            seed: mix(seed ^ 0x5741_4c45_4c49_4e45),
        }
    }

    /// Word `index` of the stream.
    pub fn word(&self, index: u64) -> u64 {
        mix(index ^ self.seed)
    }

    /// The index at which `word` occurs in the stream; every word occurs exactly once in 2^64.
    /// A caller judges by the size of the answer whether the word plausibly is of this stream.
    pub fn locate(&self, word: u64) -> u64 {
        unmix(word) ^ self.seed
    }

    /// Fills `buf` with the stream from byte `offset` on.
    pub fn fill(&self, offset: u64, buf: &mut [u8]) {
        let (head, mut index) = Self::align(offset, buf.len());
        let (head, body) = buf.split_at_mut(head);
        let skip = within(offset);
        head.copy_from_slice(&self.word(index.wrapping_sub(1)).to_le_bytes()[skip..][..head.len()]);
        let mut words = body.chunks_exact_mut(WORD);
        for word in &mut words {
            word.copy_from_slice(&self.word(index).to_le_bytes());
            index = index.wrapping_add(1);
        }
        let tail = words.into_remainder();
        tail.copy_from_slice(&self.word(index).to_le_bytes()[..tail.len()]);
    }

    /// Compares `buf` with the stream from byte `offset` on, byte by byte.
    pub fn check(&self, offset: u64, buf: &[u8]) -> Mismatch {
        let mut result = Mismatch {
            bytes: buf.len() as u64,
            ..Mismatch::default()
        };
        let (head, mut index) = Self::align(offset, buf.len());
        let (head, body) = buf.split_at(head);
        let want = self.word(index.wrapping_sub(1)) >> (8 * within(offset));
        result.add(offset, difference(head, want));
        let mut at = offset.wrapping_add(head.len() as u64);
        let (words, tail) = body.as_chunks::<WORD>();
        for word in words {
            result.add(at, u64::from_le_bytes(*word) ^ self.word(index));
            index = index.wrapping_add(1);
            at = at.wrapping_add(WORD as u64);
        }
        result.add(at, difference(tail, self.word(index)));
        result
    }

    /// How many of `len` bytes from `offset` on come before the first word that starts there, and
    /// that word's index.
    fn align(offset: u64, len: usize) -> (usize, u64) {
        let head = (WORD - within(offset)) % WORD;
        (head.min(len), offset.div_ceil(WORD as u64))
    }
}

/// The place of byte `offset` of the stream in its word.
fn within(offset: u64) -> usize {
    (offset % WORD as u64) as usize
}

/// The bits in which `bytes`, fewer than a word, differ from the low bytes of `want`.
fn difference(bytes: &[u8], want: u64) -> u64 {
    let bits = |(n, byte): (usize, &u8)| u64::from(*byte ^ (want >> (8 * n)) as u8) << (8 * n);
    bytes.iter().enumerate().map(bits).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_word_tells_its_position(seed: u64, index: u64) {
            let p = Pattern::new(seed);
            prop_assert_eq!(p.locate(p.word(index)), index);
        }

        /// Byte by byte, as the definition says.
        #[test]
        fn whole_words_are_only_faster(
            seed: u64,
            offset in prop_oneof![0u64..40, 0u64..1 << 40],
            mut buf in prop::collection::vec(any::<u8>(), 0..80),
            right in 0usize..80,
        ) {
            let p = Pattern::new(seed);
            let byte = |at: u64| p.word(at / 8).to_le_bytes()[(at % 8) as usize];
            let want: Vec<u8> = (offset..).map(byte).take(buf.len()).collect();
            // Some right bytes at the start, then chance.
            let right = right.min(buf.len());
            buf[..right].copy_from_slice(&want[..right]);
            let wrong: Vec<u64> = (0..buf.len()).filter(|n| buf[*n] != want[*n])
                .map(|n| offset + n as u64).collect();
            prop_assert_eq!(p.check(offset, &buf), Mismatch {
                bytes: buf.len() as u64,
                corrupt: wrong.len() as u64,
                first: wrong.first().copied(),
            });
            p.fill(offset, &mut buf);
            prop_assert_eq!(buf, want);
        }

        #[test]
        fn pieces_of_any_alignment_join_up(seed: u64, offset in 0u64..1 << 40, cut in 0usize..200) {
            let p = Pattern::new(seed);
            let mut whole = [0u8; 200];
            p.fill(offset, &mut whole);
            let mut parts = [0u8; 200];
            let (a, b) = parts.split_at_mut(cut);
            p.fill(offset, a);
            p.fill(offset + cut as u64, b);
            prop_assert_eq!(whole, parts);
            prop_assert_eq!(p.check(offset, &whole).corrupt, 0);
        }

        #[test]
        fn each_wrong_byte_is_counted_once(at in 0usize..100, flip in 1u8..) {
            let p = Pattern::new(1);
            let mut buf = [0u8; 100];
            p.fill(3, &mut buf);
            buf[at] ^= flip;
            let m = p.check(3, &buf);
            prop_assert_eq!(m, Mismatch { bytes: 100, corrupt: 1, first: Some(3 + at as u64) });
        }
    }

    #[test]
    fn zeros_are_not_the_pattern() {
        let m = Pattern::new(0).check(0, &[0; 4096]);
        assert!(
            m.corrupt > 4000,
            "only {} of 4096 zero bytes differ",
            m.corrupt
        );
    }
}
