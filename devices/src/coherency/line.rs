// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is known of each line: its state in the cache, and which of its bytes the two sides of
//! the PoC may see differently.
//!
//! Metadata is kept per guest page and made at the page's first access, so a run pays for the
//! memory its guest touches.

use super::LINE;
use crate::cpu::SiteId;
use crate::dma::{MasterId, TransferId};

use super::hazard::Actor;

/// Lines per 4 KiB page.
pub(super) const PAGE_LINES: usize = 64;
/// Bytes per page.
pub(super) const PAGE: u64 = LINE * PAGE_LINES as u64;

/// A line's state in the CPU cluster's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub(super) enum State {
    /// Not cached; ram and dram agree.
    #[default]
    Invalid,
    /// Cached, not modified since the fill.
    Clean,
    /// Cached and modified: an eviction writes it back.
    Dirty,
}

/// The cached copy may differ from DRAM though it is clean: DRAM was written behind its back.
pub(super) const DIVERGED: u16 = 1 << 0;
/// The page was last seen through a non-cacheable alias.
pub(super) const NON_CACHEABLE: u16 = 1 << 1;
/// A non-snooping transfer that writes memory owns (part of) the line.
pub(super) const IN_FLIGHT_WRITE: u16 = 1 << 2;
/// A non-snooping transfer that reads memory owns (part of) the line.
pub(super) const IN_FLIGHT_READ: u16 = 1 << 3;
/// The line was the target of DMA at some time of the run.
pub(super) const DMA: u16 = 1 << 4;
/// `unseen`, `saved_invalidate`, or one of the `lost` or `late` masks of [`Cold`] is not empty.
pub(super) const WATCHED: u16 = 1 << 5;
/// A coherent write has not been cleaned since: the line may be dirty, and may be written back at
/// any moment. Stays when a device overwrites the bytes at the PoC, which `uncleaned` does not.
pub(super) const MAYBE_DIRTY: u16 = 1 << 6;

/// Flags that take an access off the fast path.
pub(super) const SLOW: u16 = NON_CACHEABLE | IN_FLIGHT_WRITE | IN_FLIGHT_READ | WATCHED;

/// The hot part: one host cache line per guest cache line. Masks have bit *n* for byte *n*.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct Line {
    /// Bytes that a coherent observer wrote last, and nobody cleaned since.
    pub uncleaned: u64,
    /// Bytes that a non-snooping master wrote, with no invalidate since.
    pub unseen: u64,
    /// Bytes that would be in `uncleaned`, had operation `clean_op` not been done.
    pub saved_clean: u64,
    /// Bytes that would be in `unseen`, had operation `invalidate_op` not been done.
    pub saved_invalidate: u64,
    /// When the last coherent write was, in accesses since power-on.
    pub written_at: u64,
    /// The last operation that cleaned the line; 0: none.
    pub clean_op: u32,
    /// The last operation that invalidated the line; 0: none.
    pub invalidate_op: u32,
    /// The last coherent writer.
    pub writer: Who,
    /// What brought the line into the cache, or wrote it there last.
    pub cached_by: SiteId,
    /// When a CPU's access last filled the line: the low bits of the number of accesses since
    /// power-on, which is all there is room for.
    pub filled_at: u32,
    pub state: State,
    /// Its way, for policies that have ways.
    pub way: u8,
    pub flags: u16,
}

impl Line {
    /// Whether the line is in the cache.
    pub fn cached(&self) -> bool {
        self.state != State::Invalid
    }

    /// The last operation on the line; 0: none.
    pub fn last_op(&self) -> u32 {
        self.clean_op.max(self.invalidate_op)
    }

    /// When `cached_by` was, in accesses since power-on; `now` is that number. A fill counts as
    /// one of the last 2^32 accesses, and a later store renews the copy.
    pub fn cached_at(&self, now: u64) -> u64 {
        let since = (now as u32).wrapping_sub(self.filled_at);
        now.saturating_sub(u64::from(since)).max(self.written_at)
    }

