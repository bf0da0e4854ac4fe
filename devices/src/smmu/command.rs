// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Commands.
//!
//! Source: Arm IHI0070, chapter 4.

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Nothing: a hint.
    Prefetch,
    /// Wait for what came before.
    Sync,
    /// Configurations of 2^`bits` streams are out of date, those that differ from `first` in the lower bits.
    ForgetStreams { first: u32, bits: u32 },
    /// All translations are.
    ForgetAll,
    /// Those of an ASID are.
    ForgetAsid { asid: u16 },
    /// Those of an address are, in one ASID or in all.
    ForgetAddress { asid: Option<u16>, at: u64 },
}

/// None that this SMMU has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Illegal;

impl Command {
    pub fn decode(bytes: &[u8; 16]) -> Result<Self, Illegal> {
        let (words, _) = bytes.as_chunks::<8>();
        let word = |n: usize| words.get(n).map_or(0, |word| u64::from_le_bytes(*word));
        let (first, second) = (word(0), word(1));
        let stream = (first >> 32) as u32;
        let asid = (first >> 48) as u16;
        let at = second >> 12 << 12;
        Ok(match first & 0xff {
            0x01 | 0x02 => Command::Prefetch,
            // CFGI_STE, CFGI_CD, CFGI_CD_ALL: there is one context for each stream.
            0x03 | 0x05 | 0x06 => Command::ForgetStreams {
                first: stream,
                bits: 0,
            },
            // CFGI_STE_RANGE, CFGI_ALL
            0x04 => Command::ForgetStreams {
                first: stream,
                bits: (second & 0x1f) as u32 + 1,
            },
            // TLBI_NH_ALL, TLBI_NSNH_ALL
            0x10 | 0x30 => Command::ForgetAll,
            0x11 => Command::ForgetAsid { asid },
            0x12 => Command::ForgetAddress {
                asid: Some(asid),
                at,
            },
            0x13 => Command::ForgetAddress { asid: None, at },
            0x46 => Command::Sync,
            _ => return Err(Illegal),
        })
    }
}
