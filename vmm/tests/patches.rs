// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The patches that come with the tree, judged as a maintainer would: with the real compiler and
//! the kernel's own scripts. Takes minutes.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use staleline_results::Verdict;
use staleline_testing as support;

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

/// The series that is to be posted.
const SERIES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../guest-kernel/stacks/begin-end-access"
);

/// Who bisects stops anywhere: what works without the series works at each step, and what it is for works
/// from the step on that completes it, for its exporter.
#[test]
#[ignore = "builds a kernel for each patch of the series"]
fn each_step_of_the_series_boots_and_passes_what_it_should() {
    let series = fs::read_to_string(Path::new(SERIES).join("series")).unwrap();
    let of_this_kernel = |line: &&str| line.starts_with("000") && !line.contains("# since");
    let patches: Vec<&str> = series
        .lines()
        .filter(of_this_kernel)
        .map(|line| line.split(" #").next().unwrap().trim())
        .collect();
    assert_eq!(patches.len(), 6, "{series}");
    let dir = tempfile::tempdir().unwrap();
    for steps in 1..=patches.len() {
        let stack = dir.path().join(format!("step-{steps}"));
        fs::create_dir(&stack).unwrap();
        let first = &patches[..steps];
        for patch in first {
            fs::copy(Path::new(SERIES).join(patch), stack.join(patch)).unwrap();
        }
        fs::write(stack.join("series"), first.join("\n") + "\n").unwrap();
        let kernel = stack.to_str().unwrap();
        let run = |scenario, exporter| {
            let settings = ["--kernel", kernel, "--exporter", exporter, "--set"];
            support::run(&[&[scenario][..], &settings, &["snoop-write=allocate"]].concat())
        };
        for exporter in ["system", "cma"] {
            for scenario in ["iio-capture", "iio-playback", "iio-to-usb-sync"] {
                assert_eq!(
                    run(scenario, exporter).result().verdict,
                    Verdict::Pass,
                    "{steps}"
                );
            }
        }
        // The exporters first, then FunctionFS, then IIO, which is what does not snoop here.
        let whole = steps == patches.len();
        for exporter in ["system", "cma", "udmabuf"] {
            for scenario in ["iio-to-usb", "usb-to-iio"] {
                let passed = run(scenario, exporter).result().verdict == Verdict::Pass;
                assert_eq!(passed, whole, "{scenario} {exporter} at step {steps}");
            }
        }
    }
}
