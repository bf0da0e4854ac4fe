// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of the domain. What stands in guest RAM is none of it: whoever restores has put that there
//! before.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::alias::{Aliases, AliasesState};
use super::cache::CacheState;
use super::completion::Completion;
use super::config::SnoopWrite;
use super::domain::Domain;
use super::fences::Fences;
use super::fetched::FetchedState;
use super::hash::RunHash;
use super::images::OtherPage;
use super::injector::InjectorState;
use super::lines::state::LinesState;
use super::replacement::Policy;
use super::sanitizer::SanitizerState;
use super::transfers::{Transfers, TransfersState};
use crate::cpu::LINE;
use crate::dma::Port;
use crate::state::{Refused, SaveError, Saved, State, Stateful, same};

/// What the board decides, for a look at whether it is the same one.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Board {
    base: u64,
    len: u64,
    ports: Vec<Port>,
    snoop_write: SnoopWrite,
    policy: Policy,
}

/// All that the domain knows; what DRAM holds where it is not what RAM does; and what RAM was last seen to hold,
/// where that is how stores are found.
#[derive(Debug, Serialize, Deserialize)]
pub struct DomainState {
    board: Board,
    lines: LinesState,
    dram: Vec<OtherPage>,
    seen: Vec<OtherPage>,
    fetched: FetchedState,
    cache: CacheState,
    sanitizer: Saved,
    transfers: TransfersState,
    aliases: AliasesState,
    fences: Fences,
    completions: Vec<Completion>,
    dma_writes: u32,
    injector: InjectorState,
    hash: RunHash,
}

impl State for DomainState {
    const COMPONENT: &'static str = "coherency-domain";
    const VERSION: u16 = 10;
}

impl Domain {
    fn board(&self) -> Board {
        Board {
            base: self.base,
            len: self.len,
            ports: self.ports.clone(),
            snoop_write: self.snoop_write,
            policy: self.cache.policy(),
        }
    }

    /// Pages whose DRAM is in the state: what all others hold, they hold as soon as the domain is made.
    fn kept_pages(&self) -> BTreeSet<u64> {
        match self.images.is_loaded() {
            true => self.lines.accessed_pages().collect(),
            // Made of what RAM holds when it is restored, which CPUs may have changed.
            false => self.lines.known_pages(),
        }
    }
}

impl Stateful for Domain {
    type State = DomainState;

    fn state(&self) -> Result<DomainState, SaveError> {
        let Domain {
            base: _,
            len: _,
            ports: _,
            snoop_write: _,
            images,
            lines,
            cache,
            sanitizer,
            transfers,
            aliases,
            fences,
            completions,
            dma_writes,
            hash,
            // There is no saving what nobody tells of.
            outsider: _,
            injector: _,
            // It is wanted of one run.
            counter: _,
        } = self;
        let known = self.kept_pages();
        Ok(DomainState {
            board: self.board(),
            lines: lines.state(),
            dram: images.dram_state(known.into_iter()),
            seen: images.seen_state(),
            fetched: images.fetched.state(),
            cache: cache.state(),
            sanitizer: Saved::new(&sanitizer.to_state())?,
            transfers: transfers.state(),
            aliases: aliases.state(),
            fences: fences.clone(),
            completions: completions.clone(),
            dma_writes: *dma_writes,
            injector: self.injector_state(),
            hash: *hash,
        })
    }

    /// The domain has just been made, and has been told what was loaded. What RAM holds is what it held
    /// when the state was saved.
    fn set_state(&mut self, state: DomainState) -> Result<(), Refused> {
        same("board", &state.board, &self.board())?;
        let masters = self.completions.len();
        same("number of masters", &state.completions.len(), &masters)?;
        let lines = self.len / LINE;
        self.lines.set_state(state.lines)?;
        let known = self.kept_pages();
        self.images.set_dram_state(known.into_iter(), &state.dram)?;
        self.images.set_seen_state(&state.seen)?;
        self.images.fetched.set_state(state.fetched, self.len)?;
        self.cache.set_state(state.cache, lines)?;
        let judged: SanitizerState = state.sanitizer.open()?;
        let set = self.sanitizer.set_state(judged, lines);
        set.map_err(|why| why.of::<SanitizerState>())?;
        self.transfers = Transfers::from_state(state.transfers, self.len)?;
        self.aliases = Aliases::from_state(state.aliases, self.len)?;
        state.fences.check()?;
        self.fences = state.fences;
        self.completions = state.completions;
        self.dma_writes = state.dma_writes;
        self.set_injector_state(state.injector)?;
        self.hash = state.hash;
        Ok(())
    }
}
