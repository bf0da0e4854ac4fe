// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the SMMU remembers: translations, until commands take them away.

use serde::{Deserialize, Serialize};

use crate::state::{Invalid, at_most, no_longer, same};

/// Bits of an address within a page.
pub(super) const PAGE_BITS: u32 = 12;
/// Entries, each for a page; where two pages want the same, the last one has it.
const ENTRIES: usize = 64;

/// What is mapped at a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub asid: u16,
    /// Input address of the page.
    pub input: u64,
    /// Where it is.
    pub output: u64,
    /// Log2 of the page's or block's size in the tables.
    pub size: u8,
    pub writable: bool,
    /// What its attributes say of snooping.
    pub cacheable: bool,
}

/// The TLB.
#[derive(Debug)]
pub(super) struct Tlb(Vec<Option<Entry>>);

impl Tlb {
    pub fn new() -> Self {
        Tlb(vec![None; ENTRIES])
    }

    fn index(asid: u16, input: u64) -> usize {
        ((input >> PAGE_BITS) ^ u64::from(asid)) as usize % ENTRIES
    }

    /// What is known of the page of `input`.
    pub fn get(&self, asid: u16, input: u64) -> Option<Entry> {
        let page = input >> PAGE_BITS << PAGE_BITS;
        let entry = self.0.get(Self::index(asid, page)).copied().flatten();
        entry.filter(|entry| entry.asid == asid && entry.input == page)
    }

    pub fn put(&mut self, entry: Entry) {
        if let Some(slot) = self.0.get_mut(Self::index(entry.asid, entry.input)) {
            *slot = Some(entry);
        }
    }

    /// Forgets all that `which` says.
    pub fn forget(&mut self, which: impl Fn(&Entry) -> bool) {
        for slot in &mut self.0 {
            if slot.as_ref().is_some_and(&which) {
                *slot = None;
            }
        }
    }

    pub fn state(&self) -> Vec<Option<Entry>> {
        self.0.clone()
    }

    pub fn set_state(&mut self, state: Vec<Option<Entry>>) -> Result<(), Invalid> {
        no_longer("translations", state.len(), ENTRIES)?;
        for (n, entry) in state.iter().enumerate() {
            let Some(entry) = entry else { continue };
            at_most("size of a page", entry.size.into(), 30)?;
            let place = Self::index(entry.asid, entry.input);
            same("place of a translation", &place, &n)?;
            let within = (1 << PAGE_BITS) - 1;
            at_most(
                "offset of a translation",
                (entry.input | entry.output) & within,
                0,
            )?;
        }
        self.0 = state;
        self.0.resize(ENTRIES, None);
        Ok(())
    }
}

impl Entry {
    /// Whether an invalidation by an address within the page or block concerns it.
    pub fn covers(&self, input: u64) -> bool {
        self.input >> self.size == input >> self.size
    }
}
