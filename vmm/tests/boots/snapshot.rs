// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A guest of the exact engine that goes on from a snapshot does what it has done after that when it booted, to
//! the last access.

use serde_json::Value;
use staleline_results::{HazardKind, Verdict};

use crate::state::{comparable, differences};
use crate::support::{Run, run, scenarios, side_by_side, staleline};

/// All of a result but the log, which has what was after the snapshot, and the note that there was one.
fn result(run: &Run) -> Value {
    let mut result = comparable(run);
    let fields = result.as_object_mut().unwrap();
    assert!(fields.remove("log").is_some());
    fields.remove("notes");
    result
}

/// What happened on the machine, by the log.
fn events(run: &Run) -> Vec<Value> {
    let output = staleline()
        .args(["events", "--json"])
        .arg(run.path())
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let all = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let machine = all.filter(|event: &Value| event.get("ticks").is_some());
    machine
        .map(|mut event| {
            event.as_object_mut().unwrap().remove("sequence");
            event
        })
        .collect()
}

#[track_caller]
fn same(straight: &Run, other: &Run, what: &str) {
    assert_eq!(straight.code, other.code, "{what}: {}", other.stderr);
    let mut found = Vec::new();
    differences(&result(straight), &result(other), "", &mut found);
    assert!(found.is_empty(), "{what}: {found:#?}");
    assert_eq!(
        straight.file("console.log"),
        other.file("console.log"),
        "{what}"
    );
}

/// Runs `arguments` as they are, with a snapshot made on the way, and from that, `times` times.
#[track_caller]
fn goes_on(arguments: &[&str], times: usize) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("snapshot");
    let path = file.to_str().unwrap();
    let straight = run(arguments);
    let with = |more: [&str; 2]| run(&[arguments, &more].concat());
    let saved = with(["--save-snapshot", path]);
    same(&straight, &saved, &format!("{arguments:?} when saved"));
    assert_eq!(events(&straight), events(&saved));
    let before = events(&straight);
    for _ in 0..times {
        let again = with(["--from-snapshot", path]);
        same(&straight, &again, &format!("{arguments:?} from there"));
        let notes = again.result().notes.join("\n");
        assert!(notes.contains("to go on from the snapshot"), "{notes}");
        let after = events(&again);
        assert!(before.ends_with(&after), "{arguments:?}");
        assert!(after.len() < before.len(), "{arguments:?}");
    }
    // Nothing else is left there.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// With findings and a second pass, and without.
#[test]
fn a_run_goes_on_from_its_snapshot_as_if_it_had_booted() {
    for scenario in ["iio-capture", "iio-to-usb", "usb-to-iio"] {
        goes_on(&[scenario], 2);
    }
    goes_on(&["iio-to-usb", "--kernel", "begin-end-access"], 1);
    let more = ["--set", "board.blk.port=hp", "--set", "cache=random"];
    goes_on(&[&["iio-to-usb"][..], &more].concat(), 1);
}

#[test]
#[ignore = "four boots for each scenario and kernel"]
fn two_at_a_time_all_scenarios_go_on_from_snapshots() {
    let kernels = ["base", "begin-end-access"];
    let all: Vec<_> = scenarios()
        // There is nobody in it who says that it has booted; it takes another engine.
        .filter(|name| !["blk-root", "nvme"].contains(name))
        .flat_map(|name| kernels.map(|kernel| (name, kernel)))
        .collect();
    side_by_side(&all, |(name, kernel)| {
        goes_on(&[name, "--kernel", kernel], 1);
    });
}

/// The machine's own check of its states begins where the guest does.
#[test]
fn a_guest_from_a_snapshot_can_be_checked_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("snapshot");
    let path = file.to_str().unwrap();
    let with = |more: &[&str]| run(&[&["iio-to-usb", "--no-trace"][..], more].concat());
    let saved = with(&["--save-snapshot", path, "--self-check"]);
    let again = with(&["--from-snapshot", path, "--save-restore", "90"]);
    assert!(again.result().restored.unwrap() > 3);
    assert_eq!(saved.result().run_hash, again.result().run_hash);
    let checked = with(&["--from-snapshot", path, "--self-check"]);
    assert_eq!(saved.result().run_hash, checked.result().run_hash);
}

#[test]
fn a_snapshot_of_anything_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("snapshot");
    let path = file.to_str().unwrap();
    run(&["iio-to-usb", "--save-snapshot", path]).fails(&[HazardKind::MissingInvalidate]);
    let refused = |more: &[&str], part: &str| {
        let run = run(&[&["iio-to-usb", "--from-snapshot", path][..], more].concat());
        let result = run.ends(3, Verdict::InfraError);
        let why = &result.reasons[0];
        for part in [part, "--save-snapshot"] {
            assert!(why.contains(part), "{part}: {why}");
        }
    };
    refused(&["--seed", "7"], "of another guest");
    refused(&["--kernel", "begin-end-access"], "of another guest");
    refused(&["--set", "cache=lazy"], "of another guest");
    refused(&["--qemu-arg=-d", "--qemu-arg=int"], "of another guest");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    refused(&[], "cut short");
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    std::fs::write(&file, &changed).unwrap();
    refused(&[], "damaged");
    changed[8] ^= 2;
    std::fs::write(&file, changed).unwrap();
    refused(&[], "has version 3");
    std::fs::write(&file, "something else, of more than twenty bytes").unwrap();
    refused(&[], "no snapshot");
    // Nor is it replaced.
    let kept = run(&["iio-to-usb", "--save-snapshot", path]);
    assert_eq!(kept.code, 2, "{}", kept.stderr);
    assert!(kept.stderr.contains("is no snapshot"), "{}", kept.stderr);
}

/// And what cannot be in one is told; what was not reached, too.
#[test]
fn not_all_guests_are_saved() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("snapshot");
    let path = file.to_str().unwrap();
    let with = |words: &[&str]| run(&[words, &["--save-snapshot", path]].concat());
    let two = with(&["boot", "--set", "board.cpus=2"]).ends(3, Verdict::InfraError);
    assert!(two.reasons[0].contains("one CPU"), "{:?}", two.reasons);
    let dead = with(&["boot", "--append", "initcall_blacklist=populate_rootfs"]);
    assert_ne!(dead.code, 0);
    assert!(dead.stderr.contains("was not written"), "{}", dead.stderr);
    assert!(!file.exists());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