    /// Brings [`WATCHED`] in line with the masks.
    pub fn watch(&mut self, cold: Option<&Cold>) {
        let cold = cold.is_some_and(|c| c.lost != 0 || !c.saved_lost.is_empty() || c.late.any());
        if (self.unseen | self.saved_invalidate) != 0 || cold {
            self.flags |= WATCHED;
        } else {
            self.flags &= !WATCHED;
        }
    }
}

/// The rest, kept only for pages that DMA or a non-cacheable alias has touched.
#[derive(Debug, Clone, Default)]
pub(super) struct Cold {
    /// Bytes of non-snooping data in a line that was then written coherently without an
    /// invalidate: the write-back of the merged line destroys them. A later invalidate does not
    /// bring them back.
    pub lost: u64,
    /// Bytes that would be in `lost`, had one operation not been done.
    pub saved_lost: SavedLost,
    /// Bytes of non-snooping data that a write-back has overwritten in DRAM with other bytes.
    pub destroyed: u64,
    /// What was cleaned too late.
    pub late: Late,
    /// The last two findings on this line, the latest first.
    pub reported: [Reported; 2],
    /// Index + 1 of the write-back clobber that threatens this line; 0: none.
    pub clobber: u32,
    /// The last non-snooping writer.
    pub dma_writer: Who,
    /// When the last non-snooping write was, in accesses since power-on.
    pub dma_written_at: u64,
}

/// What was cleaned while a transfer owned it. The transfer may have read it before, or have written
/// it before and lost that to an eviction, so for this transfer the clean has not been done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Late {
    /// The transfer. One only: a line seldom has two owners.
    pub of: Who,
    /// Bytes of it that were uncleaned.
    pub clean: u64,
    /// The line might have been dirty.
    pub dirty: bool,
    /// Bytes of the line that would have been uncleaned, and the line dirty, had operation
    /// `saved_op` not been done.
    pub saved_clean: u64,
    pub saved_op: u32,
}

impl Late {
    fn any(&self) -> bool {
        self.dirty || (self.clean | self.saved_clean) != 0
    }

    /// `bytes` were written anew.
    pub fn forget(&mut self, bytes: u64) {
        self.clean &= !bytes;
        self.saved_clean &= !bytes;
    }
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

/// An [`Actor`] in four bytes: 0 unknown; bit 31 clear: a place in guest code; set: a device,
/// with its master in bits 24 to 30 and its transfer in bits 0 to 23.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Who(u32);

impl Who {
    pub fn cpu(site: SiteId) -> Self {
        Who(site.0 & 0x7fff_ffff)
    }

    pub fn device(master: MasterId, transfer: TransferId) -> Self {
        Who(1 << 31 | u32::from(master.0 & 0x7f) << 24 | transfer.0 & 0x00ff_ffff)
    }

    /// The packed form, as a key.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The master, if it is a device.
    pub fn device_master(self) -> Option<MasterId> {
        match self.actor() {
            Actor::Device { master, .. } => Some(master),
            _ => None,
        }
    }

    pub fn actor(self) -> Actor {
        match self.0 {
            0 => Actor::Unknown,
            w if w >> 31 == 0 => Actor::Cpu { site: SiteId(w) },
            w => Actor::Device {
                master: MasterId((w >> 24 & 0x7f) as u8),
                transfer: TransferId(w & 0x00ff_ffff),
            },
        }
    }
}

/// Metadata of one page.
#[derive(Debug)]
pub(super) struct PageMeta {
    pub lines: [Line; PAGE_LINES],
    pub cold: Option<Box<[Cold; PAGE_LINES]>>,
}

impl PageMeta {
    /// The line with its cold part, which is made if it is missing.
    pub fn with_cold(&mut self, index: usize) -> (&mut Line, &mut Cold) {
        let cold = self
            .cold
            .get_or_insert_with(|| Box::new(std::array::from_fn(|_| Cold::default())));
        (&mut self.lines[index], &mut cold[index])
    }
}

/// Metadata of all RAM, by line number.
#[derive(Debug)]
pub(super) struct Lines {
    pages: Vec<Option<Box<PageMeta>>>,
}

impl Lines {
    /// For `bytes` of RAM, a multiple of the page size.
    pub fn new(bytes: u64) -> Self {
        let mut pages = Vec::new();
        pages.resize_with((bytes / PAGE) as usize, || None);
        Lines { pages }
    }

