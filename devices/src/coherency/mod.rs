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
mod cache;
mod called;
pub mod census;
mod cleans;
mod cold;
mod completion;
mod config;
mod dma;
mod domain;
mod faults;
mod fences;
mod fetch;
mod fetched;
mod findings;
mod hash;
mod images;
mod injector;
mod limits;
mod line;
mod lines;
mod logged;
mod maintenance;
#[cfg(not(feature = "mutate"))]
mod mutate;
#[cfg(feature = "mutate")]
pub mod mutate;
mod non_cacheable;
mod observe;
mod order;
mod outsider;
mod ownership;
mod page;
mod per_page;
mod physical;
mod poison;
mod replacement;
pub mod report;
mod rest;
mod sanitizer;
mod state;
mod stores;
mod summary;
mod transfers;
mod trial;
mod unread;
mod who;
mod whole;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

pub use config::{DomainConfig, PowerOn, SnoopWrite};
pub use domain::Domain;
pub use findings::Occurrence;
pub use images::{DramImage, ImageError};
pub use limits::{
    MAX_CAUSES, MAX_CLEANS, MAX_EXTENTS, MAX_HAZARDS, MAX_LINES, MAX_OCCURRENCES, MAX_OPERATIONS,
    MAX_OVERTAKEN, MAX_TRANSFERS,
};
pub use poison::Poison;
pub use replacement::Policy;

pub use crate::cpu::LINE;
pub use crate::hazard;
