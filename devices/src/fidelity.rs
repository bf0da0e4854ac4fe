// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What an engine can see of the guest, and which rules can be judged with it.

use serde::{Deserialize, Serialize};

use crate::hazard::{BY_TIME, HazardKind};

/// Something that CPUs do and that an engine sees each time, when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sight {
    /// Loads of memory.
    Loads,
    /// Stores to memory.
    Stores,
    /// Cache maintenance by virtual address.
    Maintenance,
    /// DMB and DSB.
    Barriers,
    /// Translation table entries that make memory non-cacheable.
    Tables,
    /// The kernel's calls that announce accesses of devices to shared buffers, and signal DMA fences.
    Fences,
}

impl Sight {
    /// All there is to see.
    pub const ALL: [Sight; 6] = [
        Sight::Loads,
        Sight::Stores,
        Sight::Maintenance,
        Sight::Barriers,
        Sight::Tables,
        Sight::Fences,
    ];
}

impl HazardKind {
    /// What has to be seen for the rule to be judged wherever it applies.
    pub fn needs(self) -> &'static [Sight] {
        match self {
            HazardKind::MissingClean
            | HazardKind::WritebackClobber
            | HazardKind::DiscardedWrite => &[Sight::Stores, Sight::Maintenance],
            HazardKind::MissingInvalidate => &[Sight::Loads, Sight::Maintenance],
            HazardKind::MissingBarrier => &[
                Sight::Loads,
                Sight::Stores,
                Sight::Maintenance,
                Sight::Barriers,
            ],
            HazardKind::MismatchedAlias => &[Sight::Loads, Sight::Stores, Sight::Tables],
            HazardKind::SignalledEarly => &[Sight::Maintenance, Sight::Fences],
            HazardKind::Ownership => &[Sight::Loads, Sight::Stores, Sight::Maintenance],
        }
    }
}

/// What of a kind's needs an engine lacks that sees this, and finds that out later: for findings where a master reads,
/// or where a CPU does. Loads are CPUs', and no matter to what a master reads; what is found later is too late for rules
/// that go by time.
pub fn unseen(sees: &[Sight], finds: &[Sight], kind: HazardKind, by_master: bool) -> Vec<Sight> {
    let by_time = BY_TIME.contains(&kind);
    let lacks = |sight: &Sight| {
        let is_late = finds.contains(sight);
        let is_there = sees.contains(sight) || is_late;
        (!is_there || is_late && by_time) && !(by_master && *sight == Sight::Loads)
    };
    kind.needs().iter().copied().filter(lacks).collect()
}

/// How much of a run was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fidelity {
    /// What the engine sees.
    pub sees: Vec<Sight>,
    /// The rules that could not be judged, or not everywhere, for want of the rest.
    pub not_judged: Vec<HazardKind>,
}

impl Fidelity {
    /// Of an engine that sees this.
    pub fn of(sees: &[Sight]) -> Self {
        let blind = |kind: &HazardKind| kind.needs().iter().any(|sight| !sees.contains(sight));
        Fidelity {
            sees: sees.to_vec(),
            not_judged: HazardKind::ALL.into_iter().filter(blind).collect(),
        }
    }

    /// Of an engine that sees this, and finds that out later; both serve the rules that do not go by
    /// time.
    pub fn found(sees: &[Sight], finds: &[Sight]) -> Self {
        let both: Vec<Sight> = sees.iter().chain(finds).copied().collect();
        let judged = Fidelity::of(&both);
        let blind = |kind: &HazardKind| {
            judged.not_judged.contains(kind) || !finds.is_empty() && BY_TIME.contains(kind)
        };
        Fidelity {
            sees: sees.to_vec(),
            not_judged: HazardKind::ALL.into_iter().filter(blind).collect(),
        }
    }

    /// The same without one sight.
    pub fn without(&self, sight: Sight) -> Self {
        if !self.sees.contains(&sight) {
            return self.clone();
        }
        let sees = self.sees.iter().copied().filter(|s| *s != sight);
        let mut rest = Fidelity::of(&sees.collect::<Vec<_>>());
        let before = self.not_judged.iter().copied();
        rest.not_judged
            .extend(before.filter(|kind| !kind.needs().contains(&sight)));
        rest.not_judged
            .sort_by_key(|kind| HazardKind::ALL.iter().position(|k| k == kind));
        rest.not_judged.dedup();
        rest
    }

