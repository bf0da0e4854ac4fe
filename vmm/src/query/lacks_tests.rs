// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use staleline_events::{Tag, append};

use super::super::tests::{BUFFER, append_to, begun, finish, log};
use super::super::{Query, Shape, write};
use crate::engine::EngineKind;
use crate::evidence::record::{self, Evidence};
use crate::spec::RunSpec;

/// What is said of a log, and whether it told anything.
#[track_caller]
fn lacking(path: &Path, query: &Query) -> (Vec<String>, bool) {
    let mut out = Vec::new();
    let lacks = write(path, query, Shape::Table, &mut out).unwrap();
    (lacks, !out.is_empty())
}

fn of_kinds(kinds: &[&str]) -> Query {
    Query {
        kinds: kinds.iter().map(|k| k.parse().unwrap()).collect(),
        ..Query::default()
    }
}

fn of_line(line: u64) -> Query {
    Query {
        line: Some(line),
        ..Query::default()
    }
}

#[test]
fn kinds_that_were_not_kept_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = log(dir.path());
    let of = |kinds: &[&str]| lacking(&path, &of_kinds(kinds));
    let one = "the run did not keep events of these kinds: register; do it again with \
               --log default,register, or --log all";
    assert_eq!(of(&["register"]), (vec![one.to_owned()], false));
    assert_eq!(of(&["register", "finding"]), (vec![one.to_owned()], true));
    let both = "the run did not keep events of these kinds: fence, register; do it again with \
                --log all";
    assert_eq!(of(&["register", "fence"]).0, [both]);
    assert_eq!(of(&["finding", "run"]).0, [""; 0]);
    // By itself, a log is all that its run was to keep.
    assert_eq!(of(&[]), (vec![], true));
}

/// A log with evidence of a run with these settings, but no machine.
fn without_a_machine(dir: &Path, settings: &[&str]) -> PathBuf {
    let path = dir.join("events.bin");
    staleline_events::begin(&mut File::create(&path).unwrap()).unwrap();
    let settings: Vec<_> = settings.iter().map(|s| (*s).to_owned()).collect();
    let spec = RunSpec::resolve("iio-capture", "base", EngineKind::default(), &settings);
    let spec = Evidence::Spec(Box::new(spec.unwrap()));
    record::append(&mut append_to(&path), &spec).unwrap();
    path
}

#[test]
fn a_run_that_kept_nothing_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = without_a_machine(dir.path(), &["log.filter=off"]);
    finish(&path);
    let with = |options: &str| {
        format!("the run kept no events of the machine (--log off): do it again with {options}")
    };
    let whole = with("--log default, or --log all");
    assert_eq!(
        lacking(&path, &of_line(BUFFER)),
        (vec![whole.clone()], false)
    );
    assert_eq!(lacking(&path, &Query::default()), (vec![whole], true));
    let one = with("--log register, or --log all");
    assert_eq!(lacking(&path, &of_kinds(&["register"])).0, [one]);
    assert_eq!(lacking(&path, &of_kinds(&["run"])), (vec![], true));

    let path = without_a_machine(dir.path(), &[]);
    finish(&path);
    assert_eq!(
        lacking(&path, &of_line(BUFFER)).0,
        ["no events of a machine are in the log: the run ended before there was a machine"]
    );
}

#[test]
fn a_line_is_told_by_all_kinds_that_are_of_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = without_a_machine(dir.path(), &[]);
    let head = crate::events::Head {
        filter: "transfer,dma,maintenance,cache,access,finding"
            .parse()
            .unwrap(),
        ..Default::default()
    };
    let json = serde_json::to_vec(&head).unwrap();
    append(&mut append_to(&path), Tag::MACHINE, 0, &json).unwrap();
    let json = serde_json::to_vec(&staleline_events::Ended::default()).unwrap();
    append(&mut append_to(&path), Tag::END, 0, &json).unwrap();
    finish(&path);
    let [told] = &lacking(&path, &of_line(BUFFER)).0[..] else {
        panic!("{:?}", lacking(&path, &of_line(BUFFER)));
    };
    assert_eq!(
        told,
        "the run did not keep events of these kinds: barrier, handover, signal; do it again with \
         --log transfer,dma,maintenance,finding,cache,access,default, or --log all"
    );
    assert_eq!(lacking(&path, &Query::default()).0, [""; 0]);
}

#[test]
fn where_there_is_no_ram_there_are_no_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = log(dir.path());
    let spec = RunSpec::resolve("iio-capture", "base", EngineKind::default(), &[]).unwrap();
    let ram = u64::from(spec.scenario.board.ram_mib) << 20;
    let spec = Evidence::Spec(Box::new(spec));
    record::append(&mut append_to(&path), &spec).unwrap();
    let end = 0x4000_0000 + ram;
    for line in [0, 0x3fff_ffff, end, u64::MAX] {
        let told = format!(
            "--line {line:#x}: there is no RAM at that address; RAM is from 0x40000000 to {:#x}",
            end - 1
        );
        let mut out = Vec::new();
        let e = write(&path, &of_line(line), Shape::Table, &mut out).unwrap_err();
        assert_eq!((e.to_string(), e.exit_code()), (told, crate::exit::USAGE));
        assert!(out.is_empty());
    }
    for line in [0x4000_0000, end - 1] {
        assert_eq!(lacking(&path, &of_line(line)), (vec![], false));
    }
}

#[test]
fn a_range_of_times_that_is_none_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = log(dir.path());
    let ask = |since, until| {
        let query = Query {
            since: Some(since),
            until: Some(until),
            ..Query::default()
        };
        write(&path, &query, Shape::Table, &mut io::sink())
    };
    let e = ask(100, 5).unwrap_err();
    assert_eq!(e.exit_code(), crate::exit::USAGE);
    assert!(e.render().contains("--since 100 --until 5"), "{e}");
    ask(5, 5).unwrap();
}

#[test]
fn a_run_that_was_stopped_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = log(dir.path());
    let bytes = std::fs::read(&path).unwrap();
    // It may have been stopped between any two frames.
    let mut ends = Vec::new();
    let mut at = 12;
    while at < bytes.len() {
        ends.push(at);
        let len = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap());
        at += 16 + len as usize;
    }
    assert!(ends.len() > 5, "{ends:?}");
    for end in ends {
        std::fs::write(&path, &bytes[..end]).unwrap();
        let lacks = lacking(&path, &Query::default()).0;
        let [told] = &lacks[..] else {
            panic!("{end}: {lacks:?}");
        };
        assert!(told.contains("has no end: the run was stopped"), "{told}");
    }
}

#[test]
fn a_log_that_is_not_complete_says_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let path = begun(dir.path(), 0);
    finish(&path);
    let mut out = Vec::new();
    let lacks = write(&path, &Query::default(), Shape::Table, &mut out).unwrap();
    assert_eq!(
        lacks,
        [
            "the log is full from @20 on, and lacks 20 events: run with a larger log.limit-mib, or \
          keep fewer kinds with --log"
        ]
    );
    assert!(String::from_utf8(out).unwrap().contains("is full"));
}
