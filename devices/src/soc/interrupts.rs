// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Interrupt lines: when those that devices raise and lower go up and down for the engine.

use serde::{Deserialize, Serialize};

use super::{FALL, LATE_LINE, LINE_CHANGE, Soc};
use crate::clock::Ticks;
use crate::cpu::line_bit;
use crate::events::{Event, Kind};
use crate::faults::InterruptFault;

/// Ticks for which a line that nobody has raised stays up: time to take an interrupt, and not for ever, as a
/// handler may not even look at the device.
const FOR_NOTHING: Ticks = 1024;

/// Lines that are not what devices have made of them, as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Disturbed {
    /// Up, though the device has not raised it.
    pub for_nothing: u64,
    /// To go up for nothing when it falls.
    pub again: u64,
}

impl Soc {
    /// A device's line has this level. One that rises may come later; one that falls does at once.
    pub(super) fn line(&mut self, index: usize, irq: u8, level: bool) {
        let bit = line_bit(irq);
        let for_nothing = self.disturbed.for_nothing & bit != 0;
        if !level {
            self.late &= !bit;
        }
        if for_nothing {
            // It is up anyway, and now for a reason.
            if level {
                self.disturbed.for_nothing &= !bit;
            }
            return;
        }
        if level == (self.lines & bit != 0) || self.late & bit != 0 {
            return;
        }
        if level {
            self.rise(index, irq);
        } else {
            self.turn(irq, false);
            if self.disturbed.again & bit != 0 {
                self.disturbed.again &= !bit;
                self.for_nothing(irq);
            }
        }
    }

    fn rise(&mut self, index: usize, irq: u8) {
        let ticks = match self.domain.interrupt_fault(irq) {
            Some(InterruptFault::Lost) => {
                // Late for ever.
                self.late |= line_bit(irq);
                return;
            }
            Some(InterruptFault::Late(ticks)) => Some(ticks.into()),
            Some(InterruptFault::Twice) => {
                self.disturbed.again |= line_bit(irq);
                None
            }
            Some(InterruptFault::Early(_)) | None => None,
        };
        if let Some(ticks) = ticks.or_else(|| self.queue.late()) {
            self.late |= line_bit(irq);
            self.queue.schedule(LATE_LINE, ticks, index as u32);
            return;
        }
        self.turn(irq, true);
    }

    /// An interrupt that was late is there, if its device has not taken it back.
    pub(super) fn late_line(&mut self, index: usize) {
        let Some(irq) = self.slots.get(index).and_then(|slot| slot.irq) else {
            return;
        };
        let bit = line_bit(irq);
        if self.late & bit != 0 {
            self.late &= !bit;
            self.turn(irq, true);
        }
    }

    /// A line goes up that nobody has raised.
    fn for_nothing(&mut self, irq: u8) {
        self.disturbed.for_nothing |= line_bit(irq);
        self.queue.schedule(FALL, FOR_NOTHING, irq.into());
        self.turn(irq, true);
    }

    /// A device has made its first accesses to memory since its interrupt; the next may be to come already.
    pub(super) fn early(&mut self, index: usize) {
        let Some(irq) = self.slots.get(index).and_then(|slot| slot.irq) else {
            return;
        };
        if (self.lines | self.late) & line_bit(irq) == 0 && self.domain.comes_early(irq) {
            self.for_nothing(irq);
        }
    }

    /// The time of a line that nobody has raised is over.
    pub(super) fn fall_again(&mut self, irq: u8) {
        if self.disturbed.for_nothing & line_bit(irq) != 0 {
            self.disturbed.for_nothing &= !line_bit(irq);
            self.turn(irq, false);
        }
    }

    fn turn(&mut self, irq: u8, level: bool) {
        let bit = line_bit(irq);
        self.lines ^= bit;
        self.offered &= !bit;
        self.interrupts += u64::from(level);
        self.domain
            .note(Kind::Interrupt, || Event::Interrupt { irq, high: level });
        self.domain
            .hash_external(LINE_CHANGE | u64::from(irq) << 1 | u64::from(level));
    }
}
