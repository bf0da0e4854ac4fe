// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A disk that the guest boots from: its root, its agent's code and its files all come by DMA. The kernel
//! drives it with its own virtio_blk.

use staleline_results::{HazardKind, MaintenanceOp, RunResult, Verdict};

use crate::support::{
    self, Run, WRITES, asked_for, kinds_of, run, run_once, run_set, side_by_side,
    under_every_policy,
};

const SCENARIO: &str = "blk-root";
const HP: &str = "board.blk.port=hp";
const HPC: &str = "board.blk.port=hpc";
const CLAIM: &str = "board.blk.dma-coherent=true";
const DENIAL: &str = "board.blk.dma-coherent=false";

/// Two readings of the data file, and two files of 64 KiB in each of two rounds.
const BYTES: u64 = 2 * 300_000 + 4 * 65_536;

fn go(settings: &[&str]) -> Run {
    run_once(SCENARIO, settings)
}

/// It has passed: all files were right, and so was the code that was read over other code.
#[track_caller]
fn booted(run: &Run) -> RunResult {
    let result = run.passes();
    assert_eq!((result.data.bytes, result.data.planned), (BYTES, BYTES));
    assert!(result.hazards.is_empty());
    let machine = result.machine.as_ref().unwrap();
    assert!(
        machine.device_errors.is_empty(),
        "{:?}",
        machine.device_errors
    );
    // There is nothing else that it could have booted from.
    assert!(result.initrd_hash.is_none() && result.disk_hash.is_some());
    result
}

fn needed(result: &RunResult) -> Vec<&MaintenanceOp> {
    let all = asked_for(result);
    all.into_iter().filter(|o| o.needed_lines > 0).collect()
}

#[test]
fn a_guest_boots_from_its_disk_on_both_ports() {
    let result = booted(&go(&[HP]));
    assert!(needed(&result).len() > 100);
    let result = booted(&go(&[HPC]));
    // The kernel cleans code that it has patched, in a line that the disk has written before.
    let needed = needed(&result);
    assert!(needed.is_empty(), "{needed:?}");
}

#[test]
#[ignore = "a sweep of 16 boots"]
fn two_at_a_time_a_correct_driver_under_every_policy() {
    side_by_side(&under_every_policy(&[HP, HPC]), |settings| {
        let result = booted(&go(settings));
        assert_eq!(
            needed(&result).is_empty(),
            settings[0] == HPC,
            "{settings:?}"
        );
    });
}

/// The device reads rings that are still in the cache. The kernel waits for its root, and says so.
#[test]
fn a_tree_that_claims_coherency_is_found_out() {
    let result = go(&[CLAIM]).ends(1, Verdict::Fail);
    assert!(kinds_of(&result).contains(&HazardKind::MissingClean));
    let shown = result.diagnostics.iter().find(|d| d.advice == "lying-tree");
    let shown = shown.expect("the tree is blamed");
    assert!(
        shown.help.contains("take dma-coherent out"),
        "{}",
        shown.help
    );
    assert!(asked_for(&result).is_empty());
}

/// Also where nobody works on the disk: the driver reads its partition table.
#[test]
fn a_tree_that_claims_coherency_is_found_out_in_any_scenario() {
    for scenario in ["boot", "iio-capture"] {
        let result = run_set(scenario, &[HP, CLAIM]).ends(1, Verdict::Fail);
        let causes: Vec<_> = result.causes().collect();
        let [cause] = causes[..] else {
            panic!("{causes:?}");
        };
        assert_eq!(result.diagnostics[cause].advice, "lying-tree");
    }
}

/// One guest boots from its disk, and one has none.
#[test]
fn a_matrix_gives_each_cell_the_guest_that_it_needs() {
    support::need_kernel("base");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("disks.toml");
    let text = "schema = 1\n[[group]]\nscenarios = [\"boot\", \"blk-root\", \"gdma-memcpy\"]\n";
    std::fs::write(&file, text).unwrap();
    let arguments = ["--format", "json", file.to_str().unwrap()];
    let mut command = support::staleline();
    command.arg("matrix").args(arguments).arg("--out");
    let run = support::finish(command, &arguments, dir);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
}

