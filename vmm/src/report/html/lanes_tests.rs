// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What lines go through, and which of them are one row.

use proptest::prelude::*;
use staleline_devices::cpu::{ChainId, CpuId, SiteId};
use staleline_devices::dma::{MasterId, TransferId};
use staleline_devices::hazard::{Actor, Why};

use super::*;

const PA: u64 = 0x4000_0000;

fn watch(lines: u64) -> Watch {
    Watch {
        first: PA,
        end: PA + lines * LINE,
        from: 0,
        to: u64::MAX,
    }
}

fn lanes(watch: Watch, events: &[(u64, Event)]) -> Lanes {
    let mut lanes = Lanes::of(watch, SnoopWrite::WriteThrough);
    for (at, event) in events {
        lanes.take(*at, event);
    }
    lanes
}

fn maintained(op: CacheOp, pa: u64, lines: u64, found: Cached, dropped: bool) -> Event {
    Event::Maintained {
        cpu: CpuId(0),
        op,
        operation: 7,
        site: SiteId(0),
        chain: ChainId(0),
        pa,
        lines,
        found,
        dropped,
    }
}

fn moved(write: bool, snoops: bool, pa: u64, len: u64) -> Event {
    Event::Moved {
        master: MasterId(2),
        transfer: TransferId(5),
        snoops,
        write,
        content: Content::Data,
        pa,
        len,
    }
}

fn found(pa: u64) -> Event {
    Event::Found {
        finding: 1,
        kind: HazardKind::MissingInvalidate,
        why: Why::Absent,
        pa,
        bytes: !0,
        wrong: 0,
        writer: Actor::Unknown,
        reader: Actor::Unknown,
    }
}

fn evicted(pa: u64) -> Event {
    Event::Evicted {
        pa,
        lines: 1,
        written_back: false,
    }
}

fn marks(row: &Row) -> Vec<(Mark, u64, u64)> {
    let spans = row.steps.iter();
    spans.map(|s| (s.mark, s.first_at, s.last_at)).collect()
}

/// (uncleaned, unseen) before the first step and after each.
fn states(row: &Row) -> Vec<(bool, bool)> {
    let after = row.steps.iter().map(|s| s.state);
    let states = std::iter::once(row.begin).chain(after);
    states.map(|s| (s.uncleaned, s.unseen)).collect()
}

#[test]
fn lines_that_a_device_fills_one_after_the_other_are_one_row() {
    let lanes = lanes(
        watch(4),
        &[
            (10, maintained(CacheOp::Clean, PA, 4, Cached::Dirty, false)),
            (20, moved(true, false, PA, 2 * LINE)),
            (25, moved(true, false, PA + 2 * LINE, 2 * LINE)),
            (30, moved(false, true, PA, 4 * LINE)),
            (30, found(PA)),
            (30, found(PA + LINE)),
            (30, found(PA + 2 * LINE)),
            (30, found(PA + 3 * LINE)),
        ],
    );
    let rows = lanes.rows(9);
    let [row] = &rows.rows[..] else {
        panic!("{rows:?}");
    };
    assert_eq!((row.first, row.lines, row.has_finding()), (PA, 4, true));
    let op = CacheOp::Clean;
    let (master, suppressed) = (2, false);
    assert_eq!(
        marks(row),
        [
            (Mark::Maintained { op, suppressed }, 10, 10),
            (
                Mark::Written {
                    master,
                    snoops: false
                },
                20,
                25
            ),
            (
                Mark::Read {
                    master,
                    snoops: true
                },
                30,
                30
            ),
            (Mark::Found(HazardKind::MissingInvalidate), 30, 30),
        ]
    );
    // Dirty until the clean; stale from the write in memory on, to the end.
    let (n, y) = (false, true);
    assert_eq!(states(row), [(y, n), (n, n), (n, y), (n, y), (n, y)]);
}

#[test]
fn what_is_suppressed_changes_nothing() {
    for (dropped, unseen) in [(false, false), (true, true)] {
        let invalidated = maintained(CacheOp::Invalidate, PA, 1, Cached::Clean, dropped);
        let lanes = lanes(
            watch(1),
            &[(1, moved(true, false, PA, LINE)), (2, invalidated)],
        );
        assert_eq!(states(&lanes.rows(1).rows[0])[2], (false, unseen));
    }
}

#[test]
fn what_a_snooping_write_leaves_is_the_boards_and_whole_lines_only() {
    let stale = moved(true, false, PA, 2 * LINE);
    let over = moved(true, true, PA, LINE + 8);
    for (snoop_write, states) in [
        (SnoopWrite::WriteThrough, [(false, false), (false, true)]),
        (SnoopWrite::Allocate, [(true, true), (true, true)]),
    ] {
        let mut lanes = Lanes::of(watch(2), snoop_write);
        lanes.take(1, &stale);
        lanes.take(2, &over);
        let last = lanes.lives.iter().map(|life| life.now);
        let last: Vec<_> = last.map(|s| (s.uncleaned, s.unseen)).collect();
        assert_eq!(last, states, "{snoop_write:?}");
    }
}

