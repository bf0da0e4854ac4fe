// SPDX-License-Identifier: GPL-2.0-or-later
//! Whole boots of Linux, from power-on to power-off. They need a kernel and an initrd whose init
//! powers off: `STALELINE_TEST_KERNEL` and `STALELINE_TEST_INITRD`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod common;

use staleline::engine::Outcome;
use staleline_results::GuestEnd;

fn report(outcome: &Outcome) -> serde_json::Value {
    outcome.report.read().unwrap()
}

fn boot(selfcheck: bool) -> Outcome {
    let path = |name: &str| std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set"));
    let (kernel, initrd) = (path("STALELINE_TEST_KERNEL"), path("STALELINE_TEST_INITRD"));
    let dir = tempfile::tempdir().unwrap();
    let mut job = common::job(kernel.as_ref(), Some(initrd.as_ref()), dir.path());
    job.selfcheck = selfcheck;
    let outcome = common::run(&job);
    let console = std::fs::read_to_string(&outcome.console).unwrap();
    assert!(console.contains("Linux version"), "{console}");
    println!(
        "{:?} {} {:?}",
        outcome.wall_time,
        report(&outcome),
        outcome.stats
    );
    println!("{} sites", outcome.sites.len());
    outcome
}

#[test]
#[ignore = "needs STALELINE_TEST_KERNEL and STALELINE_TEST_INITRD"]
fn boots_are_identical() {
    let first = boot(false);
    assert_eq!(first.end, GuestEnd::PoweredOff);
    for _ in 0..3 {
        let again = boot(false);
        assert_eq!(report(&again), report(&first));
        assert_eq!(again.sites, first.sites);
        assert_eq!(again.stats, first.stats);
    }
}

#[test]
#[ignore = "needs STALELINE_TEST_KERNEL and STALELINE_TEST_INITRD"]
fn all_translations_agree_with_qemu() {
    let outcome = boot(true);
    assert!(common::stats(&outcome).checked > 1_000_000);
    assert_eq!(common::stats(&outcome).mismatches, 0);
    assert_eq!(common::stats(&outcome).untranslated, 0);
}
