// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The board and everything around it: boot loading, engines, scenarios, runs and reports.

pub mod campaign;
pub mod clean;
pub mod cli;
pub mod compare;
pub mod doctor;
pub mod engine;
pub mod evidence;
pub mod exit;
pub mod explain;
pub mod explore;
pub mod interrupt;
pub mod matrix;
pub mod minimise;
pub mod mutants;
pub mod query;
pub mod report;
pub mod requirements;
pub mod result;
pub mod run;
pub mod scenario;
pub mod spec;
pub mod symbols;
pub mod terminal;

pub use staleline_machine::{board, boot, events, names};
