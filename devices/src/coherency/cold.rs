// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is known of a line beyond its hot part (`Line`): its history with masters, maintenance and
//! non-cacheable aliases.

use serde::{Deserialize, Serialize};

use super::cleans::Cleans;
use super::order::Words;
use super::who::Who;
use crate::cpu::CpuId;
use crate::hazard::Why;
use crate::state::{Invalid, no_longer};

/// Kept only for pages that DMA has written, or that were maintained or used through a non-cacheable
/// alias.
///
/// In the order of use, as buffers have more of this than fits in the host's caches: in the first host
/// cache line what coherent reads ask for, in the second what else writes at the PoC and `dc` do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[repr(C, align(64))]
pub(super) struct Cold {
    /// Bytes that would be in `Line::unseen`, had operation `invalidate_op` not been done.
    pub saved_invalidate: u64,
    /// Bytes written at the PoC in a line that was then written coherently without an invalidate:
    /// the write-back of the merged line destroys them. A later invalidate does not bring them back.
    pub lost: u64,
    /// Bytes that coherent readers get because of operation `settling_op`, an invalidate.
    pub settling: u64,
    /// When a CPU first stored to the line through the cache since it was last invalidated, in
    /// accesses since power-on; 0: not yet.
    pub stored_behind: u64,
    /// What there seldom is.
    rare: Option<Box<Rare>>,
    /// The operation of `settling`; 0: none.
    pub settling_op: u32,
    /// The last operation that invalidated the line; 0: none.
    pub invalidate_op: u32,
    /// The last operation that invalidated the line without cleaning it; 0: none.
    pub discard_op: u32,
    /// The last to write at the PoC: a non-snooping master, or a CPU through a non-cacheable alias.
    pub poc_writer: Who,
    /// Which CPU `stored_behind` was.
    pub stored_behind_by: CpuId,
    /// Why the last invalidate did not count for some bytes, if it did not.
    pub spoiled: Option<Why>,
    // From here on in the second host cache line.
    /// Bytes written at the PoC that a write-back has overwritten there with other bytes.
    pub destroyed: u64,
    /// When the last write at the PoC was, in accesses since power-on.
    pub poc_written_at: u64,
    /// For lines with `UNREAD`, the bytes that masters have written, and no CPU
    /// has loaded in order since.
    pub unread: u64,
    /// What was cleaned, and has not been written since.
    pub cleans: Cleans,
    /// The last master to write `unread`.
    pub unread_by: Who,
}

impl Cold {
    /// What there seldom is, to look at.
    #[inline]
    pub fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&NOTHING)
    }

    /// The same to change, if it is there: without, all of it is 0.
    #[inline]
    pub fn rare_if_any(&mut self) -> Option<&mut Rare> {
        self.rare.as_deref_mut()
    }

    /// For a state that comes from outside.
    pub fn check(&self) -> Result<(), Invalid> {
        self.cleans.check()?;
        no_longer(
            "bytes saved from being lost",
            self.rare().saved_lost.0.len(),
            64,
        )
    }

    /// The same to change; it is made if it is missing.
    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

/// What there is of a line only where something went wrong, or where CPUs and masters work on the same
/// lines: stores through non-cacheable aliases, descriptors, what threatens it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rare {
    /// Bytes that would be in [`Cold::lost`], had one operation not been done.
    pub saved_lost: SavedLost,
    /// As `Line::fresh`, for stores through a non-cacheable alias.
    pub alias_fresh: u64,
    /// When the last store in `alias_fresh` was, in accesses since power-on.
    pub alias_written_at: u64,
    /// Which CPU's that was.
    pub alias_cpu: CpuId,
    /// Bytes stored through a non-cacheable alias with no barrier since that orders them before
    /// maintenance: it may overtake them.
    pub alias_pending: u64,
    /// Index + 1 of the write-back clobber that threatens this line; 0: none.
    pub clobber: u32,
    /// The transfer in flight that a coherent write has last met.
    pub raced_of: Who,
    /// The bytes that the transfer `raced_of` has met.
    pub raced: u64,
    /// The order of the stores to each word, for lines with `DESCRIPTOR`.
    pub words: Option<Box<Words>>,
    /// When the store was that merged into the stale copy, in accesses since power-on.
    pub merged_at: u64,
    /// Which one it was.
    pub merged_by: Who,
    /// The bytes of it, and of those that followed.
    pub merged: u64,
    /// Who had written the bytes in `lost` at the PoC.
    pub lost_writer: Who,
    /// And when.
    pub lost_written_at: u64,
}

/// Of lines that have none of it.
static NOTHING: Rare = Rare {
    saved_lost: SavedLost(Vec::new()),
    alias_fresh: 0,
    alias_written_at: 0,
    alias_cpu: CpuId::BOOT,
    alias_pending: 0,
    clobber: 0,
    raced_of: Who::UNKNOWN,
    raced: 0,
    words: None,
    merged_at: 0,
    merged_by: Who::UNKNOWN,
    merged: 0,
    lost_writer: Who::UNKNOWN,
    lost_written_at: 0,
};

/// For each operation, the bytes that would be lost without it, not 0, the latest last. A byte is in at
/// most one of them: the device has to write it again before another operation can matter to it. So
/// there are at most 64.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedLost(Vec<(u64, u32)>);

impl SavedLost {
    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Without `op`, which is the latest, `bytes`, which are some, would be lost.
    pub fn add(&mut self, bytes: u64, op: u32) {
        match self.0.last_mut() {
            Some((latest, of)) if *of == op => *latest |= bytes,
            _ => self.0.push((bytes, op)),
        }
    }

    /// `bytes` were written anew.
    pub fn forget(&mut self, bytes: u64) {
        self.0.retain_mut(|(b, _)| {
            *b &= !bytes;
            *b != 0
        });
    }

    /// Takes out an operation that matters to one of `bytes`.
    pub fn take(&mut self, bytes: u64) -> Option<u32> {
        let hit = self.0.iter().rposition(|(b, _)| b & bytes != 0)?;
        Some(self.0.remove(hit).1)
    }

    /// Takes out the latest operation, if it is `op`.
    pub fn remove_latest(&mut self, op: u32) {
        self.0.pop_if(|(_, latest)| *latest == op);
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;
    use crate::cpu::LINE;

    #[test]
    fn it_fits_two_host_cache_lines() {
        assert_eq!(offset_of!(Cold, destroyed) as u64, LINE);
        assert_eq!(align_of::<Cold>() as u64, LINE);
        assert_eq!(size_of::<Cold>() as u64, 2 * LINE);
    }

    #[test]
    fn lost_bytes_belong_to_the_operation_that_saved_them() {
        let mut saved = SavedLost::default();
        saved.add(0x0f, 1);
        saved.add(0xf0, 2);
        saved.add(0xf00, 2);
        assert_eq!(saved.take(0xf000), None);
        saved.forget(0xf3);
        assert_eq!(saved.take(0x03), None);
        assert_eq!(saved.take(0x04), Some(1));
        saved.remove_latest(1);
        assert!(!saved.is_empty());
        saved.add(0x1, 3);
        saved.remove_latest(3);
        assert_eq!(saved.take(u64::MAX), Some(2));
        assert!(saved.is_empty() && saved.take(u64::MAX).is_none());
        saved.add(0xff, 4);
        saved.forget(0xff);
        assert!(saved.is_empty());
    }
}