#[test]
#[ignore = "a sweep of 8 boots"]
fn two_at_a_time_that_claim_under_every_policy() {
    side_by_side(&under_every_policy(&[CLAIM]), |settings| {
        let result = go(settings).ends(1, Verdict::Fail);
        let blamed = result.diagnostics.iter().any(|d| d.advice == "lying-tree");
        assert!(blamed, "{settings:?}");
    });
}

/// The other lie: the kernel keeps its rings in memory that it accesses past the cache, and the device
/// looks into the cache.
#[test]
fn a_tree_that_denies_coherency_is_found_out() {
    for write in WRITES {
        let result = go(&[HPC, DENIAL, write]).ends(1, Verdict::Fail);
        let kinds = kinds_of(&result);
        assert!(
            kinds.contains(&HazardKind::MismatchedAlias),
            "{write}: {kinds:?}"
        );
        let help = &result.diagnostics[0].help;
        assert!(help.contains("add dma-coherent"), "{help}");
    }
}

/// Without VIRTIO_F_ORDER_PLATFORM the kernel orders its rings for CPUs of the inner domain only.
#[test]
fn a_device_that_does_not_say_that_it_is_a_bus_master() {
    for port in [HP, HPC] {
        let result = go(&[port, "board.blk.order-platform=false"]).ends(1, Verdict::Fail);
        assert_eq!(kinds_of(&result), [HazardKind::MissingBarrier], "{port}");
    }
}

/// Suppresses operation `number`, and looks whether that is found.
#[track_caller]
fn without(number: u32) -> Vec<HazardKind> {
    let result = go(&[&format!("drop-maintenance=@{number}")]).ends(1, Verdict::Fail);
    let dropped = result.drop_maintenance.as_ref().unwrap();
    assert!(dropped.happened);
    kinds_of(&result)
}

/// The first of each sort that a routine asked for: the ring, headers, data either way, status bytes.
#[test]
fn two_at_a_time_each_sort_of_operation_is_missed() {
    let whole = booted(&go(&[]));
    let mut sorts: Vec<&MaintenanceOp> = Vec::new();
    for op in needed(&whole) {
        let known =
            |o: &&&MaintenanceOp| (o.op, &o.routine, &o.caller) == (op.op, &op.routine, &op.caller);
        if !sorts.iter().any(|o| known(&o)) {
            sorts.push(op);
        }
    }
    assert!(sorts.len() >= 4, "{sorts:?}");
    let numbers: Vec<u32> = sorts.iter().map(|o| o.number).collect();
    let found = side_by_side(&numbers, |number| without(*number));
    assert!(found.iter().all(|kinds| !kinds.is_empty()));
}

/// A page of the agent that the kernel copies while it is stale kills the agent: that is told as a stale
/// copy, which by itself proves nothing, and the run as one that could not be carried out.
#[test]
#[ignore = "a sweep of 470 boots"]
fn two_at_a_time_every_needed_operation_is_missed() {
    let whole = booted(&go(&[]));
    let numbers: Vec<u32> = needed(&whole).iter().map(|o| o.number).collect();
    let found = side_by_side(&numbers, |number| {
        let result = go(&[&format!("drop-maintenance=@{number}")]).result();
        assert!(!kinds_of(&result).is_empty(), "@{number}");
        result.verdict
    });
    let failed = found.iter().filter(|v| **v == Verdict::Fail).count();
    println!(
        "{failed} of {} needed operations found missing",
        found.len()
    );
    assert!(failed * 10 > found.len() * 9);
}

#[test]
fn the_same_command_boots_the_same() {
    let first = booted(&go(&[]));
    assert_eq!(first.run_hash, booted(&go(&[])).run_hash);
    for cpus in ["board.cpus=2", "board.cpus=4"] {
        booted(&go(&[cpus]));
    }
}

/// With a disk that is only there, the guest boots from its initramfs.
#[test]
fn a_disk_need_not_be_the_root() {
    let result = run(&["boot", "--set", HP]).ends(0, Verdict::Pass);
    assert!(result.initrd_hash.is_some() && result.disk_hash.is_some());
}
