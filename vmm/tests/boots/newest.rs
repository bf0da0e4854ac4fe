// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The series on a kernel that is newer than the one that the other tests are set up with.

use std::path::PathBuf;

use crate::support::{by_every_exporter, run, side_by_side, staleline};

/// Names the source tree of a kernel since 7.0.
const TREE: &str = "STALELINE_NEWEST_TREE";

/// With DMABUF_DEBUG, importers hold copies of tables, in which nothing is left that could be maintained.
#[test]
#[ignore = "needs the source tree of a kernel since 7.0, which STALELINE_NEWEST_TREE names"]
fn two_at_a_time_debugged_buffers_are_synchronised_on_the_newest_kernel() {
    const NAME: &str = "newest-begin-end-access+lockdep";
    let Some(tree) = std::env::var_os(TREE).map(PathBuf::from) else {
        eprintln!("not run: {TREE} names no source tree");
        return;
    };
    let mut build = staleline();
    build.args(["kernel", "build", "--stack", "begin-end-access"]);
    build.args(["--config", "lockdep", "--name", NAME, "--src"]);
    let built = build.arg(&tree).output().unwrap();
    let error = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{error}");

    let scenarios = ["iio-to-usb", "usb-to-iio", "iio-capture", "iio-playback"];
    let cells = by_every_exporter(&scenarios);
    side_by_side(&cells, |(scenario, exporter)| {
        let kernel = ["--kernel", NAME, "--exporter", exporter];
        let set = ["--set", "snoop-write=allocate"];
        run(&[&[*scenario][..], &kernel, &set].concat()).passes();
    });
}
