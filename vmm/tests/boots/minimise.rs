// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The smallest run that fails, on the real kernel: planted failures, each of six frames with incidents and faults
//! that have no part in it, and what is known to be left of each.

use std::path::Path;
use std::process::Command;

use staleline::scenario::Scenario;
use staleline_testing::{need_kernel, staleline};

/// What the host does meanwhile, which the kernel lives through.
const INCIDENTS: &str = "usb.incidents=[{after-bytes=100,action=\"halt\"},\
    {after-bytes=13000,action={pause={ticks=100}}},{after-bytes=30000,action=\"reset\"}]";

/// An incident for which the stream is over too early: it is a halt, which waits for the next transfer.
const TOO_LATE: &str = "usb.incidents=[{after-bytes=100,action=\"halt\"},\
    {after-bytes=13000,action={pause={ticks=100}}},{after-bytes=61000,action=\"halt\"}]";

/// Faults without consequences: an interrupt that is late, and the invalidates of two pieces of memory when DMABUFs are
/// unmapped at the end, which nobody reads any more.
fn decoys((scenario, kernel): (&str, &str)) -> &'static str {
    match (scenario, kernel) {
        (_, "base") => "irq@3:late+50,drop@81,drop@86",
        ("iio-to-usb-sync", _) => "irq@3:late+50,drop@186,drop@190",
        _ => "irq@3:late+50,drop@129,drop@134",
    }
}

/// A failure, and what is left of it.
struct Planted {
    /// Scenario and kernel.
    what: (&'static str, &'static str),
    incidents: &'static str,
    /// What goes wrong beside the decoys.
    faults: &'static str,
    frames: u32,
    /// Incidents that are left.
    incidents_left: usize,
}

/// A fault of an operation keeps all frames up to the one that the operation is of, as that is numbered from power-on:
/// two frames are queued before the first is over, 80 to 86; each that follows has a clean, three pieces, and
/// an invalidate, three more, from 88 on.
const PLANTED: [Planted; 10] = [
    // The kernel does nothing between the devices, in any frame.
    planted(("iio-to-usb", "base"), "", 1),
    // Operation 88 is an invalidate of frame 0 with two DMABUFs, of frame 1 with one, and of none in a run of one frame.
    planted(("iio-to-usb", "begin-end-access"), "drop@88", 2),
    // The second piece of frame 1's: the last frame is short, and does not come so far.
    planted(("iio-to-usb", "begin-end-access"), "drop@93", 3),
    // Of frames 2 to 5.
    planted(("iio-to-usb", "begin-end-access"), "as@100:clean", 3),
    planted(("iio-to-usb", "begin-end-access"), "drop@108", 4),
    planted(("iio-to-usb", "begin-end-access"), "drop@116", 5),
    planted(("iio-to-usb", "begin-end-access"), "drop@124", 6),
    // User space and the kernel both invalidate, each is enough, and only without both it fails.
    planted(
        ("iio-to-usb-sync", "begin-end-access"),
        "drop@140,drop@144",
        4,
    ),
    planted(
        ("iio-to-usb-sync", "begin-end-access"),
        "drop@124,drop@128",
        3,
    ),
    // No fault, but an incident that never comes, in the last frame; which may be the only one.
    Planted {
        incidents: TOO_LATE,
        incidents_left: 1,
        ..planted(("iio-to-usb", "begin-end-access"), "", 1)
    },
];

const fn planted(what: (&'static str, &'static str), faults: &'static str, frames: u32) -> Planted {
    Planted {
        what,
        incidents: INCIDENTS,
        faults,
        frames,
        incidents_left: 0,
    }
}

fn minimise(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = staleline();
    command.current_dir(dir).arg("minimise").args(arguments);
    command
}

fn comes_to_its_minimum(planted: &Planted) {
    let (scenario, kernel) = planted.what;
    need_kernel(kernel);
    let dir = tempfile::tempdir().unwrap();
    let faults = [decoys(planted.what), planted.faults].map(str::to_owned);
    let faults: Vec<String> = faults.into_iter().filter(|f| !f.is_empty()).collect();
    let inject = format!("inject={}", faults.join(","));
    let options = [
        "--set",
        planted.incidents,
        "--set",
        &inject,
        "--out",
        "found",
    ];
    let arguments = [&[scenario, "--kernel", kernel][..], &options].concat();
    let output = minimise(dir.path(), &arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}\n{errors}");

    let found = dir.path().join("found");
    let read = |name: &str| std::fs::read_to_string(found.join(name)).unwrap();
    let left = Scenario::parse(&read("scenario.toml"), "scenario.toml").unwrap();
    let transfer = left.transfer.as_ref().unwrap();
    let injected: Vec<String> = left.faults.inject.iter().map(ToString::to_string).collect();
    assert_eq!(injected.join(","), planted.faults, "{errors}");
    assert_eq!(
        (transfer.frames, left.usb.incidents.len()),
        (planted.frames, planted.incidents_left),
        "{scenario} {kernel} {}: {errors}",
        planted.faults
    );
    assert!((1..=2).contains(&transfer.buffers), "{errors}");

    // The command that is printed tells the same to the letter.
    let command = read("command");
    assert_eq!(said.lines().last(), Some(command.trim()));
    let rest = command.trim().strip_prefix("staleline ").unwrap();
    let script = format!("\"$0\" {rest} --out again");
    let program = staleline_testing::program();
    let mut shell = Command::new("sh");
    for (name, value) in staleline().get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let again = shell
        .current_dir(dir.path())
        .args(["-c", &script])
        .arg(program)
        .output()
        .unwrap();
    let again = String::from_utf8_lossy(&again.stdout).into_owned();
    let diagnostic = read("diagnostic.txt");
    assert!(
        !diagnostic.is_empty() && again.contains(&diagnostic),
        "{again}\n{diagnostic}"
    );
}

#[test]
fn a_planted_failure_comes_down_to_its_minimum() {
    comes_to_its_minimum(&PLANTED[0]);
    comes_to_its_minimum(&PLANTED[8]);
}

#[test]
#[ignore = "hundreds of boots"]
fn ten_planted_failures_come_down_to_their_minima() {
    for planted in &PLANTED {
        comes_to_its_minimum(planted);
    }
}

#[test]
fn a_run_that_was_made_is_taken_from_its_directory() {
    need_kernel("base");
    let dir = tempfile::tempdir().unwrap();
    let mut first = staleline();
    let arguments = [
        "run",
        "iio-capture-nosync",
        "--no-trace",
        "--set",
        "frames=2",
    ];
    first.current_dir(dir.path()).args(arguments);
    let first = first.args(["--out", "first"]).status().unwrap();
    assert_eq!(first.code(), Some(1));
    let bounded = [
        "--run", "first", "--keep", "kinds", "--runs", "3", "--out", "few",
    ];
    let output = minimise(dir.path(), &bounded).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("there may be a smaller one"), "{errors}");
    // What passes has no smallest that fails.
    let output = minimise(dir.path(), &["iio-capture"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("iio-capture passes"), "{errors}");
    let left = std::fs::read_dir(dir.path().join("runs/minimise"));
    assert_eq!(left.unwrap().count(), 0);
}
