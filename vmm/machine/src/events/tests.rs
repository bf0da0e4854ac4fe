// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use std::fs::File;
use std::path::Path;

use proptest::prelude::*;
use staleline_devices::coherency::hazard::{Actor, HazardKind, Why};
use staleline_devices::cpu::{Barrier, CacheOp, ChainId, CpuId, SiteId};
use staleline_devices::dma::{Content, Direction, MasterId, StartedBy, TransferId};
use staleline_devices::events::{Cached, Event, Kind, Kinds};

use staleline_devices::soc::report::Names;
use staleline_events::{Block, LogError, Tag, append, begin};

use super::sample::write_log;
use super::*;

const SITE: SiteId = SiteId(1);
const USER: SiteId = SiteId(2 | SiteId::USER);
const MASTER: MasterId = MasterId(0);

/// One of each variant, in their order.
fn one_of_each() -> Vec<Event> {
    let pa = 0x4000_0000;
    let transfer = TransferId(1);
    let cpu = CpuId::BOOT;
    let by = Actor::Cpu { cpu, site: USER };
    vec![
        Event::Opened {
            transfer,
            master: MASTER,
            direction: Direction::ToMemory,
            pa,
            len: 128,
            descriptor: 0,
            channel: 0,
            started_at: 4,
            started_by: StartedBy::Doorbell,
        },
        Event::Closed {
            transfer,
            master: MASTER,
            bytes: 128,
        },
        Event::Moved {
            master: MASTER,
            transfer,
            snoops: false,
            write: true,
            content: Content::Data,
            pa,
            len: 128,
        },
        Event::Maintained {
            cpu,
            op: CacheOp::Clean,
            operation: 7,
            site: SITE,
            chain: ChainId(1),
            pa,
            lines: 2,
            found: Cached::Dirty,
            dropped: false,
        },
        Event::Barrier {
            cpu,
            barrier: Barrier::DSB_SY,
            operations: (7, 7),
            completes: true,
        },
        Event::Started {
            cpu,
            site: SITE,
            pa: 0x5000_0400,
            master: MASTER,
        },
        Event::Interrupt { irq: 3, high: true },
        Event::Register {
            cpu,
            site: SITE,
            pa: 0x5000_0404,
            len: 4,
            write: false,
            value: 0x1234,
        },
        Event::Found {
            finding: 1,
            kind: HazardKind::MissingInvalidate,
            why: Why::Absent,
            pa,
            bytes: 0xff,
            wrong: 0xf,
            writer: Actor::Device {
                master: MASTER,
                transfer,
                snoops: false,
            },
            reader: by,
        },
        Event::Filled {
            pa,
            lines: 1,
            by: Actor::Unknown,
        },
        Event::Evicted {
            pa,
            lines: 1,
            written_back: true,
        },
        Event::Accessed {
            cpu,
            site: USER,
            store: false,
            past: false,
            filled: true,
            pa,
            len: 8,
        },
        Event::UnderDma {
            pa,
            cached: Cached::Clean,
            cached_by: by,
            cached_at: 2,
            uncleaned: 0,
            clean_op: 7,
        },
        Event::Waited { ticks: 300 },
    ]
}

fn read(path: &Path) -> (Vec<Entry>, Option<LogError>) {
    let mut entries = Vec::new();
    let reader = match EventReader::new(File::open(path).unwrap()) {
        Ok(reader) => reader,
        Err(e) => return (entries, Some(e)),
    };
    for entry in reader {
        match entry {
            Ok(entry) => entries.push(entry),
            Err(e) => return (entries, Some(e)),
        }
    }
    (entries, None)
}

