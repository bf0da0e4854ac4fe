// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a disk holds.

use std::fmt::Debug;

/// Bytes of a sector, in which disks count (virtio 1.2, 5.2.6).
pub const SECTOR: u64 = 512;

/// Where a disk's bytes are kept.
pub trait Backing: Debug {
    /// Sectors that there are.
    fn sectors(&self) -> u64;

    /// Reads `buf.len()` bytes from byte `at` on; whether all of them are there.
    fn read(&self, at: u64, buf: &mut [u8]) -> bool;

    /// Writes `data` from byte `at` on; whether there is room for all of it, else nothing is written.
    fn write(&mut self, at: u64, data: &[u8]) -> bool;
}

/// A disk in memory: whatever it was made from stays as it is.
pub struct MemoryDisk(Vec<u8>);

impl Debug for MemoryDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MemoryDisk").field(&self.0.len()).finish()
    }
}

impl MemoryDisk {
    /// Holds `bytes`, and zeros up to the end of the last sector.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
        MemoryDisk(bytes)
    }

    fn range(&self, at: u64, len: usize) -> Option<std::ops::Range<usize>> {
        let at = usize::try_from(at).ok()?;
        let end = at.checked_add(len)?;
        (end <= self.0.len()).then_some(at..end)
    }
}

impl Backing for MemoryDisk {
    fn sectors(&self) -> u64 {
        self.0.len() as u64 / SECTOR
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> bool {
        let range = self.range(at, buf.len());
        range
            .inspect(|r| buf.copy_from_slice(&self.0[r.clone()]))
            .is_some()
    }

    fn write(&mut self, at: u64, data: &[u8]) -> bool {
        let range = self.range(at, data.len());
        range
            .inspect(|r| self.0[r.clone()].copy_from_slice(data))
            .is_some()
    }
}
