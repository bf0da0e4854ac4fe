// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Kernels with a known error in them, from `guest-kernel/mutants`: each is found by the runs that
//! its `mutant.toml` names, and named right: kind, missing operation, and place, as the diagnostic
//! prints them. What is found there is not found without it, and each cause is told once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use staleline_testing as support;

use staleline_results::{ReportClass, Verdict};
use support::{need_kernel, run, staleline};

/// Names of mutants, separated by commas: only those are tried.
const ONLY: &str = "STALELINE_MUTANTS";

#[test]
#[ignore = "builds a kernel for each mutant, which takes a quarter of an hour"]
fn every_mutant_is_found_and_nothing_is_without_it() {
    need_kernel("base");
    need_kernel("begin-end-access");
    let dir = tempfile::tempdir().unwrap();
    let mut command = staleline();
    command
        .arg("mutants")
        .arg("--out")
        .arg(dir.path().join("out"));
    if let Ok(only) = std::env::var(ONLY) {
        command.args(only.split(','));
    }
    let output = command.output().unwrap();
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (told(&output.stdout), told(&output.stderr));
    println!("{stdout}");
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
}

#[test]
fn a_kernel_that_crashes_in_the_path_under_test_has_failed() {
    need_kernel("base");
    let kernel = "base~iio-own-device";
    let mut command = staleline();
    let built = command
        .args(["kernel", "build", "--stack", kernel])
        .status();
    assert!(built.unwrap().success());
    let run = run(&["iio-capture", "--kernel", kernel]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    let result = run.result();
    assert_eq!(result.verdict, Verdict::Fail);
    // The DMA API warns of a device that does no DMA, the DMA engine's driver then trips.
    let [warning, oops] = &result.guest.reports[..] else {
        panic!("{:#?}", result.guest.reports);
    };
    assert_eq!((warning.class, warning.fatal), (ReportClass::Warn, false));
    assert_eq!(warning.function(), "__dma_map_sg_attrs");
    assert_eq!((oops.class, oops.fatal), (ReportClass::Oops, true));
    for function in ["axi_dmac_", "iio_dma_buffer_", "__iio_update_buffers"] {
        let met = oops.chain.iter().any(|name| name.starts_with(function));
        assert!(met, "{function}: {:?}", oops.chain);
    }
    assert!(
        run.stdout
            .contains("error[kernel-report]: Unable to handle kernel")
    );
}
