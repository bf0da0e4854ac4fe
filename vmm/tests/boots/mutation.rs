// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Is every missing operation found, and nothing else? Each maintenance operation on the path is
//! suppressed in turn. If the run without one said that it was needed, that must be a hazard; if
//! it was redundant, it must not.

use staleline_results::HazardKind;
use staleline_results::{MaintenanceOp, Verdict};

use crate::support::{run, run_set, side_by_side};

/// Few pages and few frames, but each DMABUF is used twice and the last frame is short.
const SMALL: [&str; 3] = ["buffer-bytes=8192", "frame-bytes=7944", "frames=4"];

struct Mutant {
    needed: bool,
    flagged: bool,
    told: String,
}

fn mutate(scenario: &str, cache: &str, number: u32, needed: bool) -> Mutant {
    let (cache, drop) = (
        format!("cache={cache}"),
        format!("drop-maintenance=@{number}"),
    );
    let settings = [&SMALL[..], &[&cache, &drop]].concat();
    let mut arguments = vec![scenario, "--no-trace"];
    arguments.extend(settings.iter().flat_map(|s| ["--set", s]));
    let run = run(&arguments);
    let result = run.result();
    assert_ne!(result.verdict, Verdict::InfraError, "{:?}", result.reasons);
    let dropped = result.drop_maintenance.as_ref().unwrap();
    assert!(dropped.happened && dropped.number == number);
    let flagged = run.code == 1 && !result.hazards.is_empty();
    // Otherwise there is nothing at all: no corrupt byte either.
    assert!(flagged || run.code == 0, "{:?}", result.reasons);
    Mutant {
        needed,
        flagged,
        told: format!("@{number}: {:?}", result.reasons),
    }
}

fn score(scenario: &str, cache: &str) {
    let whole = run_set(
        scenario,
        &[&SMALL[..], &[&format!("cache={cache}")]].concat(),
    )
    .passes();
    let operations: Vec<_> = whole
        .maintenance
        .operations
        .iter()
        .map(|op| (op.number, op.needed_lines > 0))
        .collect();
    let mutants = side_by_side(&operations, |(number, needed)| {
        mutate(scenario, cache, *number, *needed)
    });
    let needed = mutants.iter().filter(|m| m.needed).count();
    let killed = mutants.iter().filter(|m| m.needed && m.flagged).count();
    let redundant = mutants.len() - needed;
    let wrong: Vec<_> = mutants
        .iter()
        .filter(|m| m.needed != m.flagged)
        .map(|m| &m.told)
        .collect();
    println!(
        "{scenario}, {cache}: {killed} of {needed} needed operations found missing, \
         {} of {redundant} redundant ones blamed",
        wrong.len() - (needed - killed)
    );
    assert!(needed > 0 && redundant > 0, "{operations:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn two_at_a_time_every_needed_operation_of_a_capture() {
    score("iio-capture", "zynqmp");
}

#[test]
fn two_at_a_time_every_needed_operation_of_a_playback() {
    score("iio-playback", "zynqmp");
}

/// The verdict is about the software: under a cache that never gives a line back too.
#[test]
fn two_at_a_time_every_needed_operation_under_a_lazy_cache() {
    score("iio-playback", "lazy");
}

#[test]
fn a_pilot_run_finds_the_operation() {
    // What user space wrote is cleaned at the end of its access; K counts from 1.
    let whole = run_set("iio-playback", &SMALL).passes().maintenance;
    let needed = |o: &MaintenanceOp| {
        o.needed_lines > 0 && o.caller.starts_with("system_heap_dma_buf_end_cpu_access")
    };
    let k = 1 + whole.operations.iter().position(needed).unwrap();
    let drop = format!("drop-maintenance={k}");
    let by_order = run_set("iio-playback", &[&SMALL[..], &[&drop]].concat());
    let result = by_order.fails(&[HazardKind::MissingClean]);
    let dropped = result.drop_maintenance.unwrap();
    assert_eq!(dropped.nth, Some(k as u32));
    assert_eq!(dropped.of, Some(whole.operations.len()), "{dropped:?}");
    assert!(dropped.happened, "{dropped:?}");

    // The same without a pilot.
    let drop = format!("drop-maintenance=@{}", dropped.number);
    let by_number = run_set("iio-playback", &[&SMALL[..], &[&drop]].concat());
    let again = by_number.fails(&[HazardKind::MissingClean]);
    assert_eq!(again.run_hash, result.run_hash);
    assert_eq!(again.hazards, result.hazards);
}
