// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! When a whole page can be accessed by masters at once.
//!
//! A page is *at rest* for a kind of access if one more of these would change nothing that is known of
//! its lines but who has written them last and when, and find nothing. Then the page is looked at once
//! and not line by line. Each condition here is one that the rules in [`super::sanitizer`], and what the
//! domain does around them, go by for a single line; a property test compares the two
//! (`tests/ranges.rs`).

use serde::{Deserialize, Serialize};

use super::cold::Cold;
use super::config::SnoopWrite;
use super::line::{
    ALIASED, DIVERGED, DMA, IN_FLIGHT_READ, IN_FLIGHT_WRITE, Line, MAYBE_DIRTY, OVERTAKEN, State,
    UNREAD,
};
use super::maintenance::Operations;
use super::page::PageMeta;
use super::replacement::Policy;
use crate::dma::Doorbell;
use crate::state::{Invalid, at_most};

/// Kinds of access of a master that pages can be at rest for, one bit each. Writes that allocate are
/// none of them: each moves its line within the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kinds(u8);

impl Kinds {
    pub const NONE: Kinds = Kinds(0);
    const ALL: Kinds = Kinds(0xf);
    pub const SNOOPING_READ: Kinds = Kinds(1 << 0);
    pub const POC_READ: Kinds = Kinds(1 << 1);
    pub const WRITE_THROUGH: Kinds = Kinds(1 << 2);
    pub const POC_WRITE: Kinds = Kinds(1 << 3);

    /// For a state that comes from outside.
    pub fn check(self) -> Result<(), Invalid> {
        at_most("kinds of access", self.0.into(), Self::ALL.0.into())
    }

    /// Those before and after which the cache does nothing of its own accord.
    pub fn undisturbed(policy: Policy) -> Self {
        match policy {
            Policy::Zynqmp | Policy::Lazy => Kinds::ALL,
            Policy::Eager => Kinds::ALL.without(Kinds::POC_WRITE),
            Policy::Random => Kinds::NONE,
        }
    }

    /// Which one a read is.
    pub fn read(snoops: bool) -> Self {
        if snoops {
            Kinds::SNOOPING_READ
        } else {
            Kinds::POC_READ
        }
    }

    /// Which one a write is.
    pub fn write(snoops: bool, how: SnoopWrite) -> Self {
        match (snoops, how) {
            (false, _) => Kinds::POC_WRITE,
            (true, SnoopWrite::WriteThrough) => Kinds::WRITE_THROUGH,
            (true, SnoopWrite::Allocate) => Kinds::NONE,
        }
    }

    const SNOOPING: Kinds = Kinds(Kinds::SNOOPING_READ.0 | Kinds::WRITE_THROUGH.0);
    const WRITES: Kinds = Kinds(Kinds::WRITE_THROUGH.0 | Kinds::POC_WRITE.0);
    /// Those that maintenance comes before.
    const POC: Kinds = Kinds(Kinds::POC_READ.0 | Kinds::POC_WRITE.0);

    /// Whether some of `others` are among them.
    pub fn meet(self, others: Kinds) -> bool {
        self.0 & others.0 != 0
    }

    /// All but `others`.
    fn without(self, others: Kinds) -> Self {
        Kinds(self.0 & !others.0)
    }

    /// Those that are in both.
    fn and(self, others: Kinds) -> Self {
        Kinds(self.0 & others.0)
    }

    /// Those that do not meet the owner of a line with `flags`, a non-snooping transfer: a read does not
    /// mind one that reads.
    fn unowned(self, flags: u16) -> Self {
        let written = flags & IN_FLIGHT_WRITE != 0;
        let owned = written || flags & IN_FLIGHT_READ != 0;
        let kinds = self.without_if(written, Kinds::SNOOPING_READ);
        kinds.without_if(owned, Kinds::WRITE_THROUGH)
    }

    /// All but `others`, if `not`.
    fn without_if(self, not: bool, others: Kinds) -> Self {
        if not { self.without(others) } else { self }
    }
}

/// For which accesses a page is at rest.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct AtRest {
    kinds: Kinds,
    /// By masters that knew of so many barriers, or more: what has been cleaned was complete then.
    completed: u32,
    /// And reads by masters told after a barrier of this time or later: when a CPU last stored to one
    /// of the lines, in accesses since power-on.
    stored_at: u64,
    /// Lines in the cache: a mask.
    pub cached: u64,
}

