// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! DMABUFs that begin in the middle of memory, that overlap, that are used in another order; and what the
//! CPU writes into a part while a device has another.

use staleline_results::{HazardKind, RunResult};

use crate::support::{self, clean, kinds_of, run};

const PATCHED: [&str; 2] = ["--kernel", "begin-end-access"];

/// Runs a scenario with these settings.
fn with(scenario: &str, options: &[&str], settings: &[&str]) -> RunResult {
    let mut arguments = [&[scenario], options].concat();
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    run(&arguments).result()
}

#[test]
fn udmabufs_may_be_parts_of_one_memory() {
    support::need_kernel("begin-end-access");
    let options = [&PATCHED[..], &["--exporter", "udmabuf"]].concat();
    // Apart, next to each other, and over each other, in the middle of memory and in two orders.
    for settings in [
        &["offset-bytes=8192"][..],
        &["stride-bytes=16384", "order=[1, 0]"],
        &[
            "offset-bytes=4096",
            "stride-bytes=12288",
            "buffers=3",
            "order=[2, 0, 1]",
        ],
    ] {
        let result = with("iio-to-usb", &options, settings);
        clean(&result);
        assert_eq!(result.data.bytes, result.data.planned, "{settings:?}");
    }
}

#[test]
fn a_trailer_in_the_frames_line_is_right_before_and_between() {
    support::need_kernel("begin-end-access");
    for (scenario, when) in [
        ("iio-capture", "before"),
        ("iio-playback", "before"),
        ("iio-to-usb", "before"),
        ("iio-to-usb", "between"),
    ] {
        let trailer = format!("trailer={{ bytes = 56, when = \"{when}\" }}");
        clean(&with(scenario, &PATCHED, &[&trailer]));
    }
}

/// Frames that are in flight for as long as it takes to write behind them.
const LONG: [&str; 3] = [
    "frame-bytes=65528",
    "last-frame-bytes=65528",
    "buffer-bytes=131072",
];

#[test]
fn one_that_is_written_while_the_device_has_the_line_is_not() {
    support::need_kernel("base");
    let with = |trailer: &str| with("iio-capture", &[], &[&LONG[..], &[trailer]].concat());
    let shared = with("trailer={ bytes = 56, when = \"during\", sync = \"none\" }");
    let kinds = kinds_of(&shared);
    assert!(kinds.contains(&HazardKind::WritebackClobber), "{kinds:?}");
    assert!(shared.data.corrupt_bytes > 0);
    let rows: Vec<_> = shared.diagnostics.iter().map(|d| &*d.advice).collect();
    assert!(rows.contains(&"shared-line"), "{rows:?}");
    // In a line of its own it does no harm to the frame; but the invalidate for the frame throws it away.
    let apart = with("trailer={ bytes = 64, align = 64, when = \"during\", sync = \"none\" }");
    assert_eq!(kinds_of(&apart), [HazardKind::DiscardedWrite]);
    clean(&with(
        "trailer={ bytes = 64, align = 64, when = \"during\" }",
    ));
}

/// The stores bring in what the cache has of the rest of the line, and SYNC at the end writes that back over
/// what the device has written.
#[test]
fn sync_for_writing_only_is_not_enough_behind_what_a_device_has_written() {
    support::need_kernel("base");
    let with = |sync: &str| {
        let trailer = format!("trailer={{ bytes = 56, when = \"between\", sync = \"{sync}\" }}");
        with("iio-to-usb-sync", &[], &[&trailer])
    };
    let wrong = with("write");
    assert_eq!(kinds_of(&wrong), [HazardKind::WritebackClobber]);
    assert!(wrong.data.corrupt_bytes > 0);
    clean(&with("rw"));
}
