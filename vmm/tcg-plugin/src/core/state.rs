// SPDX-License-Identifier: GPL-2.0-or-later
//! The state of the machine and of all that is between it and the CPUs. What QEMU knows is none of it,
//! nor what stands in guest RAM.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};
use staleline_devices::cpu::{ChainId, MAX_CPUS};
use staleline_devices::state::{Invalid, RestoreError, SaveError, Saved, State, same};
use staleline_machine::engine::SiteTable;
use staleline_machine::engine::abi::TcgStats;
use staleline_machine::engine::guest::Guest;

use super::{Core, CpuSide};
use crate::calls::Ending;
use crate::chain::{Chains, ChainsState, Pages, PagesState, TraceState};
use crate::mmu::Registers;
use crate::sites::Sites;
use crate::tlb::TlbState;

/// What is between one CPU and the machine. Which words look like table entries to it follows from its
/// registers.
#[derive(Debug, Serialize, Deserialize)]
struct CpuState {
    tlb: TlbState,
    registers: Registers,
    chain: ChainId,
    waits: bool,
}

/// The table of sites, whose index follows.
#[derive(Debug, Serialize, Deserialize)]
struct SitesState {
    entries: Vec<u64>,
    lost: u64,
}

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
struct CoreState {
    machine: Saved,
    sites: SitesState,
    cpus: Vec<CpuState>,
    over: bool,
    qemu_lines: u64,
    chains: ChainsState,
    calls: Vec<Ending>,
    trace: TraceState,
    pages: PagesState,
    stats: TcgStats,
}

impl State for CoreState {
    const COMPONENT: &'static str = "tcg-engine";
    const VERSION: u16 = 3;
}

impl CpuSide {
    fn state(&self) -> CpuState {
        let CpuSide {
            tlb,
            registers,
            leaves: _,
            chain,
            waits,
        } = self;
        CpuState {
            tlb: tlb.state(),
            registers: *registers,
            chain: *chain,
            waits: *waits,
        }
    }

    fn set_state(&mut self, state: CpuState) -> Result<(), Invalid> {
        self.tlb.set_state(state.tlb)?;
        self.registers = state.registers;
        self.leaves.configure(&self.registers);
        self.chain = state.chain;
        self.waits = state.waits;
        Ok(())
    }
}

impl SitesState {
    fn of(sites: &Sites) -> Self {
        SitesState {
            entries: sites.table().entries().to_vec(),
            lost: sites.lost(),
        }
    }

    fn sites(self) -> Result<Sites, Invalid> {
        let entries = self.entries.len();
        let table = SiteTable::from_entries(self.entries).ok_or_else(|| {
            let allowed = format!("at most {}, with 0 first,", SiteTable::LIMIT);
            Invalid::new("places in code", entries, allowed)
        })?;
        Ok(Sites::from_table(table, self.lost))
    }
}

impl<M: Guest, S: Read + Write> Core<M, S> {
    /// The state, and that of the sites which it names.
    ///
    /// # Errors
    /// [`SaveError`].
    pub fn save(&self, sites: &Sites) -> Result<Saved, SaveError> {
        let Core {
            cpus,
            over,
            machine,
            qemu_lines,
            memory: _,
            ram: _,
            windows: _,
            selfcheck: _,
            qtest: _,
            chains,
            calls,
            trace,
            pages,
            stats,
        } = self;
        Saved::new(&CoreState {
            machine: machine.save()?,
            sites: SitesState::of(sites),
            cpus: cpus.iter().map(CpuSide::state).collect(),
            over: *over,
            qemu_lines: *qemu_lines,
            chains: chains.state(),
            calls: calls.state(),
            trace: trace.state(),
            pages: pages.state(),
            stats: stats.clone(),
        })
    }

    /// Takes over the state of a core that was made alike; this one has just been made. Returns the
    /// sites.
    ///
    /// # Errors
    /// [`RestoreError`]: the core is then of no more use.
    pub fn restore(&mut self, saved: &Saved) -> Result<Sites, RestoreError> {
        let state: CoreState = saved.open()?;
        self.machine.restore(&state.machine)?;
        let set = || -> Result<Sites, Invalid> {
            same("number of CPUs", &state.cpus.len(), &MAX_CPUS)?;
            for (side, state) in self.cpus.iter_mut().zip(state.cpus) {
                side.set_state(state)?;
            }
            self.over = state.over;
            self.qemu_lines = state.qemu_lines;
            self.chains = Chains::from_state(state.chains)?;
            self.calls.set_state(state.calls)?;
            self.trace.set_state(state.trace)?;
            self.pages = Pages::from_state(state.pages)?;
            self.stats = state.stats;
            state.sites.sites()
        };
        set().map_err(Invalid::of::<CoreState>)
    }
}
