// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use std::fs::File;
use std::io;
use std::path::Path;

use staleline_devices::coherency::hazard::{Actor, HazardKind, Why};
use staleline_devices::cpu::{Barrier, CacheOp, ChainId, CpuId, SiteId};
use staleline_devices::dma::{Content, Direction, MasterId, StartedBy, TransferId};
use staleline_devices::events::{Cached, Event};

use staleline_events::{Tag, append};

use super::*;
use crate::events::sample::write_log;

const RX: MasterId = MasterId(0);
const CLEAN: SiteId = SiteId(1);
const USER: SiteId = SiteId(2 | SiteId::USER);
pub(super) const BUFFER: u64 = 0x4100_0000;

const STEPS: [&str; 2] = [
    r#"{"event":"run-started","replay":"staleline run x"}"#,
    r#"{"event":"step","what":"running the guest"}"#,
];

fn transfer(number: u32, pa: u64, started_at: u64) -> Event {
    Event::Opened {
        transfer: TransferId(number),
        master: RX,
        direction: Direction::ToMemory,
        pa,
        len: 128,
        descriptor: 0,
        channel: 0,
        started_at,
        started_by: StartedBy::Doorbell,
    }
}

fn told() -> Event {
    Event::Started {
        cpu: CpuId::BOOT,
        site: CLEAN,
        pa: 0x5000_0408,
        master: RX,
    }
}

fn closed(number: u32) -> Event {
    Event::Closed {
        transfer: TransferId(number),
        master: RX,
        bytes: 128,
    }
}

fn maintained(op: CacheOp, operation: u32, pa: u64, found: Cached) -> Event {
    Event::Maintained {
        cpu: CpuId::BOOT,
        op,
        operation,
        site: CLEAN,
        chain: ChainId(0),
        pa,
        lines: 2,
        found,
        dropped: false,
    }
}

fn barrier(operation: u32) -> Event {
    Event::Barrier {
        cpu: CpuId::BOOT,
        barrier: Barrier::DSB_SY,
        operations: (operation, operation),
        completes: true,
    }
}

fn under_dma(pa: u64, cached_at: u64) -> Event {
    Event::UnderDma {
        pa,
        cached: Cached::Clean,
        cached_by: Actor::Cpu {
            cpu: CpuId::BOOT,
            site: CLEAN,
        },
        cached_at,
        uncleaned: 0,
        clean_op: 1,
    }
}

fn written(number: u32, pa: u64) -> Event {
    Event::Moved {
        master: RX,
        transfer: TransferId(number),
        snoops: false,
        write: true,
        content: Content::Data,
        pa,
        len: 128,
    }
}

/// Two transfers to two buffers, of which the second one's is read without an invalidate.
fn two_transfers() -> Vec<(u64, Event)> {
    let other = BUFFER + 0x1000;
    vec![
        (20, maintained(CacheOp::Clean, 1, BUFFER, Cached::Dirty)),
        (20, barrier(1)),
        (30, maintained(CacheOp::Clean, 2, other, Cached::Dirty)),
        (30, barrier(2)),
        (41, told()),
        (41, transfer(1, BUFFER, 41)),
        (50, under_dma(BUFFER, 7)),
        (50, under_dma(BUFFER + 64, 8)),
        (50, written(1, BUFFER)),
        (51, closed(1)),
        (51, Event::Interrupt { irq: 3, high: true }),
        (60, told()),
        (60, transfer(2, other, 60)),
        (70, under_dma(other, 9)),
        (70, written(2, other)),
        (71, closed(2)),
        (
            80,
            maintained(CacheOp::Invalidate, 3, BUFFER, Cached::Clean),
        ),
        (80, barrier(3)),
        (
            90,
            Event::Accessed {
                cpu: CpuId::BOOT,
                site: USER,
                store: false,
                past: false,
                filled: false,
                pa: other,
                len: 8,
            },
        ),
        (
            90,
            Event::Found {
                finding: 1,
                kind: HazardKind::MissingInvalidate,
                why: Why::Absent,
                pa: other,
                bytes: 0xff,
                wrong: 0x7f,
                writer: Actor::Device {
                    master: RX,
                    transfer: TransferId(2),
                    snoops: false,
                },
                reader: Actor::Cpu {
                    cpu: CpuId::BOOT,
                    site: USER,
                },
            },
        ),
    ]
}

/// The last step of a run.
const FINISHED: &str = r#"{"event":"finished","verdict":"pass"}"#;

/// A log that goes on.
pub(super) fn begun(dir: &Path, limit: u64) -> std::path::PathBuf {
    let path = dir.join("events.bin");
    write_log(&path, &STEPS, &two_transfers(), limit).unwrap();
    path
}

pub(super) fn append_to(path: &Path) -> File {
    File::options().append(true).open(path).unwrap()
}

pub(super) fn finish(path: &Path) {
    append(&mut append_to(path), Tag::RUN, 1, FINISHED.as_bytes()).unwrap();
}

pub(super) fn log(dir: &Path) -> std::path::PathBuf {
    let path = begun(dir, 1 << 20);
    finish(&path);
    path
}

fn ask(path: &Path, query: &Query, shape: Shape) -> String {
    let mut out = Vec::new();
    let lacks = write(path, query, shape, &mut out).unwrap();
    assert!(lacks.is_empty(), "{lacks:?}");
    String::from_utf8(out).unwrap()
}

#[test]
fn all_of_a_log() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    insta::assert_snapshot!(ask(dir.path(), &Query::default(), Shape::Table));
}

