// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What happened to the line of a finding, in order.

use staleline_devices::coherency::hazard::{self, Actor, Hazard, HazardKind, Why};
use staleline_devices::coherency::report::MaintenanceOp;
use staleline_devices::dma::StartedBy;

use super::lookup::Lookup;
use super::words::Word as _;
use super::{Event, Hex, Party, Step};

/// Order of steps at the same time: maintenance comes after the access it is timed by, devices
/// after the CPU.
fn rank(step: &Step, why: Why) -> u8 {
    let by_device = matches!(step.who, Party::Device { .. });
    match &step.what {
        Event::PowerOn => 0,
        Event::Stored | Event::Written | Event::StoredStale if !by_device => 1,
        Event::Cached => 2,
        // A register write is an access too, and what was late came after it.
        Event::Started { .. } if why == Why::Late => 3,
        Event::Maintained { .. } => 4,
        Event::Started { .. } => 5,
        Event::Opened => 6,
        Event::Stored | Event::Written | Event::StoredStale => 7,
        Event::Closed => 8,
        Event::Signalled => 9,
        Event::Read
        | Event::Accessed
        | Event::WrittenOver
        | Event::Discarded
        | Event::MadeVisible
        | Event::ReadPast
        | Event::Touched => 10,
    }
}

/// Suppressed operations told, at most.
const SUPPRESSED: usize = 2;

/// How the finding came about: what the writer did, and what the finding itself is.
struct Shape {
    written: Option<(Event, Actor)>,
    found: (Event, Actor),
}

impl Shape {
    fn of(h: &Hazard) -> Self {
        let device = |actor| matches!(actor, Actor::Device { .. });
        let written = Some((Event::Written, h.writer));
        let past = h.written_past || matches!(h.writer, Actor::Device { snoops: false, .. });
        let stored = match past {
            true => Some((Event::Written, h.writer)),
            false => Some((Event::Stored, h.writer)),
        };
        match h.kind {
            HazardKind::MissingClean => Shape {
                written: stored,
                found: (Event::Read, h.reader),
            },
            HazardKind::MissingInvalidate => Shape {
                written,
                found: (Event::Read, h.reader),
            },
            _ if h.why == Why::StaleStore => Shape {
                written,
                found: (Event::Read, h.reader),
            },
            HazardKind::DiscardedWrite => Shape {
                written: stored,
                found: (Event::Discarded, h.reader),
            },
            HazardKind::Ownership => Shape {
                written: None,
                found: (Event::Touched, h.reader),
            },
            HazardKind::SignalledEarly => Shape {
                written: match h.writer {
                    Actor::Device { snoops: true, .. } => stored,
                    _ => written,
                },
                found: (Event::MadeVisible, h.reader),
            },
            // The device writes over what `reader` had stored.
            HazardKind::WritebackClobber => Shape {
                written: Some((Event::Stored, h.reader)),
                found: (Event::WrittenOver, h.writer),
            },
            HazardKind::MissingBarrier if device(h.writer) && h.writer == h.reader => Shape {
                written: None,
                found: (Event::Stored, h.writer),
            },
            HazardKind::MissingBarrier if device(h.writer) && h.why == Why::Unordered => Shape {
                written,
                found: (Event::Read, h.reader),
            },
            HazardKind::MissingBarrier if device(h.writer) && !device(h.reader) => Shape {
                written: Some((Event::Stored, h.reader)),
                found: (Event::WrittenOver, h.writer),
            },
            HazardKind::MissingBarrier if device(h.reader) && h.why == Why::Unordered => Shape {
                written: stored,
                found: (Event::Accessed, h.reader),
            },
            HazardKind::MissingBarrier if device(h.reader) => Shape {
                written: stored,
                found: (Event::Read, h.reader),
            },
            HazardKind::MissingBarrier => Shape {
                written: stored,
                found: (Event::ReadPast, h.reader),
            },
            // Either what was stored past the cache is read through it, or the other way round.
            HazardKind::MismatchedAlias if reads_through(h) => Shape {
                written,
                found: (Event::Read, h.reader),
            },
            HazardKind::MismatchedAlias => Shape {
                written: stored,
                found: (Event::ReadPast, h.reader),
            },
        }
    }
}

/// Of two views that disagree: what was stored past the cache is read through it, and not the other
/// way round.
pub(super) fn reads_through(h: &Hazard) -> bool {
    is_device(h.reader) || (h.line_uncleaned == 0 && h.why != Why::PowerOn)
}

/// Whether the finding is about what a CPU does past the cache, and no device.
pub(super) fn past_the_cache(h: &Hazard) -> bool {
    matches!(Shape::of(h).found, (Event::ReadPast, Actor::Cpu { .. }))
}

