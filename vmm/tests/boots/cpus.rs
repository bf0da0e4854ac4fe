// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Several CPUs: the same findings as with one, and the same run each time.

use staleline::result::{Party, RunResult};
use staleline_devices::cpu::CpuId;

use crate::support::{kinds_of, need_kernel, run, side_by_side};

const PATCHED: &str = "begin-end-access";

/// Each path, and one that is wrong; with the kernel that serves it.
const RUNS: [(&str, &str); 7] = [
    ("iio-to-usb", "base"),
    ("iio-to-usb", PATCHED),
    ("usb-to-iio", PATCHED),
    ("usb-loopback", "base"),
    ("iio-capture", "base"),
    ("iio-capture-nosync", "base"),
    ("iio-playback", "base"),
];

/// CPUs, and the one that the agent stays on.
const BOARDS: [(u8, Option<u8>); 3] = [(2, None), (2, Some(1)), (4, None)];

#[test]
fn two_at_a_time_findings_do_not_depend_on_how_many_cpus_there_are() {
    need_kernel(PATCHED);
    side_by_side(&RUNS, |(scenario, kernel)| {
        let go = |settings: &[String]| {
            let mut arguments = vec![*scenario, "--kernel", kernel, "--no-trace"];
            arguments.extend(settings.iter().flat_map(|s| ["--set", s.as_str()]));
            run(&arguments).result()
        };
        let one = go(&[]);
        for (cpus, stays) in BOARDS {
            let mut settings = vec![format!("board.cpus={cpus}")];
            settings.extend(stays.map(|cpu| format!("guest.cpu={cpu}")));
            let first = go(&settings);
            let what = format!("{scenario} {kernel} {settings:?}");
            assert_eq!(first.verdict, one.verdict, "{what}: {:?}", first.reasons);
            assert_eq!(kinds_of(&first), kinds_of(&one), "{what}");
            // Which lines the cache has written back by then is luck, and another order is other luck.
            let corrupt = |result: &RunResult| result.data.corrupt_bytes != 0;
            assert_eq!(corrupt(&first), corrupt(&one), "{what}");
            assert_eq!(first.guest.reports.len(), 0, "{what}");
            let again = go(&settings);
            assert_eq!(first.run_hash, again.run_hash, "{what}");
            assert_ne!(first.run_hash, one.run_hash, "{what}");
        }
    });
}

/// Who did what is told with its CPU, where there are several.
#[test]
fn a_finding_names_the_cpu() {
    let settings = ["--set", "board.cpus=2", "--set", "guest.cpu=1"];
    let run = run(&[&["iio-capture-nosync"][..], &settings].concat());
    let result = run.result();
    let of = |party: &Party| match party {
        Party::Cpu { cpu, .. } => *cpu,
        _ => None,
    };
    let reader = of(&result.hazards[0].reader);
    assert_eq!(reader, Some(CpuId(1)), "the agent stays on CPU 1");
    assert!(
        run.stdout.contains("read by user space on CPU 1"),
        "{}",
        run.stdout
    );
}

/// The self-check asks QEMU for each translation, of each CPU.
#[test]
fn every_cpus_translations_are_understood() {
    let checked = run(&["iio-capture", "--set", "board.cpus=4", "--self-check"]);
    checked.passes();
}