#[test]
fn what_a_machine_tells_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.bin");
    let events: Vec<_> = (10..).zip(one_of_each()).collect();
    write_log(&path, &[r#"{"event":"step"}"#], &events, 1 << 20).unwrap();
    let (entries, error) = read(&path);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(entries[0].item, Item::Run(r#"{"event":"step"}"#.into()));
    let Item::Machine(head) = &entries[1].item else {
        panic!("{:?}", entries[1]);
    };
    assert_eq!(head.master(1), "dwc3");
    assert_eq!(head.interrupt(3), "axi-dmac-rx");
    assert_eq!(head.register(0x5001_0004), Some(("dwc3", 4)));
    assert_eq!(head.register(0x4fff_ffff), None);
    let back: Vec<_> = entries
        .iter()
        .filter_map(|e| match &e.item {
            Item::Event(event) => Some((e.at, *event)),
            _ => None,
        })
        .collect();
    assert_eq!(back, events);
    assert!(entries[2..16].iter().map(|e| e.sequence).eq(2..16));
    let Item::End(ended) = &entries[16].item else {
        panic!("{:?}", entries[16]);
    };
    assert!(ended.is_complete() && ended.records == 14);

    let mut reader = EventReader::new(File::open(&path).unwrap()).unwrap();
    // Before the first event that refers to it, a place is known.
    reader.by_ref().take(3).for_each(drop);
    assert_eq!(reader.places().get(&SITE), Some(&0xffff_8000_8001_0014));
    assert_eq!(reader.into_places().get(&USER), Some(&0x40_1000));
}

#[test]
fn names_in_a_log_give_a_terminal_no_orders() {
    let names = Names {
        masters: vec!["d\x1b[31mma".into()],
        interrupts: vec![(1, "i\nrq".into())],
        ..Names::default()
    };
    let head = Head {
        names,
        ..Head::default()
    };
    let plain = head.plain();
    assert_eq!(
        (plain.master(0), plain.interrupt(1)),
        ("d[31mma".into(), "irq".into())
    );
}

#[test]
fn device_time_goes_on_while_all_cpus_wait() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.bin");
    let waited = Event::Waited { ticks: 300 };
    let rises = Event::Interrupt { irq: 3, high: true };
    write_log(&path, &[], &[(5, waited), (5, rises), (9, rises)], 1 << 20).unwrap();
    let (entries, _) = read(&path);
    let times: Vec<_> = entries[1..4].iter().map(|e| (e.at, e.ticks)).collect();
    assert_eq!(times, [(5, 5), (5, 305), (9, 309)]);
}

/// Logs hold events by the order of variants and fields; what was written must stay readable, or the
/// version must change.
#[test]
fn the_encoding_of_events_is_that_of_version_2() {
    assert_eq!(staleline_events::VERSION, 2);
    let encoded = |event: &Event| {
        let mut block = Block::default();
        block.push(5, event).unwrap();
        block.encoding().to_vec()
    };
    for (n, event) in one_of_each().iter().enumerate() {
        let bytes = encoded(event);
        assert_eq!(bytes[..2], [5, n as u8], "{event:?}");
    }
    // Time, variant, then the fields; seven bits to a byte, the lowest first.
    assert_eq!(encoded(&Event::Waited { ticks: 300 }), [5, 13, 0xac, 2]);
    let evicted = Event::Evicted {
        pa: 0x40,
        lines: 1,
        written_back: true,
    };
    assert_eq!(encoded(&evicted), [5, 10, 0x40, 1, 1]);
}

#[test]
fn filters_have_names_that_come_back() {
    let parse = |text: &str| text.parse::<Filter>();
    for text in ["default", "all", "off", "transfer,finding"] {
        assert_eq!(parse(text).unwrap().to_string(), text);
    }
    assert_eq!(parse("default,register,fence").unwrap().to_string(), "all");
    assert_eq!(parse("off").unwrap().0, Kinds::NONE);
    let default = Filter::default().0;
    assert!(default.contains(Kind::Finding) && !default.contains(Kind::Register));
    let e = parse("transfers").unwrap_err();
    assert!(
        e.starts_with("`transfers` is no kind of event; there are transfer, dma,"),
        "{e}"
    );
    assert!(parse("").is_err() && parse("off,dma").is_err());
}

proptest! {
    #[test]
    fn whatever_a_log_says_is_an_entry_or_an_error(
        frames in prop::collection::vec(
            (0..8u32, any::<u32>(), prop::collection::vec(any::<u8>(), 0..300)),
            0..6,
        ),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.bin");
        let mut file = File::create(&path).unwrap();
        begin(&mut file).unwrap();
        for (tag, records, payload) in &frames {
            append(&mut file, Tag(*tag), *records, payload).unwrap();
        }
        let (entries, _) = read(&path);
        prop_assert!(entries.len() <= 300 * frames.len());
    }
}