/// The history of the finding's first line.
pub(super) fn of(lookup: &Lookup<'_>, h: &Hazard) -> Vec<Step> {
    let shape = Shape::of(h);
    let mut steps = Vec::new();
    let mut add = |at: u64, what: Event, who: Party| steps.push(Step { at, what, who });
    if h.why == Why::PowerOn {
        add(0, Event::PowerOn, Party::Unknown);
    }
    let mut told_place = None;
    if let Some((what, actor)) = shape.written
        && actor != Actor::Unknown
    {
        told_place = stored_at(&what, actor, h.written_at);
        add(h.written_at, what, lookup.party(actor, h));
    }
    let cached = (h.cached_by, h.cached_at);
    let by_finding = cached == (shape.found.1, h.at);
    let by_merge = cached == (h.merged_by, h.merged_at);
    // Where stores are not ordered, what is in the cache does not matter.
    let no_matter = h.why == Why::Unordered;
    let known = told_place == Some(cached) || by_finding || by_merge || no_matter;
    if h.cached_by != Actor::Unknown && !known {
        let who = h.cached_by;
        add(
            h.cached_at,
            Event::Cached,
            lookup.party_at(who, h, &[h.cached_at]),
        );
    }
    for op in operations(lookup, h) {
        let who = lookup.maintenance_party(&op.last);
        let what = Event::Maintained {
            op: op.last.op.word(),
            number: op.last.operation,
            first_pa: Hex(op.last.first_pa),
            lines: op.last.lines,
            barrier: {
                let seen = op.last.barrier.filter(|_| op.last.barrier_at <= h.at);
                seen.map(|b| b.word())
            },
            suppressed: op.suppressed,
        };
        add(op.last.at, what, who);
    }
    for actor in [h.writer, h.reader] {
        let party = lookup.party(actor, h);
        let Party::Device {
            transfer: Some(transfer),
            snoops: false,
            ..
        } = &party
        else {
            continue;
        };
        let (opened, closed) = (transfer.opened_at, transfer.closed_at);
        add(opened, Event::Opened, party.clone());
        if let Some(closed) = closed {
            add(closed, Event::Closed, party);
        }
    }
    if let Some(at) = h.started_at.filter(|_| h.started_by != StartedBy::Itself) {
        let device = [h.reader, h.writer].into_iter();
        let device = device.clone().find(|a| matches!(a, Actor::Device { .. }));
        let who = lookup.party(device.unwrap_or(Actor::Unknown), h);
        add(
            at,
            Event::Started {
                by: h.started_by.word(),
            },
            who,
        );
    }
    if h.why == Why::StaleStore && h.merged_by != Actor::Unknown {
        let who = lookup.party_at(h.merged_by, h, &[h.merged_at]);
        add(h.merged_at, Event::StoredStale, who);
    }
    if let Some(signal) = h.signalled {
        add(signal.at, Event::Signalled, lookup.signaller(&signal));
    }
    // What came at the very moment of a device's access, as the end of its transfer, came after it.
    let ends = |s: &Step| s.what == Event::Closed && s.at == h.at && is_device(shape.found.1);
    steps.retain(|s| s.at <= h.at && !ends(s));
    steps.sort_by_key(|s| (s.at, rank(s, h.why)));
    let (what, actor) = shape.found.clone();
    steps.push(Step {
        at: h.at,
        what,
        who: lookup.party(actor, h),
    });
    steps
}

fn is_device(actor: Actor) -> bool {
    matches!(actor, Actor::Device { .. })
}

/// The place and time of a store through the cache.
fn stored_at(what: &Event, actor: Actor, at: u64) -> Option<(Actor, u64)> {
    match actor {
        Actor::Cpu { .. } if *what == Event::Stored => Some((actor, at)),
        _ => None,
    }
}

struct Operation {
    last: hazard::LastMaintenance,
    suppressed: bool,
}

impl Operation {
    /// One of which the line itself remembers nothing: nor the barrier.
    fn of(op: &MaintenanceOp, suppressed: bool) -> Self {
        Operation {
            last: hazard::LastMaintenance {
                cpu: op.cpu,
                op: op.op,
                site: op.site,
                chain: op.chain,
                operation: op.number,
                at: op.at,
                first_pa: op.first_pa,
                lines: op.lines,
                barrier: None,
                barrier_at: 0,
            },
            suppressed,
        }
    }
}

/// The last operations on the line, the one that should have done something else, and those on it that were suppressed.
fn operations(lookup: &Lookup<'_>, h: &Hazard) -> Vec<Operation> {
    let known = [h.last_clean, h.last_invalidate, h.last_maintenance];
    let mut all: Vec<Operation> = Vec::new();
    for last in known.into_iter().flatten() {
        // The operation that the finding is about is its last step.
        let last_step = [HazardKind::DiscardedWrite, HazardKind::SignalledEarly];
        let found = last_step.contains(&h.kind) && last.at == h.at;
        if !found && all.iter().all(|o| o.last.operation != last.operation) {
            all.push(Operation {
                last,
                suppressed: false,
            });
        }
    }
    if let Some((op, _)) = lookup.cleaned_for_a_cpu(h)
        && all.iter().all(|o| o.last.operation != op.number)
    {
        all.push(Operation::of(op, false));
    }
    let suppressed = lookup.soc.domain.maintenance.operations.iter();
    let suppressed = suppressed.filter(|o| o.dropped && o.at <= h.at && o.at >= h.written_at);
    let hit = suppressed.filter(|o| o.does(h.line_pa));
    all.extend(hit.take(SUPPRESSED).map(|op| Operation::of(op, true)));
    all
}
