// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The table of guest addresses behind the interned [`SiteId`]s.
//!
//! The file is an array of little-endian 64-bit addresses; the entry at index *n* is that of
//! site *n* ([`SiteId::index`]). Entry 0, the unknown site, is 0. Bit 0, which no instruction's address
//! has set, says that code in the lower half of the address space is the kernel's: it starts with the
//! MMU off, and goes on for a while where its virtual addresses are the physical ones.

use std::io;
use std::path::Path;

use staleline_devices::cpu::SiteId;

/// Guest code addresses by [`SiteId`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteTable(Vec<u64>);

impl Default for SiteTable {
    fn default() -> Self {
        SiteTable(vec![0])
    }
}

impl SiteTable {
    /// The table size at which an engine stops interning: 8 MiB of addresses.
    pub const LIMIT: usize = 1 << 20;

    /// Appends the address of an instruction that is not in the table yet, of the kernel's code or of
    /// user space's. A full table gives the unknown site.
    pub fn push(&mut self, pc: u64, kernel: bool) -> SiteId {
        if self.0.len() >= Self::LIMIT {
            return SiteId(0);
        }
        let entry = pc & !LOW_KERNEL | if kernel && is_low(pc) { LOW_KERNEL } else { 0 };
        self.0.push(entry);
        id(self.0.len() - 1, entry)
    }

    /// The guest virtual address of an instruction; `None` for the unknown site or a foreign ID.
    #[inline]
    pub fn pc(&self, site: SiteId) -> Option<u64> {
        let entry = self.0.get(site.index()).filter(|_| site.0 != 0)?;
        Some(entry & !LOW_KERNEL)
    }

    /// The entries, by index: what [`SiteTable::from_entries`] takes.
    pub fn entries(&self) -> &[u64] {
        &self.0
    }

    /// A table of these entries; `None` if they are none of one.
    pub fn from_entries(entries: Vec<u64>) -> Option<Self> {
        let fits = entries.len() <= Self::LIMIT && entries.first() == Some(&0);
        fits.then_some(SiteTable(entries))
    }

    /// All known sites with their addresses, in order.
    pub fn iter(&self) -> impl Iterator<Item = (SiteId, u64)> + '_ {
        let entries = self.0.iter().enumerate().skip(1);
        entries.map(|(n, entry)| (id(n, *entry), entry & !LOW_KERNEL))
    }

    /// Number of known sites.
    pub fn len(&self) -> usize {
        self.0.len() - 1
    }

    /// Whether no site is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `hash` with all addresses mixed in, in order: the hash of a run whose accesses name their
    /// sites by number is then one of the places in guest code, too.
    pub fn mix_into(&self, hash: u64) -> u64 {
        // FNV-1a, but by words (the prime is that of its 64-bit form), with the high bits brought
        // down in each round.
        self.iter().fold(hash, |hash, (_, pc)| {
            let hash = (hash ^ pc).wrapping_mul(0x100_0000_01b3);
            hash ^ hash >> 32
        })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|pc| pc.to_le_bytes()).collect();
        std::fs::write(path, bytes)
    }

    /// Reads the file back.
    ///
    /// # Errors
    /// Those of the file system, and `InvalidData` if it is not such a file.
    pub fn read(path: &Path) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        if std::fs::metadata(path)?.len() > 8 * Self::LIMIT as u64 {
            return Err(invalid());
        }
        let bytes = std::fs::read(path)?;
        let (words, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || words.first() != Some(&[0; 8]) {
            return Err(invalid());
        }
        Ok(SiteTable(
            words.iter().map(|word| u64::from_le_bytes(*word)).collect(),
        ))
    }
}

/// In an entry: the kernel's, although it looks like user space's.
const LOW_KERNEL: u64 = 1;

/// Whether an address is in the lower half of the address space.
fn is_low(pc: u64) -> bool {
    pc >> 55 & 1 == 0
}

/// The ID of entry `n`, which is below [`SiteTable::LIMIT`].
fn id(n: usize, entry: u64) -> SiteId {
    let user = is_low(entry) && entry & LOW_KERNEL == 0;
    SiteId(n as u32 | if user { SiteId::USER } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_round_trip() {
        let mut table = SiteTable::default();
        let a = table.push(0xffff_8000_8000_0000, true);
        let b = table.push(0x40_1000, false);
        let c = table.push(0x4020_0000, true);
        assert_eq!([a, b, c].map(SiteId::is_user), [false, true, false]);
        let file = tempfile::NamedTempFile::new().unwrap();
        table.write(file.path()).unwrap();
        let table = SiteTable::read(file.path()).unwrap();
        assert_eq!(table.len(), 3);
        assert_eq!(table.pc(c), Some(0x4020_0000));
        assert_eq!(table.iter().nth(2), Some((c, 0x4020_0000)));
        assert_eq!(table.pc(a), Some(0xffff_8000_8000_0000));
        assert_eq!(table.pc(b), Some(0x40_1000));
        assert_eq!(table.pc(SiteId(0)), None);
        assert_eq!(table.pc(SiteId(4)), None);
    }

    #[test]
    fn a_hash_depends_on_each_address_and_their_order() {
        let hash = |pcs: &[u64]| {
            let mut table = SiteTable::default();
            for pc in pcs {
                table.push(*pc, false);
            }
            table.mix_into(42)
        };
        let base = hash(&[0x1000, 0x2000]);
        assert_eq!(base, hash(&[0x1000, 0x2000]));
        for other in [&[0x2000, 0x1000][..], &[0x1000], &[0x1000, 0x2004], &[]] {
            assert_ne!(base, hash(other));
        }
        // Of highest bits, a pair would be lost without the shift.
        assert_ne!(hash(&[1 << 63, 1 << 63]), hash(&[0, 0]));
        assert_ne!(
            SiteTable::default().mix_into(1),
            SiteTable::default().mix_into(2)
        );
    }

    #[test]
    fn a_foreign_file_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for contents in [&b""[..], b"1234567", b"\0\0\0\0\0\0\0\0x", b"not zero"] {
            std::fs::write(file.path(), contents).unwrap();
            let error = SiteTable::read(file.path()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_full_table_gives_the_unknown_site() {
        let mut table = SiteTable(vec![0; SiteTable::LIMIT]);
        assert_eq!(table.push(4, false), SiteId(0));
        assert_eq!(table.0.len(), SiteTable::LIMIT);
    }
}
