// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Makes a [`RunResult`] from what a run left behind: places named, findings grouped and explained,
//! the verdict.

mod account;
pub mod advice;
mod between;
pub mod build;
mod causes;
mod cost;
pub mod diagnostic;
pub mod ends;
pub mod fold;
pub mod frames;
mod gather;
pub mod history;
pub mod listing;
mod lookup;
pub mod program;
mod sort;
mod stretches;
mod suppressed;
pub mod verdict;
pub(crate) mod words;

use staleline_results::*;

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod facts_tests;
