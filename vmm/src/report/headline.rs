// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The first sentence of a diagnostic: who did what to whose data.

use staleline_results::{Class, Diagnostic, Event, HazardEntry, HazardKind, Party, Why};

use super::phrases::{count, who};

/// Whether the finding is an access past the cache.
fn ends_past(d: &Diagnostic) -> bool {
    let last = d.history.last().map(|s| &s.what);
    matches!(last, Some(Event::ReadPast))
}

pub(in crate::report) fn headline(d: &Diagnostic, f: &HazardEntry) -> String {
    let lines = count(d.lines, "cache line");
    let transfers = match (d.findings, d.kind) {
        (0 | 1, _) => String::new(),
        (n, HazardKind::DiscardedWrite) => format!(", in {n} operations"),
        // Descriptors and events are part of no transfer.
        (n, _) if f.transfer != 0 => format!(", in {n} transfers"),
        (n, _) => format!(", in {n} findings"),
    };
    let (writer, reader) = (who(&f.writer), who(&f.reader));
    let what = match (d.kind, d.why) {
        _ if d.class == Class::StaleCopy => {
            format!("the kernel copied {lines} that {writer} had written and nobody has asked for")
        }
        (HazardKind::WritebackClobber, Why::StaleStore) => {
            format!(
                "{reader} read {lines} that {writer} had written, and over which a store into an \
                 older copy may put old bytes"
            )
        }
        (_, Why::StaleStore) => {
            format!(
                "{reader} read {lines} that {writer} had written past the cache, and over which a \
                 store into an older copy may put old bytes"
            )
        }
        (HazardKind::MissingClean, Why::PowerOn) => {
            format!("{reader} read {lines} that nobody has cleaned since power-on")
        }
        (HazardKind::MissingClean, _) => {
            format!(
                "{reader} read {lines} that {writer} had written and nobody had cleaned in time"
            )
        }
        (HazardKind::MissingInvalidate, _) => {
            format!("{reader} read {lines} that {writer} had written")
        }
        (HazardKind::WritebackClobber, Why::PowerOn) => {
            format!(
                "{} wrote {lines} that nobody has cleaned since power-on",
                f.master
            )
        }
        (HazardKind::WritebackClobber, _) => format!(
            "{} wrote {lines} that still had uncleaned data in the cache",
            f.master
        ),
        (HazardKind::DiscardedWrite, _) => {
            format!("an invalidate threw away {lines} that {writer} had written")
        }
        (HazardKind::MissingBarrier, Why::Unordered) => format!(
            "{reader} may have accessed {lines} before {writer} wrote there: nothing orders the two"
        ),
        (HazardKind::MissingBarrier, _) if ends_past(d) => format!(
            "{reader} accessed {lines} past the cache before their maintenance had completed"
        ),
        (HazardKind::MissingBarrier, _) => {
            // Between two devices, it is the second one that comes too early.
            let started = match &f.reader {
                Party::Device { master, .. } => master,
                _ => &f.master,
            };
            format!("{started} was started before maintenance of {lines} had completed")
        }
        (HazardKind::MismatchedAlias, why) => match d.history.last().map(|s| &s.what) {
            Some(Event::Read) => {
                format!("{reader} read {lines} through the cache that {writer} had written past it")
            }
            Some(Event::ReadPast) if why == Why::PowerOn => format!(
                "{reader} accessed {lines} past the cache that nobody has cleaned since power-on"
            ),
            Some(Event::ReadPast) => format!(
                "{reader} accessed {lines} past the cache that {writer} had written through it"
            ),
            _ => format!("cacheable and non-cacheable views of {lines} disagree"),
        },
        (HazardKind::SignalledEarly, _) => {
            format!("a fence signalled before {lines} that {writer} had written were made visible")
        }
        (HazardKind::Ownership, _) => format!(
            "{reader} touched {lines} while a transfer of {} was in flight",
            f.master
        ),
    };
    what + &transfers
}
