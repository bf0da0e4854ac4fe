// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of the whole chip.

use serde::{Deserialize, Serialize};

use super::Soc;
use super::interrupts::Disturbed;
use crate::clock::Ticks;
use crate::state::{Refused, SaveError, Saved, State, Stateful, at_most, same, times};

/// All parts. Register windows and the time of the next event follow.
#[derive(Debug, Serialize, Deserialize)]
pub struct SocState {
    /// What the chip was made of.
    identity: u64,
    domain: Saved,
    clock: Saved,
    streams: Saved,
    /// Devices by name, in order of their windows.
    devices: Vec<(String, Saved)>,
    skipped: Ticks,
    lines: u64,
    late: u64,
    disturbed: Disturbed,
    offered: u64,
    interrupts: u64,
    register_accesses: u64,
    events: u64,
}

impl State for SocState {
    const COMPONENT: &'static str = "chip";
    const VERSION: u16 = 3;
}

impl Stateful for Soc {
    type State = SocState;

    fn state(&self) -> Result<SocState, SaveError> {
        let Soc {
            domain,
            map: _,
            queue,
            streams,
            stream_names: _,
            identity,
            slots,
            masters: _,
            translator: _,
            wide: _,
            windows_start: _,
            windows: _,
            skipped,
            due: _,
            lines,
            late,
            disturbed,
            offered,
            interrupts,
            register_accesses,
            events,
        } = self;
        let device = |slot: &super::Slot| Ok((slot.name.clone(), slot.device.save()?));
        Ok(SocState {
            identity: *identity,
            domain: domain.save_state()?,
            clock: queue.save_state()?,
            streams: streams.save_state()?,
            devices: slots.iter().map(device).collect::<Result<_, _>>()?,
            skipped: *skipped,
            lines: *lines,
            late: *late,
            disturbed: *disturbed,
            offered: *offered,
            interrupts: *interrupts,
            register_accesses: *register_accesses,
            events: *events,
        })
    }

    /// The chip has just been built. Where CPUs read and write register windows as memory, those show
    /// afterwards what they showed when the state was saved.
    fn set_state(&mut self, state: SocState) -> Result<(), Refused> {
        same("hash of the board", &state.identity, &self.identity)?;
        let names = state.devices.iter().map(|(name, _)| name);
        let here = self.slots.iter().map(|slot| &slot.name);
        same("devices", &names.collect::<Vec<_>>(), &here.collect())?;
        times("time skipped", &[state.skipped])?;
        times("interrupts", &[state.interrupts])?;
        times("steps", &[state.register_accesses, state.events])?;
        let irqs = self.slots.iter().filter_map(|slot| slot.irq);
        let irqs = irqs.fold(0, |irqs, irq| irqs | 1u64 << (irq & 63));
        let disturbed = state.disturbed;
        let odd = [disturbed.for_nothing, disturbed.again];
        for lines in [state.lines, state.late, state.offered]
            .into_iter()
            .chain(odd)
        {
            at_most("interrupt lines of no device", lines & !irqs, 0)?;
        }
        at_most("lines that are late and there", state.late & state.lines, 0)?;
        self.domain.restore_state(&state.domain)?;
        self.queue.restore_state(&state.clock)?;
        self.streams.restore_state(&state.streams)?;
        for (slot, (name, saved)) in self.slots.iter_mut().zip(&state.devices) {
            slot.device.restore(saved).map_err(|e| e.on(name))?;
        }
        self.skipped = state.skipped;
        self.lines = state.lines;
        self.late = state.late;
        self.disturbed = state.disturbed;
        self.offered = state.offered;
        self.interrupts = state.interrupts;
        self.register_accesses = state.register_accesses;
        self.events = state.events;
        self.due = self.queue.next_due().saturating_sub(self.skipped);
        if let Some(windows) = &mut self.windows {
            windows.doubt();
            for (index, slot) in self.slots.iter().enumerate() {
                windows.refresh(index, slot.device.as_ref());
            }
        }
        Ok(())
    }
}
