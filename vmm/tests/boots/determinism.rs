// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The same command gives the same run.

use std::collections::BTreeSet;

use crate::support::{run, side_by_side};

/// Runs of one command, two at a time, so that they are in each other's way.
const RUNS: usize = 10;

fn hash(arguments: &[&str]) -> (String, u64) {
    let result = run(arguments).result();
    (result.run_hash.unwrap(), result.accesses)
}

#[test]
fn two_at_a_time_ten_runs_of_one_command_are_one() {
    let same = ["iio-capture", "--cache", "random", "--seed", "7"];
    let hashes = side_by_side(&[(); RUNS], |()| hash(&same));
    let different: BTreeSet<_> = hashes.iter().collect();
    assert_eq!(hashes.len(), RUNS);
    assert_eq!(different.len(), 1, "{hashes:?}");
    // Nothing but the seed.
    let other = hash(&["iio-capture", "--cache", "random", "--seed", "8"]);
    assert_ne!(hashes[0].0, other.0);
    // Nothing but the policy: the guest does the same, the cache does not.
    let (other, accesses) = hash(&["iio-capture", "--cache", "lazy", "--seed", "7"]);
    assert_ne!(hashes[0].0, other);
    assert_eq!(hashes[0].1, accesses);
}

#[test]
fn a_replay_is_the_same_run() {
    let earlier = run(&["iio-capture-nosync", "--cache", "random", "--seed", "3"]);
    assert_eq!(earlier.code, 1, "{}", earlier.stderr);
    // A run that fails is replayed all the same: the exit code is about the comparison.
    assert_eq!(earlier.replay(&[]), (0, "replay: same\n".to_owned()));

    // Of a run without a log, the files count; whatever is not as it was, is told.
    let mut result = earlier.result();
    std::fs::remove_file(earlier.path().join("events.bin")).unwrap();
    result.run_hash = Some("0123456789abcdef".to_owned());
    let text = serde_json::to_string(&result).unwrap();
    std::fs::write(earlier.path().join("result.json"), text).unwrap();
    let (code, text) = earlier.replay(&[]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("run_hash: 0123456789abcdef before"), "{text}");
}
