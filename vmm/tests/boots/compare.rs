// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Two runs of the real kernel side by side: what differs is what was changed.

use std::path::Path;

use serde_json::Value;

use crate::support::{Run, need_kernel, run, staleline};

/// `staleline compare` of two runs: the exit code, and what it says.
fn compare(a: &Path, b: &Path) -> (i32, Value) {
    let mut command = staleline();
    command.arg("compare").args([a, b]);
    let human = command.output().unwrap();
    let text = String::from_utf8(human.stdout).unwrap();
    assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    let json = command.args(["--format", "json"]).output().unwrap();
    assert_eq!(human.status, json.status, "{text}");
    let json = serde_json::from_slice(&json.stdout).unwrap();
    (human.status.code().unwrap(), json)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

#[test]
fn one_operation_that_is_suppressed_is_where_logs_part() {
    let arguments = ["iio-capture", "--no-trace"];
    let good = run(&arguments);
    let all = good.passes().maintenance;
    let again = run(&arguments);
    let (code, same) = compare(&good.path(), &again.path());
    assert_eq!((code, &same["differs"]), (0, &Value::Bool(false)));
    assert_eq!(same["log"]["first"], Value::Null);

    // The last that is needed on DMA memory: an invalidate before user space reads.
    let needed = all.operations.iter().filter(|op| op.needed_lines > 0);
    let op = needed.max_by_key(|op| op.number).unwrap();
    let setting = format!("drop-maintenance=@{}", op.number);
    let bad = run(&[&arguments[..], &["--set", &setting]].concat());
    assert_eq!(bad.code, 1);
    let (code, c) = compare(&good.path(), &bad.path());
    assert_eq!((code, &c["differs"]), (1, &Value::Bool(true)));
    let first = &c["log"]["first"];
    assert!(number(&first["alike"]) > 100, "{first}");
    assert_eq!(
        (number(&first["a"]["at"]), number(&first["b"]["at"])),
        (op.at, op.at)
    );
    let what = |side: &str| first[side]["what"].as_str().unwrap().to_owned();
    assert!(!what("a").contains("SUPPRESSED"), "{first}");
    assert!(what("b").contains("SUPPRESSED"), "{first}");
    let place = first["b"]["place"].as_str().unwrap();
    assert!(place.starts_with("dcache_inval_poc+"), "{place}");
    // It is the same to whoever asks what is done, but for that.
    assert_eq!(c["log"]["done"]["b"]["record"], first["b"]["record"]);
    let found = &c["findings"][0];
    assert_eq!(found["kind"], "missing-invalidate");
    assert_eq!(
        (
            number(&found["findings"]["a"]),
            number(&found["findings"]["b"])
        ),
        (0, 1)
    );
}

/// Lines of maintenance between two devices.
fn between<'a>(c: &'a Value, before: &str, after: &str) -> &'a Value {
    let pairs = c["costs"]["pairs"].as_array().unwrap();
    let found = pairs
        .iter()
        .find(|p| p["before"] == before && p["after"] == after);
    found.unwrap_or_else(|| panic!("{pairs:#?}"))
}

#[test]
fn the_patches_cost_what_is_between_the_two_devices() {
    need_kernel("begin-end-access");
    let kernel = |name| run(&["iio-to-usb", "--no-trace", "--kernel", name]);
    let (base, patched): (Run, Run) = (kernel("base"), kernel("begin-end-access"));
    let (code, c) = compare(&base.path(), &patched.path());
    assert_eq!(code, 1);
    assert_eq!(
        (&c["a"]["verdict"], &c["b"]["verdict"]),
        (&"fail".into(), &"pass".into())
    );
    let found = &c["findings"][0];
    assert_eq!(
        (&found["kind"], &found["place"]),
        (&"missing-invalidate".into(), &"axi-dmac-rx -> dwc3".into())
    );
    assert_eq!(number(&found["findings"]["b"]), 0);
    // Nobody does anything there without, and with them each line that is stale without is done.
    let handed_over = between(&c, "axi-dmac-rx", "dwc3");
    assert_eq!(number(&handed_over["lines"]["a"]), 0);
    assert_eq!(handed_over["needed"]["b"], found["lines"]["a"]);
    assert_eq!(handed_over["cleaned"]["b"], 0);
    // All of it is in the sums.
    let result = patched.passes();
    let cost = &result.maintenance.cost;
    let mut sum = staleline_results::LineCost::default();
    for pair in &cost.pairs {
        sum.add(&pair.cost);
    }
    assert_eq!(sum, cost.total);
    let callers = result.maintenance.callers.iter().map(|c| c.cost());
    let mut sum = staleline_results::LineCost::default();
    callers.for_each(|c| sum.add(&c));
    assert_eq!(sum, cost.total);
    let path = cost.path.unwrap();
    assert!(path.instructions.dc >= number(&handed_over["lines"]["b"]));
    assert!(path.instructions.dc < cost.instructions.dc);
    assert!((1_000..200_000).contains(&path.share_ppm), "{path:?}");
}
