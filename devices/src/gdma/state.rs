// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of a channel.

use serde::{Deserialize, Serialize};

use super::engine::EngineState;
use super::regs::{ACCT, IRQ_DST_ACCT, IRQ_SRC_ACCT};
use super::{Gdma, GuestError, State as Activity};
use crate::diagnostics::LogState;
use crate::state::{Refused, SaveError, State, Stateful, at_most};

/// All but its configuration.
#[derive(Debug, Serialize, Deserialize)]
pub struct GdmaState {
    regs: Vec<u32>,
    engine: EngineState,
    activity: Activity,
    log: LogState<GuestError>,
}

impl State for GdmaState {
    const COMPONENT: &'static str = "gdma";
    const VERSION: u16 = 1;
}

impl Stateful for Gdma {
    type State = GdmaState;

    fn state(&self) -> Result<GdmaState, SaveError> {
        let Gdma {
            regs,
            engine,
            state,
            log,
        } = self;
        Ok(GdmaState {
            regs: regs.values().to_vec(),
            engine: engine.state(),
            activity: *state,
            log: log.state(),
        })
    }

    fn set_state(&mut self, state: GdmaState) -> Result<(), Refused> {
        self.regs.set_values(state.regs)?;
        for register in [IRQ_SRC_ACCT, IRQ_DST_ACCT] {
            at_most(
                "descriptors counted",
                self.regs.get(register).into(),
                ACCT.into(),
            )?;
        }
        self.engine.set_state(state.engine)?;
        self.state = state.activity;
        self.log.set_state(state.log)?;
        Ok(())
    }
}
