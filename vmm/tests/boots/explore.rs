// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Runs drawn by seed, on the real kernel.

use std::path::Path;
use std::process::Output;

use staleline_testing::{need_kernel, staleline};

fn explore(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = staleline();
    command.current_dir(dir).arg("explore").args(arguments);
    command.output().unwrap()
}

#[test]
fn seeds_of_a_right_kernel_pass_and_those_of_a_wrong_one_are_known_the_next_time() {
    need_kernel("base");
    need_kernel("begin-end-access");
    let dir = tempfile::tempdir().unwrap();
    let right = [
        "iio-to-usb",
        "usb-to-iio",
        "--kernel",
        "begin-end-access",
        "--right",
    ];
    let some = ["--runs", "6", "--out", "right"];
    let output = explore(dir.path(), &[&right[..], &some].concat());
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("6 runs from seed 1 on, 0 failed"), "{said}");

    let wrong = [
        "iio-capture-nosync",
        "--right",
        "--set",
        "board.dmac.port=hp",
        "--set",
    ];
    let wrong = [
        &wrong[..],
        &["board.power-on=dirty", "--runs", "2", "--out", "wrong"],
    ]
    .concat();
    let output = explore(dir.path(), &wrong);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("failed: seed ") && said.contains("missing-invalidate"),
        "{said}"
    );
    let output = explore(dir.path(), &wrong);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("still: seed "), "{said}");
}

#[test]
fn what_the_host_does_before_a_transfer_is_lived_through() {
    need_kernel("begin-end-access");
    for fault in ["halt", "reset", "disconnect+5000", "babble"] {
        let inject = format!("inject=host@3:{fault}");
        let arguments = [
            "iio-to-usb",
            "--kernel",
            "begin-end-access",
            "--set",
            &inject,
        ];
        let run = staleline_testing::run(&arguments);
        assert_eq!(run.code, 0, "{}", run.stdout);
        let told = format!("note: fault host@3:{fault} took place");
        assert!(run.stdout.contains(&told), "{}", run.stdout);
    }
}
