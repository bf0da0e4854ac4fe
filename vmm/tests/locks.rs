// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whole boots of a kernel that checks its own locking: what the patches do in fence signalling and
//! in interrupts is allowed there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use staleline_testing as support;

use staleline::run::wiring::Production;

use support::{by_every_exporter, need_kernel, run, side_by_side};

const KERNEL: &str = "begin-end-access+lockdep";

/// Transfers are cancelled elsewhere than they complete.
const CUTS: &str = r#"usb.incidents=[{after-bytes=8000,action="halt"},{after-bytes=20000,action="reset"},{after-bytes=40000,action={disconnect={ticks=5000}}}]"#;

#[test]
fn two_at_a_time_no_transfer_breaks_the_rules_of_locking() {
    need_kernel(KERNEL);
    checks_locking();
    let runs: Vec<_> = by_every_exporter(&["iio-to-usb", "usb-to-iio"])
        .into_iter()
        .flat_map(|(scenario, exporter)| [(scenario, exporter, ""), (scenario, exporter, CUTS)])
        .filter(|(_, exporter, cuts)| cuts.is_empty() || *exporter == "system")
        .collect();
    side_by_side(&runs, |(scenario, exporter, cuts)| {
        let mut arguments = vec![*scenario, "--kernel", KERNEL, "--exporter", exporter];
        if !cuts.is_empty() {
            // With a burst of 1 KiB, so that transfers are under way.
            arguments.extend(["--set", "usb.speed=full", "--set", cuts]);
        }
        let run = run(&arguments);
        // No hazard, and no warning of the kernel, which was watching.
        let kernel = run.passes().kernel.unwrap();
        let console = run.file("console.log");
        assert!(console.contains("Lock dependency validator"), "{console}");
        assert_eq!(kernel.name, KERNEL);
        assert!(
            kernel.version.ends_with("-begin-end-access+lockdep"),
            "{kernel:?}"
        );
    });
}

/// Without these, silence would mean nothing.
fn checks_locking() {
    let kernels = Production::default().kernels().unwrap();
    let kernel = kernels.into_iter().find(|k| k.name == KERNEL).unwrap();
    let config = kernel.image.unwrap().with_file_name("config");
    let config = std::fs::read_to_string(config).unwrap();
    for option in ["PROVE_LOCKING", "DEBUG_ATOMIC_SLEEP", "DMABUF_DEBUG"] {
        let on = format!("CONFIG_{option}=y");
        assert!(config.lines().any(|line| line == on), "{on} is missing");
    }
}
