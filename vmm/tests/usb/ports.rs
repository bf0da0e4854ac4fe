// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A USB controller whose port does not do what the device tree says, or only half of it.
//!
//! Where the tree does not say `dma-coherent`, the kernel maps the controller's rings as
//! non-cacheable and maintains all else. So what the port must not do is read through the caches, in
//! which the kernel's linear map may leave old copies of a ring at any time, or leave data there.

use staleline_results::HazardKind;
use staleline_results::{Party, RunResult, Verdict};

use super::support::{kinds_of, side_by_side};
use super::{BASE, CACHES, Case, ORDINARY, PATCHED, SNOOP_WRITES, go};

const DENIED: &str = "board.usb.dma-coherent=false";

/// System heap, every policy.
fn policies() -> Vec<Case> {
    let all = CACHES.into_iter().flat_map(|cache| {
        SNOOP_WRITES.map(|snoop_write| Case {
            cache,
            snoop_write,
            ..ORDINARY
        })
    });
    all.collect()
}

/// The controller reads through the caches what the CPU has written past them.
#[track_caller]
fn reads_rings_through_the_cache(result: &RunResult) {
    let rings = result.hazards.iter().filter(|h| {
        h.kind == HazardKind::MismatchedAlias
            && matches!(h.writer, Party::Cpu { .. })
            && matches!(&h.reader, Party::Device { master, .. } if master == "dwc3")
    });
    assert!(rings.count() > 0, "{}: {:?}", result.replay, result.hazards);
}

/// The port snoops, the device tree denies it.
#[test]
fn two_at_a_time_a_device_tree_that_denies_what_the_port_does_is_found_out() {
    side_by_side(&policies(), |case| {
        let result = go("usb-loopback", BASE, *case, &[DENIED]).ends(1, Verdict::Fail);
        reads_rings_through_the_cache(&result);
        match case.snoop_write {
            // What the controller writes lands in memory, so maintenance of its data is vain and
            // harms nothing: it is the rings alone.
            "write-through" => {
                assert_eq!(kinds_of(&result), [HazardKind::MismatchedAlias], "{case:?}");
                assert_eq!(result.data.bytes, result.data.planned, "{case:?}");
            }
            // It stays dirty in the cache, where the kernel invalidates it to see what it takes for
            // a device's write to memory.
            _ => {
                let kinds = kinds_of(&result);
                assert!(
                    kinds.contains(&HazardKind::DiscardedWrite),
                    "{case:?}: {kinds:?}"
                );
                let thrown_away = result.hazards.iter().any(|h| {
                    h.kind == HazardKind::DiscardedWrite
                        && matches!(&h.writer, Party::Device { master, snoops: true, .. } if master == "dwc3")
                });
                assert!(thrown_away, "{case:?}");
            }
        }
    });
}

/// The same for paths between devices, with and without the patches: they do not mend the board.
#[test]
fn two_at_a_time_a_denied_port_is_found_between_devices() {
    let mut all = Vec::new();
    for kernel in [BASE, PATCHED] {
        all.extend(["iio-to-usb", "usb-to-iio"].map(|scenario| (scenario, kernel)));
    }
    let case = Case {
        snoop_write: "write-through",
        ..ORDINARY
    };
    side_by_side(&all, |(scenario, kernel)| {
        let result = go(scenario, kernel, case, &[DENIED]).ends(1, Verdict::Fail);
        reads_rings_through_the_cache(&result);
        // The unpatched kernel has a bug of its own there.
        let stale = (*scenario, *kernel) == ("iio-to-usb", BASE);
        let own = stale.then_some(HazardKind::MissingInvalidate);
        let due: Vec<_> = own
            .into_iter()
            .chain([HazardKind::MismatchedAlias])
            .collect();
        assert_eq!(kinds_of(&result), due, "{scenario} {kernel}");
    });
}

/// Reads snoop, writes do not. The tree does not claim coherency, and truly there is none.
#[test]
fn two_at_a_time_a_port_that_snoops_reads_only() {
    side_by_side(&policies(), |case| {
        let run = go("usb-loopback", BASE, *case, &["board.usb.port=hpc-read"]);
        let result = run.ends(1, Verdict::Fail);
        reads_rings_through_the_cache(&result);
        // No write goes into a cache, so nothing else is due under either way of writing.
        assert_eq!(kinds_of(&result), [HazardKind::MismatchedAlias], "{case:?}");
        assert_eq!(result.data.bytes, result.data.planned, "{case:?}");
    });
}

/// Writes snoop, reads do not. Rings are read where the CPU writes them; what the controller writes
/// is maintained away where it stays in the cache.
#[test]
fn two_at_a_time_a_port_that_snoops_writes_only() {
    side_by_side(&policies(), |case| {
        let run = go("usb-loopback", BASE, *case, &["board.usb.port=hpc-write"]);
        if case.snoop_write == "write-through" {
            let m = run.passes().maintenance;
            // What the host sends is read from memory, so it had to be cleaned.
            assert!(m.needed > 0, "{case:?}: {m:?}");
            return;
        }
        let result = run.ends(1, Verdict::Fail);
        let kinds = kinds_of(&result);
        // The event ring, past the cache, and the data, through it.
        for due in [HazardKind::MismatchedAlias, HazardKind::DiscardedWrite] {
            assert!(kinds.contains(&due), "{case:?}: {kinds:?}");
        }
        let by = |h: &&staleline_results::HazardEntry| matches!(&h.writer, Party::Device { master, .. } if master == "dwc3");
        let events = result.hazards.iter().filter(by);
        assert!(events.count() > 0, "{case:?}");
    });
}
