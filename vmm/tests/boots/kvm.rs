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

/// A run of the scenario that has an NVMe disk of the host's.
fn nvme(port: &str, more: &[&str]) -> crate::support::Run {
    let device = format!("0000:00:03.0,port={port}");
    let mut words = vec![
        "nvme", "--engine", "kvm", "--kernel", "base+pci", "--vfio", &device,
    ];
    words.extend(more);
    run(&words)
}

#[test]
#[ignore = "builds a VMM, and kernels of a host and of a guest that has drivers of PCI devices"]
fn a_device_of_the_host_is_as_coherent_as_its_port() {
    let apart = nvme("hp", &[]).ends(0, Verdict::Pass);
    assert!(apart.maintenance.cleaned > 0 && apart.maintenance.invalidated > 0);
    let blind = &apart.fidelity.not_judged;
    assert!(blind.contains(&HazardKind::MissingClean));
    assert!(!blind.contains(&HazardKind::DiscardedWrite));

    let snooping = nvme("hpc", &[]).ends(0, Verdict::Pass);
    let maintained = &snooping.maintenance;
    // Nothing of what the device has to do with: the pools that the kernel makes in any case are no device's.
    assert_eq!(
        (maintained.invalidated, maintained.operations.len()),
        (0, 0)
    );
    assert_eq!(snooping.data.bytes, apart.data.bytes);

    // The driver's commands stay in the cache.
    let lie = [
        "--set",
        "board.pci.dma-coherent=true",
        "--append",
        "nvme_core.admin_timeout=3",
    ];
    nvme("hp", &lie).ends(1, Verdict::Fail);
}

#[test]
#[ignore = "builds a VMM, and kernels of a host and of a guest that has drivers of PCI devices"]
fn a_device_that_cannot_be_had_is_no_verdict() {
    for address in ["0000:00:1f.0", "0000:00:02.0"] {
        let words = [
            "boot", "--engine", "kvm", "--kernel", "base+pci", "--vfio", address,
        ];
        run(&words).ends(3, Verdict::InfraError);
    }
}
