// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is known of a line beyond its hot part ([`Line`]): its history with masters, maintenance and
//! non-cacheable aliases.

use super::cleans::Cleans;
use super::hazard::Why;
#[cfg(doc)]
use super::line::{DESCRIPTOR, Line};
use super::order::Words;
use super::who::Who;
use crate::cpu::CpuId;

/// Kept only for pages that DMA has written, or that were maintained or used through a non-cacheable
/// alias.
#[derive(Debug, Clone, Default)]
pub(super) struct Cold {
    /// What was cleaned, and has not been written since.
    pub cleans: Cleans,
    /// Bytes that would be in [`Line::unseen`], had operation `invalidate_op` not been done.
    pub saved_invalidate: u64,
    /// The last operation that invalidated the line; 0: none.
    pub invalidate_op: u32,
    /// The last operation that cleaned the line, dirty or not; 0: none.
    pub clean_op: u32,
    /// Bytes written at the PoC in a line that was then written coherently without an invalidate:
    /// the write-back of the merged line destroys them. A later invalidate does not bring them back.
    pub lost: u64,
    /// The store that merged into the stale copy.
    pub merged_by: Who,
    /// When it did, in accesses since power-on.
    pub merged_at: u64,
    /// Who had written those bytes at the PoC, and when.
    pub lost_writer: Who,
    pub lost_written_at: u64,
    /// Bytes that would be in `lost`, had one operation not been done.
    pub saved_lost: SavedLost,
    /// Bytes written at the PoC that a write-back has overwritten there with other bytes.
    pub destroyed: u64,
    /// Why the last invalidate did not count for some bytes, if it did not.
    pub spoiled: Option<Why>,
    /// The last two findings on this line, the latest first.
    pub reported: [Reported; 2],
    /// Index + 1 of the write-back clobber that threatens this line; 0: none.
    pub clobber: u32,
    /// The last to write at the PoC: a non-snooping master, or a CPU through a non-cacheable alias.
    pub poc_writer: Who,
    /// When that was, in accesses since power-on.
    pub poc_written_at: u64,
    /// As [`Line::fresh`], for stores through a non-cacheable alias.
    pub alias_fresh: u64,
    /// When the last of these was, in accesses since power-on.
    pub alias_written_at: u64,
    /// Which CPU's that was.
    pub alias_cpu: CpuId,
    /// Bytes stored so with no barrier since that orders them before maintenance: it may overtake
    /// them.
    pub alias_pending: u64,
    /// The transfer in flight that a coherent write has last met, and the bytes it met.
    pub raced_of: Who,
    pub raced: u64,
    /// The last operation that invalidated the line without cleaning it; 0: none.
    pub discard_op: u32,
    /// Bytes that coherent readers get because of operation `settling_op`, an invalidate.
    pub settling: u64,
    /// That operation; 0: none.
    pub settling_op: u32,
    /// For lines with [`UNREAD`](super::line::UNREAD), the bytes that masters have written, and no CPU
    /// has loaded in order since.
    pub unread: u64,
    /// The last of these masters.
    pub unread_by: Who,
    /// When a CPU first stored to the line through the cache since it was last invalidated, in
    /// accesses since power-on; 0: not yet.
    pub stored_behind: u64,
    /// Which one that was.
    pub stored_behind_by: CpuId,
    /// The order of the stores to each word, for lines with [`DESCRIPTOR`].
    pub words: Option<Box<Words>>,
}

/// What a finding has already counted on a line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reported {
    /// Index + 1 of the finding; 0: none.
    pub slot: u32,
    /// Bytes that were wrong.
    pub wrong: u64,
}

/// For each operation, the bytes that would be lost without it. A byte is in at most one of them:
/// the device has to write it again before another operation can matter to it.
#[derive(Debug, Clone, Default)]
pub(super) struct SavedLost {
    bytes: u64,
    op: u32,
    // Seldom more than one operation, so seldom allocated; at most 63.
    older: Vec<(u64, u32)>,
}

impl SavedLost {
    pub fn is_empty(&self) -> bool {
        self.bytes == 0 && self.older.is_empty()
    }

    /// Without `op`, which is the latest, `bytes` would be lost.
    pub fn add(&mut self, bytes: u64, op: u32) {
        if self.op != op {
            if self.bytes != 0 {
                self.older.push((self.bytes, self.op));
            }
            (self.bytes, self.op) = (0, op);
        }
        self.bytes |= bytes;
    }

    /// `bytes` were written anew.
    pub fn forget(&mut self, bytes: u64) {
        self.bytes &= !bytes;
        self.older.retain_mut(|(b, _)| {
            *b &= !bytes;
            *b != 0
        });
    }

    /// Takes out an operation that matters to one of `bytes`.
    pub fn take(&mut self, bytes: u64) -> Option<u32> {
        if self.bytes & bytes != 0 {
            self.bytes = 0;
            return Some(self.op);
        }
        let hit = self.older.iter().position(|(b, _)| b & bytes != 0)?;
        Some(self.older.swap_remove(hit).1)
    }

    /// Takes out the latest operation, if it is `op`.
    pub fn remove_latest(&mut self, op: u32) {
        if self.op == op {
            self.bytes = 0;
        }
    }
}
