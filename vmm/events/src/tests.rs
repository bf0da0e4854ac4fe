// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use std::io::{Read as _, Seek as _, Write as _};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::*;

/// A record such as a machine makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Thing {
    Small(u8),
    Pair { pa: u64, len: u32 },
    Text(String),
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        any::<u8>().prop_map(Thing::Small),
        (any::<u64>(), any::<u32>()).prop_map(|(pa, len)| Thing::Pair { pa, len }),
        "[a-z]{0,40}".prop_map(Thing::Text),
    ]
}

fn nothing(_: &mut Vec<u8>) -> std::io::Result<()> {
    Ok(())
}

/// A log of these records, whole.
fn log(things: &[(u64, Thing)], limit: u64) -> (Vec<u8>, Ended) {
    let mut bytes = Vec::new();
    begin(&mut bytes).unwrap();
    append(&mut bytes, Tag::RUN, 1, b"{}").unwrap();
    let mut recorder = Recorder::new(&mut bytes, limit);
    let mut at = 0;
    for (since, thing) in things {
        at += since;
        let important = matches!(thing, Thing::Small(_));
        recorder.record(at, thing, important, |_| Ok(()));
    }
    recorder.end(|_| Ok(()));
    let ended = recorder.end(|_| Ok(())).clone();
    (bytes, ended)
}

/// Things that do not compress.
fn noise(n: u64) -> Vec<(u64, Thing)> {
    let scatter = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let pair = |n| Thing::Pair {
        pa: scatter(scatter(n)),
        len: scatter(n) as u32,
    };
    (0..n).map(|n| (n % 3, pair(n))).collect()
}

/// All that can be read, and how it ended.
fn read(bytes: &[u8]) -> (Vec<(u64, Thing)>, Option<LogError>) {
    let mut all = Vec::new();
    let reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(e) => return (all, Some(e)),
    };
    for frame in reader {
        let frame = match frame {
            Ok(frame) => frame,
            Err(e) => return (all, Some(e)),
        };
        if frame.tag != Tag::RECORDS {
            continue;
        }
        for record in records(frame.records, &frame.payload) {
            match record {
                Ok(record) => all.push(record),
                Err(e) => return (all, Some(e)),
            }
        }
    }
    (all, None)
}

fn with_times(things: &[(u64, Thing)]) -> Vec<(u64, Thing)> {
    let mut at = 0;
    let absolute = things.iter().map(|(since, thing)| {
        at += since;
        (at, thing.clone())
    });
    absolute.collect()
}

fn some() -> Vec<(u64, Thing)> {
    (0..5000)
        .map(|n| {
            let pa = 0x4000_0000 + n * 64;
            (n % 3, Thing::Pair { pa, len: 64 })
        })
        .collect()
}

#[test]
fn records_come_back_with_their_times() {
    let (bytes, _) = log(&some(), u64::MAX);
    let (back, error) = read(&bytes);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(back, with_times(&some()));
    // Compact: an address, a length and a time, and each follows from the one before.
    assert!(bytes.len() < 7 * 5000, "{}", bytes.len());
    let (bytes, _) = log(&noise(5000), u64::MAX);
    assert_eq!(read(&bytes).0, with_times(&noise(5000)));
    assert!(bytes.len() < 19 * 5000, "{}", bytes.len());
}

#[test]
fn a_block_that_no_machine_has_made_is_refused_unread() {
    let of = |len: usize| lz4_flex::block::compress(&vec![0; len]);
    // Each two bytes are a record: half a million of them in few bytes.
    let mut all = records::<u8>(1 << 19, &of(1 << 20));
    assert!(matches!(all.next(), Some(Err(LogError::Record(_)))));
    assert!(all.next().is_none());
    assert_eq!(
        records::<u8>(1 << 14, &of(BLOCK)).flatten().count(),
        1 << 14
    );
}

#[test]
fn a_log_that_is_cut_reads_up_to_the_last_whole_frame_and_says_so() {
    let (bytes, _) = log(&noise(5000), u64::MAX);
    let all = with_times(&noise(5000));
    let mut lengths = std::collections::BTreeSet::new();
    for cut in 0..bytes.len() {
        if cut % 97 != 0 && cut > 100 {
            continue;
        }
        let (back, error) = read(&bytes[..cut]);
        assert_eq!(back, all[..back.len()], "cut at {cut}");
        lengths.insert(back.len());
        match error {
            Some(LogError::NotALog) => assert!(cut < 12),
            Some(LogError::CutShort { records }) => {
                // The step before them is a record, too.
                let before = if cut < 12 + 16 + 2 { 0 } else { 1 };
                assert_eq!(records, back.len() as u64 + before, "cut at {cut}");
            }
            Some(other) => panic!("cut at {cut}: {other:?}"),
            // Between two frames, nobody can tell; the end of the machine's part tells it.
            None => {}
        }
    }
    assert!(lengths.len() > 1, "more than one block: {lengths:?}");
}

