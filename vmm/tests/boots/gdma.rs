// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The general purpose DMA, driven by the kernel's dmatest: the driver tells it for each descriptor
//! whether what it points to is coherent.

use staleline_results::{HazardKind, MaintenanceOp, Party, RunResult, Verdict};

use crate::support::{
    Run, WRITES, asked_for, kinds_of, run_once, run_set, side_by_side, under_every_policy,
};

const SCENARIO: &str = "gdma-memcpy";
const HP: &str = "board.gdma.port=hp";
const HPC: &str = "board.gdma.port=hpc";
const CLAIM: &str = "board.gdma.dma-coherent=true";
const DENIAL: &str = "board.gdma.dma-coherent=false";

/// Copies that the scenario has made, and bytes that dmatest checks after each.
const COPIES: u64 = 6;
const CHECKED: u64 = 2 * 12_040;

fn go(settings: &[&str]) -> Run {
    run_once(SCENARIO, settings)
}

/// It has passed; all copies were made, each by two transfers.
#[track_caller]
fn copied(run: &Run) -> RunResult {
    let result = run.passes();
    assert_eq!(result.data.bytes, COPIES * CHECKED);
    let machine = result.machine.as_ref().unwrap();
    assert_eq!(machine.transfers, 2 * COPIES);
    assert!(machine.device_errors.is_empty());
    result
}

/// What the driver asks for if it takes memory for incoherent: its descriptors once, and for each
/// copy a clean of either buffer and then an invalidate of the destination.
#[track_caller]
fn maintained(result: &RunResult) {
    let done = asked_for(result);
    assert_eq!(done.len() as u64, 1 + 3 * COPIES, "{done:?}");
    let needed = |o: &&MaintenanceOp| o.needed_lines > 0;
    assert!(done.iter().all(needed), "{done:?}");
}

#[test]
fn a_correct_driver_is_right_on_both_ports() {
    maintained(&copied(&go(&[HP])));
    let result = copied(&go(&[HPC]));
    let done = asked_for(&result);
    assert!(done.is_empty(), "{done:?}");
}

#[test]
#[ignore = "a sweep of 16 boots"]
fn two_at_a_time_a_correct_driver_under_every_policy() {
    side_by_side(&under_every_policy(&[HP, HPC]), |settings| {
        let result = copied(&go(settings));
        match settings[0] == HP {
            true => maintained(&result),
            false => assert!(asked_for(&result).is_empty(), "{settings:?}"),
        }
    });
}

/// Buffers that share lines with others, so that the kernel bounces them, and others of all sizes.
#[test]
#[ignore = "a sweep of 14 boots"]
fn two_at_a_time_buffers_of_all_sizes() {
    let sizes = [1, 48, 100, 130, 200, 3000, 65_536];
    let all: Vec<_> = [HP, HPC]
        .iter()
        .flat_map(|port| sizes.map(|bytes| (*port, bytes)))
        .collect();
    side_by_side(&all, |(port, bytes)| {
        let size = format!("dmatest.buffer-bytes={bytes}");
        let result = go(&[port, &size, "dmatest.iterations=20", "cache=eager"]).passes();
        assert_eq!(result.data.bytes, 20 * 2 * bytes, "{port} {bytes}");
    });
}

#[test]
fn a_tree_that_claims_coherency_is_found_out() {
    let result = run_set(SCENARIO, &[CLAIM]).fails(&[HazardKind::MissingClean]);
    // The descriptors are the first that it reads stale; and then it does anything.
    let shown = &result.diagnostics[0];
    assert_eq!(shown.advice, "lying-tree");
    assert!(
        shown.help.contains("take dma-coherent out"),
        "{}",
        shown.help
    );
    assert!(shown.notes[0].contains("its port (hp) does not snoop"));
    assert_eq!(result.causes().count(), 1);
    let hazard = &result.hazards[0];
    assert!(hazard.manifested && matches!(hazard.writer, Party::Cpu { .. }));
    assert!(
        matches!(&hazard.reader, Party::Device { master, snoops: false, .. } if master == "gdma")
    );
    assert!(asked_for(&result).is_empty());
    // dmatest says so, too: it sees wrong bytes, or waits in vain.
    let test = &result.guest.tests[1];
    assert!(!test.ok && test.name == SCENARIO, "{test:?}");
}

