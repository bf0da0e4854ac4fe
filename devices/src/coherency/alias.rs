// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Non-cacheable aliases of memory, and the translation table entries that make them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::line::PAGE;
use crate::state::{Invalid, at_most, no_longer};

/// Bytes of one entry.
pub(super) const ENTRY: u64 = 8;
/// Most bytes that one entry is believed to map: a level 2 block of the 4 KiB granule. Linux maps
/// nothing as non-cacheable by larger ones.
pub(super) const MAX_BLOCK: u64 = 2 << 20;
/// Entries remembered. Of more, only the accuracy of data suffers, not that of findings; a run that
/// meets this bound or the one above says so.
pub(super) const MAX_ENTRIES: usize = 1 << 20;

/// The non-cacheable mappings of RAM. Only looked up, never iterated.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    /// By offset of the entry: first page and number of pages.
    pub entries: HashMap<u64, (u64, u64)>,
    /// For each page, how many entries map it.
    pub mapped: HashMap<u64, u32>,
    /// There were more than [`MAX_ENTRIES`].
    pub full: bool,
    /// One mapped more than [`MAX_BLOCK`].
    pub cut: bool,
}

/// How many entries map a page follows from them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AliasesState {
    /// By offset.
    entries: Vec<(u64, (u64, u64))>,
    full: bool,
    cut: bool,
}

impl Aliases {
    pub fn state(&self) -> AliasesState {
        let Aliases {
            entries,
            mapped: _,
            full,
            cut,
        } = self;
        let entries = entries.iter().map(|(at, pages)| (*at, *pages));
        let mut entries: Vec<_> = entries.collect();
        entries.sort_unstable();
        AliasesState {
            entries,
            full: *full,
            cut: *cut,
        }
    }

    /// Of `len` bytes of RAM.
    pub fn from_state(state: AliasesState, len: u64) -> Result<Self, Invalid> {
        no_longer(
            "entries that map memory as non-cacheable",
            state.entries.len(),
            MAX_ENTRIES,
        )?;
        let mut aliases = Aliases {
            full: state.full,
            cut: state.cut,
            ..Aliases::default()
        };
        // Behind RAM are those of pages that somebody has only told of.
        let end = len + len / PAGE * ENTRY;
        for (entry, (first, count)) in state.entries {
            at_most("place of an entry", entry, end - ENTRY)?;
            at_most("pages of an entry", count, MAX_BLOCK / PAGE)?;
            at_most(
                "page of an entry",
                first,
                (len / PAGE).saturating_sub(count),
            )?;
            if aliases.entries.insert(entry, (first, count)).is_some() {
                return Err(Invalid::new("place of an entry", entry, "each once"));
            }
            for page in first..first + count {
                *aliases.mapped.entry(page).or_default() += 1;
            }
        }
        Ok(aliases)
    }
}
