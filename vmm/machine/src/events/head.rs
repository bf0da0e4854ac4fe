// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is to be known of a machine before its events.

use serde::{Deserialize, Serialize};
use staleline_devices::soc::WINDOW;
use staleline_devices::soc::report::Names;

use super::Filter;

/// A machine, as its part of the log begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// What it is made of.
    pub names: Names,
    /// The events that are kept.
    pub filter: Filter,
    /// Bytes of them, at most.
    pub limit: u64,
}

impl Head {
    /// Takes out of all names what a terminal would take for orders: logs may come from anywhere.
    pub fn plain(mut self) -> Self {
        let names = &mut self.names;
        let lines = names.interrupts.iter_mut().map(|(_, name)| name);
        let all = names.masters.iter_mut().chain(&mut names.devices);
        for name in all.chain(lines) {
            name.retain(|c| !c.is_control());
        }
        self
    }

    /// The name of a bus master.
    pub fn master(&self, id: u8) -> String {
        let name = self.names.masters.get(usize::from(id));
        name.map_or_else(|| format!("master {id}"), Clone::clone)
    }

    /// The device whose interrupt line has this number.
    pub fn interrupt(&self, irq: u8) -> String {
        let mut lines = self.names.interrupts.iter();
        let name = lines.find(|(line, _)| *line == irq);
        name.map_or_else(|| format!("line {irq}"), |(_, name)| name.clone())
    }

    /// Device and offset of the register at `pa`.
    pub fn register(&self, pa: u64) -> Option<(&str, u64)> {
        let offset = pa.checked_sub(self.names.windows)?;
        let index = usize::try_from(offset / WINDOW).ok()?;
        let name = self.names.devices.get(index)?;
        Some((name, offset % WINDOW))
    }
}
