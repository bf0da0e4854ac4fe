// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of controller and host.

use serde::{Deserialize, Serialize};

use super::Dwc3;
use super::core::CoreState;
use crate::state::{Refused, SaveError, Saved, State, Stateful};
use crate::usb::UsbHost;

/// The controller's state, and the host's own.
#[derive(Debug, Serialize, Deserialize)]
pub struct Dwc3State {
    core: CoreState,
    host: Saved,
    scheduled: bool,
}

impl State for Dwc3State {
    const COMPONENT: &'static str = "dwc3";
    const VERSION: u16 = 1;
}

impl<H: UsbHost> Stateful for Dwc3<H> {
    type State = Dwc3State;

    fn state(&self) -> Result<Dwc3State, SaveError> {
        let Dwc3 {
            core,
            host,
            scheduled,
        } = self;
        Ok(Dwc3State {
            core: core.state(),
            host: host.save()?,
            scheduled: *scheduled,
        })
    }

    fn set_state(&mut self, state: Dwc3State) -> Result<(), Refused> {
        self.core.set_state(state.core)?;
        self.host.restore(&state.host)?;
        self.scheduled = state.scheduled;
        Ok(())
    }
}
