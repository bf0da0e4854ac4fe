// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What happened to each line, and the questions that the rules ask of it.

use std::collections::BTreeMap;

use super::LINE;

/// One thing that happened to a line; masks have bit *n* for byte *n*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// A CPU's store, or a snooping master's write that allocates.
    CoherentWrite(u64),
    /// A snooping master's write that goes through, and pushes cached copies out.
    WriteThrough(u64),
    /// A non-snooping master's write in a transfer (0: in none); `clobbers`: it was found to.
    DeviceWrite { id: u32, bytes: u64, clobbers: bool },
    /// A store through the non-cacheable alias.
    NonCacheableStore(u64),
    /// The alias met a line that may have been dirty, which was then pushed out.
    AliasPush,
    /// A `dc` that cleans, in the run of maintenance with this number.
    Clean(u32),
    /// A `dc` that invalidates, in a run; `but`: bytes for which it came too early, as a transfer
    /// had not finished with them.
    Invalidate { run: u32, but: u64 },
}

impl Past {
    /// The bytes it wrote.
    fn wrote(self) -> u64 {
        match self {
            Past::CoherentWrite(b) | Past::WriteThrough(b) | Past::NonCacheableStore(b) => b,
            Past::DeviceWrite { bytes, .. } => bytes,
            _ => 0,
        }
    }

    /// Whether no dirty copy can exist just after it.
    fn leaves_nothing_dirty(self) -> bool {
        matches!(
            self,
            Past::Clean(_) | Past::Invalidate { .. } | Past::WriteThrough(_) | Past::AliasPush
        )
    }

    /// Whether no copy of a byte can exist just after it.
    fn leaves_no_copy(self, byte: usize) -> bool {
        match self {
            Past::Invalidate { but, .. } => but >> byte & 1 == 0,
            Past::WriteThrough(_) => true,
            _ => false,
        }
    }
}

pub fn bits(mask: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |b| mask >> b & 1 == 1)
}

pub fn to_mask(bytes: impl Iterator<Item = usize>) -> u64 {
    bytes.fold(0, |m, b| m | 1 << b)
}

/// The history of every line, from its first event on.
#[derive(Debug, Default)]
pub struct History(BTreeMap<usize, Vec<Past>>);

impl History {
    fn past(&self, line: usize) -> &[Past] {
        self.0.get(&line).map_or(&[], Vec::as_slice)
    }

    pub fn happened(&mut self, line: usize, what: Past) {
        self.0.entry(line).or_default().push(what);
    }

    /// The last write to a byte of a line, and all that came after it.
    pub fn last_write(&self, line: usize, byte: usize) -> Option<(Past, &[Past])> {
        let past = self.past(line);
        let i = past.iter().rposition(|p| p.wrote() >> byte & 1 == 1)?;
        Some((past[i], &past[i + 1..]))
    }

    /// A coherent write to the line may still wait in the cache.
    pub fn maybe_dirty(&self, line: usize) -> bool {
        self.past(line)
            .iter()
            .rev()
            .take_while(|p| !p.leaves_nothing_dirty())
            .any(|p| matches!(p, Past::CoherentWrite(_)))
    }

    /// Bytes whose last writer was coherent, and which may not have reached the PoC.
    pub fn uncleaned(&self, line: usize) -> u64 {
        to_mask((0..LINE).filter(|b| {
            self.last_write(line, *b).is_some_and(|(last, since)| {
                matches!(last, Past::CoherentWrite(_))
                    && !since.iter().any(|p| p.leaves_nothing_dirty())
            })
        }))
    }

    /// Bytes whose last writer was a device behind the caches' back, never invalidated since.
    pub fn unseen(&self, line: usize) -> u64 {
        to_mask((0..LINE).filter(|b| {
            self.last_write(line, *b).is_some_and(|(last, since)| {
                matches!(last, Past::DeviceWrite { .. })
                    && !since.iter().any(|p| p.leaves_no_copy(*b))
            })
        }))
    }

    /// Bytes whose last writer was such a device, and into whose line, before any invalidate, a
    /// coherent observer then wrote: its old copy's write-back takes the device's bytes with it.
    pub fn merged_over(&self, line: usize) -> u64 {
        to_mask((0..LINE).filter(|b| {
            self.last_write(line, *b).is_some_and(|(last, since)| {
                matches!(last, Past::DeviceWrite { .. })
                    && since
                        .iter()
                        .take_while(|p| !p.leaves_no_copy(*b))
                        .any(|p| matches!(p, Past::CoherentWrite(_)))
            })
        }))
    }

    /// The transfer in which a device last wrote to the line.
    pub fn last_device(&self, line: usize) -> Option<u32> {
        self.past(line).iter().rev().find_map(|p| match p {
            Past::DeviceWrite { id, .. } => Some(*id),
            _ => None,
        })
    }

    /// Whether a clobber was found when a device last wrote to the line.
    pub fn clobbered(&self, line: usize) -> bool {
        let last = self.past(line).iter().rev().find_map(|p| match p {
            Past::DeviceWrite { clobbers, .. } => Some(*clobbers),
            _ => None,
        });
        last == Some(true)
    }

    /// The runs of maintenance that last cleaned and last invalidated the line.
    pub fn last_runs(&self, line: usize) -> [Option<u32>; 2] {
        let past = || self.past(line).iter().rev();
        let clean = past().find_map(|p| match p {
            Past::Clean(run) => Some(*run),
            _ => None,
        });
        let invalidate = past().find_map(|p| match p {
            Past::Invalidate { run, .. } => Some(*run),
            _ => None,
        });
        [clean, invalidate]
    }
}
