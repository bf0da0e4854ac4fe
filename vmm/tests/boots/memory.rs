// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What memory holds before the guest uses it: what firmware left, and what a kernel that zeroes all
//! that it hands out makes of it.

use crate::support::{need_kernel, run, run_set, side_by_side};
use staleline::run::wiring::Production;
use staleline_results::HazardKind;
use staleline_results::Verdict;

const PATCHED: &str = "begin-end-access";

/// Paths that are right on these kernels.
const GOOD: [(&str, &str); 5] = [
    ("iio-capture", "base"),
    ("iio-playback", "base"),
    ("usb-loopback", "base"),
    ("iio-to-usb", PATCHED),
    ("usb-to-iio", PATCHED),
];

#[test]
fn two_at_a_time_good_kernels_do_not_depend_on_firmware() {
    need_kernel(PATCHED);
    let mut all = Vec::new();
    for (scenario, kernel) in GOOD {
        all.extend(["clean", "dirty"].map(|state| (scenario, kernel, state)));
    }
    side_by_side(&all, |(scenario, kernel, state)| {
        let power_on = format!("board.power-on={state}");
        run(&[scenario, "--kernel", kernel, "--set", &power_on]).passes()
    });
}

/// What firmware left in the cache is found where a kernel hands out coherent memory as it is, and
/// by nothing else: in memory that happens to be clean, the same kernel gets away with it.
#[test]
fn coherent_memory_that_was_not_cleaned_is_found_by_what_firmware_left() {
    const KERNEL: &str = "base~prep-coherent-empty";
    need_kernel(KERNEL);
    let go = |state| {
        let power_on = format!("board.power-on={state}");
        let arguments = ["iio-playback", "--no-trace", "--kernel", KERNEL];
        run(&[&arguments[..], &["--set", &power_on]].concat())
    };
    let result = go("dirty").ends(1, Verdict::Fail);
    let alias = HazardKind::MismatchedAlias;
    assert!(result.hazards.iter().any(|h| h.kind == alias));
    go("clean").passes();
}

/// Each page is zeroed through the cache when it is handed out, as many distributions do: whatever
/// a driver gets is dirty.
#[test]
#[ignore = "needs a kernel of its own: scripts/test --all builds it"]
fn two_at_a_time_memory_that_is_zeroed_when_handed_out() {
    const KERNEL: &str = "begin-end-access+init-on-alloc";
    need_kernel(KERNEL);
    let paths = ["iio-capture", "iio-playback", "iio-to-usb", "usb-loopback"];
    side_by_side(&paths, |scenario| {
        let result = run(&[scenario, "--kernel", KERNEL]).passes();
        assert_eq!(result.kernel.unwrap().name, KERNEL);
    });
    // Without it, silence would mean nothing.
    let kernels = Production::default().kernels().unwrap();
    let kernel = kernels.into_iter().find(|k| k.name == KERNEL).unwrap();
    let config = kernel.image.unwrap().with_file_name("config");
    let config = std::fs::read_to_string(config).unwrap();
    assert!(config.contains("\nCONFIG_INIT_ON_ALLOC_DEFAULT_ON=y\n"));
}

/// What is needed does not depend on whether firmware left the memory clean, but for what firmware
/// itself left there.
#[test]
fn a_clean_machine_needs_no_more() {
    let needed = |state: &str| {
        let power_on = format!("board.power-on={state}");
        run_set("iio-playback", &[&power_on]).passes().maintenance
    };
    let (clean, dirty) = (needed("clean"), needed("dirty"));
    assert_eq!(
        clean.operations_total + clean.elsewhere_total,
        dirty.operations_total + dirty.elsewhere_total
    );
    let of = |m: &staleline_results::Maintenance, name: &str| {
        let caller = m.callers.iter().find(|c| c.function == name);
        caller.map(|c| (c.operations, c.lines, c.needed))
    };
    for name in [
        "system_heap_map_dma_buf",
        "system_heap_dma_buf_end_cpu_access",
    ] {
        assert!(of(&clean, name).is_some());
        assert_eq!(of(&clean, name), of(&dirty, name), "{name}");
    }
}
