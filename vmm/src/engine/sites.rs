// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The table of guest addresses behind the interned [`SiteId`]s.
//!
//! The file is an array of little-endian 64-bit addresses; the entry at index *n* is that of
//! site *n* ([`SiteId::index`]). Entry 0, the unknown site, is 0.

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

    /// Appends an address that is not in the table yet. A full table gives the unknown site.
    pub fn push(&mut self, pc: u64) -> SiteId {
        if self.0.len() >= Self::LIMIT {
            return SiteId(0);
        }
        self.0.push(pc);
        id(self.0.len() - 1, pc)
    }

    /// The guest virtual address of an instruction; `None` for the unknown site or a foreign ID.
    pub fn pc(&self, site: SiteId) -> Option<u64> {
        self.0.get(site.index()).copied().filter(|_| site.0 != 0)
    }

    /// All known sites with their addresses, in order.
    pub fn iter(&self) -> impl Iterator<Item = (SiteId, u64)> + '_ {
        let entries = self.0.iter().enumerate().skip(1);
        entries.map(|(n, pc)| (id(n, *pc), *pc))
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

/// The ID of entry `n`, which is below [`SiteTable::LIMIT`]; code in the lower half of the address
/// space is user space's.
fn id(n: usize, pc: u64) -> SiteId {
    let user = if pc >> 55 & 1 == 0 { SiteId::USER } else { 0 };
    SiteId(n as u32 | user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_round_trip() {
        let mut table = SiteTable::default();
        let a = table.push(0xffff_8000_8000_0000);
        let b = table.push(0x40_1000);
        let file = tempfile::NamedTempFile::new().unwrap();
        table.write(file.path()).unwrap();
        let table = SiteTable::read(file.path()).unwrap();
        assert_eq!(table.len(), 2);
        assert_eq!(table.pc(a), Some(0xffff_8000_8000_0000));
        assert_eq!(table.pc(b), Some(0x40_1000));
        assert_eq!(table.pc(SiteId(0)), None);
        assert_eq!(table.pc(SiteId(3)), None);
    }

    #[test]
    fn a_hash_depends_on_each_address_and_their_order() {
        let hash = |pcs: &[u64]| {
            let mut table = SiteTable::default();
            for pc in pcs {
                table.push(*pc);
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
        assert_eq!(table.push(4), SiteId(0));
        assert_eq!(table.0.len(), SiteTable::LIMIT);
    }
}
