// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Kernels with a known error in each, and whether runs find it: which of the sanitizer's checks kills a
//! mutant, and whether that is the one that should.
//!
//! What is due stands in the mutant's `mutant.toml`; what is found comes of the runs alone, one with the
//! mutant and the same one without.

pub mod judge;
pub mod report;

use std::collections::{BTreeMap, BTreeSet};

use staleline_kernels::{Mutant, Show};

use crate::engine::EngineKind;
use crate::exit::Error;
use crate::matrix::{Cell, Expect, Names};
use crate::names;
use crate::run::kernels;
use crate::scenario::append;
use crate::spec::RunSpec;

/// A run of a mutant that should show it, and the same run without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The mutant's name.
    pub mutant: String,
    /// What is wrong with it, in a sentence.
    pub mechanism: String,
    /// Why nothing can find it, if that is so.
    pub survives: Option<String>,
    /// What the run should show.
    pub show: Show,
    /// The cell with the mutant.
    pub with: String,
    /// The cell without.
    pub without: String,
}

/// What is to be run, and what for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// All trials, in the order of the mutants' names.
    pub trials: Vec<Trial>,
    /// Their runs, each once.
    pub cells: Vec<Cell>,
}

/// The trials of mutants of these names, and of all on stacks of these names; of all mutants if there are no
/// names.
///
/// # Errors
/// A name that is neither; what is wrong with a mutant's description.
pub fn plan(names: &[String], engine: EngineKind, append: Option<&str>) -> Result<Plan, Error> {
    let all = kernels::mutants()?;
    let chosen = choose(names, &all)?;
    let mut plan = Planner {
        engine,
        append,
        plan: Plan::default(),
        known: BTreeMap::new(),
        names: Names::default(),
    };
    for mutant in chosen {
        plan.mutant(mutant)?;
    }
    // Kernels are built in this order in one tree: what stacks differ in is compiled once for each.
    plan.plan.cells.sort_by_key(without_mutant);
    Ok(plan.plan)
}

fn choose<'a>(names: &[String], all: &'a [Mutant]) -> Result<Vec<&'a Mutant>, Error> {
    let known: BTreeSet<&str> = all
        .iter()
        .flat_map(|m| [&*m.name, &*m.about.stack])
        .collect();
    for name in names {
        if !known.contains(&**name) {
            let near = names::suggestion(name, known.iter().copied());
            let known: Vec<_> = known.iter().copied().collect();
            return Err(Error::UnknownKernel {
                name: name.clone(),
                why: "there is no mutant of that name, nor a stack that has any".into(),
                help: format!("{near}there are: {}", known.join(", ")),
            });
        }
    }
    let is_meant =
        |m: &&Mutant| names.is_empty() || names.iter().any(|n| *n == m.name || *n == m.about.stack);
    Ok(all.iter().filter(is_meant).collect())
}

/// The stack and the configurations of a cell's kernel: `STACK~MUTANT+CONFIG` without the mutant.
fn without_mutant(cell: &Cell) -> String {
    let kernel = &*cell.spec.kernel.0;
    let (kernel, configs) = kernel.split_once('+').unwrap_or((kernel, ""));
    let stack = kernel.split('~').next().unwrap_or(kernel);
    format!("{configs} {stack}")
}

struct Planner<'a> {
    engine: EngineKind,
    append: Option<&'a str>,
    plan: Plan,
    /// Cells by the command lines of their runs, which tell them apart.
    known: BTreeMap<String, String>,
    names: Names,
}

impl Planner<'_> {
    fn mutant(&mut self, mutant: &Mutant) -> Result<(), Error> {
        for show in &mutant.about.show {
            let configs: String = show.config.iter().map(|name| format!("+{name}")).collect();
            let stack = &mutant.about.stack;
            let with = self.cell(show, &format!("{stack}~{}{configs}", mutant.name))?;
            let without = self.cell(show, &format!("{stack}{configs}"))?;
            self.plan.trials.push(Trial {
                mutant: mutant.name.clone(),
                mechanism: mutant.about.mechanism.clone(),
                survives: mutant.about.survives.clone(),
                show: show.clone(),
                with,
                without,
            });
        }
        Ok(())
    }

    /// The name of the cell of that run, which is planned if it is not yet.
    fn cell(&mut self, show: &Show, kernel: &str) -> Result<String, Error> {
        let mut settings = show.set.clone();
        settings.extend(self.append.map(append::setting));
        let spec = RunSpec::resolve(&show.scenario, kernel, self.engine, &settings)?;
        if let Some(name) = self.known.get(&spec.invocation) {
            return Ok(name.clone());
        }
        let invocation = spec.invocation.clone();
        let mut cell = Cell::new(spec, show.set.clone(), Expect::Any, Vec::new());
        self.names.take(&mut cell);
        self.known.insert(invocation, cell.name.clone());
        let name = cell.name.clone();
        self.plan.cells.push(cell);
        Ok(name)
    }
}

#[cfg(test)]
mod tests;