#[test]
fn damage_is_told_and_what_comes_before_it_is_read() {
    let (bytes, _) = log(&noise(5000), u64::MAX);
    let all = with_times(&noise(5000));
    for at in (12..bytes.len()).step_by(131) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        let (back, error) = read(&bytes);
        let error = error.unwrap_or_else(|| panic!("nothing noticed at {at}"));
        assert!(
            matches!(error, LogError::Damaged { .. } | LogError::CutShort { .. }),
            "at {at}: {error}"
        );
        assert_eq!(back, all[..back.len()], "at {at}");
    }
}

#[test]
fn another_version_is_refused_by_its_number() {
    let (mut bytes, _) = log(&[], u64::MAX);
    bytes[8] = 9;
    let (_, error) = read(&bytes);
    let text = error.unwrap().to_string();
    assert_eq!(text, "it has version 9, and this program reads 2");
    assert!(matches!(read(b"elephant").1, Some(LogError::NotALog)));
}

#[test]
fn unknown_frames_are_passed_over() {
    let mut bytes = Vec::new();
    begin(&mut bytes).unwrap();
    append(&mut bytes, Tag(77), 3, b"what may come").unwrap();
    let mut recorder = Recorder::new(bytes, u64::MAX);
    recorder.record(5, &Thing::Small(1), false, nothing);
    recorder.end(nothing);
    let (mut bytes, _) = log(&[(5, Thing::Small(1))], u64::MAX);
    append(&mut bytes, Tag(77), 3, b"what may come").unwrap();
    assert_eq!(read(&bytes).0, [(5, Thing::Small(1))]);
}

#[test]
fn a_full_log_says_so_and_has_room_for_what_is_important() {
    let mut things = noise(5000);
    things.extend((0..10).map(|n| (1, Thing::Small(n))));
    let limit = 4 * BLOCK as u64;
    let (bytes, ended) = log(&things, 2 * limit);
    assert!(ended.lost == 0 && ended.full_at.is_none(), "{ended:?}");
    assert_eq!(read(&bytes).0.len(), things.len());

    let mut many = noise(40_000);
    many.extend((0..10).map(|n| (1, Thing::Small(n))));
    let (bytes, ended) = log(&many, 8 * BLOCK as u64);
    let (back, error) = read(&bytes);
    assert!(error.is_none());
    let small = |things: &[(u64, Thing)]| {
        let small = things.iter().filter(|(_, t)| matches!(t, Thing::Small(_)));
        small.count()
    };
    assert_eq!(small(&back), 10);
    assert!(back.len() < many.len());
    // What there is, is what happened first.
    let kept = back.len() - 10;
    assert_eq!(back[..kept], with_times(&many)[..kept]);
    assert_eq!(ended.full_at, Some(with_times(&many)[kept].0));
    assert_eq!(ended.lost, (many.len() - back.len()) as u64);
    assert!(ended.bytes <= 8 * BLOCK as u64 + BLOCK as u64);
    let full = Reader::new(&bytes[..]).unwrap();
    assert!(full.flatten().any(|frame| frame.tag == Tag::FULL));
}

#[test]
fn what_a_stopped_writer_has_left_is_taken_away() {
    let (bytes, ended) = log(&some(), u64::MAX);
    let dir = std::env::temp_dir().join(format!("staleline-events-{}", std::process::id()));
    let open = |content: &[u8]| {
        std::fs::write(&dir, content).unwrap();
        let mut options = std::fs::File::options();
        options.read(true).append(true).open(&dir).unwrap()
    };
    let mut whole = open(&bytes);
    let found = settle(&mut whole).unwrap();
    assert_eq!(found.records, 5000);
    assert_eq!(found.ended.unwrap().records, ended.records);
    assert_eq!(whole.metadata().unwrap().len(), bytes.len() as u64);

    let mut cut = open(&bytes[..bytes.len() - 3]);
    let found = settle(&mut cut).unwrap();
    assert_eq!((found.records, found.ended), (5000, None));
    append(&mut cut, Tag::RUN, 1, b"{}").unwrap();
    cut.flush().unwrap();
    cut.rewind().unwrap();
    let frames: Result<Vec<_>, _> = Reader::new(&cut).unwrap().collect();
    assert_eq!(frames.unwrap().last().unwrap().payload, b"{}");
    assert!(matches!(settle(&mut open(b"")), Err(LogError::NotALog)));
    std::fs::remove_file(&dir).unwrap();
}

