// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The order of ordinary stores against whatever hands memory over to a master: a doorbell, or a
//! word in memory that the master polls.
//!
//! Two stores are ordered for a master if a barrier for stores that reaches it stands between them
//! (DDI 0487, B2.3 "barrier-ordered-before"; Documentation/memory-barriers.txt, `dma_wmb()`).

use serde::{Deserialize, Serialize};

use super::mutate::{Rule, off};
use super::who::Who;
use crate::cpu::{Barrier, BarrierAccess, BarrierKind, CpuId};
use crate::dma::Doorbell;

/// Bytes per word whose stores are told apart.
const WORD: u64 = 4;
/// Words per line.
const WORDS: usize = 16;

/// Barriers so far: the time of the last one of each sort, in accesses since power-on.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Barriers {
    /// That orders stores as bus masters see them.
    pub stores: u64,
    /// That orders loads of what bus masters write.
    pub loads: u64,
    /// The last one that orders loads, but only of what other CPUs write.
    pub loads_of_cpus: Option<(u64, Barrier)>,
    /// That orders stores of this CPU before all that follows, maintenance too: one for all accesses,
    /// or a DSB, which holds back everything.
    pub stores_before_all: u64,
}

impl Barriers {
    /// A barrier after access number `now`.
    pub fn add(&mut self, barrier: Barrier, now: u64) {
        let reaches = barrier.reaches_masters() || off(Rule::OrderingScope);
        if barrier.orders_stores() && reaches {
            self.stores = now;
        }
        if barrier.orders_loads_from_masters() {
            self.loads = now;
        } else if barrier.orders_loads() {
            self.loads_of_cpus = Some((now, barrier));
        }
        let dsb = barrier.kind == BarrierKind::Dsb && barrier.orders_stores();
        if barrier.access == BarrierAccess::Full || dsb {
            self.stores_before_all = now;
        }
    }
}

/// For each word of a line, the state of things when it was last stored; default: not since it is
/// being watched.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Words {
    stored: [Doorbell; WORDS],
    /// Who stored it, and whether past the cache.
    by: [(Who, bool); WORDS],
    /// The operation that cleaned the word since it was stored, and the last one that was complete
    /// then; 0: none.
    cleaned: [(u32, u32); WORDS],
}

impl Words {
    /// Operation `op` has cleaned `bytes`, which a CPU had stored into the cache; `completed` is the
    /// last one that is complete.
    pub fn cleaned(&mut self, bytes: u64, op: u32, completed: u32) {
        for (n, cleaned) in self.cleaned.iter_mut().enumerate() {
            if bytes & word_mask(n) != 0 {
                *cleaned = (op, completed);
            }
        }
    }

    /// As [`Words::last_store`], for a master that does not snoop: what was issued and complete when the
    /// word was cleaned, for it cannot have been seen before.
    pub fn last_store_at_poc(&self, offset: u64) -> Option<Doorbell> {
        let stored = self.last_store(offset)?;
        Some(match self.cleaned.get((offset / WORD) as usize) {
            Some((op, completed)) if *op != 0 => Doorbell {
                issued: *op,
                completed: *completed,
                ..stored
            },
            _ => stored,
        })
    }

    /// `bytes` of the line were stored, by `who`, past the cache or into it.
    pub fn stored(&mut self, bytes: u64, state: Doorbell, who: Who, past: bool) {
        let all = self.stored.iter_mut().zip(&mut self.by);
        for (n, ((word, by), cleaned)) in all.zip(&mut self.cleaned).enumerate() {
            if bytes & word_mask(n) != 0 {
                *word = state;
                *by = (who, past);
                *cleaned = (0, 0);
            }
        }
    }

    /// The latest store to one of `bytes`: who, and when.
    pub fn last(&self, bytes: u64) -> Option<(Who, u64)> {
        let all = self.stored.iter().zip(&self.by).enumerate();
        let hit = all.filter(|(n, (word, _))| word.at != 0 && bytes & word_mask(*n) != 0);
        hit.map(|(_, (word, (who, _)))| (*who, word.at))
            .max_by_key(|(_, at)| *at)
    }

