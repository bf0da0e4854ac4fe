// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Ports, and device trees that do and do not tell the truth about them.

use staleline_results::HazardKind;
use staleline_results::{Party, RunResult, Verdict};

use crate::support::{
    WRITES, asked_for, clean, kinds_of, run, run_set, side_by_side, under_every_policy,
};

#[test]
fn on_a_snooping_port_nothing_needs_to_be_done() {
    let hpc = "board.dmac.port=hpc";
    for settings in [&[hpc][..], &[hpc, "snoop-write=allocate"]] {
        for scenario in ["iio-capture-nosync", "iio-playback-nosync"] {
            let result = run_set(scenario, settings).passes();
            // And a correct kernel, told so by a truthful device tree, does nothing.
            let done = asked_for(&result);
            assert!(done.is_empty(), "{settings:?}: {done:?}");
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
        let done = asked_for(&result);
        assert!(done.is_empty(), "{done:?}");
    }
}

/// The other lie: what the kernel maps as non-cacheable for the controller's descriptors, the
/// controller reads through the caches, where the linear map may have left an old copy. The data is
/// maintained in vain, and no worse for it where snooping writes go through to memory.
#[test]
fn two_at_a_time_a_device_tree_that_denies_coherency_is_found_out() {
    let lie = ["board.dmac.port=hpc", "board.dmac.dma-coherent=false"];
    side_by_side(&under_every_policy(&PATHS), |[scenario, cache, write]| {
        let settings = [&lie[..], &[cache, write]].concat();
        let result = run_set(scenario, &settings).ends(1, Verdict::Fail);
        reads_descriptors_through_the_cache(&result);
        let mut due = vec![HazardKind::MismatchedAlias];
        if *scenario == "iio-capture" && *write == ALLOCATE {
            // Captured data is dirty in the cache, and SYNC_START invalidates it.
            due.insert(0, HazardKind::DiscardedWrite);
        }
        assert_eq!(kinds_of(&result), due, "{scenario} {cache} {write}");
        let m = &result.maintenance;
        assert!(m.redundant > 1000, "{m:?}");
    });
}

const PATHS: [&str; 2] = ["iio-capture", "iio-playback"];
const ALLOCATE: &str = WRITES[1];

/// The DMA engine reads through the caches what the CPU has stored past them.
#[track_caller]
fn reads_descriptors_through_the_cache(result: &RunResult) {
    let found = result.hazards.iter().filter(|h| {
        h.kind == HazardKind::MismatchedAlias
            && matches!(h.writer, Party::Cpu { .. })
            && matches!(&h.reader, Party::Device { master, .. }
                        if master.starts_with("axi-dmac"))
    });
    assert!(found.count() > 0, "{}", result.replay);
}

/// Reads snoop, writes do not, and the device tree promises nothing: descriptors are read through
/// the caches; data is maintained as for a port that does not snoop.
#[test]
fn two_at_a_time_a_port_that_snoops_reads_only() {
    side_by_side(&under_every_policy(&PATHS), |[scenario, cache, write]| {
        let settings = ["board.dmac.port=hpc-read", *cache, *write];
        let result = run_set(scenario, &settings).fails(&[HazardKind::MismatchedAlias]);
        reads_descriptors_through_the_cache(&result);
        assert_eq!(result.data.corrupt_bytes, 0, "{scenario} {cache} {write}");
    });
}

/// Writes snoop, reads do not: descriptors and what is played are read where the kernel puts them.
/// What is captured must not stay in the cache, where SYNC_START invalidates it.
#[test]
fn two_at_a_time_a_port_that_snoops_writes_only() {
    side_by_side(&under_every_policy(&PATHS), |[scenario, cache, write]| {
        let run = run_set(scenario, &["board.dmac.port=hpc-write", *cache, *write]);
        if *scenario == "iio-playback" {
            assert!(run.passes().maintenance.needed > 0, "{cache} {write}");
        } else if *write == ALLOCATE {
            let result = run.fails(&[HazardKind::DiscardedWrite]);
            let lines: u64 = result.hazards.iter().map(|h| h.lines).sum();
            assert_eq!(lines, 5 * 189 + 16, "{cache}: every line of every frame");
        } else {
            run.passes();
        }
    });
}

/// A port that snoops in one direction is not coherent, whatever the tree says.
#[test]
fn half_a_coherent_port_is_not_a_coherent_one() {
    let claim = "board.dmac.dma-coherent=true";
    // Descriptors are read through the caches, where the kernel put them; data is written past them.
    let result = run_set("iio-capture", &["board.dmac.port=hpc-read", claim]).result();
    let kinds = kinds_of(&result);
    assert!(kinds.contains(&HazardKind::MissingInvalidate), "{kinds:?}");
    assert!(!kinds.contains(&HazardKind::MissingClean), "{kinds:?}");
    run_set("iio-playback", &["board.dmac.port=hpc-read", claim]).passes();
    // And the other way round.
    let settings = ["board.dmac.port=hpc-write", claim];
    run_set("iio-playback", &settings).fails(&[HazardKind::MissingClean]);
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
        let Party::Cpu { place, .. } = &hazard.reader else {
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
