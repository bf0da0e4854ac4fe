// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The smallest run that still fails in the same way: fewest faults, incidents, frames, buffers and bytes.
//!
//! What is tried next is decided without a guest ([`search`], over what [`parts`] can take away), and each try is
//! a run of one ([`runs`]), judged by what it tells ([`outcome`]).

pub mod bless;
pub mod outcome;
pub mod parts;
pub mod runs;
pub mod search;
#[cfg(test)]
mod tests;