#[test]
fn trouble_with_the_file_does_not_stop_what_is_recorded() {
    struct Broken;
    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no space"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut recorder = Recorder::new(Broken, u64::MAX);
    for (at, thing) in with_times(&some()) {
        recorder.record(at, &thing, false, |_| Ok(()));
    }
    let ended = recorder.end(|_| Ok(()));
    assert_eq!((ended.records, ended.lost), (0, 5000));
    assert_eq!(ended.trouble.as_deref(), Some("no space"));
    assert!(!ended.is_complete());
}

proptest! {
    #[test]
    fn whatever_is_written_comes_back(things in prop::collection::vec((any::<u32>(), thing()), 0..200)) {
        let things: Vec<_> = things.into_iter().map(|(at, t)| (u64::from(at), t)).collect();
        let (bytes, _) = log(&things, u64::MAX);
        let (back, error) = read(&bytes);
        prop_assert!(error.is_none());
        prop_assert_eq!(back, with_times(&things));
    }

    #[test]
    fn whatever_is_read_is_an_error_or_a_record(
        garbage in prop::collection::vec(any::<u8>(), 0..400),
        lie in any::<u32>(),
    ) {
        read(&garbage);
        let mut bytes = Vec::new();
        begin(&mut bytes).unwrap();
        let start = bytes.len();
        bytes.extend(&garbage);
        read(&bytes);
        // A frame that is whole and holds nothing sensible, and says that it has more than it has.
        bytes.truncate(start);
        append(&mut bytes, Tag::RECORDS, lie, &garbage).unwrap();
        read(&bytes);
    }
}

/// The frames of a long document that is `n` bytes of `step`, after one of another kind.
fn long(n: usize, noise: bool) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = Vec::new();
    begin(&mut bytes).unwrap();
    append(&mut bytes, Tag::RUN, 1, b"{}").unwrap();
    // What compresses to next to nothing, and what does not compress.
    let mut state = 1u32;
    let document: Vec<u8> = (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if noise { (state >> 24) as u8 } else { b'x' }
        })
        .collect();
    append_long(&mut bytes, |out| {
        document
            .chunks(1000)
            .try_for_each(|part| out.write_all(part))
    })
    .unwrap();
    (bytes, document)
}

#[test]
fn documents_of_any_length_come_back() {
    for (n, noise, most_frames) in [
        (0, false, 1),
        (5, true, 1),
        (3 << 20, false, 1),
        (3 << 20, true, 4),
    ] {
        let (bytes, document) = long(n, noise);
        let mut assembly = Assembly::default();
        let mut found = Vec::new();
        let mut frames = 0;
        for frame in Reader::new(&bytes[..]).unwrap() {
            let frame = frame.unwrap();
            frames += usize::from(frame.tag != Tag::RUN);
            if let Some(mut whole) = assembly.take(&frame).unwrap() {
                assert!(!assembly.is_partial());
                let mut read = Vec::new();
                whole.read_to_end(&mut read).unwrap();
                found.push(read);
            }
        }
        assert_eq!(found, [document]);
        assert_eq!(frames, most_frames, "{n} bytes");
    }
}

#[test]
fn a_long_document_that_is_cut_is_partial() {
    let (bytes, _) = long(3 << 20, true);
    let mut assembly = Assembly::default();
    let reader = Reader::new(&bytes[..bytes.len() - 1]).unwrap();
    for frame in reader.map_while(Result::ok) {
        assert!(assembly.take(&frame).unwrap().is_none());
    }
    assert!(assembly.is_partial());
}

#[test]
fn what_is_no_compressed_document_is_an_error() {
    let frame = Frame {
        tag: Tag::LAST_PART,
        records: 0,
        payload: b"{\"not\": \"compressed\"}".to_vec(),
    };
    let mut whole = Assembly::default().take(&frame).unwrap().unwrap();
    assert!(whole.read_to_end(&mut Vec::new()).is_err());
}
