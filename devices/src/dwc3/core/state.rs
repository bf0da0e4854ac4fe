// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of the controller without its host.

use serde::{Deserialize, Serialize};

use super::{Control, Core, Endpoint, EventRing, Faults};
use crate::dwc3::endpoint::EndpointState;
use crate::state::{Invalid, same};
use crate::usb::Speed;

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::dwc3) struct CoreState {
    regs: Vec<u32>,
    ring: EventRing,
    faults: Faults,
    endpoints: Vec<EndpointState>,
    control: Control,
    session: u32,
    link: Option<Speed>,
    kick: bool,
}

impl Core {
    pub(in crate::dwc3) fn state(&self) -> CoreState {
        let Core {
            regs,
            ring,
            faults,
            endpoints,
            control,
            session,
            link,
            kick,
        } = self;
        CoreState {
            regs: regs.values().to_vec(),
            ring: ring.clone(),
            faults: faults.clone(),
            endpoints: endpoints.iter().map(Endpoint::state).collect(),
            control: control.clone(),
            session: *session,
            link: *link,
            kick: *kick,
        }
    }

    pub(in crate::dwc3) fn set_state(&mut self, state: CoreState) -> Result<(), Invalid> {
        state.ring.check()?;
        state.faults.check()?;
        state.control.check()?;
        let endpoints = self.endpoints.len();
        same("number of endpoints", &state.endpoints.len(), &endpoints)?;
        self.regs.set_values(state.regs)?;
        for (endpoint, state) in self.endpoints.iter_mut().zip(state.endpoints) {
            endpoint.set_state(state)?;
        }
        self.ring = state.ring;
        self.faults = state.faults;
        self.control = state.control;
        self.session = state.session;
        self.link = state.link;
        self.kick = state.kick;
        Ok(())
    }
}