#[test]
fn what_was_before_the_time_shown_counts_for_the_state() {
    let watch = Watch {
        from: 5,
        to: 9,
        ..watch(1)
    };
    let lanes = lanes(
        watch,
        &[
            (1, moved(true, false, PA, LINE)),
            (7, moved(false, true, PA, LINE)),
            (10, found(PA)),
        ],
    );
    let rows = lanes.rows(1);
    assert_eq!(states(&rows.rows[0]), [(false, true), (false, true)]);
}

#[test]
fn of_too_many_rows_the_caches_own_steps_go_first_then_rows_without_findings() {
    // Every other line is evicted once.
    let mut events: Vec<(u64, Event)> = (0..8).map(|n| (n, evicted(PA + 2 * n * LINE))).collect();
    events.push((20, moved(true, false, PA, 16 * LINE)));
    let all = lanes(watch(16), &events);
    assert_eq!(all.rows(16).rows.len(), 16);
    let rows = all.rows(15);
    assert_eq!((rows.rows.len(), rows.without_cache), (1, true));
    assert_eq!((rows.more_rows, rows.more_lines), (0, 0));

    let odd = (0..8).map(|n| (30, moved(false, true, PA + 2 * n * LINE, LINE)));
    events.extend(odd);
    events.push((31, found(PA + 14 * LINE)));
    let rows = lanes(watch(16), &events).rows(3);
    let firsts: Vec<u64> = rows.rows.iter().map(|r| (r.first - PA) / LINE).collect();
    assert_eq!(firsts, [0, 1, 14]);
    assert_eq!((rows.more_rows, rows.more_lines), (13, 13));
}

#[test]
fn addresses_and_lengths_may_be_anything() {
    let far = Watch {
        first: u64::MAX - 100,
        end: u64::MAX,
        ..watch(0)
    };
    for watch in [far, watch(0), watch(1 << 50)] {
        let mut lanes = Lanes::of(watch, SnoopWrite::Allocate);
        assert!(lanes.lives.len() as u64 <= MAX_LINES);
        for pa in [0, PA, u64::MAX, u64::MAX - 64] {
            lanes.take(1, &moved(true, true, pa, u64::MAX));
            lanes.take(
                2,
                &maintained(CacheOp::CleanInvalidate, pa, u64::MAX, Cached::No, false),
            );
            lanes.take(3, &found(pa));
        }
        lanes.rows(1);
    }
    let mut many = Lanes::of(watch(1), SnoopWrite::Allocate);
    for at in 0..10_000 {
        many.take(at, &moved(at % 2 == 0, true, PA, LINE));
    }
    let rows = many.rows(1).rows;
    assert!(rows[0].is_cut);
    assert_eq!(rows[0].steps.len(), MAX_STEPS);
}

fn event() -> impl Strategy<Value = Event> {
    let place = || (0..10_u64, 1..300_u64).prop_map(|(line, len)| (PA + line * LINE, len));
    let op = prop_oneof![
        Just(CacheOp::Clean),
        Just(CacheOp::Invalidate),
        Just(CacheOp::CleanInvalidate)
    ];
    prop_oneof![
        (any::<bool>(), any::<bool>(), place()).prop_map(|(w, s, (pa, len))| moved(w, s, pa, len)),
        (op, place(), any::<bool>()).prop_map(|(op, (pa, len), dropped)| maintained(
            op,
            pa,
            len / LINE + 1,
            Cached::Clean,
            dropped
        )),
        place().prop_map(|(pa, _)| found(pa)),
        place().prop_map(|(pa, _)| evicted(pa)),
    ]
}

proptest! {
    /// A row says of each of its lines what one would see that is followed alone.
    #[test]
    fn a_row_is_what_each_of_its_lines_went_through(events in prop::collection::vec(event(), 0..40)) {
        let events: Vec<(u64, Event)> = (0..).zip(events).collect();
        let together = lanes(watch(8), &events).rows(99).rows;
        prop_assert_eq!(together.iter().map(|r| r.lines).sum::<u64>(), 8);
        for row in together {
            for line in 0..row.lines {
                let first = row.first + line * LINE;
                let alone = Watch { first, end: first + LINE, ..watch(0) };
                let alone = lanes(alone, &events).rows(99).rows.remove(0);
                let steps = |row: &Row| -> Vec<_> {
                    row.steps.iter().map(|s| (s.mark, s.state)).collect()
                };
                prop_assert_eq!(steps(&alone), steps(&row));
                prop_assert_eq!(alone.begin, row.begin);
                let times = |of: &dyn Fn(&Span) -> u64, row: &Row| -> Vec<u64> {
                    row.steps.iter().map(of).collect()
                };
                if line == 0 {
                    prop_assert_eq!(times(&|s| s.first_at, &alone), times(&|s| s.first_at, &row));
                }
                if line + 1 == row.lines {
                    prop_assert_eq!(times(&|s| s.last_at, &alone), times(&|s| s.last_at, &row));
                }
            }
        }
    }
}
