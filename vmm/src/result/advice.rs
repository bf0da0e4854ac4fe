// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is missing and what to do, decided from facts of the run: a table whose first row that fits
//! gives the advice.

mod barriers;
mod decision;
mod facts;
mod rows;
mod stores;
mod texts;
mod tree;

pub use barriers::shortcoming;
pub use facts::{Cleaned, Facts, Flight, Lie, Partial, Phase, Role, SharedLine, Sync};
pub use rows::{
    EARLY, FRESH_PAGE, IMPORTER_CPU, LATE, SUPPRESSED, accuses_the_tree, copies_for_user,
};
pub use texts::missing;
pub use tree::accused;

/// Advice where no row fits: by the rule and the roles alone.
const KIND: &str = "kind";

/// What to tell about a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// Name of the row that gave it.
    pub row: &'static str,
    /// What to do.
    pub help: String,
    /// The facts it rests on, a sentence each; the most important first.
    pub notes: Vec<String>,
    /// What is missing, where that is no operation.
    pub missing: Option<&'static str>,
}

/// The advice for a finding.
pub fn of(facts: &Facts) -> Advice {
    for (row, decide) in rows::TABLE {
        if let Some((help, notes)) = decide(facts) {
            return Advice {
                row,
                help,
                notes,
                missing: rows::missing(row, facts),
            };
        }
    }
    Advice {
        row: KIND,
        help: texts::help(facts),
        notes: Vec::new(),
        missing: None,
    }
}

/// What findings of one cause have in common: the row, and what it asks for. Whether an operation that
/// comes at the wrong time comes too late, too early or, as far as the finding can tell, not at all is a
/// matter of luck.
pub fn of_cause(facts: &Facts) -> (&'static str, String) {
    let mut advice = of(facts);
    if [LATE, EARLY].contains(&advice.row) {
        advice = of(&facts.without_maintenance());
    }
    (advice.row, advice.help)
}

#[cfg(test)]
mod tests;
