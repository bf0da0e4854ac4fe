// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A domain with the tests as its vCPU and its devices.

use vm_memory::{Bytes, MmapRegion, VolatileMemory};

use crate::coherency::{Domain, DomainConfig, Policy, PowerOn, SnoopWrite};
use crate::cpu::{CpuId, MemoryType, SiteId};
use crate::dma::Port;

/// First address of RAM; not 0, so that a forgotten base shows.
pub const BASE: u64 = 0x4000_0000;

/// Whether the port of each master snoops.
pub const SNOOPS: [bool; 4] = [true, false, false, true];

pub fn config(ram_bytes: u64, policy: Policy, snoop_write: SnoopWrite) -> DomainConfig {
    DomainConfig {
        base: BASE,
        ram_bytes,
        policy,
        snoop_write,
        seed: 1,
        ports: SNOOPS
            .map(|snoops| if snoops { Port::Hpc } else { Port::Hp })
            .to_vec(),
        faults: Vec::new(),
        census: false,
        power_on: PowerOn::Clean,
        occurrences: true,
        lazy: None,
    }
}

pub fn domain(config: &DomainConfig) -> Domain {
    let ram = MmapRegion::new(config.ram_bytes as usize).unwrap();
    Domain::new(config, ram).unwrap()
}

/// What coherent observers see.
pub fn ram(domain: &Domain, at: usize, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let slice = domain.mapping().as_volatile_slice();
    slice.read_slice(&mut out, at).unwrap();
    out
}

/// What the PoC holds.
pub fn dram(domain: &Domain, at: usize, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    domain.images.read_dram(at as u64, &mut out);
    out
}

/// The bytes of a store, which come before its callback.
pub fn poke(domain: &Domain, at: usize, data: &[u8]) {
    let slice = domain.mapping().as_volatile_slice();
    slice.write_slice(data, at).unwrap();
}

/// The vCPU stores: first the bytes, then the callback.
pub fn store(domain: &mut Domain, at: usize, data: &[u8], site: SiteId, memory: MemoryType) {
    poke(domain, at, data);
    domain.store(
        CpuId::BOOT,
        BASE + at as u64,
        data.len() as u32,
        site,
        memory,
    );
}
