// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Runs: a scenario resolved into a [`crate::spec::RunSpec`], carried out by a [`backend::Backend`],
//! judged, and reported.

pub mod backend;
pub mod choice;
mod debugger;
pub mod directory;
mod given;
pub mod kernels;
pub mod ledger;
pub mod logbook;
pub mod modules;
pub mod once;
pub mod orchestrate;
pub mod overlay;
pub mod prebuilt;
pub mod provided;
pub mod replay;
pub mod several;
pub mod stacks;
pub mod wiring;

#[cfg(test)]
pub mod fake;
