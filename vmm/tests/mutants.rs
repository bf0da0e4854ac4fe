// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Kernels with a known error in them, from `guest-kernel/mutants`: each is found by the runs that
//! its `mutant.toml` names, and what is found there is not found without it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

#[path = "boots/support.rs"]
#[allow(dead_code, reason = "shared with `boots`, which uses all of it")]
mod support;

use std::collections::BTreeSet;

use staleline::result::{RunResult, Verdict};
use staleline::run::kernel_log::{KERNEL_REPORT, ReportClass};
use staleline_kernels::{KernelBuilder, Mutant, Show};
use support::{need_kernel, run, staleline};

/// Names of mutants, separated by commas: only those are tried.
const ONLY: &str = "STALELINE_MUTANTS";

/// The mutants to try.
fn mutants() -> Vec<Mutant> {
    let all = KernelBuilder::new().unwrap().mutants().unwrap();
    assert!(all.len() > 10, "{}", all.len());
    let Ok(only) = std::env::var(ONLY) else {
        return all;
    };
    let wanted: BTreeSet<_> = only.split(',').collect();
    let known: BTreeSet<_> = all.iter().map(|m| m.name.as_str()).collect();
    assert!(
        wanted.is_subset(&known),
        "{ONLY}={only}: there are {known:?}"
    );
    all.into_iter()
        .filter(|m| wanted.contains(m.name.as_str()))
        .collect()
}

fn kernel_of(mutant: &Mutant) -> String {
    format!("{}~{}", mutant.about.stack, mutant.name)
}

/// Builds the kernel, which takes well under a minute if another of its stack has been built.
fn build(kernel: &str) {
    let mut command = staleline();
    let output = command
        .args(["kernel", "build", "--stack", kernel])
        .output();
    let output = output.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{kernel}: {told}");
}

fn try_it(kernel: &str, show: &Show) -> RunResult {
    let mut arguments = vec![&*show.scenario, "--kernel", kernel, "--no-trace"];
    arguments.extend(show.set.iter().flat_map(|s| ["--set", s]));
    run(&arguments).result()
}

/// All kinds of findings of a run.
fn found(result: &RunResult) -> BTreeSet<&str> {
    let hazards = result.diagnostics.iter().map(|d| d.kind.name());
    let reports = result.guest.complaints().map(|_| KERNEL_REPORT);
    hazards.chain(reports).collect()
}

/// What is wrong with a run's verdict; none if nothing.
fn wrong(mutant: &Mutant, show: &Show) -> Option<String> {
    let with = try_it(&kernel_of(mutant), show);
    let without = try_it(&mutant.about.stack, show);
    let finding = &*show.finding;
    let killed = with.verdict == Verdict::Fail && found(&with).contains(finding);
    let told = |what: &str| Some(format!("{what}: {}; {:?}", with.replay, with.reasons));
    println!(
        "{:<28} {:<16} {:<20} {} {:?}",
        mutant.name,
        show.scenario,
        finding,
        with.verdict.name(),
        found(&with),
    );
    if without.verdict == Verdict::InfraError || found(&without).contains(finding) {
        return Some(format!(
            "{finding} has nothing to do with the mutant: {}; {:?}",
            without.replay, without.reasons
        ));
    }
    match (&mutant.about.survives, killed) {
        (None, true) => None,
        (None, false) => told("it survives"),
        (Some(_), false) if with.verdict == Verdict::Pass => None,
        (Some(why), _) => told(&format!("it is found, though mutant.toml says that {why}")),
    }
}

#[test]
#[ignore = "builds a kernel for each mutant, which takes a quarter of an hour"]
fn every_mutant_is_found_and_nothing_is_without_it() {
    need_kernel("base");
    need_kernel("begin-end-access");
    let mut complaints = Vec::new();
    for mutant in mutants() {
        build(&kernel_of(&mutant));
        let wrong = mutant.about.show.iter().filter_map(|s| wrong(&mutant, s));
        complaints.extend(wrong.map(|w| format!("{}: {w}", mutant.name)));
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn a_kernel_that_crashes_in_the_path_under_test_has_failed() {
    need_kernel("base");
    let kernel = "base~iio-own-device";
    build(kernel);
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
