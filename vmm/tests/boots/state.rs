// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A machine that is saved on the way, and goes on as another one that was made from what was saved,
//! comes to the same run: hash, findings, accounts, call chains, data. What its state lacks would show.

use serde_json::Value;

use crate::support::{Run, run, scenarios, side_by_side};

/// All of a result but what time it took and how often the machine was restored.
pub fn comparable(run: &Run) -> Value {
    let mut result: Value = serde_json::from_str(&run.file("result.json")).unwrap();
    let fields = result.as_object_mut().unwrap();
    fields.remove("restored");
    assert!(fields.remove("wall_ms").is_some());
    if let Some(tracing) = fields.get_mut("tracing").and_then(Value::as_object_mut) {
        assert!(tracing.remove("wall_ms").is_some());
    }
    assert!(fields["run_hash"].is_string());
    result
}

/// Where two results differ, as far as one looks.
pub fn differences(a: &Value, b: &Value, at: &str, found: &mut Vec<String>) {
    match (a, b) {
        _ if a == b || found.len() > 8 => {}
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
            for (key, value) in a {
                let other = b.get(key).unwrap_or(&Value::Null);
                differences(value, other, &format!("{at}.{key}"), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{at}[{n}]"), found);
            }
        }
        _ => found.push(format!("{at}: {a} and {b}")),
    }
}

/// Runs `arguments` as they are, and for each of `every` with so many steps between saved states.
#[track_caller]
pub fn goes_on(arguments: &[&str], every: &[u32]) {
    let plain = run(arguments);
    assert_eq!(plain.result().restored, None, "{arguments:?}");
    for every in every {
        let every = every.to_string();
        let renewed = run(&[arguments, &["--save-restore", &every]].concat());
        let what = format!("{arguments:?} --save-restore {every}");
        assert_eq!(
            renewed.code, plain.code,
            "{what}: {}{}",
            renewed.stdout, renewed.stderr
        );
        let times = renewed.result().restored.unwrap();
        assert!(times >= 3, "{what}: restored {times} times only");
        let told = format!("note: machine saved and restored {times} times");
        assert!(renewed.stdout.contains(&told), "{}", renewed.stdout);
        let mut found = Vec::new();
        differences(&comparable(&plain), &comparable(&renewed), "", &mut found);
        assert!(found.is_empty(), "{what}: {found:#?}");
    }
}

/// On the unpatched kernel, so with findings, and with a second pass for their call chains.
#[test]
fn a_run_with_findings_goes_on_from_saved_states() {
    goes_on(&["iio-to-usb"], &[401, 97, 31]);
}

/// With a disk that is written, and a cache that replaces at random, on two CPUs.
#[test]
fn so_does_one_of_a_disk_and_chance() {
    let chance = [
        "blk-root",
        "--no-trace",
        "--set",
        "cache=random",
        "--set",
        "board.cpus=2",
    ];
    goes_on(&chance, &[200]);
    goes_on(
        &["usb-loopback", "--no-trace", "--set", "cache=eager"],
        &[90],
    );
}

/// All scenarios that there are, with one CPU and with two.
#[test]
#[ignore = "two boots for each scenario and number of CPUs, one of them slow"]
fn two_at_a_time_all_scenarios_go_on_from_saved_states() {
    let all: Vec<_> = scenarios()
        .flat_map(|name| ["1", "2"].map(|cpus| (name, cpus)))
        .collect();
    side_by_side(&all, |(name, cpus)| {
        let cpus = format!("board.cpus={cpus}");
        let steps = run(&[name, "--no-trace", "--set", &cpus]).result();
        let registers = steps.machine.map_or(0, |m| m.register_accesses);
        // Some ten times, whatever it takes; boots without devices do not make three steps.
        let every = u32::try_from(registers / 10).unwrap().max(50);
        goes_on(&[name, "--set", &cpus], &[every]);
    });
}
