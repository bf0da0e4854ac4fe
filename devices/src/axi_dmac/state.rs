// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of an AXI-DMAC.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::engine::{EngineState, Request};
use super::{AxiDmac, ID_MASK, PARTIALS};
use crate::clock::Ticks;
use crate::dma::Doorbell;
use crate::state::{Refused, SaveError, State, Stateful, at_most, no_longer, times};

/// All but its configuration.
#[derive(Debug, Serialize, Deserialize)]
pub struct DmacState {
    regs: Vec<u32>,
    engine: EngineState,
    queue: VecDeque<Request>,
    submit: bool,
    doorbell: Doorbell,
    endless: bool,
    transfer_id: u32,
    active_id: u32,
    done: u32,
    partial: VecDeque<(u32, u32)>,
    merged: u64,
    first_merged: Ticks,
    due: Option<Ticks>,
    armed: bool,
}

impl State for DmacState {
    const COMPONENT: &'static str = "axi-dmac";
    const VERSION: u16 = 1;
}

impl Stateful for AxiDmac {
    type State = DmacState;

    fn state(&self) -> Result<DmacState, SaveError> {
        let AxiDmac {
            config: _,
            regs,
            engine,
            queue,
            submit,
            doorbell,
            endless,
            transfer_id,
            active_id,
            done,
            partial,
            merged,
            first_merged,
            due,
            armed,
        } = self;
        Ok(DmacState {
            regs: regs.values().to_vec(),
            engine: engine.state(),
            queue: queue.clone(),
            submit: *submit,
            doorbell: *doorbell,
            endless: *endless,
            transfer_id: *transfer_id,
            active_id: *active_id,
            done: *done,
            partial: partial.clone(),
            merged: *merged,
            first_merged: *first_merged,
            due: *due,
            armed: *armed,
        })
    }

    fn set_state(&mut self, state: DmacState) -> Result<(), Refused> {
        no_longer("queue", state.queue.len(), self.config.queue_depth)?;
        state.queue.iter().try_for_each(Request::check)?;
        state.doorbell.check()?;
        for id in [state.transfer_id, state.active_id] {
            at_most("transfer ID", id.into(), ID_MASK.into())?;
        }
        at_most("transfers done", state.done.into(), 1 << (ID_MASK + 1))?;
        no_longer("partial transfers", state.partial.len(), PARTIALS)?;
        times("merged ends", &[state.merged, state.first_merged])?;
        times("time of the next step", state.due.as_slice())?;
        self.regs.set_values(state.regs)?;
        self.engine.set_state(state.engine)?;
        self.queue = state.queue;
        self.submit = state.submit;
        self.doorbell = state.doorbell;
        self.endless = state.endless;
        self.transfer_id = state.transfer_id;
        self.active_id = state.active_id;
        self.done = state.done;
        self.partial = state.partial;
        self.merged = state.merged;
        self.first_merged = state.first_merged;
        self.due = state.due;
        self.armed = state.armed;
        Ok(())
    }
}
