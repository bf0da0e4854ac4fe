// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The same run twice is the same; another seed is another run, where chance has a say.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::driver::{Choice, Driver, RAM, program};
use super::rig;
use crate::coherency::report::DomainReport;
use crate::coherency::{Policy, SnoopWrite};

fn run(policy: Policy, seed: u64, program: &[Choice]) -> DomainReport {
    let mut config = rig::config(RAM as u64, policy, SnoopWrite::Allocate);
    config.seed = seed;
    Driver::run(&config, program).report()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_seed_gives_the_same_run(
        program in program(),
        policy in prop::sample::select(&Policy::ALL[..]),
        seed in any::<u64>(),
    ) {
        prop_assert_eq!(run(policy, seed, &program), run(policy, seed, &program));
    }
}

/// A program with enough DMA in it for chance to strike.
fn long_program() -> Vec<Choice> {
    let mut runner = TestRunner::deterministic();
    let mut programs = std::iter::from_fn(|| Some(program().new_tree(&mut runner).ok()?.current()));
    programs.by_ref().take(20).flatten().collect()
}

#[test]
fn another_seed_changes_the_random_policy_only() {
    let program = long_program();
    for policy in Policy::ALL {
        let hashes = [1, 2, 3].map(|seed| run(policy, seed, &program).run_hash);
        let differ = hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2];
        let same = hashes[0] == hashes[1] && hashes[1] == hashes[2];
        match policy {
            Policy::Random => assert!(differ, "{hashes:x?}"),
            _ => assert!(same, "{policy:?} {hashes:x?}"),
        }
    }
}

#[test]
fn every_kind_of_event_counts_in_the_hash() {
    let program = long_program();
    let base = run(Policy::Lazy, 1, &program).run_hash;
    assert_ne!(base, run(Policy::Lazy, 1, &program[1..]).run_hash);
    assert_ne!(base, run(Policy::Eager, 1, &program).run_hash);
    assert_ne!(base, run(Policy::Random, 1, &program).run_hash);
}
