// SPDX-License-Identifier: GPL-2.0-or-later
//! The states of what is kept of call chains and user pages.

use serde::{Deserialize, Serialize};
use staleline_devices::cpu::ChainId;
use staleline_devices::state::{Invalid, no_longer, same, times};
use staleline_machine::engine::chains::{Chain, TracedAccess, UserPage};

use super::{Chains, MAX_CALLERS, MAX_CHAINS, MAX_PAGES, Pages, Trace};

/// All chains, by number.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChainsState {
    chains: Vec<Chain>,
    lost: u64,
    cut: u64,
}

/// What was found of what is wanted.
#[derive(Debug, Serialize, Deserialize)]
pub struct TraceState(Vec<TracedAccess>);

/// All pages, in order: where each address leads now follows.
#[derive(Debug, Serialize, Deserialize)]
pub struct PagesState {
    pages: Vec<UserPage>,
    lost: u64,
}

impl Chains {
    /// Their state.
    pub fn state(&self) -> ChainsState {
        let Chains {
            chains,
            known: _,
            lost,
            cut,
        } = self;
        ChainsState {
            chains: chains.clone(),
            lost: *lost,
            cut: *cut,
        }
    }

    /// Chains with this state.
    ///
    /// # Errors
    /// What it may not hold.
    pub fn from_state(state: ChainsState) -> Result<Self, Invalid> {
        no_longer("call chains", state.chains.len(), MAX_CHAINS)?;
        times("call chains lost", &[state.lost, state.cut])?;
        for chain in &state.chains {
            check(chain)?;
        }
        let numbers = (1..).map(ChainId);
        Ok(Chains {
            known: state.chains.iter().cloned().zip(numbers).collect(),
            chains: state.chains,
            lost: state.lost,
            cut: state.cut,
        })
    }
}

impl Trace {
    /// Its state.
    pub fn state(&self) -> TraceState {
        let Trace { wanted: _, found } = self;
        TraceState(found.clone())
    }

    /// Takes over what was found of the same wishes; nothing was found here before.
    ///
    /// # Errors
    /// If something was found that is not wanted.
    pub fn set_state(&mut self, state: TraceState) -> Result<(), Invalid> {
        for access in &state.0 {
            let wanted = self.wanted.pop().unwrap_or_default();
            same("access traced", &access.at, &wanted)?;
            check(&access.chain)?;
        }
        self.found = state.0;
        Ok(())
    }
}

fn check(chain: &Chain) -> Result<(), Invalid> {
    let user = chain.user.as_ref().map_or(0, |user| user.callers.len());
    let most = chain.callers.len().max(user);
    no_longer("callers in a call chain", most, MAX_CALLERS)
}

impl Pages {
    /// Their state.
    pub fn state(&self) -> PagesState {
        let Pages {
            pages,
            known: _,
            lost,
        } = self;
        PagesState {
            pages: pages.clone(),
            lost: *lost,
        }
    }

    /// Pages with this state.
    ///
    /// # Errors
    /// What it may not hold.
    pub fn from_state(state: PagesState) -> Result<Self, Invalid> {
        no_longer("user pages", state.pages.len(), MAX_PAGES)?;
        times("user pages lost", &[state.lost])?;
        Ok(Pages {
            known: state.pages.iter().map(|page| (page.va, page.pa)).collect(),
            pages: state.pages,
            lost: state.lost,
        })
    }
}
