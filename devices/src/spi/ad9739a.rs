// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! AD9739A digital-to-analog converter: its register interface.
//!
//! Source: `drivers/iio/dac/ad9739a.c` of Linux 6.12. Device tree: see [`crate::spi`]. Both
//! control loops lock at once when they are enabled. Registers the driver does not touch are
//! plain storage that is zero after reset.

use serde::{Deserialize, Serialize};

use super::SpiSlave;
use crate::state::{Refused, RestoreError, SaveError, Saved, State, Stateful};

const MODE: u8 = 0x00;
const LVDS_REC_CNT1: u8 = 0x10;
const LVDS_REC_STAT9: u8 = 0x21;
const MU_CNT1: u8 = 0x26;
const MU_STAT1: u8 = 0x2a;
const ID: u8 = 0x35;

const MODE_RESET: u8 = 1 << 5;
/// Receiver and its loop on.
const RECEIVER_ON: u8 = 0b11;
/// Tracking and locked.
const RECEIVER_LOCKED: u8 = 1 << 3 | 1 << 0;
const MU_ON: u8 = 1 << 0;
const MU_LOCKED: u8 = 1 << 0;
const CHIP: u8 = 0x24;

const READ: u8 = 1 << 7;
const REGISTERS: usize = 0x36;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Instruction,
    Data { read: bool, register: u8 },
    Done,
}

/// The chip.
#[derive(Debug)]
pub struct Ad9739a {
    phase: Phase,
    registers: [u8; REGISTERS],
}

impl Ad9739a {
    /// A chip after power-on.
    pub fn new() -> Self {
        Ad9739a {
            phase: Phase::Done,
            registers: [0; REGISTERS],
        }
    }

    fn stored(&self, register: u8) -> u8 {
        self.registers
            .get(usize::from(register))
            .copied()
            .unwrap_or(0)
    }

    /// What the SPI port reads at `register`.
    pub fn get(&self, register: u8) -> u8 {
        let on = |register, bits| self.stored(register) & bits == bits;
        match register {
            ID => CHIP,
            LVDS_REC_STAT9 if on(LVDS_REC_CNT1, RECEIVER_ON) => RECEIVER_LOCKED,
            MU_STAT1 if on(MU_CNT1, MU_ON) => MU_LOCKED,
            LVDS_REC_STAT9 | MU_STAT1 => 0,
            _ => self.stored(register),
        }
    }

    fn set(&mut self, register: u8, value: u8) {
        if register == MODE && value & MODE_RESET != 0 {
            self.registers = [0; REGISTERS];
        }
        if let Some(stored) = self.registers.get_mut(usize::from(register)) {
            *stored = value;
        }
    }
}

impl Default for Ad9739a {
    fn default() -> Self {
        Self::new()
    }
}

impl SpiSlave for Ad9739a {
    fn select(&mut self) {
        self.phase = Phase::Instruction;
    }

    fn deselect(&mut self) {
        self.phase = Phase::Done;
    }

    fn exchange(&mut self, mosi: u8) -> u8 {
        match self.phase {
            Phase::Instruction => {
                self.phase = Phase::Data {
                    read: mosi & READ != 0,
                    register: mosi & !READ,
                };
                0xff
            }
            Phase::Data { read, register } => {
                self.phase = Phase::Done;
                if read {
                    return self.get(register);
                }
                self.set(register, mosi);
                0xff
            }
            Phase::Done => 0xff,
        }
    }

    fn save(&self) -> Result<Saved, SaveError> {
        self.save_state()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        self.restore_state(saved)
    }
}

/// Where it is in a command, and its registers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ad9739aState {
    phase: Phase,
    #[serde(with = "serde_bytes")]
    registers: [u8; REGISTERS],
}

impl State for Ad9739aState {
    const COMPONENT: &'static str = "ad9739a";
    const VERSION: u16 = 1;
}

impl Stateful for Ad9739a {
    type State = Ad9739aState;

    fn state(&self) -> Result<Ad9739aState, SaveError> {
        let Ad9739a { phase, registers } = self;
        Ok(Ad9739aState {
            phase: *phase,
            registers: *registers,
        })
    }

    fn set_state(&mut self, state: Ad9739aState) -> Result<(), Refused> {
        self.phase = state.phase;
        self.registers = state.registers;
        Ok(())
    }
}
