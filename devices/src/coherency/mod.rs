// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The coherency domain: a cache that holds data, the PoC behind it, the masters around it, and
//! a sanitizer that watches them.
//!
//! * `ram`: the bytes coherent observers see: guest RAM itself, on which the vCPU works;
//! * `dram`: the bytes at the PoC, which non-snooping masters see;
//! * per line: invalid, clean or dirty.
//!
//! Invariant: **a line that is not in the cache has ram == dram.** So guest RAM always holds what
//! the CPU would read, and the model never has to intercept a load before it happens.
//!
//! [`Domain`] takes the CPU's side ([`Domain::load`] …) from an engine and the devices' side
//! through [`crate::dma::DmaMemory`].

mod alias;
mod aside;
mod cleans;
mod cold;
mod completion;
mod dma;
mod domain;
mod fetch;
mod findings;
mod hash;
mod images;
mod line;
mod logged;
mod maintenance;
#[cfg(not(feature = "mutate"))]
mod mutate;
#[cfg(feature = "mutate")]
pub mod mutate;
mod order;
mod ownership;
mod physical;
mod replacement;
pub mod report;
mod rest;
mod sanitizer;
mod state;
mod stores;
mod summary;
mod transfers;
mod who;
mod whole;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

pub use domain::{Domain, DomainConfig, PowerOn, SnoopWrite};
pub use findings::Occurrence;
pub use images::ImageError;
pub use replacement::Policy;

pub use crate::cpu::LINE;
pub use crate::hazard;

/// Findings of each kind listed per run. Beyond, they are counted, but not their lines.
pub const MAX_HAZARDS: usize = 1 << 17;

/// Findings counted per run.
pub const MAX_CAUSES: usize = 1 << 20;

/// Single occurrences of findings kept per run, where they are asked for.
pub const MAX_OCCURRENCES: usize = 1 << 16;

/// Transfers recorded per run. A line's metadata has room for IDs below 2^24; this many take 200 MiB.
pub const MAX_TRANSFERS: usize = 1 << 21;

/// Maintenance operations told apart per run; what comes after counts as one. So many take 300 MiB.
pub const MAX_OPERATIONS: usize = 1 << 22;

/// Runs of adjacent lines that they were on, likewise.
pub const MAX_EXTENTS: usize = 1 << 23;

/// Cleans of parts of lines kept where a line has no room for them. So many take 24 MiB.
pub const MAX_CLEANS: usize = 1 << 20;

/// Stores kept that others to the same line have overtaken, likewise.
pub const MAX_OVERTAKEN: usize = 1 << 16;
