// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The rules. They look at what software did, not at what the cache happened to do: a line is
//! judged as if it could have been filled or evicted at any moment, which the architecture allows.
//! Only whether a finding *manifested* depends on the data.
//!
//! Each rule also carries the state along in which a line would be without its last clean or its
//! last invalidate, and marks that operation as needed where its absence would have been found.
//!
//! * [`memory`]: what they go by, and have in common;
//! * [`coherent`]: loads, stores, and masters that snoop;
//! * [`poc`]: masters that do not, and non-cacheable aliases;
//! * [`maintain`]: `dc` instructions.

mod coherent;
mod maintain;
mod memory;
mod poc;
mod state;

pub(super) use coherent::fresh_write;
pub(super) use maintain::Maintenance;
pub(super) use memory::{ByMaster, Sanitizer, Subject};
pub(super) use state::SanitizerState;
