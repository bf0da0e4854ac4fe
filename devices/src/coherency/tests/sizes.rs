// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What RAM costs that the guest leaves alone.

use vm_memory::MmapRegion;

use crate::coherency::{Domain, DomainConfig, Policy, PowerOn};
use crate::cpu::{CpuId, MemoryType, SiteId};
use crate::dma::Port;
use crate::state::Stateful as _;

const BASE: u64 = 0x4000_0000;
const RAM: u64 = 16 << 30;

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages = text.split(' ').nth(1).unwrap();
    pages.parse::<u64>().unwrap() * 4096
}

#[test]
fn ram_that_nobody_uses_costs_nothing() {
    let config = DomainConfig {
        policy: Policy::Eager,
        power_on: PowerOn::Dirty,
        ..DomainConfig::plain(BASE, RAM, vec![Port::Hp])
    };
    let before = resident();
    let mut domain = Domain::new(&config, MmapRegion::new(RAM as usize).unwrap()).unwrap();
    for pa in [BASE, BASE + RAM / 2, BASE + RAM - 64] {
        domain.store(CpuId::BOOT, pa, 8, SiteId(1), MemoryType::Cacheable);
        domain.fetched(CpuId::BOOT, pa, 4, &mut || SiteId(2));
    }
    let saved = domain.save_state().unwrap();
    // Two words for each page would be 64 MiB.
    let more = resident().saturating_sub(before);
    assert!(more < 16 << 20, "{more} bytes");
    let bytes = serde_json::to_vec(&saved).unwrap().len();
    assert!(bytes < 64 << 10, "{bytes} bytes");
    // And it is the same again.
    let mut other = Domain::new(&config, MmapRegion::new(RAM as usize).unwrap()).unwrap();
    other.restore_state(&saved).unwrap();
    assert_eq!(other.save_state().unwrap(), saved);
}
