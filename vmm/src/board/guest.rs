// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The board as a machine that an engine hosts.

use staleline_devices::cpu::{Barrier, CacheOp, ChainId, CpuEvents, MemoryType, SiteId};
use staleline_devices::soc::Soc;
use staleline_devices::soc::report::SocReport;

use super::machine::{self, MachineConfig};
use crate::engine::tcg_abi::{Guest, GuestContext};

/// The chip, built from a [`MachineConfig`].
pub struct BoardGuest(Soc);

impl Guest for BoardGuest {
    type Report = SocReport;

    fn new(context: GuestContext) -> Result<Self, String> {
        let config: MachineConfig = serde_json::from_value(context.machine)
            .map_err(|e| format!("the machine's configuration: {e}"))?;
        machine::build(&config, context.mapping)
            .map(BoardGuest)
            .map_err(|e| e.to_string())
    }

    fn finish(&mut self) -> Result<SocReport, String> {
        Ok(self.0.report())
    }
}

impl CpuEvents for BoardGuest {
    #[inline]
    fn load(&mut self, pa: u64, size: u32, site: SiteId, memory: MemoryType) {
        self.0.load(pa, size, site, memory);
    }

    #[inline]
    fn store(&mut self, pa: u64, size: u32, site: SiteId, memory: MemoryType) {
        self.0.store(pa, size, site, memory);
    }

    fn maintain(&mut self, op: CacheOp, pa: u64, site: SiteId, chain: ChainId) {
        self.0.maintain(op, pa, site, chain);
    }

    fn continues(&self) -> bool {
        self.0.continues()
    }

    fn barrier(&mut self, barrier: Barrier) {
        self.0.barrier(barrier);
    }

    fn map_non_cacheable(&mut self, entry: u64, pa: u64, len: u64) {
        self.0.map_non_cacheable(entry, pa, len);
    }

    fn idle(&mut self) {
        self.0.idle();
    }

    #[inline]
    fn irq_lines(&self) -> u64 {
        self.0.irq_lines()
    }

    #[inline]
    fn accesses(&self) -> u64 {
        self.0.accesses()
    }
}
