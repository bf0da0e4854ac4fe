// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What maintenance costs is told whole: also that of memory in which nothing was ever transferred.

use staleline_results::{Maintenance, MaintenanceOp};

use crate::support::{need_kernel, run, run_set};

/// Lines of all operations that are listed, of which there are as many as there were.
#[track_caller]
fn listed(m: &Maintenance) -> u64 {
    let all = (m.operations.len() as u64, m.elsewhere.len() as u64);
    assert_eq!(all, (m.operations_total, m.elsewhere_total));
    m.operations
        .iter()
        .chain(&m.elsewhere)
        .map(|o| o.lines)
        .sum()
}

#[track_caller]
fn adds_up(m: &Maintenance) {
    assert_eq!(m.needed + m.redundant + m.untouched, listed(m), "{m:?}");
    let sum = |of: fn(&staleline_results::MaintenanceCaller) -> u64| -> u64 {
        m.callers.iter().map(of).sum()
    };
    assert_eq!(sum(|c| c.lines), listed(m));
    assert_eq!(sum(|c| c.needed), m.needed);
    assert_eq!(sum(|c| c.untouched), m.untouched);
    assert_eq!(
        sum(|c| c.operations),
        m.operations_total + m.elsewhere_total
    );
}

/// A line of a buffer of 256 KiB is used, and the patches maintain all of it, four times a frame.
#[test]
fn what_was_never_transferred_is_counted() {
    const KERNEL: &str = "begin-end-access";
    const BUFFER_LINES: u64 = (256 << 10) / 64;
    const FRAMES: u64 = 6;
    need_kernel(KERNEL);
    let settings = [
        "buffer-bytes=262144",
        "frame-bytes=64",
        "last-frame-bytes=64",
    ];
    let mut arguments = vec!["iio-to-usb", "--kernel", KERNEL];
    arguments.extend(settings.iter().flat_map(|s| ["--set", s]));
    let m = run(&arguments).passes().maintenance;
    adds_up(&m);

    // Only the DMA engine's side is maintained: at the begin and at the end of each access.
    for function in [
        "system_heap_dma_buf_begin_access",
        "system_heap_dma_buf_end_access",
    ] {
        let caller = m.callers.iter().find(|c| c.function == function).unwrap();
        assert_eq!(caller.lines, FRAMES * BUFFER_LINES, "{caller:?}");
        // The frame is one line.
        assert_eq!(caller.untouched, FRAMES * (BUFFER_LINES - 1), "{caller:?}");
    }
    let end = m
        .callers
        .iter()
        .find(|c| c.function.ends_with("_end_access"));
    // What the engine has written, the USB controller must find: each time.
    assert_eq!(end.unwrap().needed, FRAMES);
    assert!(m.untouched > 99 * (m.needed + m.redundant), "{m:?}");
}

/// A barrier that completes nothing separates operations all the same: the account is the same but
/// for what was needed, as the devices were started too early for it.
#[test]
fn two_kernels_that_differ_in_a_barrier_do_the_same_operations() {
    const WEAK: &str = "base~weak-dsb-ish";
    need_kernel(WEAK);
    let good = run_set("iio-playback", &[]).passes().maintenance;
    let weak = run(&["iio-playback", "--no-trace", "--kernel", WEAK]).result();
    assert!(!weak.hazards.is_empty());
    let weak = weak.maintenance;
    adds_up(&good);
    adds_up(&weak);
    let plain = |o: &MaintenanceOp| (o.number, o.op, o.lines, o.caller.clone());
    let of = |m: &Maintenance| -> Vec<_> {
        m.operations.iter().chain(&m.elsewhere).map(plain).collect()
    };
    assert_eq!(of(&good), of(&weak));
    assert!(weak.needed < good.needed, "{} {}", weak.needed, good.needed);
}
