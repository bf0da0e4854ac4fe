// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The patches that come with the tree, judged as a maintainer would: with the real compiler and
//! the kernel's own scripts. Takes minutes.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;

#[test]
fn patches_of_the_series_are_fit_for_review() {
    are_fit(&["--stack", "begin-end-access"]);
}

#[test]
#[ignore = "compiles what all stacks touch, which takes minutes"]
fn every_patch_is_fit_for_review() {
    are_fit(&[]);
}

fn are_fit(stacks: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_staleline"))
        .args(["kernel", "check", "--format", "json"])
        .args(stacks)
        .output()
        .unwrap();
    let (told, error) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(0), "{told}{error}");

    let stacks: Vec<Value> = serde_json::from_str(&told).unwrap();
    let names: Vec<_> = stacks.iter().map(|stack| &stack["name"]).collect();
    assert!(
        names.contains(&&Value::from("begin-end-access")),
        "{names:?}"
    );
    for patch in stacks.iter().flat_map(|s| s["patches"].as_array().unwrap()) {
        let compiled = patch["compiled"].as_array().unwrap();
        assert!(!compiled.is_empty(), "nothing was compiled: {patch:#}");
    }
}
