// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Campaigns: which faults of maintenance, barriers, interrupts and masters' accesses would be noticed, which
//! would do harm unseen, and whether the sanitizer misses or misnames one.
//!
//! A *target* is a scenario on a kernel that passes. Its *census*, one run, says what a fault can be of; the
//! *plan* names all of them, in groups that are expected to come to the same, before the first is run.

pub mod compare;
pub mod file;
pub mod heard;
#[cfg(test)]
mod host_tests;
pub mod html;
pub mod judge;
pub mod merge;
pub mod plan;
pub mod points;
pub mod report;
pub mod runner;
pub mod sites;
pub mod store;
pub mod submit;
pub mod tally;
pub mod target;
#[cfg(test)]
mod tests;
pub mod times;
pub mod weigh;

pub use file::Campaign;
