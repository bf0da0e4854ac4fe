// SPDX-License-Identifier: GPL-2.0-or-later
//! The state of a software TLB. What it holds beyond the tables in memory matters: a guest may rely on
//! old entries until it takes them out.

use serde::{Deserialize, Serialize};
use staleline_devices::state::{Invalid, at_most, no_longer};

use super::{CONTEXTS, EMPTY, ENTRIES, Entry, Hit, NONE, Tlb};

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct TlbState {
    current: [u64; 2],
    /// Those that hold something: place, tag and what it leads to, in order of the places.
    entries: Vec<(usize, u64, u64)>,
    /// Contexts by tables and ASID, and of the upper half by tables, in order.
    lower: Vec<((u64, u64), u64)>,
    upper: Vec<(u64, u64)>,
    next: u64,
    upper_not_global: bool,
    blocks: [u64; 2],
}

impl Tlb {
    /// Its state.
    pub fn state(&self) -> TlbState {
        let Tlb {
            current,
            entries,
            lower,
            upper,
            next,
            upper_not_global,
            blocks,
        } = self;
        let entries = entries.iter().enumerate();
        let entries = entries.filter(|(_, entry)| entry.tag != EMPTY);
        let mut lower: Vec<_> = lower.iter().map(|(k, v)| (*k, *v)).collect();
        let mut upper: Vec<_> = upper.iter().map(|(k, v)| (*k, *v)).collect();
        lower.sort_unstable();
        upper.sort_unstable();
        TlbState {
            current: *current,
            entries: entries.map(|(n, e)| (n, e.tag, e.hit.0)).collect(),
            lower,
            upper,
            next: *next,
            upper_not_global: *upper_not_global,
            blocks: *blocks,
        }
    }

    /// Takes a state over.
    ///
    /// # Errors
    /// What it may not hold.
    pub fn set_state(&mut self, state: TlbState) -> Result<(), Invalid> {
        let known = state.lower.iter().map(|(_, context)| context);
        let known = known.chain(state.upper.iter().map(|(_, context)| context));
        for context in known.chain(&state.current) {
            at_most("context of a TLB", *context, CONTEXTS - 1)?;
        }
        at_most("next context of a TLB", state.next, CONTEXTS)?;
        self.entries.fill(NONE);
        for (n, tag, hit) in state.entries {
            no_longer("entry of a TLB", n, ENTRIES - 1)?;
            self.entries[n] = Entry { tag, hit: Hit(hit) };
        }
        self.current = state.current;
        self.lower = state.lower.into_iter().collect();
        self.upper = state.upper.into_iter().collect();
        self.next = state.next;
        self.upper_not_global = state.upper_not_global;
        self.blocks = state.blocks;
        Ok(())
    }
}
