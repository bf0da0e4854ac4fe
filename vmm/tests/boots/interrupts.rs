// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Ctrl-C and SIGTERM while guests run.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use staleline_results::{GuestEnd, RunResult};

use crate::support::{need_kernel, staleline};

/// Takes minutes if it is let.
const LONG: [&str; 4] = ["--set", "frames=60000", "--set", "timeout=600"];

fn begin(command: &mut Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn ended(child: Child) -> Output {
    let begun = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(60), "{output:?}");
    output
}

/// No QEMU with a console below that directory goes on: where staleline has ended at once, the kernel ends
/// it, which takes a moment.
fn none_is_left(dir: &Path) {
    let dir = dir.to_str().unwrap();
    wait_for("end of QEMU", || {
        let mut processes = std::fs::read_dir("/proc").unwrap().flatten();
        !processes.any(|process| {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.contains("plugin") && line.contains(dir)
        })
    });
}

fn result(dir: &Path) -> RunResult {
    let text = std::fs::read_to_string(dir.join("result.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_run_that_is_interrupted_leaves_what_there_was() {
    need_kernel("base");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("run");
        let mut command = staleline();
        command.args(["run", "iio-capture"]).args(LONG).arg("--out");
        let child = begin(command.arg(&dir));
        let console = dir.join("engine/console.log");
        wait_for("console", || {
            std::fs::metadata(&console).is_ok_and(|m| m.len() > 0)
        });
        send(&child, signal);
        let output = ended(child);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let result = result(&dir);
        assert!(result.interrupted, "{:?}", result.reasons);
        assert_eq!(result.guest.end, Some(GuestEnd::Interrupted));
        assert!(
            result.reasons.iter().any(|r| r.starts_with("interrupted")),
            "{:?}",
            result.reasons
        );
        let junit = std::fs::read_to_string(dir.join("junit.xml")).unwrap();
        assert!(junit.ends_with("</testsuites>\n"), "{junit}");
        for gone in ["engine", "trace", "pilot"] {
            assert!(!dir.join(gone).exists(), "{gone}");
        }
        none_is_left(root.path());
        // The log says the same.
        let mut report = staleline();
        let report = report.arg("report").arg(&dir).args(["--format", "json"]);
        let report: RunResult = serde_json::from_slice(&report.output().unwrap().stdout).unwrap();
        assert_eq!(report, result);
    }
}

#[test]
fn the_second_time_it_ends_at_once() {
    need_kernel("base");
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("run");
    let mut command = staleline();
    command.args(["run", "iio-capture"]).args(LONG).arg("--out");
    let child = begin(command.arg(&dir));
    wait_for("console", || dir.join("engine/console.log").is_file());
    send(&child, Signal::INT);
    send(&child, Signal::TERM);
    send(&child, Signal::INT);
    let begun = Instant::now();
    let output = ended(child);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(
        [Some(130), Some(143)].contains(&output.status.code()),
        "{output:?}"
    );
    none_is_left(root.path());
}

#[test]
fn a_matrix_that_is_interrupted_goes_on_where_it_was() {
    need_kernel("base");
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("m.toml");
    let text =
        "schema = 1\n[[group]]\nscenarios = [\"boot.toml\"]\nseeds = [1, 2, 3, 4, 5, 6, 7, 8]\n";
    std::fs::write(&file, text).unwrap();
    let boot = concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/scenarios/boot.toml");
    let scenario = std::fs::read_to_string(boot).unwrap();
    std::fs::write(root.path().join("boot.toml"), scenario).unwrap();
    let dir = root.path().join("out");
    let mut command = staleline();
    // Named from one directory, gone on with from another.
    command.args(["matrix", "--jobs", "1", "m.toml"]);
    command.current_dir(root.path());
    let child = begin(command.arg("--out").arg(&dir));
    wait_for("result", || {
        dir.join("boot.base.zynqmp.s1/result.json").is_file()
    });
    send(&child, Signal::INT);
    let output = ended(child);
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(
        stdout.contains("boot") && stderr.contains("are left"),
        "{stdout}{stderr}"
    );
    let junit = std::fs::read_to_string(dir.join("junit.xml")).unwrap();
    assert!(junit.contains("tests=\"8\""), "{junit}");
    let first = std::fs::metadata(dir.join("boot.base.zynqmp.s1/result.json")).unwrap();

    let resume = || {
        let mut command = staleline();
        let output = command
            .arg("matrix")
            .arg("--resume")
            .arg(&dir)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output, stderr)
    };
    // Not with cells of another making.
    std::fs::write(&file, text.replace("8]", "9]")).unwrap();
    let (output, stderr) = resume();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("has changed: cell boot.base.zynqmp.s9"),
        "{stderr}"
    );
    std::fs::write(&file, text).unwrap();
    let (output, stderr) = resume();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("8 cells, 8 as expected, 0 not"), "{stdout}");
    let again = std::fs::metadata(dir.join("boot.base.zynqmp.s1/result.json")).unwrap();
    assert_eq!(first.modified().unwrap(), again.modified().unwrap());
    none_is_left(root.path());
}
