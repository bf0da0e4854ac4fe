// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What lines go through, and which of them are one row.

use proptest::prelude::*;
use staleline_devices::cpu::{Barrier, ChainId, CpuId, SiteId};
use staleline_devices::dma::{Content, Direction, MasterId, StartedBy, TransferId};
use staleline_devices::hazard::{Actor, Why};

use super::*;

const PA: u64 = 0x4000_0000;

fn watch(lines: u64) -> Watch {
    Watch {
        first: PA,
        end: PA + lines * LINE,
        from: 0,
        to: u64::MAX,
        finding: None,
    }
}

fn lanes(watch: Watch, events: &[(u64, Event)]) -> Lanes {
    let mut lanes = Lanes::of(watch, SnoopWrite::WriteThrough, MAX_LINES);
    for (at, event) in events {
        lanes.take(*at, event);
    }
    lanes
}

fn maintained(op: CacheOp, pa: u64, lines: u64, found: Cached, dropped: bool) -> Event {
    maintained_by((0, 7), op, pa, lines, found, dropped)
}

/// By a CPU, as its operation of that number.
fn maintained_by(
    (cpu, operation): (u8, u32),
    op: CacheOp,
    pa: u64,
    lines: u64,
    found: Cached,
    dropped: bool,
) -> Event {
    Event::Maintained {
        cpu: CpuId(cpu),
        op,
        operation,
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

/// What is known before the first step and after each: - nothing, 0 nothing left, c nothing left to clean, u
/// uncleaned, s unseen, b both, p maintained without a barrier.
fn states(row: &Row) -> String {
    let after = row.steps.iter().map(|s| s.state);
    let all = std::iter::once(row.begin).chain(after);
    all.map(|s| match (s.known, s.uncleaned, s.unseen) {
        (false, ..) => '-',
        (_, true, true) => 'b',
        (_, true, false) => 'u',
        (_, false, true) => 's',
        (_, false, false) if s.pending => 'p',
        (_, false, false) if !s.unseen_known => 'c',
        (_, false, false) => '0',
    })
    .collect()
}

fn under_dma(pa: u64, cached: Cached, cached_at: u64, uncleaned: u64, clean_op: u32) -> Event {
    Event::UnderDma {
        pa,
        cached,
        cached_by: Actor::Unknown,
        cached_at,
        uncleaned,
        clean_op,
    }
}

fn barrier(completes: bool) -> Event {
    barrier_of(0, 7, completes)
}

fn barrier_of(cpu: u8, operation: u32, completes: bool) -> Event {
    Event::Barrier {
        cpu: CpuId(cpu),
        barrier: Barrier::DSB_SY,
        operations: (operation, operation),
        completes,
    }
}

fn opened(started_at: u64) -> Event {
    Event::Opened {
        transfer: TransferId(5),
        master: MasterId(2),
        direction: Direction::FromMemory,
        pa: PA,
        len: LINE,
        descriptor: 0,
        channel: 0,
        started_at,
        started_by: StartedBy::Doorbell,
    }
}

/// A line that was cleaned, and begins as one that has nothing left.
fn new(pa: u64) -> Event {
    under_dma(pa, Cached::No, 0, 0, 1)
}

#[test]
fn lines_that_a_device_fills_one_after_the_other_are_one_row() {
    let mut events = vec![
        (10, maintained(CacheOp::Clean, PA, 4, Cached::Dirty, false)),
        (10, barrier(true)),
    ];
    let line = |n: u64| PA + n * LINE;
    let known = (0..4).map(|n| (20, under_dma(line(n), Cached::Clean, 5, 0, 7)));
    events.extend(known);
    events.extend([
        (20, moved(true, false, PA, 2 * LINE)),
        (25, moved(true, false, line(2), 2 * LINE)),
        (30, moved(false, true, PA, 4 * LINE)),
    ]);
    events.extend((0..4).map(|n| (30 + n, found(line(n)))));
    // The finding goes on behind the time that is asked for, another does not.
    let watch = Watch {
        to: 30,
        finding: Some((HazardKind::MissingInvalidate.word(), 30)),
        ..watch(4)
    };
    events.push((40, moved(false, true, PA, 4 * LINE)));
    let rows = lanes(watch, &events).rows(9);
    let [row] = &rows.rows[..] else {
        panic!("{rows:?}");
    };
    assert_eq!((row.first, row.lines, row.has_finding()), (PA, 4, true));
    let op = CacheOp::Clean;
    let (master, suppressed) = (2, false);
    let (write, read) = (false, true);
    assert_eq!(
        marks(row),
        [
            (Mark::Maintained { op, suppressed }, 10, 10),
            (
                Mark::Written {
                    master,
                    snoops: write
                },
                20,
                25
            ),
            (
                Mark::Read {
                    master,
                    snoops: read
                },
                30,
                30
            ),
            (Mark::Found(HazardKind::MissingInvalidate), 30, 33),
        ]
    );
    // Not known until the clean, of which the log says that nothing was stored behind it; stale from the write in
    // memory on, to the end.
    assert_eq!(states(row), "-csss");
}

#[test]
fn of_the_time_before_a_device_came_only_what_follows_is_said() {
    let clean = maintained(CacheOp::Clean, PA, 1, Cached::Dirty, false);
    let read = (30, moved(false, false, PA, LINE));
    let states_with = |event: Event| {
        let events = [(10, clean), (11, barrier(true)), (30, event), read];
        states(&lanes(watch(1), &events).rows(1).rows[0])
    };
    // Nothing was stored behind the last clean.
    assert_eq!(states_with(under_dma(PA, Cached::Clean, 5, 0, 7)), "-cc");
    // Nobody has cleaned what firmware may have left: that nothing was stored says little, until it is.
    let power_on = [(0, under_dma(PA, Cached::No, 0, 0, 0)), read, (40, clean)];
    let lanes_then = lanes(watch(1), &power_on);
    assert_eq!(states(&lanes_then.rows(1).rows[0]), "--p");
    // Another clean, that the log does not have, was the last.
    assert_eq!(states_with(under_dma(PA, Cached::Clean, 5, 0, 9)), "--c");
    // Stored at 20, or before: not in the time of the clean; and what was evicted, nobody knows when.
    assert_eq!(states_with(under_dma(PA, Cached::Dirty, 20, 1, 7)), "--u");
    assert_eq!(states_with(under_dma(PA, Cached::No, 0, 1, 7)), "--u");
    // Without anything: what happens to be cached tells nothing.
    for found in [Cached::No, Cached::Clean, Cached::Dirty] {
        let clean = maintained(CacheOp::Clean, PA, 1, found, false);
        assert_eq!(
            states(&lanes(watch(1), &[(1, clean)]).rows(1).rows[0]),
            "--"
        );
    }
}

#[test]
fn maintenance_is_complete_with_its_barrier_and_a_start_stands_where_it_was() {
    let clean = maintained(CacheOp::Clean, PA, 1, Cached::Dirty, false);
    let read = moved(false, false, PA, LINE);
    // Started before the clean, which no barrier has completed when the device reads.
    let late = [
        (0, new(PA)),
        (10, clean),
        (20, opened(5)),
        (21, barrier(false)),
        (30, read),
        (40, barrier(true)),
    ];
    let row = &lanes(watch(1), &late).rows(1).rows[0];
    let all: Vec<Mark> = row.steps.iter().map(|s| s.mark).collect();
    let (op, suppressed, master) = (CacheOp::Clean, false, 2);
    assert_eq!(
        all,
        [
            Mark::Started { master },
            Mark::Maintained { op, suppressed },
            Mark::Read {
                master,
                snoops: false
            },
            Mark::Completed,
        ]
    );
    assert_eq!(states(row), "ccppc");
    // As it should be, the barrier is no step of its own.
    let good = [(0, new(PA)), (10, clean), (11, barrier(true)), (30, read)];
    assert_eq!(states(&lanes(watch(1), &good).rows(1).rows[0]), "ccc");
}

#[test]
fn what_is_suppressed_changes_nothing() {
    for (dropped, then) in [(false, "csp"), (true, "css")] {
        let invalidated = maintained(CacheOp::Invalidate, PA, 1, Cached::Clean, dropped);
        let lanes = lanes(
            watch(1),
            &[
                (0, new(PA)),
                (1, moved(true, false, PA, LINE)),
                (2, invalidated),
            ],
        );
        assert_eq!(states(&lanes.rows(1).rows[0]), then);
    }
}

#[test]
fn what_a_snooping_write_leaves_is_the_boards_and_whole_lines_only() {
    let stale = moved(true, false, PA, 2 * LINE);
    let over = moved(true, true, PA, LINE + 8);
    for (snoop_write, states) in [
        (SnoopWrite::WriteThrough, [(false, false), (false, true)]),
        (SnoopWrite::Allocate, [(true, false), (true, true)]),
    ] {
        let mut lanes = Lanes::of(watch(2), snoop_write, MAX_LINES);
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
            (0, new(PA)),
            (1, moved(true, false, PA, LINE)),
            (7, moved(false, true, PA, LINE)),
            (10, found(PA)),
        ],
    );
    let rows = lanes.rows(1);
    assert_eq!(states(&rows.rows[0]), "ss");
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
        let mut lanes = Lanes::of(watch, SnoopWrite::Allocate, MAX_LINES);
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
    let mut many = Lanes::of(watch(1), SnoopWrite::Allocate, MAX_LINES);
    for at in 0..10_000 {
        many.take(at, &moved(at % 2 == 0, true, PA, LINE));
    }
    let rows = many.rows(1).rows;
    assert!(rows[0].is_cut);
    assert_eq!(rows[0].steps.len(), MAX_STEPS + 1);
    assert_eq!(rows[0].steps[MAX_STEPS].mark, Mark::Cut);
}

#[test]
fn of_too_many_steps_the_findings_are_kept_with_what_was_the_state_then() {
    let about = Watch {
        to: 1000,
        finding: Some((HazardKind::MissingInvalidate.word(), 1000)),
        ..watch(1)
    };
    let mut lanes = lanes(about, &[(0, new(PA))]);
    let write = |snoops| moved(true, snoops, PA, LINE);
    for at in 1..1000 {
        lanes.take(at, &write(at % 2 == 0));
    }
    lanes.take(1000, &found(PA));
    lanes.take(1001, &write(true));
    let row = &lanes.rows(1).rows[0];
    let last: Vec<_> = row.steps[MAX_STEPS..]
        .iter()
        .map(|s| (s.mark, s.first_at))
        .collect();
    let found_it = Mark::Found(HazardKind::MissingInvalidate);
    let limit = MAX_STEPS as u64;
    // Behind the finding there is nothing that one wants to know.
    assert_eq!(last, [(Mark::Cut, limit + 1), (found_it, 1000)]);
    assert!(row.steps[MAX_STEPS + 1].state.unseen);
    assert!(row.is_cut);
    // Any number of findings is bounded, too.
    for at in 1001..9000 {
        lanes.take(at, &write(at % 2 == 0));
        lanes.take(at, &found(PA));
    }
    assert!(lanes.lives[0].steps.len() <= MAX_STEPS + 2 * MORE_FOUND + 1);
}

#[test]
fn a_barrier_completes_the_maintenance_of_its_own_cpu() {
    let op = CacheOp::Clean;
    let by = |cpu, operation| maintained_by((cpu, operation), op, PA, 1, Cached::Dirty, false);
    let mut events = vec![(0, new(PA)), (10, by(0, 7)), (11, by(1, 8))];
    events.push((12, barrier_of(1, 8, true)));
    // The other CPU's is not complete.
    let one = lanes(watch(1), &events);
    assert_eq!(states(&one.rows(1).rows[0]), "cpp");
    assert!(one.has_other_cpus());
    events.push((13, barrier_of(0, 7, true)));
    let row = &lanes(watch(1), &events).rows(1).rows[0];
    assert_eq!(states(row), "cppc");
    let last = row.steps[2];
    assert_eq!((last.mark, last.cpus), (Mark::Completed, 1));
    // Who stores is told, though both do the same.
    let stores = |cpu| Event::Accessed {
        cpu: CpuId(cpu),
        site: SiteId(0),
        store: true,
        past: false,
        filled: false,
        pa: PA,
        len: 8,
    };
    let row = &lanes(watch(1), &[(1, stores(0)), (2, stores(1))])
        .rows(1)
        .rows[0];
    let cpus: Vec<u32> = row.steps.iter().map(|s| s.cpus).collect();
    assert_eq!(cpus, [1, 2]);
}

#[test]
fn what_maintenance_is_found_to_do_does_not_come_between_it_and_its_barrier() {
    let invalidated = maintained(CacheOp::Invalidate, PA, 1, Cached::Dirty, false);
    let found_then = |kind| {
        let mut event = found(PA);
        if let Event::Found { kind: its, .. } = &mut event {
            *its = kind;
        }
        let events = [
            (0, new(PA)),
            (10, invalidated),
            (10, event),
            (11, barrier(true)),
        ];
        states(&lanes(watch(1), &events).rows(1).rows[0])
    };
    assert_eq!(found_then(HazardKind::DiscardedWrite), "c00");
    // That there was no barrier is another matter.
    assert_eq!(found_then(HazardKind::MissingBarrier), "cpp0");
}

#[test]
fn what_was_stored_past_the_cache_before_a_device_came_is_not_known_until_it_is_invalidated() {
    let op = CacheOp::CleanInvalidate;
    let events = [
        (10, maintained(CacheOp::Clean, PA, 1, Cached::Dirty, false)),
        (11, barrier(true)),
        (20, under_dma(PA, Cached::Clean, 5, 0, 7)),
        (20, moved(false, false, PA, LINE)),
        (30, maintained(op, PA, 1, Cached::Clean, false)),
        (31, barrier(true)),
    ];
    let all = lanes(watch(1), &events);
    assert_eq!(states(&all.rows(1).rows[0]), "-cc0");
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
        let together = lanes(watch(8), &events).rows(99);
        let told: u64 = together.rows.iter().map(|r| r.lines).sum();
        prop_assert_eq!(told + together.silent, 8);

        for row in together.rows {
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
