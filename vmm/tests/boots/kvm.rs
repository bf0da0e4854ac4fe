// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The KVM engine, on this machine's KVM or in an emulated host, beside the exact one.

use staleline_results::{HazardKind, RunResult, Verdict};

use crate::support::run;

/// Lines on which devices did not see each other's data.
fn stale(result: &RunResult) -> u64 {
    let missed = result.hazards.iter();
    missed
        .filter(|h| h.kind == HazardKind::MissingInvalidate)
        .map(|h| h.lines)
        .sum()
}

#[test]
#[ignore = "builds a VMM, and kernels of a host and of a guest that tells of its maintenance"]
fn both_engines_find_the_same_stale_lines_between_two_devices() {
    // It moves nothing.
    run(&["boot", "--engine", "kvm"]).ends(0, Verdict::Pass);
    let exact = run(&["iio-to-usb"]).fails(&[HazardKind::MissingInvalidate]);
    let kvm = run(&["iio-to-usb", "--engine", "kvm"]).fails(&[HazardKind::MissingInvalidate]);
    assert_eq!(stale(&kvm), stale(&exact));
    assert_eq!(kvm.data.bytes, exact.data.bytes);
    assert!(
        kvm.fidelity
            .not_judged
            .contains(&HazardKind::MissingBarrier)
    );
}
