// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of an SMMU.

use serde::{Deserialize, Serialize};

use super::tlb::Entry;
use super::walk::Stream;
use super::{Fault, STREAMS, Smmu};
use crate::diagnostics::LogState;
use crate::state::{Refused, SaveError, State, Stateful, same};

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct SmmuState {
    regs: Vec<u32>,
    streams: Vec<Option<Stream>>,
    tlb: Vec<Option<Entry>>,
    log: LogState<Fault>,
}

impl State for SmmuState {
    const COMPONENT: &'static str = "smmu";
    const VERSION: u16 = 1;
}

impl Stateful for Smmu {
    type State = SmmuState;

    fn state(&self) -> Result<SmmuState, SaveError> {
        let Smmu {
            regs,
            streams,
            tlb,
            log,
        } = self;
        Ok(SmmuState {
            regs: regs.values().to_vec(),
            streams: streams.clone(),
            tlb: tlb.state(),
            log: log.state(),
        })
    }

    fn set_state(&mut self, state: SmmuState) -> Result<(), Refused> {
        self.regs.set_values(state.regs)?;
        same("streams", &state.streams.len(), &(STREAMS as usize))?;
        for stream in state.streams.iter().flatten() {
            if let Stream::Stage1(context) = stream {
                context.check()?;
            }
        }
        self.streams = state.streams;
        self.tlb.set_state(state.tlb)?;
        self.log.set_state(state.log)?;
        Ok(())
    }
}
