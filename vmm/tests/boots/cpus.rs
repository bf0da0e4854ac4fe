// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Several CPUs: the same findings as with one, and the same run each time.

use std::sync::atomic::{AtomicBool, Ordering};

use staleline_results::{Party, RunResult};

use crate::support::{kinds_of, need_kernel, run, scenarios, side_by_side};

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
        on_all_boards(&[*scenario, "--kernel", kernel], |what, first, one| {
            // Which lines the cache has written back by then is luck, and another order is other luck.
            let corrupt = |result: &RunResult| result.data.corrupt_bytes != 0;
            assert_eq!(corrupt(first), corrupt(one), "{what}");
            assert_eq!(first.guest.reports.len(), 0, "{what}");
            assert_ne!(first.run_hash, one.run_hash, "{what}");
        });
    });
}

/// Runs a scenario with one CPU and on each board: the same verdict and kinds of findings, and the same
/// run twice. `more` looks at the run on the board beside that with one CPU.
fn on_all_boards(scenario: &[&str], more: impl Fn(&str, &RunResult, &RunResult)) {
    let go = |settings: &[String]| {
        let mut arguments = [scenario, &["--no-trace"]].concat();
        arguments.extend(settings.iter().flat_map(|s| ["--set", s.as_str()]));
        run(&arguments).result()
    };
    let one = go(&[]);
    for (cpus, stays) in BOARDS {
        let mut settings = vec![format!("board.cpus={cpus}")];
        settings.extend(stays.map(|cpu| format!("guest.cpu={cpu}")));
        let first = go(&settings);
        let what = format!("{scenario:?} {settings:?}");
        assert_eq!(first.verdict, one.verdict, "{what}: {:?}", first.reasons);
        assert_eq!(kinds_of(&first), kinds_of(&one), "{what}");
        assert_eq!(first.run_hash, go(&settings).run_hash, "{what}");
        more(&what, &first, &one);
    }
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
    assert_eq!(reader, Some(1), "the agent stays on CPU 1");
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

/// Ends the load.
struct Rest<'a>(&'a AtomicBool);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The same run each time, whatever else the host does: 20 runs for each number of CPUs, on
/// a host whose processors all have something else to do.
#[test]
#[ignore = "60 boots on a loaded host"]
fn under_load_a_run_is_the_same_each_time() {
    need_kernel(PATCHED);
    let busy = AtomicBool::new(true);
    let hosts = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..hosts {
            scope.spawn(|| {
                while busy.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        // However this ends.
        let _rest = Rest(&busy);
        for cpus in [1, 2, 4] {
            let setting = format!("board.cpus={cpus}");
            let arguments = ["iio-to-usb", "--kernel", PATCHED, "--set", &setting];
            let hashes = side_by_side(&[(); 20], |()| run(&arguments).passes().run_hash);
            assert!(hashes[0].is_some());
            assert!(hashes.iter().all(|h| *h == hashes[0]), "{cpus}: {hashes:?}");
        }
    });
}

/// All scenarios that there are, on each board: as with one CPU, and twice the same.
#[test]
#[ignore = "a boot for each scenario, board and repetition"]
fn all_scenarios_run_with_several_cpus() {
    let names: Vec<&str> = scenarios().collect();
    side_by_side(&names, |name| on_all_boards(&[*name], |_, _, _| {}));
}
