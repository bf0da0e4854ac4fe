// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The coherency port: a register by which a guest tells of its cache maintenance, for engines that do not see the
//! instructions. Patched kernels know it (`guest-kernel/stacks/instrumented`).

use std::ops::Range;

/// Physical address of its only register, of 64 bits. There is nothing else on QEMU's `virt` either.
pub const COHERENCY_PORT: u64 = 0x0b00_0000;

/// Bytes of its window.
pub const COHERENCY_PORT_BYTES: u64 = 0x1000;

/// What the device tree calls it.
pub const COMPATIBLE: &str = "staleline,coherency-port";

/// Bytes of a line.
const LINE: u64 = 64;

/// What has been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// `dc cvac` of each line, completed by a DSB.
    Clean,
    /// `dc ivac` of each, `dc civac` of those that are only partly concerned, completed by a DSB.
    Invalidate,
    /// From now on a CPU accesses it by a non-cacheable mapping.
    Uncached,
    /// There is no such mapping any more.
    Cached,
    /// Nothing: it has found the port, and tells of what it does from now on.
    Found,
}

/// What a CPU has told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// What has been done.
    pub done: Done,
    /// To which line first: its physical address.
    pub first: u64,
    /// To how many lines, from 1 to 2^18.
    pub lines: u64,
    /// The first line is only partly concerned.
    pub head: bool,
    /// The last line is.
    pub tail: bool,
}

impl Told {
    /// Of the register's value: bits 63 to 60 are what, 59 and 58 head and tail, 57 to 40 the lines after the
    /// first, 39 to 0 the number of the first. `None` if it says nothing.
    #[must_use]
    pub fn decode(value: u64) -> Option<Self> {
        let done = match value >> 60 {
            1 => Done::Clean,
            2 => Done::Invalidate,
            3 => Done::Uncached,
            4 => Done::Cached,
            5 => Done::Found,
            _ => return None,
        };
        Some(Told {
            done,
            first: (value & ((1 << 40) - 1)) * LINE,
            lines: (value >> 40 & 0x3_ffff) + 1,
            head: value >> 59 & 1 != 0,
            tail: value >> 58 & 1 != 0,
        })
    }

    /// Those of its lines that begin in `within`, each with whether it is only partly concerned.
    pub fn each(self, within: Range<u64>) -> impl Iterator<Item = (u64, bool)> {
        let line = |pa: u64| pa.saturating_sub(self.first).div_ceil(LINE).min(self.lines);
        (line(within.start)..line(within.end)).map(move |n| {
            let partly = n == 0 && self.head || n + 1 == self.lines && self.tail;
            (self.first + n * LINE, partly)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_understood() {
        // 0x4000_1010 to 0x4000_10c0, invalidated: three lines, the first only partly.
        let value = 2 << 60 | 1 << 59 | 2 << 40 | 0x4000_1010 >> 6;
        let told = Told::decode(value).unwrap();
        assert_eq!(told.done, Done::Invalidate);
        let lines: Vec<_> = told.each(0..u64::MAX).collect();
        let expected = [
            (0x4000_1000, true),
            (0x4000_1040, false),
            (0x4000_1080, false),
        ];
        assert_eq!(lines, expected);
        // A line that begins before is none of it.
        let within: Vec<_> = told.each(0x4000_1001..0x4000_1080).collect();
        assert_eq!(within, expected[1..2]);
        assert_eq!(told.each(0..0x4000_1000).next(), None);
        assert_eq!(told.each(0x4000_10c0..u64::MAX).next(), None);
        assert_eq!(Told::decode(5 << 60).unwrap().done, Done::Found);
        for nonsense in [0, 6 << 60, u64::MAX] {
            assert_eq!(Told::decode(nonsense), None);
        }
    }

    #[test]
    fn the_longest_range_is_bounded() {
        let told = Told::decode(1 << 60 | ((1 << 58) - 1)).unwrap();
        assert_eq!((told.lines, told.first), (1 << 18, ((1 << 40) - 1) << 6));
        assert!(told.each(0..u64::MAX).last().unwrap().0 < 1 << 47);
    }
}
