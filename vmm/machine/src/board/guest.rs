// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The chip as a machine that an engine hosts.

use staleline_devices::events::{Kinds, Witness};
use staleline_devices::soc::Soc;
use staleline_devices::soc::report::{Names, SocReport};
use staleline_devices::state::{RestoreError, SaveError, Saved, Stateful as _};

use super::config::MachineConfig;
use super::machine;
use crate::engine::guest::{Guest, GuestContext};

/// Built from a [`MachineConfig`].
impl Guest for Soc {
    type Report = SocReport;

    fn new(context: GuestContext) -> Result<Self, String> {
        let config: MachineConfig = serde_json::from_value(context.machine)
            .map_err(|e| format!("the machine's configuration: {e}"))?;
        machine::build(
            &config,
            (context.ram, context.dram),
            context.windows,
            context.lazy,
        )
        .map_err(|e| e.to_string())
    }

    fn steps(&self) -> u64 {
        Soc::steps(self)
    }

    fn save(&self) -> Result<Saved, SaveError> {
        self.save_state()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        self.restore_state(saved)
    }

    fn names(&self) -> Names {
        Soc::names(self)
    }

    fn watch(&mut self, kinds: Kinds, witness: Box<dyn Witness>) {
        Soc::watch(self, kinds, witness);
    }

    fn pass_witness(&mut self, other: &mut Self) {
        Soc::pass_witness(self, other);
    }

    fn finish(&mut self) -> Result<SocReport, String> {
        self.domain().look_outside_at_the_end();
        self.unwatch();
        Ok(self.report())
    }
}
