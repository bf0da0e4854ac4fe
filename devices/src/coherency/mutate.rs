// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Rules of the sanitizer that can be turned off one by one, to see that whatever the sanitizer is held
//! against notices. Without the feature `mutate` none can, and asking costs nothing.

/// A rule, or a fact that rules go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// `ownership`.
    Ownership,
    /// `missing-clean`, never cleaned.
    Clean,
    /// `missing-clean`, cleaned after the master was told.
    LateClean,
    /// `missing-barrier` behind the clean of what a master reads.
    IncompleteClean,
    /// `writeback-clobber`, never cleaned.
    Clobber,
    /// `writeback-clobber`, cleaned after the master was told.
    LateClobber,
    /// `missing-barrier` behind the clean of what a master writes over.
    IncompleteClobber,
    /// An invalidate that is not complete leaves a dirty line that may be written back.
    InvalidatedMayWriteBack,
    /// `missing-invalidate`.
    Invalidate,
    /// An invalidate while a transfer is in flight is too early.
    EarlyInvalidate,
    /// An invalidate may overtake a non-cacheable store of its CPU.
    OvertakenAliasStore,
    /// An invalidate after which a snooping master reads: was it in time?
    SettlingInvalidate,
    /// What a store into a stale copy destroys, read through the caches.
    Lost,
    /// The same, read at the PoC.
    LostAtPoc,
    /// `discarded-write`.
    Discarded,
    /// An incomplete invalidate may discard what a master allocates.
    DiscardedAllocation,
    /// An allocating write may merge into a copy that is to be invalidated.
    MergedAllocation,
    /// An invalidate after the master was told may come after what that allocates.
    LateInvalidate,
    /// Other transfers in flight may write what a master has written through.
    WriteThroughInFlight,
    /// Transfers that were in flight when a master was told may write after what that writes through.
    WriteThroughOverlaps,
    /// A store after the master was told may come after its write through the line.
    WriteThroughStartedBefore,
    /// A store that is not ordered before a write through the line may come after it.
    WriteThroughLater,
    /// The same for a non-cacheable store.
    WriteThroughAliasLater,
    /// `mismatched-alias` of a non-cacheable load.
    AliasLoad,
    /// `missing-barrier` between a clean and a non-cacheable load.
    AliasLoadBarrier,
    /// `mismatched-alias` of a non-cacheable store.
    AliasStore,
    /// `missing-barrier` between a clean and a non-cacheable store.
    AliasStoreBarrier,
    /// `missing-barrier` behind stores.
    Order,
    /// Stores that later ones to their line have overtaken are kept.
    Overtaken,
    /// Only a barrier for loads and stores completes maintenance.
    CompletingAccess,
    /// Only a barrier that reaches masters completes maintenance for them.
    CompletingScope,
    /// Only a barrier that reaches masters orders stores for them.
    OrderingScope,
    /// A master that is handed memory by a word goes by the store of that word.
    Handover,
    /// No false alarm: a write through the line leaves no copy that is older.
    WriteThroughSettles,
    /// No false alarm: a store makes its bytes the CPU's own.
    StoreSettles,
    /// No false alarm: what has been written anew at the PoC is not lost.
    WriteReplacesLost,
    /// No false alarm: a store behind an invalidate stands for its end in the caches.
    StoredBehind,
    /// No false alarm: the clean that brings a word to the PoC brings its line with it.
    WordBringsLine,
    /// No false alarm: a master may touch what it owns itself.
    OwnTransfer,
    /// No false alarm: memory is the CPU's again when a transfer is over.
    TransferEnds,
}

/// Whether a rule is turned off.
#[cfg(not(feature = "mutate"))]
#[inline(always)]
pub(super) fn off(_: Rule) -> bool {
    false
}

/// `bytes`, or none of them if a rule is turned off.
#[inline(always)]
pub(super) fn keep(rule: Rule, bytes: u64) -> u64 {
    if off(rule) { 0 } else { bytes }
}

#[cfg(feature = "mutate")]
pub(super) use switch::off;
#[cfg(feature = "mutate")]
pub use switch::{turn_off, turn_off_everywhere};

#[cfg(feature = "mutate")]
mod switch {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::Rule;

    thread_local! {
        static OFF: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    /// Turns a rule off in all domains of this thread, and all others on again; none: all are on.
    pub fn turn_off(rule: Option<Rule>) {
        OFF.set(rule);
    }

    static EVERYWHERE: OnceLock<Rule> = OnceLock::new();

    /// Turns a rule off in all domains of this process, for good. The first that is named is.
    pub fn turn_off_everywhere(rule: Rule) {
        EVERYWHERE.get_or_init(|| rule);
    }

    /// Whether a rule is turned off.
    #[inline]
    pub fn off(rule: Rule) -> bool {
        OFF.get() == Some(rule) || EVERYWHERE.get() == Some(&rule)
    }

    impl Rule {
        /// All of them, and whether turning one off makes findings where nothing is wrong.
        pub const ALL: [(Rule, bool); 40] = [
            (Rule::Ownership, false),
            (Rule::Clean, false),
            (Rule::LateClean, false),
            (Rule::IncompleteClean, false),
            (Rule::Clobber, false),
            (Rule::LateClobber, false),
            (Rule::IncompleteClobber, false),
            (Rule::InvalidatedMayWriteBack, false),
            (Rule::Invalidate, false),
            (Rule::EarlyInvalidate, false),
            (Rule::OvertakenAliasStore, false),
            (Rule::SettlingInvalidate, false),
            (Rule::Lost, false),
            (Rule::LostAtPoc, false),
            (Rule::Discarded, false),
            (Rule::DiscardedAllocation, false),
            (Rule::MergedAllocation, false),
            (Rule::LateInvalidate, false),
            (Rule::WriteThroughInFlight, false),
            (Rule::WriteThroughOverlaps, false),
            (Rule::WriteThroughStartedBefore, false),
            (Rule::WriteThroughLater, false),
            (Rule::WriteThroughAliasLater, false),
            (Rule::AliasLoad, false),
            (Rule::AliasLoadBarrier, false),
            (Rule::AliasStore, false),
            (Rule::AliasStoreBarrier, false),
            (Rule::Order, false),
            (Rule::Overtaken, false),
            (Rule::CompletingAccess, false),
            (Rule::CompletingScope, false),
            (Rule::OrderingScope, false),
            (Rule::Handover, false),
            (Rule::WriteThroughSettles, true),
            (Rule::StoreSettles, true),
            (Rule::WriteReplacesLost, true),
            (Rule::StoredBehind, true),
            (Rule::WordBringsLine, true),
            (Rule::OwnTransfer, true),
            (Rule::TransferEnds, true),
        ];
    }
}
