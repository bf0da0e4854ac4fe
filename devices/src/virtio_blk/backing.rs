// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a disk holds.

use std::collections::BTreeSet;
use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::state::{Refused, RestoreError, SaveError, Saved, State, Stateful, at_most, same};

/// Bytes of a sector, in which disks count (virtio 1.2, 5.2.6).
pub const SECTOR: u64 = 512;

/// Where a disk's bytes are kept.
pub trait Backing: Debug + Send {
    /// Sectors that there are.
    fn sectors(&self) -> u64;

    /// Reads `buf.len()` bytes from byte `at` on; whether all of them are there.
    fn read(&self, at: u64, buf: &mut [u8]) -> bool;

    /// Writes `data` from byte `at` on; whether there is room for all of it, else nothing is written.
    fn write(&mut self, at: u64, data: &[u8]) -> bool;

    /// What has become of it since it was made, for [`Backing::restore`].
    ///
    /// # Errors
    /// [`SaveError`].
    fn save(&self) -> Result<Saved, SaveError>;

    /// Takes over what has become of a disk that was made alike; this one has just been made.
    ///
    /// # Errors
    /// [`RestoreError`].
    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError>;
}

/// A disk in memory: whatever it was made from stays as it is.
pub struct MemoryDisk {
    bytes: Vec<u8>,
    /// Sectors that have been written.
    written: BTreeSet<u64>,
}

impl Debug for MemoryDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryDisk")
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

impl MemoryDisk {
    /// Holds `bytes`, and zeros up to the end of the last sector.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
        MemoryDisk {
            bytes,
            written: BTreeSet::new(),
        }
    }

    fn range(&self, at: u64, len: usize) -> Option<std::ops::Range<usize>> {
        let at = usize::try_from(at).ok()?;
        let end = at.checked_add(len)?;
        (end <= self.bytes.len()).then_some(at..end)
    }
}

impl Backing for MemoryDisk {
    fn sectors(&self) -> u64 {
        self.bytes.len() as u64 / SECTOR
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> bool {
        let range = self.range(at, buf.len());
        range
            .inspect(|r| buf.copy_from_slice(&self.bytes[r.clone()]))
            .is_some()
    }

    fn write(&mut self, at: u64, data: &[u8]) -> bool {
        let Some(range) = self.range(at, data.len()) else {
            return false;
        };
        let sectors = at / SECTOR..(at + data.len() as u64).div_ceil(SECTOR);
        self.written.extend(sectors);
        self.bytes[range].copy_from_slice(data);
        true
    }

    fn save(&self) -> Result<Saved, SaveError> {
        self.save_state()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        self.restore_state(saved)
    }
}

/// What was written to a disk.
#[derive(Debug, Serialize, Deserialize)]
pub struct DiskState {
    /// All sectors that there are.
    sectors: u64,
    /// Those that were written, ascending.
    written: Vec<u64>,
    /// What they hold, one after the other.
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

impl State for DiskState {
    const COMPONENT: &'static str = "memory-disk";
    const VERSION: u16 = 1;
}

impl Stateful for MemoryDisk {
    type State = DiskState;

    fn state(&self) -> Result<DiskState, SaveError> {
        let MemoryDisk { bytes: _, written } = self;
        let mut bytes = vec![0; written.len() * SECTOR as usize];
        for (sector, piece) in self
            .written
            .iter()
            .zip(bytes.chunks_exact_mut(SECTOR as usize))
        {
            // A sector that was written is there.
            self.read(sector * SECTOR, piece);
        }
        Ok(DiskState {
            sectors: self.sectors(),
            written: written.iter().copied().collect(),
            bytes,
        })
    }

    fn set_state(&mut self, state: DiskState) -> Result<(), Refused> {
        same("sectors", &state.sectors, &self.sectors())?;
        let (sectors, rest) = state.bytes.as_chunks::<{ SECTOR as usize }>();
        same("bytes of no sector", &rest.len(), &0)?;
        same("sectors written", &sectors.len(), &state.written.len())?;
        let last = self.sectors().saturating_sub(1);
        for (sector, data) in state.written.iter().zip(sectors) {
            at_most("sector written", *sector, last)?;
            self.write(sector * SECTOR, data);
        }
        Ok(())
    }
}
