// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where memory is for the guest and for its masters: above 4 GiB, and at other addresses on a bus.

use staleline_results::{HazardKind, Hex, RunResult, Verdict};

use crate::support::{Run, need_kernel, run, side_by_side};

const BASE: &str = "base+iommu+zones";
const PATCHED: &str = "begin-end-access+iommu+zones";

const HIGH: [&str; 2] = ["--set", "board.ram-high-mib=64"];
const POLICIES: [&str; 4] = ["zynqmp", "lazy", "eager", "random"];

fn go(scenario: &str, kernel: &str, more: &[&str]) -> Run {
    run(&[&[scenario, "--kernel", kernel][..], more].concat())
}

/// All DMABUFs are where more than 32 bits are needed.
#[track_caller]
fn buffers_are_high(result: &RunResult) {
    let mut extents = result.buffers.iter().flat_map(|b| &b.extents);
    assert!(!result.buffers.is_empty());
    assert!(
        extents.all(|(Hex(at), _)| *at >= 1 << 32),
        "{:?}",
        result.buffers
    );
}

/// The AXI-DMACs have 32 bits of address: the kernel bounces. The USB controller has 64.
#[test]
fn two_at_a_time_buffers_above_4_gib_are_right_where_the_driver_is() {
    need_kernel(PATCHED);
    let mut cells = Vec::new();
    for cache in POLICIES {
        for (scenario, exporter) in [
            ("iio-capture", "system"),
            ("iio-to-usb", "system"),
            ("iio-to-usb", "udmabuf"),
        ] {
            cells.push([scenario, exporter, cache]);
        }
    }
    side_by_side(&cells, |[scenario, exporter, cache]| {
        let cell = [&HIGH[..], &["--exporter", exporter, "--cache", cache]].concat();
        buffers_are_high(&go(scenario, PATCHED, &cell).passes());
    });
}

/// What the converter has written is in the bounce buffer until somebody syncs: nobody does, and nobody reads
/// anything stale.
#[test]
fn two_at_a_time_a_bounce_buffer_that_is_not_synced_is_found_by_the_data() {
    need_kernel(BASE);
    let scenarios = ["iio-to-usb", "iio-capture-nosync"];
    side_by_side(&scenarios, |scenario| {
        let result = go(scenario, BASE, &HIGH).ends(1, Verdict::Fail);
        assert!(result.data.corrupt_bytes > 0, "{:?}", result.data);
        assert_eq!(result.hazards.len(), 0, "{:?}", result.hazards);
        buffers_are_high(&result);
    });
}

/// Masters that reach all of it, by themselves or through an SMMU, are judged there as anywhere.
#[test]
fn hazards_above_4_gib_are_found_there() {
    need_kernel(BASE);
    let port = [&HIGH[..], &["--set", "board.usb.port=hp"]].concat();
    // It has no DMABUFs, and memory of the kernel's own instead.
    go("usb-loopback", BASE, &port).passes();
    let smmu = [&HIGH[..], &["--set", "board.smmu.port=hp"]].concat();
    let result = go("iio-to-usb", BASE, &smmu).fails(&[HazardKind::MissingInvalidate]);
    let mut hazards = result.hazards.iter();
    assert!(hazards.all(|h| h.first_pa.0 >= 1 << 32));
    buffers_are_high(&result);
}

/// The converters' bus has RAM at 0, the USB controller's at 2 GiB.
const SHIFTED: [&str; 4] = [
    "--set",
    "board.dmac.dma-ranges=[{bus=0,pa=0x40000000,bytes=0x8000000}]",
    "--set",
    "board.usb.dma-ranges=[{bus=0x80000000,pa=0x40000000,bytes=0x8000000}]",
];

#[test]
fn two_at_a_time_addresses_of_a_bus_change_no_verdict() {
    need_kernel(PATCHED);
    let mut cells = Vec::new();
    for cache in POLICIES {
        for scenario in ["iio-capture", "iio-to-usb", "usb-to-iio"] {
            cells.push([scenario, cache]);
        }
    }
    side_by_side(&cells, |[scenario, cache]| {
        let cell = [&SHIFTED[..], &["--cache", cache]].concat();
        go(scenario, PATCHED, &cell).passes();
    });
    let run = go("iio-to-usb", BASE, &SHIFTED);
    let result = run.fails(&[HazardKind::MissingInvalidate]);
    // What is told are addresses of memory, and what the bus calls them.
    assert!(result.hazards.iter().all(|h| h.first_pa.0 >= 0x4000_0000));
    assert!(run.stdout.contains(" on its bus"), "{}", run.stdout);
}

/// The driver uses addresses of memory, and on its bus there is none.
#[test]
fn a_tree_that_is_silent_about_ranges_is_found_out() {
    need_kernel(PATCHED);
    let silent = [
        &SHIFTED[..2],
        &["--set", "board.dmac.tell-dma-ranges=false"],
    ]
    .concat();
    let run = go("iio-capture", PATCHED, &silent);
    let result = run.ends(3, Verdict::InfraError);
    let errors = &result.machine.as_ref().unwrap().device_errors;
    let told = errors.iter().any(|e| e.what.contains("cannot be read"));
    assert!(told, "{errors:?}");
}
