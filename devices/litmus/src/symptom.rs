// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is wrong with a program, straight from the explorer's answer and without a judgement of
//! why: ambiguous reads, lost writes, polls that wait for ever.
//!
//! A read that is ambiguous only because a write is destroyed is not told apart: the destruction
//! is what is wrong.

use crate::explore::{Answer, Gone};
use crate::program::{Event, Granules, Program};

/// One thing that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Symptom {
    /// A read with several legal values although no write is destroyed.
    Ambiguous {
        /// The read, by index.
        read: usize,
        /// Of its bytes.
        bytes: Granules,
    },
    /// A write that may be destroyed.
    Lost {
        /// The write, by index; none: what was dirty at first.
        write: Option<usize>,
        /// By what.
        how: Gone,
        /// Of its bytes.
        bytes: Granules,
    },
    /// A poll that may wait for ever for a value that was written.
    Stuck {
        /// The poll, by index.
        poll: usize,
    },
}

impl Symptom {
    /// Everything that is wrong, in the order of events.
    pub fn all(answer: &Answer) -> Vec<Symptom> {
        let mut all = Vec::new();
        let mut reads: Vec<(usize, Granules)> = Vec::new();
        for r in answer.reads.iter().filter(|r| r.intact.len() > 1) {
            match reads.iter_mut().find(|(event, _)| *event == r.event) {
                Some((_, bytes)) => *bytes = bytes.or(r.bytes),
                None => reads.push((r.event, r.bytes)),
            }
        }
        all.extend((reads.into_iter()).map(|(read, bytes)| Symptom::Ambiguous { read, bytes }));
        all.extend(
            answer
                .lost
                .iter()
                .filter(|l| l.missed)
                .map(|l| Symptom::Lost {
                    write: l.write,
                    how: l.how,
                    bytes: l.bytes,
                }),
        );
        all.extend(
            (0..32)
                .filter(|poll| answer.stuck >> poll & 1 != 0)
                .map(|poll| Symptom::Stuck { poll }),
        );
        all
    }

    /// The event it is at: the read, the invalidate that destroys, the write that is overwritten.
    pub fn at(&self) -> usize {
        match *self {
            Symptom::Ambiguous { read, .. } => read,
            Symptom::Lost {
                how: Gone::Dropped(event),
                ..
            } => usize::from(event),
            Symptom::Lost { write, .. } => write.unwrap_or(0),
            Symptom::Stuck { poll } => poll,
        }
    }

    /// The bytes of `other` that this has too, if it is the same thing, however it comes about.
    fn shared(&self, other: &Symptom) -> Granules {
        match (self, other) {
            (
                Symptom::Ambiguous { read: a, bytes: x },
                Symptom::Ambiguous { read: b, bytes: y },
            ) if a == b => x.and(*y),
            (
                Symptom::Lost {
                    write: a, bytes: x, ..
                },
                Symptom::Lost {
                    write: b, bytes: y, ..
                },
            ) if a == b => x.and(*y),
            (Symptom::Stuck { poll: a }, Symptom::Stuck { poll: b }) if a == b => Granules(!0),
            _ => Granules::NONE,
        }
    }

    /// The bytes of the read, the write, or the poll.
    pub fn bytes(&self, program: &Program) -> Granules {
        match *self {
            Symptom::Ambiguous { bytes, .. } | Symptom::Lost { bytes, .. } => bytes,
            Symptom::Stuck { poll } => {
                (program.events.get(poll)).map_or(Granules::NONE, Event::bytes)
            }
        }
    }

    /// The bytes of it that are left among `others`.
    pub fn left(&self, program: &Program, others: &[Symptom]) -> Granules {
        let left = others.iter().map(|o| self.shared(o));
        left.fold(Granules::NONE, Granules::or)
            .and(self.bytes(program))
    }

    /// Whether none of it is left among `others`.
    pub fn vanished(&self, others: &[Symptom]) -> bool {
        others.iter().all(|o| self.shared(o).is_empty())
    }

    /// Whether all of it was there before.
    pub fn known(&self, before: &[Symptom]) -> bool {
        let had = (before.iter()).fold(Granules::NONE, |all, b| all.or(self.shared(b)));
        let all = match *self {
            Symptom::Ambiguous { bytes, .. } | Symptom::Lost { bytes, .. } => bytes,
            Symptom::Stuck { .. } => Granules(!0),
        };
        all.without(had).is_empty()
    }

    /// The same with each event's index as `renumber` gives it; none: it is of an event that has
    /// no number.
    pub fn renumbered(self, renumber: impl Fn(usize) -> Option<usize>) -> Option<Self> {
        Some(match self {
            Symptom::Ambiguous { read, bytes } => Symptom::Ambiguous {
                read: renumber(read)?,
                bytes,
            },
            Symptom::Lost { write, how, bytes } => Symptom::Lost {
                write: match write {
                    Some(write) => Some(renumber(write)?),
                    None => None,
                },
                how,
                bytes,
            },
            Symptom::Stuck { poll } => Symptom::Stuck {
                poll: renumber(poll)?,
            },
        })
    }
}
