// SPDX-License-Identifier: GPL-2.0-or-later
//! Places in guest code, numbered as QEMU translates them.

use std::sync::{Mutex, PoisonError};

use rustc_hash::FxHashMap;
use staleline_devices::cpu::SiteId;
use staleline_machine::engine::SiteTable;
use staleline_machine::engine::chains::Forgotten;
use staleline_machine::events;

/// Bytes of code whose places are kept together: as much as is often translated at once, and so little
/// that a guest cannot make all of them cost much.
const STRETCH: u64 = 128;

/// Bytes between two instructions, at least: T32 code has some of two.
const STEP: u64 = 2;

/// Places in a stretch of code; 0 where there is none yet.
type Stretch = [SiteId; (STRETCH / STEP) as usize];

/// Interned guest code addresses.
#[derive(Default)]
pub struct Sites {
    table: SiteTable,
    /// The same, for the log.
    shared: Option<events::Sites>,
    known: Known,
    /// Times that there was no room.
    lost: u64,
}

impl Sites {
    /// The site of the instruction at `pc`, of the kernel's or of user space. Sites are numbered in the
    /// order of translation, which is deterministic. When the table is full, new ones are unknown.
    pub fn intern(&mut self, pc: u64, kernel: bool) -> SiteId {
        let full = self.table.entries().len() >= SiteTable::LIMIT;
        let known = self.known.place(pc, kernel, !full);
        if let Some(site) = known.as_deref().filter(|site| **site != SiteId(0)) {
            return *site;
        }
        let site = self.table.push(pc, kernel);
        if site == SiteId(0) {
            self.lost += 1;
        } else if let Some(known) = known {
            *known = site;
            if let Some(shared) = &self.shared {
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                shared.push(pc);
            }
        }
        site
    }

    /// These, and how often there was no room.
    pub fn from_table(table: SiteTable, lost: u64) -> Self {
        let mut known = Known::default();
        for (site, pc) in table.iter() {
            if let Some(known) = known.place(pc, !site.is_user(), true) {
                *known = site;
            }
        }
        Sites {
            table,
            shared: None,
            known,
            lost,
        }
    }

    /// Whoever knows the addresses of `others`, which are the same ones, is told of these from now on.
    pub fn go_on_for(&mut self, others: &mut Sites) {
        self.shared = others.shared.take();
    }

    /// The addresses, for who is to know them while the guest runs.
    pub fn shared(&mut self) -> events::Sites {
        // Site 0 is unknown.
        let known = self.table.iter().map(|(_, pc)| pc);
        let known = std::iter::once(0).chain(known).collect();
        let shared = events::Sites::new(Mutex::new(known));
        self.shared = Some(shared.clone());
        shared
    }

    /// What there was no room for.
    pub fn forgotten(&self) -> Option<Forgotten> {
        Forgotten::of("places in code", SiteTable::LIMIT, self.lost)
    }

    /// Times that there was no room.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// All of them.
    pub fn table(&self) -> &SiteTable {
        &self.table
    }
}

/// Sites by address. Code is translated a stretch at a time. Never iterated over, so the order cannot
/// reach a result.
struct Known {
    /// By number of the stretch, and whether it is the kernel's: an index into `all`.
    stretches: FxHashMap<(u64, bool), usize>,
    all: Vec<Stretch>,
    /// The last one asked for.
    last: ((u64, bool), usize),
}

impl Default for Known {
    /// With one stretch, so that there is always a last one.
    fn default() -> Self {
        let first = (0, true);
        Known {
            stretches: FxHashMap::from_iter([(first, 0)]),
            all: vec![[SiteId(0); _]],
            last: (first, 0),
        }
    }
}

impl Known {
    /// Where the site at `pc` is noted; if there is no such place yet, it is made if there is `room`.
    #[inline]
    fn place(&mut self, pc: u64, kernel: bool, room: bool) -> Option<&mut SiteId> {
        let stretch = (pc / STRETCH, kernel);
        if self.last.0 != stretch {
            self.last = (stretch, self.find(stretch, room)?);
        }
        let places = self.all.get_mut(self.last.1)?;
        places.get_mut((pc % STRETCH / STEP) as usize)
    }

    fn find(&mut self, stretch: (u64, bool), room: bool) -> Option<usize> {
        if !room {
            return self.stretches.get(&stretch).copied();
        }
        let next = self.all.len();
        let index = *self.stretches.entry(stretch).or_insert(next);
        if index == next {
            self.all.push([SiteId(0); _]);
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_one_number_and_others_have_others() {
        let mut sites = Sites::default();
        let all = [
            (0, true),
            (0x1000, true),
            (0x1002, false),
            (0x1000, false),
            (0x2000, true),
            (0xffff_8000_8000_0ffc, true),
            (0xffff_8000_8000_1ffc, true),
        ];
        let first: Vec<_> = all
            .iter()
            .map(|&(pc, kernel)| sites.intern(pc, kernel))
            .collect();
        let again = Sites::from_table(
            SiteTable::from_entries(sites.table().entries().to_vec()).unwrap(),
            0,
        );
        for mut sites in [sites, again] {
            for (n, &(pc, kernel)) in all.iter().enumerate().rev() {
                let site = sites.intern(pc, kernel);
                assert_eq!(site, first[n]);
                assert_eq!(site.index(), n + 1);
                assert_eq!(site.is_user(), !kernel);
                assert_eq!(sites.table().pc(site), Some(pc));
            }
            assert_eq!(sites.table().len(), all.len());
        }
    }

    #[test]
    fn sites_are_numbered_in_order_and_once() {
        let mut sites = Sites::default();
        assert_eq!(sites.intern(0x1000, false), SiteId(SiteId::USER | 1));
        assert_eq!(sites.intern(0x2000, false), SiteId(SiteId::USER | 2));
        assert_eq!(sites.intern(0x1000, false), SiteId(SiteId::USER | 1));
        assert_eq!(sites.table().pc(SiteId(SiteId::USER | 2)), Some(0x2000));
    }

    /// A guest may run code anywhere: what is kept of it does not grow for ever.
    #[test]
    fn no_room_is_made_for_places_beyond_the_last() {
        let mut sites = Sites::default();
        for n in 0..SiteTable::LIMIT as u64 + 10 {
            sites.intern(STEP * n, false);
        }
        let stretches = sites.known.all.len();
        assert_eq!(sites.intern(u64::MAX, false), SiteId(0));
        assert_eq!(sites.intern(STEP * 3, false), SiteId(SiteId::USER | 4));
        assert_eq!(sites.known.all.len(), stretches);
        assert_eq!(sites.known.stretches.len(), stretches);
        assert_eq!(sites.table().entries().len(), SiteTable::LIMIT);
    }
}