#[test]
#[ignore = "a sweep of 8 boots"]
fn two_at_a_time_that_claim_under_every_policy() {
    side_by_side(&under_every_policy(&[CLAIM]), |settings| {
        let result = go(settings).ends(1, Verdict::Fail);
        let kinds = kinds_of(&result);
        assert!(kinds.contains(&HazardKind::MissingClean), "{settings:?}");
        let advice: Vec<_> = result.diagnostics.iter().map(|d| &d.advice).collect();
        assert!(advice.iter().all(|row| *row == "lying-tree"), "{advice:?}");
    });
}

/// No lie that does harm: the driver tells the device not to ask for coherency, the device does not,
/// and the port that could snoop has nothing to do. So all maintenance is needed, and done.
#[test]
fn a_tree_that_denies_coherency_is_obeyed() {
    for write in WRITES {
        maintained(&copied(&go(&[HPC, DENIAL, write])));
    }
    // By any port, and what is then missing is found.
    for port in ["board.gdma.port=hpc-read", "board.gdma.port=hpc-write"] {
        maintained(&copied(&go(&[port])));
    }
    for (k, kind) in [
        (2, HazardKind::MissingClean),
        (4, HazardKind::MissingInvalidate),
    ] {
        let drop = format!("drop-maintenance={k}");
        go(&[HPC, DENIAL, &drop]).fails(&[kind]);
    }
}

/// A port that snoops in one direction is not coherent: what goes the other way is not maintained.
#[test]
fn half_a_coherent_port_is_not_a_coherent_one() {
    use HazardKind::{MissingClean, MissingInvalidate, WritebackClobber};
    for (port, due, never) in [
        ("board.gdma.port=hpc-read", MissingInvalidate, MissingClean),
        ("board.gdma.port=hpc-write", MissingClean, WritebackClobber),
    ] {
        let result = go(&[port, CLAIM]).ends(1, Verdict::Fail);
        let kinds = kinds_of(&result);
        assert!(kinds.contains(&due), "{port}: {kinds:?}");
        assert!(!kinds.contains(&never), "{port}: {kinds:?}");
        let advice: Vec<_> = result.diagnostics.iter().map(|d| &d.advice).collect();
        assert!(
            advice.iter().all(|row| *row == "half-coherent"),
            "{advice:?}"
        );
        for diagnostic in &result.diagnostics {
            let help = &diagnostic.help;
            assert!(help.starts_with("take dma-coherent out"), "{port}: {help}");
        }
    }
}

/// Suppresses operation `k`, from 1, and looks whether that is found.
#[track_caller]
fn without(k: usize) -> Vec<HazardKind> {
    let result = go(&[&format!("drop-maintenance={k}")]).ends(1, Verdict::Fail);
    let dropped = result.drop_maintenance.as_ref().unwrap();
    assert!(dropped.happened && dropped.nth == Some(k as u32));
    kinds_of(&result)
}

/// One of each: the pool of descriptors, source, destination, destination afterwards.
#[test]
fn two_at_a_time_each_sort_of_operation_is_missed() {
    use HazardKind::{
        DiscardedWrite, MismatchedAlias, MissingClean, MissingInvalidate, WritebackClobber,
    };
    let found = side_by_side(&[1, 2, 3, 4], |k| without(*k));
    let mut due = [
        vec![MismatchedAlias],
        vec![MissingClean],
        // It may be evicted over the copy; and what is around that is thrown away.
        vec![WritebackClobber, DiscardedWrite],
        vec![MissingInvalidate],
    ];
    due.iter_mut().for_each(|kinds| kinds.sort_unstable());
    assert_eq!(found, due);
}

#[test]
#[ignore = "a sweep of 20 boots"]
fn two_at_a_time_every_operation_is_missed() {
    let whole = copied(&go(&[]));
    maintained(&whole);
    let all: Vec<usize> = (1..=whole.maintenance.operations.len()).collect();
    let found = side_by_side(&all, |k| without(*k));
    println!(
        "{} of {} needed operations found missing",
        found.len(),
        all.len()
    );
    assert!(found.iter().all(|kinds| !kinds.is_empty()));
}

#[test]
fn the_same_command_copies_the_same() {
    let first = copied(&go(&[]));
    assert_eq!(first.run_hash, copied(&go(&[])).run_hash);
    for cpus in ["board.cpus=2", "board.cpus=4"] {
        maintained(&copied(&go(&[cpus])));
    }
}

/// Whole buffers, without what dmatest chooses at random.
#[test]
fn a_copy_of_whole_buffers() {
    let result = copied(&go(&["dmatest.random=false"]));
    let lines = 12_040u64.div_ceil(64);
    let copies = result.maintenance.operations.iter().skip(1);
    for op in copies {
        assert_eq!(op.lines, lines, "{op:?}");
    }
}
