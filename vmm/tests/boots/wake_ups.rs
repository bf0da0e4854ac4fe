// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Devices and interrupts that come later by chance.

use std::collections::BTreeSet;

use staleline_results::{RunResult, Verdict};

use super::exporters::matrix;
use crate::support::{kinds_of, run};

/// By the seed, with this bound.
fn late(scenario: &str, seed: u32, bound: u32) -> RunResult {
    let (seed, bound) = (seed.to_string(), format!("jitter-ticks={bound}"));
    run(&[scenario, "--no-trace", "--seed", &seed, "--set", &bound]).result()
}

/// When interrupts came is what the run hash is about, too: that of one seed differs only by that.
#[test]
fn another_bound_is_another_order_and_the_same_verdict() {
    let first = late("iio-capture", 5, 2000);
    assert_eq!(first.verdict, Verdict::Pass, "{:?}", first.reasons);
    assert_eq!(first.run_hash, late("iio-capture", 5, 2000).run_hash);
    let hashes: BTreeSet<_> = [0, 300, 3000]
        .map(|bound| late("iio-capture", 5, bound))
        .iter()
        .map(|result| {
            assert_eq!(result.verdict, Verdict::Pass, "{:?}", result.reasons);
            result.run_hash.clone()
        })
        .chain([first.run_hash.clone()])
        .collect();
    assert_eq!(hashes.len(), 4, "{hashes:?}");
    // What is wrong stays wrong, whatever comes first.
    let wrong = [0, 2000].map(|bound| kinds_of(&late("iio-capture-nosync", 5, bound)));
    assert_eq!(wrong[0], wrong[1]);
}

#[test]
fn two_at_a_time_no_order_of_wake_ups_finds_anything_in_correct_drivers() {
    let results = matrix("wake-ups.toml", &["begin-end-access"]);
    for result in &results {
        assert_eq!(result.verdict, Verdict::Pass, "{}", result.replay);
        assert_eq!(result.hazards_total, 0, "{}", result.replay);
    }
    let hashes: BTreeSet<_> = results.iter().map(|r| &r.run_hash).collect();
    assert_eq!(hashes.len(), results.len());
}
