// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! AD9467 and AD9649 analog-to-digital converters: their common register interface.
//!
//! Sources: `drivers/iio/adc/ad9467.c` of Linux 6.12, which serves both; Analog Devices
//! application note AN-877 for the interface. Device tree: see [`crate::spi`].
//!
//! Either part works with the axi-adc backend. Both present one channel in 16-bit words. The
//! AD9467 has 16 real bits, so every 16-bit word is a sample; the AD9649 has 14, so a word of a
//! test pattern is not (the kernel passes it on untouched all the same). The driver's probe
//! calibrates: 32 points of 1 ms for the AD9467, 8 for the AD9649.
//!
//! Samples do not pass here: they go to the fabric, see [`crate::converters`]. The link between
//! chip and fabric is perfect, so each calibration point is good.

use serde::{Deserialize, Serialize};

use super::SpiSlave;
use crate::state::{Refused, RestoreError, SaveError, Saved, State, Stateful, same};

const PORT_CONFIG: u8 = 0x00;
const CHIP_ID: u8 = 0x01;
const CHIP_GRADE: u8 = 0x02;
const VREF: u8 = 0x18;
const TRANSFER: u8 = 0xff;

/// Soft reset; the bit is mirrored so that it works in either bit order.
const SOFT_RESET: u8 = 1 << 5 | 1 << 2;
const TRANSFER_SYNC: u8 = 1 << 0;

const READ: u8 = 1 << 7;

/// Which part the chip is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// `adi,ad9467`: 16 bits, up to 250 MS/s.
    Ad9467,
    /// `adi,ad9649`: 14 bits, up to 80 MS/s.
    Ad9649,
}

impl Part {
    /// The `compatible` of its device-tree node.
    pub fn compatible(self) -> &'static str {
        match self {
            Part::Ad9467 => "adi,ad9467",
            Part::Ad9649 => "adi,ad9649",
        }
    }

    fn id(self) -> u8 {
        match self {
            Part::Ad9467 => 0x50,
            Part::Ad9649 => 0x6f,
        }
    }

    fn defaults(self) -> [u8; 256] {
        let mut registers = [0; 256];
        registers[usize::from(PORT_CONFIG)] = 0x18;
        registers[usize::from(CHIP_ID)] = self.id();
        if self == Part::Ad9467 {
            // Full scale 2.5 V peak to peak.
            registers[usize::from(VREF)] = 0x0a;
        }
        registers
    }
}

/// Where in a command the chip is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Deselected,
    High,
    Low {
        high: u8,
    },
    Data {
        read: bool,
        address: u16,
        /// Bytes to come; `None` as long as the chip is selected.
        left: Option<u8>,
    },
}

/// The chip.
#[derive(Debug)]
pub struct Ad9467 {
    part: Part,
    phase: Phase,
    registers: [u8; 256],
    active: [u8; 256],
}

impl Ad9467 {
    /// A chip after power-on.
    pub fn new(part: Part) -> Self {
        Ad9467 {
            part,
            phase: Phase::Deselected,
            registers: part.defaults(),
            active: part.defaults(),
        }
    }

    /// The value of a register that the converter works with: what was written becomes active by a
    /// write to the transfer register.
    pub fn active(&self, register: u8) -> u8 {
        self.active[usize::from(register)]
    }

    fn get(&self, address: u16) -> u8 {
        self.registers
            .get(usize::from(address))
            .copied()
            .unwrap_or(0)
    }

    fn set(&mut self, address: u16, value: u8) {
        let Ok(register) = u8::try_from(address) else {
            return;
        };
        match register {
            CHIP_ID | CHIP_GRADE => {}
            PORT_CONFIG if value & SOFT_RESET != 0 => {
                self.registers = self.part.defaults();
                self.active = self.registers;
            }
            TRANSFER if value & TRANSFER_SYNC != 0 => self.active = self.registers,
            TRANSFER => {}
            _ => self.registers[usize::from(register)] = value,
        }
    }
}

impl SpiSlave for Ad9467 {
    fn select(&mut self) {
        self.phase = Phase::High;
    }

    fn deselect(&mut self) {
        self.phase = Phase::Deselected;
    }

    fn exchange(&mut self, mosi: u8) -> u8 {
        match self.phase {
            Phase::Deselected => 0xff,
            Phase::High => {
                self.phase = Phase::Low { high: mosi };
                0xff
            }
            Phase::Low { high } => {
                // Bits 14:13 of the instruction: bytes minus one, 3 for a stream.
                let bytes = high >> 5 & 3;
                self.phase = Phase::Data {
                    read: high & READ != 0,
                    address: u16::from(high & 0x1f) << 8 | u16::from(mosi),
                    left: (bytes < 3).then_some(bytes + 1),
                };
                0xff
            }
            Phase::Data { left: Some(0), .. } => 0xff,
            Phase::Data {
                read,
                address,
                left,
            } => {
                self.phase = Phase::Data {
                    read,
                    // Most significant bit first means downwards, AN-877.
                    address: address.wrapping_sub(1) & 0x1fff,
                    left: left.map(|n| n - 1),
                };
                if read {
                    return self.get(address);
                }
                self.set(address, mosi);
                0xff
            }
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
pub struct Ad9467State {
    part: Part,
    phase: Phase,
    #[serde(with = "serde_bytes")]
    registers: [u8; 256],
    #[serde(with = "serde_bytes")]
    active: [u8; 256],
}

impl State for Ad9467State {
    const COMPONENT: &'static str = "ad9467";
    const VERSION: u16 = 1;
}

impl Stateful for Ad9467 {
    type State = Ad9467State;

    fn state(&self) -> Result<Ad9467State, SaveError> {
        let Ad9467 {
            part,
            phase,
            registers,
            active,
        } = self;
        Ok(Ad9467State {
            part: *part,
            phase: *phase,
            registers: *registers,
            active: *active,
        })
    }

    fn set_state(&mut self, state: Ad9467State) -> Result<(), Refused> {
        same("part", &state.part, &self.part)?;
        self.phase = state.phase;
        self.registers = state.registers;
        self.active = state.active;
        Ok(())
    }
}
