// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The log of a run: it is the same each time, and says the same as the result.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use staleline_devices::soc::WINDOW;
use staleline_events::{Reader, Tag};
use staleline_results::{Event, Party, RunResult, Step, Verdict};

use crate::support::{Run, run, side_by_side, staleline};

/// `staleline events` on a run.
fn events(run: &Run, arguments: &[&str]) -> Output {
    let mut command = staleline();
    command.arg("events").arg(run.path()).args(arguments);
    command.output().unwrap()
}

/// Its output, of which nothing may be missing.
#[track_caller]
fn told(run: &Run, arguments: &[&str]) -> String {
    let output = events(run, arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command says of a run.
fn says(command: &[&str], run: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = staleline()
        .args(command)
        .arg(run)
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn of_a_runs_directory_all_but_the_log_can_be_thrown_away() {
    let settings = ["--set", "drop-maintenance=2", "--set", "frames=2"];
    let run = run(&[&["iio-to-usb", "--no-trace"][..], &settings].concat());
    let result = run.ends(1, Verdict::Fail);
    let line = result.hazards[result.diagnostics[0].shown]
        .first_pa
        .to_string();
    let commands: [(&[&str], &[&str]); 6] = [
        (&["events"], &[]),
        (&["events"], &["--json"]),
        (&["events"], &["--line", &line]),
        (&["events"], &["--buffer", "0"]),
        (&["report"], &[]),
        (&["report"], &["--format", "json"]),
    ];
    let all = |dir: &Path| commands.map(|(command, arguments)| says(command, dir, arguments));
    let whole = all(&run.path());
    let (code, table, stderr) = &whole[2];
    assert_eq!((*code, &**stderr), (Some(0), ""));
    assert!(table.contains(" 0+0x"), "{table}");

    let alone = tempfile::tempdir().unwrap();
    let log = alone.path().join("events.bin");
    std::fs::copy(run.path().join("events.bin"), &log).unwrap();
    assert!(all(alone.path()) == whole);
    assert!(all(&log) == whole);
    // Nor is anything believed that lies beside it.
    let mut other = result.clone();
    other.buffers.clear();
    other.maintenance.operations.clear();
    let other = serde_json::to_string(&other).unwrap();
    std::fs::write(alone.path().join("result.json"), other).unwrap();
    std::fs::write(alone.path().join("console.log"), "").unwrap();
    assert!(all(alone.path()) == whole);

    let (code, text, stderr) = says(&["replay"], alone.path(), &[]);
    assert_eq!((code, &*text), (Some(0), "replay: same\n"), "{stderr}");
}

/// By whatever is missing at its end, even if all that judges the run is there.
#[test]
fn a_log_that_lacks_its_end_is_an_infrastructure_error() {
    let run = run(&["iio-to-usb", "--no-trace", "--set", "frames=2"]);
    run.ends(1, Verdict::Fail);
    let log = std::fs::read(run.path().join("events.bin")).unwrap();
    let frames = Reader::new(&log[..]).unwrap().map(|frame| frame.unwrap());
    let last = frames.last().unwrap().payload.len();
    let alone = tempfile::NamedTempFile::new().unwrap();
    let report = |bytes: &[u8]| {
        std::fs::write(alone.path(), bytes).unwrap();
        says(&["report"], alone.path(), &[])
    };
    assert_eq!(report(&log).0, Some(1));
    // A byte; all of the last frame's payload, and its head, too; half of it all.
    let frame = last + 16;
    for lost in [1, last, frame, frame + 1, log.len() / 2] {
        let (code, text, stderr) = report(&log[..log.len() - lost]);
        assert_eq!(code, Some(3), "{lost}: {text}{stderr}");
        assert!(
            text.contains("has no end") || text.contains("before its guest had ended"),
            "{lost}: {text}"
        );
    }
}

fn objects(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines.map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// All that the machine wrote, byte for byte.
fn machine(run: &Run) -> Vec<u8> {
    let file = File::open(run.path().join("events.bin")).unwrap();
    let frames = Reader::new(file).unwrap().map(|frame| frame.unwrap());
    // The runner's steps and evidence say how long it took.
    let runners = [Tag::RUN, Tag::PART, Tag::LAST_PART];
    let machine = frames.filter(|frame| !runners.contains(&frame.tag));
    machine.flat_map(|frame| frame.payload).collect()
}

#[test]
fn two_runs_of_one_command_write_the_same_log() {
    let all = ["iio-capture", "--log", "all"];
    let runs = side_by_side(&[(); 2], |()| run(&all));
    let logs = [&runs[0], &runs[1]].map(machine);
    assert!(logs[0].len() > 1 << 14, "{}", logs[0].len());
    assert!(
        logs[0] == logs[1],
        "{} and {} bytes",
        logs[0].len(),
        logs[1].len()
    );

    // What is kept changes nothing that happens.
    let result = runs[0].passes();
    let off = run(&["iio-capture", "--log", "off"]);
    assert_eq!(off.passes().run_hash, result.run_hash);
    assert_eq!(off.passes().log, None);
    assert_eq!(machine(&off), b"");
    let (_, said) = told_so_far(&off, &["--line", "0x45000000"]);
    assert!(
        said.contains("kept no events of the machine (--log off)"),
        "{said}"
    );
    let log = result.log.unwrap();
    assert!(log.complete && log.records > 1000, "{log:?}");
    let told = objects(&told(&runs[0], &["--json"]));
    let machine = told.iter().filter(|o| o["event"] == "machine");
    assert_eq!(machine.count() as u64, log.records);
    // Each interrupt and each access to a register, as the devices have counted them.
    let of = |kind: &'static str| told.iter().filter(move |o| o["kind"] == kind);
    let counted = result.machine.unwrap();
    let rises = of("interrupt").filter(|o| o["high"] == true).count();
    assert_eq!(rises as u64, counted.interrupts);
    assert_eq!(of("register").count() as u64, counted.register_accesses);
    assert!(of("register").all(|o| o["len"].as_u64().unwrap() <= WINDOW));
    let closed: u64 = of("transfer").filter(|o| o["what"] == "closed").count() as u64;
    assert_eq!(closed, counted.transfers);
}

/// The record that a step of a finding's history stands for.
fn stands_for(step: &Step, o: &Value) -> bool {
    let at = o["at"].as_u64() == Some(step.at);
    let what = o["what"].as_str().unwrap_or_default();
    let by_device = matches!(step.who, Party::Device { .. });
    match &step.what {
        Event::PowerOn => true,
        // Before the first DMA, by what was known then.
        Event::Cached | Event::Stored if !by_device => {
            let known = what == "under-dma" && o["cached-at"].as_u64() == Some(step.at);
            known || at && what == "accessed"
        }
        Event::Maintained { number, .. } => {
            at && what == "maintained" && o["operation"].as_u64() == Some((*number).into())
        }
        Event::Started { .. } => {
            at && what == "started" || what == "opened" && o["started-at"].as_u64() == Some(step.at)
        }
        Event::Opened => at && what == "opened",
        Event::Closed => at && what == "closed",
        Event::Written | Event::Stored | Event::Cached if by_device => {
            at && what == "moved" && o["write"] == true
        }
        Event::Written => at && what == "accessed",
        _ => at && what == "found",
    }
}

/// Every step of the history of each diagnostic is in the life of its line.
#[track_caller]
fn history_is_in_the_log(run: &Run, result: &RunResult) -> usize {
    let found = objects(&told(run, &["--kind", "finding", "--json"]));
    let mut steps = 0;
    assert!(!result.diagnostics.is_empty());
    for diagnostic in &result.diagnostics {
        let hazard = &result.hazards[diagnostic.shown];
        let first = found
            .iter()
            .find(|o| o["at"] == hazard.at && o["kind"] == "finding")
            .unwrap_or_else(|| panic!("finding @{} is not in the log", hazard.at));
        assert_eq!(
            first["text"]
                .as_str()
                .map(|t| t.contains(hazard.kind.name())),
            Some(true)
        );
        let line = first["pa"].as_str().unwrap();
        let life = objects(&told(run, &["--line", line, "--json"]));
        for step in &diagnostic.history {
            assert!(
                life.iter().any(|o| stands_for(step, o)),
                "{}: {step:?} is not in the life of {line}",
                result.scenario
            );
            steps += 1;
        }
    }
    steps
}

#[test]
fn the_history_of_a_finding_is_in_the_log() {
    let commands = [
        &["iio-to-usb", "--no-trace"][..],
        &["iio-capture-nosync", "--no-trace"],
        &["iio-capture", "--exporter", "udmabuf", "--no-trace"],
        &[
            "iio-playback",
            "--set",
            "cpu-sync=false",
            "--cache",
            "eager",
            "--no-trace",
        ],
    ];
    let steps = side_by_side(&commands, |command| {
        let run = run(command);
        history_is_in_the_log(&run, &run.ends(1, Verdict::Fail))
    });
    assert!(steps.iter().all(|n| *n >= 3), "{steps:?}");
}

#[test]
fn the_life_of_one_line() {
    let run = run(&[
        "iio-to-usb",
        "--no-trace",
        "--set",
        "frames=2",
        "--set",
        "buffers=1",
    ]);
    let result = run.ends(1, Verdict::Fail);
    let shown = &result.hazards[result.diagnostics[0].shown];
    let line = shown.first_pa.to_string();
    let life = told(&run, &["--line", &line]);
    insta::with_settings!({filters => vec![
        (r"@\d+", "@[n]"),
        (r"0x[0-9a-f]{8}", "[pa]"),
        (r"\+0x[1-9a-f][0-9a-f]*", "+[offset]"),
        (r"(?m)^ *\d+ +@", "  [record] @"),
        (r"(\.[chS]):\d+", "$1:[line]"),
        (r"  +", "  "),
    ]}, {
        insta::assert_snapshot!(life);
    });
    // The buffer that it is part of has more to tell, and all of that.
    let buffer = told(&run, &["--buffer", "0"]);
    let of_line: Vec<_> = life.lines().skip(2).collect();
    let of_buffer: std::collections::BTreeSet<_> = buffer.lines().collect();
    assert!(of_buffer.len() > of_line.len());
    let missing: Vec<_> = of_line
        .iter()
        .filter(|l| !of_buffer.contains(**l))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_runners_steps_are_in_the_log_and_a_full_one_says_so() {
    let settings = ["--set", "log.limit-mib=1", "--set", "frames=640"];
    let run = run(&[&["iio-to-usb", "--log", "all", "--no-trace"][..], &settings].concat());
    let result = run.ends(1, Verdict::Fail);
    assert_eq!(
        told_so_far(&run, &["--kind", "run", "--json"]).0,
        run.file("events.jsonl")
    );
    let log = result.log.as_ref().unwrap();
    assert!(!log.complete && log.lost > 0, "{log:?}");
    // An eighth more, for findings.
    assert!(log.bytes <= (1 << 20) * 9 / 8, "{log:?}");
    let note = result.notes.iter().find(|n| n.contains("log of events"));
    assert!(note.unwrap().contains("Raise log.limit-mib"), "{note:?}");
    let (text, said) = told_so_far(&run, &["--json"]);
    assert!(said.contains("the log is full from @"), "{said}");
    let all = objects(&text);
    let full = all.iter().position(|o| o["event"] == "log-full").unwrap();
    let after = all[full + 1..].iter().filter(|o| o["event"] == "machine");
    assert!(after.clone().all(|o| o["kind"] == "finding"));
    // Each finding of the result is told at its time, before the log was full or after.
    let findings = all.iter().filter(|o| o["kind"] == "finding");
    let findings: HashSet<u64> = findings.filter_map(|o| o["at"].as_u64()).collect();
    for hazard in &result.hazards {
        assert!(findings.contains(&hazard.at), "@{}", hazard.at);
    }
}

fn told_so_far(run: &Run, arguments: &[&str]) -> (String, String) {
    let output = events(run, arguments);
    assert_eq!(output.status.code(), Some(0));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}
