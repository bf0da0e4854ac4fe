// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! How a domain behaves.

use serde::{Deserialize, Serialize};

use super::poison::Poison;
use super::replacement::Policy;
use crate::dma::Port;
use crate::faults::Fault;

/// What a snooping master's write does to the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnoopWrite {
    /// ACE-Lite: cached copies are pushed out, dirty bytes merged, and DRAM is written.
    WriteThrough,
    /// ACP or a system cache: the line becomes dirty in the cache.
    Allocate,
}

/// What the caches hold when the CPU starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerOn {
    /// Firmware has used the memory and cleaned only what it loaded: every other line may be dirty,
    /// and DRAM below it holds something else (0xdb).
    Dirty,
    /// Nothing.
    Clean,
}

/// How a domain behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainConfig {
    /// First address of RAM, a multiple of the page size.
    pub base: u64,
    /// Bytes of RAM, a multiple of the page size.
    pub ram_bytes: u64,
    /// Replacement policy.
    pub policy: Policy,
    /// What snooping writes do.
    pub snoop_write: SnoopWrite,
    /// Seed of every random choice.
    pub seed: u64,
    /// For each master, by ID, its port.
    pub ports: Vec<Port>,
    /// What is to go wrong.
    pub faults: Vec<Fault>,
    /// Whether to count what faults can be of ([`Census`](super::census::Census)).
    #[serde(default)]
    pub census: bool,
    /// What the caches hold when the CPU starts.
    pub power_on: PowerOn,
    /// Whether every single finding is kept, one per line and access, up to
    /// [`MAX_OCCURRENCES`](crate::coherency::MAX_OCCURRENCES): for small cases and tests.
    #[serde(default)]
    pub occurrences: bool,
    /// Nobody tells of the CPUs' loads and stores, so that the domain has to find out about stores; and RAM holds that
    /// at power-on.
    #[serde(default)]
    pub lazy: Option<Poison>,
}

#[cfg(test)]
impl DomainConfig {
    /// Of a cache without bounds that holds nothing, for tests that are not about it.
    pub fn plain(base: u64, ram_bytes: u64, ports: Vec<Port>) -> Self {
        DomainConfig {
            base,
            ram_bytes,
            policy: Policy::Lazy,
            snoop_write: SnoopWrite::WriteThrough,
            seed: 1,
            ports,
            faults: Vec::new(),
            census: false,
            power_on: PowerOn::Clean,
            occurrences: false,
            lazy: None,
        }
    }
}
