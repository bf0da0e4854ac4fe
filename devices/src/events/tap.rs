// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where events come together: what is of one piece is told as one.

use std::fmt;

use super::{Cached, Event, Kind, Kinds, Witness};
use crate::cpu::{CacheOp, CpuId, LINE, SiteId};

/// The way to a witness. It holds one event back, to see whether the next one goes on with it.
#[derive(Default)]
pub(crate) struct Tap {
    wanted: Kinds,
    pending: Option<(u64, Event)>,
    witness: Option<Box<dyn Witness>>,
    /// The last register access: what a device that is started is told by.
    pub register: (CpuId, SiteId, u64),
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap")
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}

impl Tap {
    /// From now on, `witness` is told of these kinds.
    pub fn open(&mut self, wanted: Kinds, witness: Box<dyn Witness>) {
        self.end();
        self.wanted = wanted;
        self.witness = Some(witness);
    }

    /// Whether events of a kind are wanted.
    #[inline(always)]
    pub fn wants(&self, kind: Kind) -> bool {
        self.wanted.contains(kind)
    }

    /// Tells of one more line of a maintenance operation, if that goes on with what was told last. Else
    /// nothing happens, and it is `false`. Operations do many lines, and this is quick.
    #[inline]
    pub fn maintains(&mut self, at: u64, line: &Maintained) -> bool {
        let Some((
            then,
            Event::Maintained {
                cpu,
                op,
                operation,
                pa,
                lines,
                found,
                dropped,
                ..
            },
        )) = &mut self.pending
        else {
            return false;
        };
        let same = *then == at
            && *operation == line.operation
            && (*cpu, *op, *found, *dropped) == (line.cpu, line.op, line.found, line.dropped);
        extend(same, *pa, lines, line.pa)
    }

    /// Tells an event, of a kind that is wanted.
    #[inline(never)]
    pub fn note(&mut self, at: u64, event: Event) {
        if let Some((then, pending)) = &mut self.pending
            && goes_on(*then, pending, at, &event)
        {
            return;
        }
        self.tell();
        self.pending = Some((at, event));
    }

    fn tell(&mut self) {
        if let (Some((at, event)), Some(witness)) = (self.pending.take(), &mut self.witness) {
            witness.event(at, &event);
        }
    }

    /// Nothing will happen for a while.
    pub fn rest(&mut self) {
        self.tell();
        if let Some(witness) = &mut self.witness {
            witness.rest();
        }
    }

    /// Nothing is told any more.
    pub fn end(&mut self) {
        self.tell();
        self.wanted = Kinds::NONE;
        if let Some(mut witness) = self.witness.take() {
            witness.end();
        }
    }
}

/// What is told of one line of a maintenance operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Maintained {
    pub cpu: CpuId,
    pub op: CacheOp,
    pub operation: u32,
    pub pa: u64,
    pub found: Cached,
    pub dropped: bool,
}

/// Makes `next` a part of what came before, if it goes on with it.
fn goes_on(then: u64, before: &mut Event, at: u64, next: &Event) -> bool {
    let same_time = then == at;
    // What `before` would be with its extent from `next`.
    match (before, *next) {
        (Event::Waited { ticks }, Event::Waited { ticks: more }) if same_time => {
            *ticks = ticks.saturating_add(more);
            true
        }
        (before @ Event::Moved { .. }, Event::Moved { pa, len, .. }) if same_time => {
            let mut joined = *before;
            let Event::Moved {
                pa: from, len: n, ..
            } = &mut joined
            else {
                return false;
            };
            let adjacent = from.checked_add(*n) == Some(pa);
            let (start, total) = (*from, *n + len);
            (*from, *n) = (pa, len);
            let same = adjacent && joined == *next;
            if let (true, Event::Moved { pa, len, .. }) = (same, before) {
                (*pa, *len) = (start, total);
            }
            same
        }
        (
            Event::Filled {
                pa: from,
                lines,
                by,
            },
            Event::Filled {
                pa,
                lines: 1,
                by: by2,
            },
        ) if same_time => extend(*by == by2, *from, lines, pa),
        (
            Event::Evicted {
                pa: from,
                lines,
                written_back,
            },
            Event::Evicted {
                pa,
                lines: 1,
                written_back: written_back2,
            },
        ) if same_time => extend(*written_back == written_back2, *from, lines, pa),
        (
            Event::Accessed {
                cpu,
                site,
                store,
                past,
                pa: from,
                len: n,
                ..
            },
            Event::Accessed {
                cpu: cpu2,
                site: site2,
                store: store2,
                past: past2,
                filled: false,
                pa,
                len,
            },
        ) => {
            let same = (*cpu, *site, *store, *past) == (cpu2, site2, store2, past2);
            let within = *from / LINE == (pa + len - 1) / LINE;
            let adjacent = *from + *n == pa;
            let again = *from <= pa && pa + len <= *from + *n;
            if same && within && adjacent {
                *n += len;
            }
            same && within && (adjacent || again)
        }
        _ => false,
    }
}

/// Makes the line at `pa` one more of `lines` from `from` on, if it is the next.
fn extend(same: bool, from: u64, lines: &mut u64, pa: u64) -> bool {
    let next = same && from + *lines * LINE == pa;
    *lines += u64::from(next);
    next
}