impl AtRest {
    /// Looks through the lines of a page; `None` if it is not at rest for any of `wanted`. `kinds` are
    /// those that matter at all.
    pub fn of(page: &PageMeta, kinds: Kinds, wanted: Kinds, ops: &Operations) -> Option<Self> {
        let mut rest = AtRest {
            kinds,
            completed: 0,
            stored_at: 0,
            cached: 0,
        };
        for (n, line) in page.lines.iter().enumerate() {
            rest.kinds = rest.kinds.and(of_line(line));
            match page.cold.as_deref().and_then(|cold| cold.get(n)) {
                Some(cold) => rest.history(cold, ops),
                // A write leaves a history.
                None => rest.kinds = rest.kinds.without(Kinds::WRITES),
            }
            if !rest.kinds.meet(wanted) {
                return None;
            }
            if line.fresh != 0 {
                rest.stored_at = rest.stored_at.max(line.written_at);
            }
            rest.cached |= u64::from(line.cached()) << n;
        }
        Some(rest)
    }

    /// What of a line's history masters would meet.
    fn history(&mut self, cold: &Cold, ops: &Operations) {
        let rare = cold.rare();
        let lost = cold.lost != 0 || !rare.saved_lost.is_empty();
        let invalidated = cold.saved_invalidate | cold.settling != 0;
        let overwritten = cold.destroyed | rare.alias_fresh == 0 && cold.unread == u64::MAX;
        let kinds = self.kinds.without_if(lost, Kinds::ALL);
        let kinds = kinds.without_if(invalidated, Kinds::SNOOPING);
        let kinds = kinds.without_if(invalidated || !overwritten, Kinds::WRITES);
        let found = rare.clobber != 0 || cold.spoiled.is_some();
        self.kinds = kinds.without_if(found, Kinds::POC_WRITE);
        if rare.alias_fresh != 0 {
            self.stored_at = self.stored_at.max(rare.alias_written_at);
        }
        for clean in cold.cleans.iter() {
            self.kinds = self.kinds.without(Kinds::WRITE_THROUGH);
            self.kinds = self.kinds.without_if(clean.bytes != 0, Kinds::POC_WRITE);
            // Whether it was needed must have been said: yes, or that a later one would have done, which
            // has a lower number if another CPU had begun it before.
            let judged = clean.counted || clean.repeated_by != 0;
            let repeating = if clean.counted { 0 } else { clean.repeated_by };
            let completed = [ops.completed_by(clean.op), ops.completed_by(repeating)];
            match completed {
                [Some(one), Some(other)] if judged => {
                    self.completed = self.completed.max(one).max(other);
                }
                _ => self.kinds = self.kinds.without(Kinds::POC),
            }
        }
    }

    /// For a state that comes from outside.
    pub fn check(&self) -> Result<(), Invalid> {
        self.kinds.check()
    }

    /// Whether that goes for an access of `kind` by a master started at `release`, if transfers own
    /// lines as `flags` say.
    pub fn is_for(&self, kind: Kinds, release: &Doorbell, flags: u16) -> bool {
        self.kinds.unowned(flags).meet(kind)
            && self.completed <= release.completed
            && self.stored_at <= release.ordered_at
    }
}

/// What the hot part of a line allows.
fn of_line(line: &Line) -> Kinds {
    if line.flags & DMA == 0 || line.flags & OVERTAKEN != 0 {
        return Kinds::NONE;
    }
    let aliased = line.flags & ALIASED != 0;
    let kinds = Kinds::ALL.unowned(line.flags);
    let kinds = kinds.without_if(line.uncleaned != 0, Kinds::POC_READ);
    let kinds = kinds.without_if(line.unseen != 0, Kinds::SNOOPING);
    let kinds = kinds.without_if(line.unseen != u64::MAX, Kinds::POC_WRITE);
    // A write has left it like this, and no CPU has stored to it since.
    let written = line.uncleaned | line.firmware | line.fresh == 0
        && line.flags & (UNREAD | MAYBE_DIRTY) == UNREAD;
    let kinds = kinds.without_if(!written, Kinds::WRITES);
    match line.state {
        State::Invalid => kinds,
        State::Clean if line.flags & DIVERGED != 0 && !aliased => {
            kinds.without(Kinds::WRITE_THROUGH)
        }
        State::Clean | State::Dirty => kinds.without(Kinds::WRITES),
    }
}