    /// Whether the last store to one of `bytes` is that CPU's, and came behind `from` and not behind `to`.
    pub fn stored_in(&self, bytes: u64, cpu: CpuId, from: u64, to: u64) -> bool {
        self.select(bytes, |word| {
            word.cpu == cpu && from < word.at && word.at <= to
        }) != 0
    }

    /// Whether a store at that time is known, and went past the cache.
    pub fn went_past(&self, at: u64) -> bool {
        let mut all = self.stored.iter().zip(&self.by);
        all.any(|(word, (_, past))| word.at == at && *past)
    }

    /// The last store to the word at `offset` of the line (a multiple of 4 below 64), if known.
    pub fn last_store(&self, offset: u64) -> Option<Doorbell> {
        let word = self.stored.get((offset / WORD) as usize)?;
        (word.at != 0).then_some(*word)
    }

    /// Of `bytes`, those whose last store is known.
    pub fn known(&self, bytes: u64) -> u64 {
        self.select(bytes, |word| word.at != 0)
    }

    /// Of `bytes`, those whose last store is not ordered before `release`, or came after it. A store of
    /// another CPU is ordered by whatever handed the work over to the one that told the master.
    pub fn unordered(&self, bytes: u64, release: &Doorbell) -> u64 {
        self.select(bytes, |word| {
            word.at != 0
                && (word.at > release.at || word.cpu == release.cpu && word.at > release.ordered_at)
        })
    }

    fn select(&self, bytes: u64, wanted: impl Fn(&Doorbell) -> bool) -> u64 {
        let words = self
            .stored
            .iter()
            .enumerate()
            .filter(|(_, word)| wanted(word));
        words.fold(0, |all, (n, _)| all | word_mask(n)) & bytes
    }
}

fn word_mask(n: usize) -> u64 {
    0xf << (n as u64 * WORD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{BarrierScope, CpuId, SiteId};

    fn stored(at: u64, ordered_at: u64) -> Doorbell {
        Doorbell {
            at,
            ordered_at,
            ..Doorbell::default()
        }
    }

    #[test]
    fn a_word_is_ordered_by_a_barrier_between_it_and_the_release() {
        let mut words = Words::default();
        let who = |site| Who::cpu(CpuId::BOOT, SiteId(site));
        words.stored(0xff, stored(5, 0), who(1), true);
        words.stored(0xf00, stored(9, 7), who(2), false);
        assert_eq!(words.last(0xff), Some((who(1), 5)));
        assert_eq!(words.last(u64::MAX), Some((who(2), 9)));
        assert_eq!(words.last(0xf000), None);
        assert!(words.went_past(5) && !words.went_past(9) && !words.went_past(6));
        assert_eq!(words.unordered(0xff, &stored(9, 7)), 0);
        assert_eq!(words.unordered(0xff, &stored(9, 4)), 0xff);
        assert_eq!(
            words.unordered(0xfff, &stored(8, 7)),
            0xf00,
            "stored after the release"
        );
        assert!(words.stored_in(0xff, CpuId::BOOT, 4, 5));
        assert!(
            !words.stored_in(0xff, CpuId::BOOT, 5, 9) && words.stored_in(0x1ff, CpuId::BOOT, 5, 9)
        );
        assert!(!words.stored_in(u64::MAX, CpuId(1), 0, 9));
        assert_eq!(words.known(u64::MAX), 0xfff);
        assert_eq!(words.last_store(8), Some(stored(9, 7)));
        assert_eq!(words.last_store(12), None);
    }

    #[test]
    fn only_barriers_for_stores_that_reach_masters_order_them() {
        let mut barriers = Barriers::default();
        let mut after = |access, scope| {
            let kind = BarrierKind::Dmb;
            barriers.stores = 0;
            barriers.add(
                Barrier {
                    kind,
                    access,
                    scope,
                },
                3,
            );
            barriers.stores
        };
        assert_eq!(after(BarrierAccess::Store, BarrierScope::Outer), 3);
        assert_eq!(after(BarrierAccess::Full, BarrierScope::System), 3);
        assert_eq!(after(BarrierAccess::Store, BarrierScope::Inner), 0);
        assert_eq!(after(BarrierAccess::Load, BarrierScope::System), 0);
    }
}