#[test]
fn the_life_of_a_line_is_what_concerns_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = log(dir.path());
    let query = |line| Query {
        line: Some(line),
        ..Query::default()
    };
    // Any address of the line will do.
    let life = ask(&path, &query(BUFFER + 0x1000 + 7), Shape::Table);
    insta::assert_snapshot!(life);
    // What concerns nobody is nothing, and no error.
    assert_eq!(ask(&path, &query(0x4200_0000), Shape::Table), "");
}

/// Operations have numbers of the machine, so those of two CPUs are mixed.
#[test]
fn a_barrier_is_of_the_cpu_whose_operations_it_completes() {
    let other = |event| match event {
        Event::Maintained {
            op,
            operation,
            site,
            chain,
            pa,
            lines,
            found,
            dropped,
            ..
        } => Event::Maintained {
            cpu: CpuId(1),
            op,
            operation,
            site,
            chain,
            pa,
            lines,
            found,
            dropped,
        },
        event => event,
    };
    let elsewhere = BUFFER + 0x1000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.bin");
    let clean = |operation, pa| maintained(CacheOp::Clean, operation, pa, Cached::Dirty);
    let dsb = |cpu, operations| Event::Barrier {
        cpu,
        barrier: Barrier::DSB_SY,
        operations,
        completes: true,
    };
    let events = [
        (20, other(clean(5, elsewhere))),
        (21, clean(7, BUFFER)),
        (22, other(clean(9, elsewhere))),
        (23, dsb(CpuId(1), (5, 9))),
        (24, dsb(CpuId::BOOT, (7, 7))),
    ];
    write_log(&path, &[], &events, 1 << 20).unwrap();
    let times = |line| {
        let query = Query {
            line: Some(line),
            ..Query::default()
        };
        let mut out = Vec::new();
        write(&path, &query, Shape::Lines, &mut out).unwrap();
        let lines = String::from_utf8(out).unwrap();
        let at = |line: &str| {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            object["at"].as_u64().unwrap()
        };
        lines.lines().map(at).collect::<Vec<_>>()
    };
    assert_eq!(times(BUFFER), [21, 24]);
    assert_eq!(times(elsewhere), [20, 22, 23]);
}

#[test]
fn for_programs_each_event_is_an_object() {
    let dir = tempfile::tempdir().unwrap();
    let path = log(dir.path());
    let text = ask(&path, &Query::default(), Shape::Lines);
    // The runner's steps as they were written.
    assert_eq!(text.lines().take(2).collect::<Vec<_>>(), STEPS);
    let all: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(all.len(), STEPS.len() + two_transfers().len() + 1);
    insta::assert_json_snapshot!([&all[2], &all[all.len() - 2]]);
}

#[test]
fn kinds_and_times_narrow_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = log(dir.path());
    let of = |kinds: &[&str], since, until| {
        let query = Query {
            kinds: kinds.iter().map(|k| k.parse().unwrap()).collect(),
            since,
            until,
            ..Query::default()
        };
        ask(&path, &query, Shape::Lines).lines().count()
    };
    assert_eq!(of(&["transfer"], None, None), 4);
    assert_eq!(of(&["transfer", "finding"], None, None), 5);
    assert_eq!(of(&["run"], None, None), 3);
    assert_eq!(of(&[], Some(51), Some(60)), 4);
    assert_eq!(of(&["handover"], Some(42), None), 1);
    let e = "dms".parse::<Wanted>().unwrap_err();
    assert!(e.contains("`dms` is no kind of event"), "{e}");
}

#[test]
fn what_is_cut_short_is_shown_up_to_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = log(dir.path());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let mut out = Vec::new();
    let lacks = write(&path, &Query::default(), Shape::Lines, &mut out).unwrap();
    let records = STEPS.len() + two_transfers().len();
    let text = lacks.join("\n");
    assert!(
        text.contains(&format!("is cut short after record {records}")),
        "{text}"
    );
    assert_eq!(out.iter().filter(|b| **b == b'\n').count(), records);

    let wrong = |path: &Path| {
        let e = write(path, &Query::default(), Shape::Table, &mut io::sink()).unwrap_err();
        (e.exit_code(), e.render())
    };
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&path, flipped).unwrap();
    let (code, text) = wrong(&path);
    assert_eq!(code, crate::exit::USAGE);
    assert!(text.contains("is damaged after record"), "{text}");
    std::fs::write(&path, "something else").unwrap();
    let (code, text) = wrong(&path);
    assert_eq!(code, crate::exit::USAGE);
    assert!(
        text.contains("no log of a run") && text.contains("give the directory"),
        "{text}"
    );
    let (code, text) = wrong(&dir.path().join("nowhere"));
    assert_eq!(code, crate::exit::USAGE);
    assert!(
        text.contains("there is no log (events.bin) of a run"),
        "{text}"
    );
}

#[test]
fn a_dmabuf_that_is_not_there_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = log(dir.path());
    let query = Query {
        buffer: Some(3),
        ..Query::default()
    };
    let e = write(&path, &query, Shape::Table, &mut io::sink()).unwrap_err();
    assert!(
        e.to_string()
            .contains("--buffer 3: there is no such DMABUF"),
        "{e}"
    );
}

#[test]
fn a_reader_may_stop_reading() {
    struct Closed;
    impl io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = log(dir.path());
    write(&path, &Query::default(), Shape::Table, &mut Closed).unwrap();
}