    fn split(line: u64) -> (usize, usize) {
        ((line as usize) / PAGE_LINES, (line as usize) % PAGE_LINES)
    }

    /// The page of `line`, made if this is its first access.
    #[inline]
    pub fn page(&mut self, line: u64) -> (&mut PageMeta, usize) {
        let (page, index) = Self::split(line);
        let slot = &mut self.pages[page];
        (slot.get_or_insert_with(Self::fresh), index)
    }

    #[cold]
    #[inline(never)]
    fn fresh() -> Box<PageMeta> {
        Box::new(PageMeta {
            lines: [Line::default(); PAGE_LINES],
            cold: None,
        })
    }

    /// The hot part of `line`.
    #[inline]
    pub fn line(&mut self, line: u64) -> &mut Line {
        let (page, index) = self.page(line);
        &mut page.lines[index]
    }

    /// The line with its cold part.
    pub fn with_cold(&mut self, line: u64) -> (&mut Line, &mut Cold) {
        let (page, index) = self.page(line);
        page.with_cold(index)
    }

    /// A look without making anything.
    pub fn peek(&self, line: u64) -> Option<&Line> {
        let (page, index) = Self::split(line);
        Some(&self.pages.get(page)?.as_ref()?.lines[index])
    }
}

/// Mask of `len` bytes from `offset` of a line; `offset + len` at most 64, `len` at least 1.
#[inline]
pub(super) fn mask(offset: u64, len: u64) -> u64 {
    (u64::MAX >> (64 - len)) << offset
}

/// The parts of `pa..pa + len` line by line: (line number, mask, bytes).
pub(super) fn parts(offset: u64, len: u64) -> impl Iterator<Item = (u64, u64, usize)> {
    let end = offset + len;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let within = at % LINE;
        let n = (LINE - within).min(end - at);
        let part = (at / LINE, mask(within, n), n as usize);
        at += n;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_a_host_cache_line() {
        assert_eq!(size_of::<Line>(), 64);
    }

    #[test]
    fn a_copy_is_as_old_as_its_fill_or_its_last_store() {
        let mut line = Line {
            filled_at: 7,
            ..Line::default()
        };
        assert_eq!(line.cached_at(7), 7);
        assert_eq!(line.cached_at(1 << 32 | 9), 1 << 32 | 7);
        assert_eq!(line.cached_at(1 << 32 | 5), 7);
        line.written_at = 20;
        assert_eq!(line.cached_at(30), 20);
        assert_eq!(Line::default().cached_at(30), 0);
    }

    #[test]
    fn masks_cover_what_they_say() {
        assert_eq!(mask(0, 64), u64::MAX);
        assert_eq!(mask(63, 1), 1 << 63);
        assert_eq!(mask(4, 4), 0xf0);
        let got: Vec<_> = parts(60, 72).collect();
        assert_eq!(
            got,
            [(0, mask(60, 4), 4), (1, u64::MAX, 64), (2, mask(0, 4), 4)]
        );
    }

    #[test]
    fn actors_survive_packing() {
        let device = Actor::Device {
            master: MasterId(3),
            transfer: TransferId(0xfffff),
        };
        assert_eq!(
            Who::device(MasterId(3), TransferId(0xfffff)).actor(),
            device
        );
        assert_eq!(
            Who::cpu(SiteId(17)).actor(),
            Actor::Cpu { site: SiteId(17) }
        );
        assert_eq!(Who::default().actor(), Actor::Unknown);
    }
}
