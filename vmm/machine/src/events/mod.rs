// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The log of a run: the runner's steps and what happened on the machine, in one file.
//!
//! `staleline_events` knows how a log is written and read; here is what its records say. The runner's
//! steps are JSON; the machine's are [`staleline_devices::events::Event`]s.

pub mod filter;
mod head;
pub mod read;
pub mod record;
pub mod sample;

#[cfg(test)]
mod tests;

pub use filter::{Filter, LogSettings};
pub use head::Head;
pub use read::{Entry, EventReader, Item};
pub use record::{EventLog, Recording, Sites};
