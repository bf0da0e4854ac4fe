// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Ports, and device trees that do and do not tell the truth about them.

use staleline::result::Party;
use staleline_devices::coherency::hazard::HazardKind;

use crate::support::{clean, run, run_set};

#[test]
fn on_a_snooping_port_nothing_needs_to_be_done() {
    let hpc = "board.dmac.port=hpc";
    for settings in [&[hpc][..], &[hpc, "snoop-write=allocate"]] {
        for scenario in ["iio-capture-nosync", "iio-playback-nosync"] {
            let result = run_set(scenario, settings).passes();
            // And a correct kernel, told so by a truthful device tree, does nothing.
            assert_eq!(result.maintenance.operations, [], "{settings:?}");
        }
    }
}

/// User space does all it should, and the kernel does what it was told.
#[test]
fn a_device_tree_that_claims_coherency_is_found_out() {
    let lie = "board.dmac.dma-coherent=true";
    for scenario in ["iio-capture", "iio-playback"] {
        // The controller's own descriptors are the first that it reads stale.
        let result = run_set(scenario, &[lie]).fails(&[HazardKind::MissingClean]);
        let hazard = &result.hazards[0];
        assert!(hazard.manifested, "{hazard:?}");
        assert!(matches!(hazard.writer, Party::Cpu { .. }), "{hazard:?}");
        assert!(
            matches!(hazard.reader, Party::Device { snoops: false, .. }),
            "{hazard:?}"
        );
        assert_eq!(result.maintenance.operations, []);
    }
}

/// The other lie costs time, not data.
#[test]
fn a_device_tree_that_denies_coherency_is_slow() {
    let settings = ["board.dmac.port=hpc", "board.dmac.dma-coherent=false"];
    let result = run_set("iio-capture", &settings).passes();
    let m = &result.maintenance;
    assert!(m.redundant > 100 * m.needed && m.redundant > 1000, "{m:?}");
}

#[test]
fn a_diagnosis_names_the_parties() {
    let result = run(&["iio-capture-nosync", "--cache", "lazy"]).fails(&[
        // Only what user space failed to do: the system heap did its part.
        HazardKind::MissingInvalidate,
    ]);
    assert_eq!(result.diagnostics.len(), 1);
    // Every line of every frame: five of 189 lines and one of 16.
    assert_eq!(result.diagnostics[0].lines, 5 * 189 + 16);
    for hazard in &result.hazards {
        assert!(
            matches!(&hazard.writer, Party::Device { master, snoops: false, .. }
                     if master == "axi-dmac-rx"),
            "{:?}",
            hazard.writer
        );
        // The agent reads through its mapping: user space.
        let Party::Cpu { place } = &hazard.reader else {
            panic!("{:?}", hazard.reader);
        };
        assert!(!place.kernel, "{place:?}");
    }
    let found: u64 = result.hazards.iter().map(|h| h.wrong_bytes).sum();
    assert_eq!(found, result.data.corrupt_bytes, "two witnesses agree");
}

#[test]
fn the_boot_alone_is_clean() {
    let run = run(&["boot"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.result().hazards.is_empty());
}

#[test]
fn more_memory_and_more_buffers() {
    let settings = ["ram-mib=512", "buffers=16", "frames=40"];
    let result = run_set("iio-playback", &settings).passes();
    clean(&result);
    assert_eq!(result.buffers.len(), 16);
    assert_eq!(result.data.planned, 39 * 12_040 + 1000);
}
