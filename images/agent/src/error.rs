// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What can keep the agent from carrying out its plan. None of these says anything about
//! coherency: the run is broken, not failed.

use std::io;

use staleline_protocol::plan::PlanError;

/// A plan that is none, or the step of it that failed.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A step.
    #[error(transparent)]
    Step(#[from] staleline_guest::Error),
    /// The kernel does not take a module.
    #[error("the kernel refuses module {file}: {source}{}", quoted(said))]
    Module {
        /// Its file.
        file: String,
        /// The kernel's word for it.
        source: io::Error,
        /// What else it said.
        said: String,
    },
    /// The plan is no JSON or no plan.
    #[error("the plan in {path} is not valid: {source}")]
    Json {
        /// Where it was read.
        path: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
    /// The plan asks for the impossible.
    #[error("the plan cannot be carried out: {0}")]
    Plan(#[from] PlanError),
}

/// What the kernel said, if it did.
fn quoted(said: &str) -> String {
    match said {
        "" => String::new(),
        _ => format!("; it says: {said}"),
    }
}
