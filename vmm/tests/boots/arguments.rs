// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Arguments of the user's for QEMU.

use staleline_results::{RunResult, Verdict};

use crate::support;

#[test]
fn what_qemu_was_given_stands_in_the_result_and_is_given_again() {
    let with = ["boot", "--qemu-arg", "-name", "--qemu-arg=it's mine"];
    let run = support::run(&with);
    let result = run.ends(0, Verdict::Pass);
    let given = ["-name", "it's mine"];
    assert_eq!(result.engine_arguments, given);
    let told = r"the tcg engine was given --qemu-arg=-name '--qemu-arg=it'\''s mine'";
    assert!(
        result.notes.iter().any(|note| note.starts_with(told)),
        "{:?}",
        result.notes
    );
    assert!(
        run.stdout.contains("note: the tcg engine"),
        "{}",
        run.stdout
    );
    assert!(
        result.replay.contains("--qemu-arg=-name"),
        "{}",
        result.replay
    );
    let again = run.path().join("again");
    let (code, told) = run.replay(&["--out", again.to_str().unwrap()]);
    assert_eq!(code, 0, "{told}");
    let text = std::fs::read_to_string(again.join("result.json")).unwrap();
    let again: RunResult = serde_json::from_str(&text).unwrap();
    assert_eq!(again.engine_arguments, given);
    // A name changes nothing.
    let plain = support::run(&["boot"]).ends(0, Verdict::Pass);
    assert_eq!(plain.run_hash, result.run_hash);
    assert!(plain.engine_arguments.is_empty() && plain.notes.is_empty());
}

#[test]
fn what_qemu_does_not_take_is_the_users_mistake() {
    let fails = |arguments: &[&str], says: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = support::staleline();
        command.args(["run", "boot", "--out"]).arg(dir.path());
        command.args(arguments.iter().map(|a| format!("--qemu-arg={a}")));
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(says), "{arguments:?}: {told}");
        let left = support::processes_in(dir.path());
        assert!(left.is_empty(), "{left:?}");
    };
    fails(&["-no-such-option"], "invalid option");
    fails(&["-device", "no-such-device"], "no-such-device");
    fails(&["-machine", "virt,no-such=1"], "no-such");
    fails(&["-version"], "without having started");
    fails(&["-daemonize"], "would stay behind");
    fails(&["--daemonize"], "would stay behind");
    fails(&[""], "");
}
