// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! An SMMU in front of the masters: it translates, and its own reads of tables are judged.

use staleline_results::{HazardKind, Party, RunResult, Verdict};

use super::state::goes_on;
use crate::support::{Run, by_every_exporter, need_kernel, run, side_by_side};

const BASE: &str = "base+iommu+zones";
const PATCHED: &str = "begin-end-access+iommu+zones";
const POLICIES: [&str; 4] = ["zynqmp", "lazy", "eager", "random"];

fn go(scenario: &str, kernel: &str, port: &str, more: &[&str]) -> Run {
    let port = format!("board.smmu.port={port}");
    run(&[&[scenario, "--kernel", kernel, "--set", &port][..], more].concat())
}

/// Masters had addresses that are none of memory.
#[track_caller]
fn was_translated(result: &RunResult) {
    let parties = result.hazards.iter().flat_map(|h| [&h.writer, &h.reader]);
    let buses = parties.filter_map(|party| match party {
        Party::Device {
            transfer: Some(t), ..
        } => Some((t.pa, t.bus)),
        _ => None,
    });
    assert!(buses.clone().count() > 0);
    for (pa, bus) in buses {
        assert!(bus.is_some_and(|bus| bus != pa), "{pa} {bus:?}");
    }
}

#[test]
fn two_at_a_time_correct_drivers_are_right_behind_an_smmu() {
    need_kernel(PATCHED);
    let mut cells = Vec::new();
    for cache in POLICIES {
        for scenario in ["iio-capture", "iio-to-usb", "gdma-memcpy"] {
            for port in ["hp", "hpc"] {
                cells.push([scenario, cache, port]);
            }
        }
    }
    side_by_side(&cells, |[scenario, cache, port]| {
        let result = go(scenario, PATCHED, port, &["--cache", cache]).passes();
        let errors = &result.machine.as_ref().unwrap().device_errors;
        assert!(errors.is_empty(), "{errors:?}");
    });
}

#[test]
fn a_known_error_is_found_behind_an_smmu() {
    need_kernel(BASE);
    let run = go("iio-to-usb", BASE, "hp", &[]);
    was_translated(&run.fails(&[HazardKind::MissingInvalidate]));
    assert!(run.stdout.contains(" on its bus"), "{}", run.stdout);
}

/// The tree says that walks are coherent, so nobody cleans the tables; they are not.
#[test]
fn tables_that_nobody_cleaned_are_found() {
    need_kernel(PATCHED);
    // Its driver waits for the SMMU for longer than anybody would, then.
    let lie = ["--set", "board.smmu.dma-coherent=true", "--timeout", "30"];
    let result = go("iio-capture", PATCHED, "hp", &lie).ends(1, Verdict::Fail);
    let by_smmu = |h: &&staleline_results::HazardEntry| {
        matches!(&h.reader, Party::Device { master, snoops: false, .. } if master == "smmu")
            && h.kind == HazardKind::MissingClean
    };
    assert!(result.hazards.iter().filter(by_smmu).count() > 0);
}

#[test]
fn a_run_behind_an_smmu_goes_on_from_saved_states() {
    need_kernel(BASE);
    let smmu = ["--set", "board.smmu.port=hp"];
    let run = ["iio-to-usb", "--kernel", BASE];
    goes_on(&[&run[..], &smmu].concat(), &[97]);
}

#[test]
fn a_kernel_without_its_driver_is_told_before_it_boots() {
    let run = go("iio-capture", "base", "hp", &[]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(
        run.stderr.contains("CONFIG_ARM_SMMU_V3=y"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("STACK+iommu"), "{}", run.stderr);
}

/// With DMABUF_DEBUG, importers hold tables whose pages are spoilt, and the DMA API needs these pages to
/// maintain memory behind an SMMU: exporters must be given their own.
#[test]
#[ignore = "needs a kernel of its own: scripts/test --all builds it"]
fn two_at_a_time_debugged_buffers_are_synchronised_behind_an_smmu() {
    const KERNEL: &str = "begin-end-access+iommu+lockdep";
    need_kernel(KERNEL);
    let scenarios = ["iio-to-usb", "usb-to-iio", "iio-capture", "iio-playback"];
    let cells = by_every_exporter(&scenarios);
    side_by_side(&cells, |(scenario, exporter)| {
        let more = ["--exporter", exporter, "--set", "snoop-write=allocate"];
        go(scenario, KERNEL, "hp", &more).passes();
    });
}
