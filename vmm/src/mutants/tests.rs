// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeSet;

use super::*;

fn of(names: &[&str]) -> Result<Plan, Error> {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    plan(&names, EngineKind::default(), None)
}

#[test]
fn each_run_is_made_once_and_each_mutant_beside_its_stack() {
    let plan = of(&[]).unwrap();
    let names: BTreeSet<&str> = plan.cells.iter().map(|c| &*c.name).collect();
    assert_eq!(names.len(), plan.cells.len());
    let runs: BTreeSet<&str> = plan.cells.iter().map(|c| &*c.spec.invocation).collect();
    assert_eq!(runs.len(), plan.cells.len());
    let cell = |name: &str| plan.cells.iter().find(|c| c.name == name).unwrap();
    for trial in &plan.trials {
        let (with, without) = (cell(&trial.with), cell(&trial.without));
        let (kernel, stack) = (&with.spec.kernel.0, &without.spec.kernel.0);
        assert_eq!(*kernel.replace(&format!("~{}", trial.mutant), ""), **stack);
        assert_eq!(with.spec.scenario, without.spec.scenario);
        assert_eq!(with.set, trial.show.set);
    }
    // In one tree, and what stacks differ in is compiled once for each.
    let mut stacks: Vec<String> = plan.cells.iter().map(without_mutant).collect();
    stacks.dedup();
    let (in_turn, all) = (stacks.len(), BTreeSet::from_iter(stacks).len());
    assert_eq!(in_turn, all);
    // Runs without are shared.
    assert!(plan.cells.len() < 2 * plan.trials.len());
}

#[test]
fn some_are_chosen_by_their_names_or_their_stacks() {
    let mutants = |plan: &Plan| -> BTreeSet<String> {
        plan.trials.iter().map(|t| t.mutant.clone()).collect()
    };
    let one = of(&["weak-dsb-ish"]).unwrap();
    assert_eq!(mutants(&one), BTreeSet::from(["weak-dsb-ish".into()]));
    let stack = mutants(&of(&["begin-end-access"]).unwrap());
    assert!(stack.contains("iio-end-in-work") && !stack.contains("weak-dsb-ish"));
    assert!(stack.is_subset(&mutants(&of(&[]).unwrap())));
    let e = of(&["weak-dsb-isch"]).unwrap_err();
    assert_eq!(e.exit_code(), crate::exit::USAGE);
    assert!(
        e.render().contains("did you mean `weak-dsb-ish`?"),
        "{}",
        e.render()
    );
}
