// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The model's terms in the words of results: what is published stays when the model changes.

use staleline_devices::coherency::hazard::{HazardKind, Why};
use staleline_devices::coherency::report::{CacheCounters, Saturated};
use staleline_devices::cpu::{Barrier, BarrierAccess, BarrierKind, BarrierScope, CacheOp};
use staleline_devices::dma::{Direction, StartedBy};
use staleline_devices::fidelity::{Fidelity, Sight};
use staleline_devices::soc::report::DeviceError;
use staleline_results as results;

/// What has a word in results.
pub(crate) trait Word {
    /// The word's type.
    type Of;

    /// The word.
    fn word(&self) -> Self::Of;
}

/// One word for each, of the same name.
macro_rules! words {
    ($($kind:ident: $($name:ident),+;)+) => {
        $(impl Word for $kind {
            type Of = results::$kind;

            fn word(&self) -> Self::Of {
                match self {
                    $($kind::$name => results::$kind::$name,)+
                }
            }
        })+
    };
}

words! {
    HazardKind: MissingClean, MissingInvalidate, WritebackClobber, DiscardedWrite, MissingBarrier,
        MismatchedAlias, Ownership, SignalledEarly;
    Why: Absent, Late, Early, Incomplete, Unordered, StaleStore, PowerOn;
    CacheOp: Clean, Invalidate, CleanInvalidate;
    BarrierKind: Dmb, Dsb;
    BarrierAccess: Load, Store, Full;
    BarrierScope: NonShareable, Inner, Outer, System;
    Direction: FromMemory, ToMemory;
    StartedBy: Itself, Doorbell, Word;
    Sight: Loads, Stores, Maintenance, Barriers, Tables, Fences;
}

impl Word for Barrier {
    type Of = results::Barrier;

    fn word(&self) -> Self::Of {
        results::Barrier {
            kind: self.kind.word(),
            access: self.access.word(),
            scope: self.scope.word(),
        }
    }
}

impl Word for Fidelity {
    type Of = results::Fidelity;

    fn word(&self) -> Self::Of {
        results::Fidelity {
            sees: self.sees.iter().map(Word::word).collect(),
            not_judged: self.not_judged.iter().map(Word::word).collect(),
        }
    }
}

impl Word for CacheCounters {
    type Of = results::CacheCounters;

    fn word(&self) -> Self::Of {
        results::CacheCounters {
            fills: self.fills,
            evictions_clean: self.evictions_clean,
            evictions_dirty: self.evictions_dirty,
            dma_read_bytes: self.dma_read_bytes,
            dma_written_bytes: self.dma_written_bytes,
        }
    }
}

impl Word for Saturated {
    type Of = results::Saturated;

    fn word(&self) -> Self::Of {
        results::Saturated {
            bound: self.bound.clone(),
            limit: self.limit,
        }
    }
}

impl Word for DeviceError {
    type Of = results::DeviceError;

    fn word(&self) -> Self::Of {
        results::DeviceError {
            device: self.device.clone(),
            what: self.what.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_the_same_name_in_results() {
        assert_eq!(HazardKind::ALL.len(), results::HazardKind::ALL.len());
        for (kind, word) in HazardKind::ALL.into_iter().zip(results::HazardKind::ALL) {
            assert_eq!((kind.word(), kind.name()), (word, word.name()));
        }
    }
}