    /// The same beside a master of which nobody tells, at a port that snoops or does not. What it reads is not
    /// seen; and if it snoops, what it writes is not told from what CPUs store.
    pub fn beside_outsider(&self, snoops: bool) -> Self {
        let more: &[HazardKind] = match snoops {
            false => &[HazardKind::MissingClean],
            true => &[
                HazardKind::MissingClean,
                HazardKind::WritebackClobber,
                HazardKind::DiscardedWrite,
            ],
        };
        let blind = |kind: &HazardKind| self.not_judged.contains(kind) || more.contains(kind);
        Fidelity {
            sees: self.sees.clone(),
            not_judged: HazardKind::ALL.into_iter().filter(blind).collect(),
        }
    }

    /// Of an engine that sees everything.
    pub fn exact() -> Self {
        Fidelity::of(&Sight::ALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sees_everything_judges_everything() {
        assert_eq!(Fidelity::exact().not_judged, []);
        assert_eq!(Fidelity::of(&[]).not_judged, HazardKind::ALL);
    }

    #[test]
    fn what_is_found_later_serves_the_rules_without_time() {
        let found = Fidelity::found(&[Sight::Maintenance, Sight::Tables], &[Sight::Stores]);
        let judged = [
            HazardKind::MissingClean,
            HazardKind::WritebackClobber,
            HazardKind::DiscardedWrite,
        ];
        for kind in HazardKind::ALL {
            assert_eq!(
                found.not_judged.contains(&kind),
                !judged.contains(&kind),
                "{kind:?}"
            );
        }
        assert!(!found.sees.contains(&Sight::Stores));
        assert_eq!(Fidelity::found(&Sight::ALL, &[]), Fidelity::exact());
        // All that is seen would be enough, were it seen in time.
        let late = Fidelity::found(&Sight::ALL, &[Sight::Stores]);
        assert_eq!(late.not_judged, BY_TIME);
    }

    #[test]
    fn what_a_master_reads_takes_no_loads() {
        let (sees, finds) = ([Sight::Maintenance, Sight::Tables], [Sight::Stores]);
        let lacks = |kind, by_master| unseen(&sees, &finds, kind, by_master);
        let stale = HazardKind::MissingInvalidate;
        assert_eq!(lacks(stale, false), [Sight::Loads]);
        assert_eq!(lacks(stale, true), []);
        // That goes by time, whoever reads.
        for by_master in [false, true] {
            assert!(lacks(HazardKind::Ownership, by_master).contains(&Sight::Stores));
        }
        // Where a CPU reads, it is what is said of the kind.
        let found = Fidelity::found(&sees, &finds);
        for kind in HazardKind::ALL {
            let blind = !lacks(kind, false).is_empty();
            assert_eq!(found.not_judged.contains(&kind), blind, "{kind:?}");
        }
    }

    #[test]
    fn what_an_outsider_hides_is_not_judged() {
        let found = Fidelity::found(&[Sight::Maintenance], &[Sight::Stores]);
        let judged = |f: &Fidelity, kind| !f.not_judged.contains(&kind);
        let apart = found.beside_outsider(false);
        assert!(!judged(&apart, HazardKind::MissingClean));
        assert!(judged(&apart, HazardKind::DiscardedWrite));
        assert_eq!(found.beside_outsider(true).not_judged, HazardKind::ALL);
    }

    #[test]
    fn what_is_not_seen_is_not_judged() {
        let without = |sight| Fidelity::exact().without(sight).not_judged;
        assert_eq!(without(Sight::Fences), [HazardKind::SignalledEarly]);
        assert_eq!(without(Sight::Tables), [HazardKind::MismatchedAlias]);
        assert_eq!(without(Sight::Barriers), [HazardKind::MissingBarrier]);
        let loads = without(Sight::Loads);
        assert!(loads.contains(&HazardKind::MissingInvalidate));
        assert!(!loads.contains(&HazardKind::MissingClean));
        // No sight is there for nothing.
        for sight in Sight::ALL {
            assert_ne!(without(sight), [], "{sight:?}");
        }
    }
}
