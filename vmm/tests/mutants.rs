// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Kernels with a known error in them, from `guest-kernel/mutants`: each is found by the runs that
//! its `mutant.toml` names, and named right: kind, missing operation, and place, as the diagnostic
//! prints them. What is found there is not found without it, and each cause is told once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use staleline_testing as support;

use std::collections::BTreeSet;

use staleline_kernels::{KernelBuilder, Mutant, Show};
use staleline_results::{Class, Verdict};
use staleline_results::{KERNEL_REPORT, ReportClass};
use support::{Run, need_kernel, run, staleline};

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

/// Note that does not fail a run.
const STALE_COPY: &str = "stale-copy";

fn try_it(kernel: &str, show: &Show) -> Run {
    let mut arguments = vec![&*show.scenario, "--kernel", kernel];
    arguments.extend(show.set.iter().flat_map(|s| ["--set", s]));
    run(&arguments)
}

/// A diagnostic in one line, without the command that does it again, which names the kernel.
fn flat(diagnostic: &str) -> String {
    let lines = diagnostic.lines();
    let lines = lines.filter(|l| !l.trim_start().starts_with("replay"));
    let words = lines.flat_map(str::split_whitespace);
    words.collect::<Vec<_>>().join(" ")
}

/// Whether a diagnostic, in one line, is of the kind that is due, misses what is due, and prints the
/// place.
fn names(diagnostic: &str, show: &Show) -> bool {
    let of_kind = ["error", "note"].iter().any(|level| {
        let head = format!("{level}[{}]", show.finding);
        diagnostic.starts_with(&head)
    });
    let missing = diagnostic
        .split_once(" missing ")
        .and_then(|(_, rest)| rest.split_once(" help "))
        .map_or("", |(missing, _)| missing);
    let misses = show.missing.as_deref().is_none_or(|m| missing.contains(m));
    of_kind && misses && diagnostic.contains(&show.place)
}

/// The diagnostics that name the error, each in one line.
fn named(run: &Run, show: &Show) -> Vec<String> {
    let texts = run.stdout.split("\n\n").map(flat);
    texts.filter(|text| names(text, show)).collect()
}

/// Heads of all diagnostics of a run.
fn found(run: &Run) -> BTreeSet<String> {
    let heads = run.stdout.lines().filter(|l| l.contains("]: "));
    heads
        .filter_map(|l| Some(l.split_once("]: ")?.0.to_owned() + "]"))
        .filter(|head| head.starts_with("error[") || head.starts_with("note["))
        .collect()
}

/// Whether the run tells as many causes as are due, each once. What was corrupt is told besides.
fn told_causes(run: &Run, show: &Show) -> Option<String> {
    let result = run.result();
    let causes: Vec<_> = result.causes().collect();
    let causes = causes.iter().filter_map(|i| result.diagnostics.get(*i));
    let causes = causes.filter(|d| d.class == Class::Error);
    let reports = result.guest.reports.iter().filter(|r| !r.allowed);
    let told = causes.count() + reports.count();
    let due = match &show.causes {
        Some(several) => several.count,
        None if show.finding == STALE_COPY => 0,
        None => 1,
    };
    (told != due).then(|| {
        let heads = run.stdout.split("\n\n").map(flat);
        let heads: Vec<String> = heads.filter(|t| t.starts_with("error[")).collect();
        format!("{told} causes are told, and {due} are due: {heads:#?}")
    })
}

/// What is wrong with a run's verdict; none if nothing.
fn wrong(mutant: &Mutant, show: &Show) -> Option<String> {
    let with = try_it(&kernel_of(mutant), show);
    let without = try_it(&mutant.about.stack, show);
    let verdict = with.result().verdict;
    let due = match show.finding == STALE_COPY {
        true => Verdict::Pass,
        false => Verdict::Fail,
    };
    let killed = verdict == due && !named(&with, show).is_empty();
    let told = |what: &str| Some(format!("{what}: {}; {:?}", show.scenario, found(&with)));
    println!(
        "{:<28} {:<18} {:<18} {} {:?}",
        mutant.name,
        show.scenario,
        show.finding,
        verdict.name(),
        found(&with),
    );
    if without.result().verdict == Verdict::InfraError || !named(&without, show).is_empty() {
        return Some(format!(
            "{} has nothing to do with the mutant: {}",
            show.finding, without.stdout
        ));
    }
    match (&mutant.about.survives, killed) {
        (None, true) => told_causes(&with, show).and_then(|wrong| told(&wrong)),
        (None, false) => told("it survives, or is not named right"),
        (Some(_), false) if verdict == Verdict::Pass => None,
        (Some(why), _) => told(&format!("it is found, though mutant.toml says that {why}")),
    }
}

#[test]
fn a_diagnostic_names_an_error_by_kind_and_missing_operation_and_place() {
    let text = "error[missing-clean]: dmac read 1 line\n  missing   clean (dc cvac)\n            \
                between\n  help      call f()\n     > g+0x10  a.c:7\n  replay    run base~h\n";
    let text = flat(text);
    let show = |finding: &str, missing: Option<&str>, place: &str| Show {
        scenario: String::new(),
        set: Vec::new(),
        config: Vec::new(),
        finding: finding.into(),
        missing: missing.map(Into::into),
        place: place.into(),
        causes: None,
    };
    let good = show("missing-clean", Some("clean (dc cvac) between"), "g+0x10");
    assert!(names(&text, &good));
    for bad in [
        show("missing-barrier", None, "g+"),
        show("missing-clean", Some("invalidate"), "g+"),
        // Neither is what the help says missing, nor the kernel's name a place.
        show("missing-clean", Some("call"), "g+"),
        show("missing-clean", Some("clean"), "base~h"),
    ] {
        assert!(!names(&text, &bad), "{bad:?}");
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
        for show in &mutant.about.show {
            let several = show.causes.as_ref();
            assert!(several.is_none_or(|s| s.count > 1 && !s.why.is_empty()));
            let report = show.finding == KERNEL_REPORT;
            assert_eq!(show.missing.is_none(), report, "{}", mutant.name);
        }
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
