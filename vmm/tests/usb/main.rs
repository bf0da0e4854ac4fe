// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whole boots of the paths through USB: what the unpatched kernel does to them, and what
//! begin/end_access change.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use staleline_testing as support;

mod incidents;
mod ports;
mod sizes;

use staleline_results::HazardKind;
use staleline_results::{Party, RunResult, Verdict};

use support::{Run, asked_for, clean, kinds_of, need_kernel, run, side_by_side};

const BASE: &str = "base";
const PATCHED: &str = "begin-end-access";

const EXPORTERS: [&str; 3] = ["udmabuf", "system", "cma"];
const CACHES: [&str; 4] = ["zynqmp", "lazy", "eager", "random"];
const SNOOP_WRITES: [&str; 2] = ["write-through", "allocate"];

/// One run, but for its scenario and kernel.
#[derive(Debug, Clone, Copy)]
struct Case {
    exporter: &'static str,
    cache: &'static str,
    snoop_write: &'static str,
}

fn cases(snoop_writes: &[&'static str]) -> Vec<Case> {
    let mut all = Vec::new();
    for exporter in EXPORTERS {
        for cache in CACHES {
            for snoop_write in snoop_writes.iter().copied() {
                all.push(Case {
                    exporter,
                    cache,
                    snoop_write,
                });
            }
        }
    }
    all
}

/// Runs it without the second pass that finds call chains, which no test here looks at.
#[track_caller]
fn go(scenario: &str, kernel: &str, case: Case, settings: &[&str]) -> Run {
    need_kernel(kernel);
    let write = format!("board.snoop-write={}", case.snoop_write);
    let mut arguments = vec![scenario, "--no-trace", "--kernel", kernel];
    arguments.extend([
        "--exporter",
        case.exporter,
        "--cache",
        case.cache,
        "--set",
        &write,
    ]);
    arguments.extend(settings.iter().flat_map(|s| ["--set", s]));
    run(&arguments)
}

/// Flagged each time; under at least one policy with wrong bytes at the far end.
fn flagged(scenario: &str, snoop_writes: &[&'static str], kind: HazardKind) {
    let all = cases(snoop_writes);
    let results = side_by_side(&all, |case| {
        let result = go(scenario, BASE, *case, &[]).ends(1, Verdict::Fail);
        assert!(
            kinds_of(&result).contains(&kind),
            "{case:?}: {:?}",
            kinds_of(&result)
        );
        assert_eq!(result.data.bytes, result.data.planned, "{case:?}");
        result
    });
    for exporter in EXPORTERS {
        let of = |(case, _): &(&Case, &RunResult)| case.exporter == exporter;
        let corrupt = all
            .iter()
            .zip(&results)
            .filter(of)
            .any(|(_, r)| r.data.corrupt_bytes > 0);
        assert!(
            corrupt,
            "{scenario} {exporter}: no policy gave a wrong byte"
        );
    }
}

#[test]
fn two_at_a_time_unpatched_adc_to_usb_is_stale_under_every_policy() {
    flagged("iio-to-usb", &SNOOP_WRITES, HazardKind::MissingInvalidate);
}

#[test]
fn two_at_a_time_unpatched_usb_to_dac_is_stale_where_snooping_writes_allocate() {
    flagged("usb-to-iio", &["allocate"], HazardKind::MissingClean);
}

/// ACE-Lite pushes cached copies out with each coherent write: the hardware does it.
#[test]
fn two_at_a_time_unpatched_usb_to_dac_is_coherent_where_snooping_writes_go_through() {
    side_by_side(&cases(&["write-through"]), |case| {
        go("usb-to-iio", BASE, *case, &[]).passes()
    });
}

/// Buffers in flight, reuse, frames that end within a cache line: 16 MiB and a bit in each run.
#[test]
fn two_at_a_time_patched_paths_are_clean_under_every_policy() {
    for scenario in ["iio-to-usb-long", "usb-to-iio-long"] {
        side_by_side(&cases(&SNOOP_WRITES), |case| {
            let result = go(scenario, PATCHED, *case, &[]).passes();
            assert!(result.data.bytes >= 16 << 20, "{case:?}: {:?}", result.data);
            assert!(result.maintenance.cleaned > 0, "{case:?}");
        });
    }
}

const ORDINARY: Case = Case {
    exporter: "system",
    cache: "zynqmp",
    snoop_write: "allocate",
};

/// On a platform where everything snoops, correct code costs nothing.
#[test]
fn two_at_a_time_a_coherent_board_needs_and_does_no_maintenance() {
    for kernel in [BASE, PATCHED] {
        for scenario in ["iio-to-usb", "usb-to-iio"] {
            let all: Vec<_> = cases(&SNOOP_WRITES)
                .into_iter()
                .filter(|case| case.cache == ORDINARY.cache)
                .collect();
            side_by_side(&all, |case| {
                let result = go(scenario, kernel, *case, &["board.dmac.port=hpc"]).passes();
                let done = asked_for(&result);
                assert!(done.is_empty(), "{kernel} {scenario} {case:?}: {done:?}");
            });
        }
    }
}

/// The controller's own rings and events are the first that is stale, with or without the patches:
/// who believes the device tree does no maintenance.
#[test]
fn a_device_tree_that_lies_about_usb_is_found_out() {
    let lie = ["board.usb.port=hp", "board.usb.dma-coherent=true"];
    for kernel in [BASE, PATCHED] {
        for scenario in ["usb-loopback", "iio-to-usb", "usb-to-iio"] {
            let result = go(scenario, kernel, ORDINARY, &lie).ends(1, Verdict::Fail);
            let by_usb = result.hazards.iter().filter(|h| {
                [&h.writer, &h.reader].iter().any(|party| {
                    matches!(party, Party::Device { master, snoops: false, .. } if master == "dwc3")
                })
            });
            assert!(
                by_usb.count() > 0,
                "{kernel} {scenario}: {:?}",
                result.reasons
            );
        }
    }
}

/// Where nothing snoops and the device tree says so, each device brackets its own accesses, and the
/// controller's rings are maintained too.
#[test]
fn two_at_a_time_a_board_where_nothing_snoops_is_served_as_well() {
    let all: Vec<_> = cases(&["write-through"])
        .into_iter()
        .filter(|case| ["zynqmp", "eager"].contains(&case.cache))
        .collect();
    for scenario in ["usb-loopback", "iio-to-usb", "usb-to-iio"] {
        side_by_side(&all, |case| {
            let result = go(scenario, PATCHED, *case, &["board.usb.port=hp"]).passes();
            assert!(result.maintenance.needed > 0, "{scenario} {case:?}");
        });
    }
}

/// Few pages and frames, but each buffer is used twice and the last frame is short.
const SMALL: [&str; 4] = [
    "buffer-bytes=8192",
    "frame-bytes=7944",
    "frames=4",
    "last-frame-bytes=1000",
];

/// Suppresses each maintenance operation of the patched run in turn: what was needed is missed, what
/// was not is not. Where the exporter makes no difference to that, the second half is left out.
fn score(scenario: &str, case: Case, settings: &[&str], redundant_too: bool) {
    let whole = go(scenario, PATCHED, case, settings).passes();
    let operations: Vec<_> = whole
        .maintenance
        .operations
        .iter()
        .map(|o| (o.number, o.needed_lines > 0))
        .filter(|(_, needed)| *needed || redundant_too)
        .collect();
    let wrong: Vec<_> = side_by_side(&operations, |(number, needed)| {
        let drop = format!("drop-maintenance=@{number}");
        let result = go(scenario, PATCHED, case, &[settings, &[&drop]].concat()).result();
        assert!(result.drop_maintenance.as_ref().unwrap().happened);
        if *needed {
            let flagged = result.verdict == Verdict::Fail && !result.hazards.is_empty();
            (!flagged).then(|| format!("@{number} was needed and not missed"))
        } else {
            (result.verdict != Verdict::Pass)
                .then(|| format!("@{number} was redundant: {:?}", result.reasons))
        }
    })
    .into_iter()
    .flatten()
    .collect();
    let needed = operations.iter().filter(|(_, needed)| *needed).count();
    println!(
        "{scenario} {case:?}: {needed} needed operations of {} suppressed in turn",
        operations.len()
    );
    assert!(needed > 0, "{operations:?}");
    assert!(wrong.is_empty(), "{case:?}: {wrong:#?}");
}

fn score_all_exporters(scenario: &str) {
    for exporter in EXPORTERS {
        let case = Case {
            exporter,
            ..ORDINARY
        };
        score(scenario, case, &SMALL, exporter == ORDINARY.exporter);
    }
}

#[test]
fn two_at_a_time_every_needed_operation_from_adc_to_usb() {
    score_all_exporters("iio-to-usb");
}

#[test]
fn two_at_a_time_every_needed_operation_from_usb_to_dac() {
    score_all_exporters("usb-to-iio");
}

/// What user space can do today: poll, SYNC, and only then the second device.
#[test]
fn two_at_a_time_syncs_between_the_devices_work_around_it() {
    side_by_side(&EXPORTERS, |exporter| {
        for snoop_write in SNOOP_WRITES {
            let case = Case {
                exporter,
                snoop_write,
                ..ORDINARY
            };
            let write_side = go("usb-to-iio", BASE, case, &["cpu-sync=true"]);
            clean(&write_side.result());
        }
        let case = Case {
            exporter,
            snoop_write: "write-through",
            ..ORDINARY
        };
        go("iio-to-usb", BASE, case, &["cpu-sync=true"]).passes();
    });
}

#[test]
fn plain_functionfs_works_at_both_speeds() {
    for speed in ["usb.speed=super", "usb.speed=high"] {
        go("usb-loopback", BASE, ORDINARY, &[speed]).passes();
    }
}

#[test]
fn one_command_one_hash() {
    let hashes: Vec<_> = (0..3)
        .map(|_| go("iio-to-usb", PATCHED, ORDINARY, &[]).passes().run_hash)
        .collect();
    assert!(
        hashes[0].is_some() && hashes.iter().all(|h| *h == hashes[0]),
        "{hashes:?}"
    );
}
