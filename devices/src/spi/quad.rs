// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! AMD/Xilinx AXI Quad SPI in standard mode, master only, 8-bit words, with FIFOs.
//!
//! Sources: `drivers/spi/spi-xilinx.c` of Linux 6.12; AMD PG153 for reset values and for what the
//! driver leaves alone. A transfer takes no device time: a word is exchanged as soon as it may be.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::SpiSlave;
use crate::bus::{Context, Device};
use crate::registers::{Register, RegisterFile};
use crate::state::{
    Refused, RestoreError, SaveError, Saved, State, Stateful, at_most, no_longer, same,
};

pub(super) const DGIER: u64 = 0x1c;
pub(super) const IISR: u64 = 0x20;
pub(super) const IIER: u64 = 0x28;
pub(super) const RESETR: u64 = 0x40;
pub(super) const CR: u64 = 0x60;
pub(super) const SR: u64 = 0x64;
pub(super) const TXD: u64 = 0x68;
pub(super) const RXD: u64 = 0x6c;
pub(super) const SSR: u64 = 0x70;
pub(super) const TX_OCCUPANCY: u64 = 0x74;
pub(super) const RX_OCCUPANCY: u64 = 0x78;

pub(super) const CR_LOOP: u32 = 1 << 0;
pub(super) const CR_ENABLE: u32 = 1 << 1;
pub(super) const CR_MASTER: u32 = 1 << 2;
const CR_CPOL: u32 = 1 << 3;
const CR_CPHA: u32 = 1 << 4;
pub(super) const CR_TX_RESET: u32 = 1 << 5;
pub(super) const CR_RX_RESET: u32 = 1 << 6;
pub(super) const CR_MANUAL_SELECT: u32 = 1 << 7;
pub(super) const CR_INHIBIT: u32 = 1 << 8;
pub(super) const CR_LSB_FIRST: u32 = 1 << 9;
// The FIFO resets clear themselves, so they are not stored.
const CR_STORED: u32 = CR_LOOP
    | CR_ENABLE
    | CR_MASTER
    | CR_CPOL
    | CR_CPHA
    | CR_MANUAL_SELECT
    | CR_INHIBIT
    | CR_LSB_FIRST;

pub(super) const SR_RX_EMPTY: u32 = 1 << 0;
pub(super) const SR_RX_FULL: u32 = 1 << 1;
pub(super) const SR_TX_EMPTY: u32 = 1 << 2;
pub(super) const SR_TX_FULL: u32 = 1 << 3;
/// Not addressed as a slave.
const SR_NOT_SELECTED: u32 = 1 << 5;

pub(super) const INT_TX_EMPTY: u32 = 1 << 2;
const INT_RX_FULL: u32 = 1 << 4;
pub(super) const INT_RX_OVERRUN: u32 = 1 << 5;
const INT_TX_HALF_EMPTY: u32 = 1 << 6;
/// All 14 sources of PG153; those of slave and quad modes never come.
const INT_ALL: u32 = 0x3fff;

const GLOBAL_ENABLE: u32 = 1 << 31;
/// The value that resets; any other written to RESETR is a bus error on hardware, nothing here.
pub(super) const RESET_KEY: u32 = 0x0a;

/// Words in each FIFO.
pub(super) const FIFO: usize = 16;

pub(super) fn table(selects: u32) -> Vec<Register> {
    vec![
        Register::rw(DGIER, "DGIER", GLOBAL_ENABLE),
        Register::ro(IISR, "IISR", 0).with_acts(INT_ALL),
        Register::rw(IIER, "IIER", INT_ALL),
        Register::ro(RESETR, "RESETR", 0).with_acts(u32::MAX),
        Register::rw(CR, "CR", CR_STORED)
            .with_reset(CR_INHIBIT | CR_MANUAL_SELECT)
            .with_acts(CR_TX_RESET | CR_RX_RESET),
        Register::ro(SR, "SR", SR_NOT_SELECTED),
        Register::ro(TXD, "TXD", 0).with_acts(0xff),
        Register::ro(RXD, "RXD", 0),
        Register::rw(SSR, "SSR", selects).with_reset(selects),
        Register::ro(TX_OCCUPANCY, "TX_OCCUPANCY", 0),
        Register::ro(RX_OCCUPANCY, "RX_OCCUPANCY", 0),
    ]
}

/// More chips than the controller has select lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} SPI slaves, the controller has at most 32 chip selects")]
pub struct TooManySlaves(pub usize);

/// The controller and the chips on its bus.
#[derive(Debug)]
pub struct AxiQuadSpi {
    regs: RegisterFile,
    tx: VecDeque<u8>,
    rx: VecDeque<u8>,
    slaves: Vec<Box<dyn SpiSlave>>,
    /// Bit *n*: slave *n* is selected.
    selected: u32,
}

impl AxiQuadSpi {
    /// A controller after reset with slave *n* on chip select *n*.
    ///
    /// # Errors
    /// [`TooManySlaves`] beyond 32.
    pub fn new(slaves: Vec<Box<dyn SpiSlave>>) -> Result<Self, TooManySlaves> {
        if slaves.len() > 32 {
            return Err(TooManySlaves(slaves.len()));
        }
        let lines = ((1u64 << slaves.len()) - 1) as u32;
        Ok(AxiQuadSpi {
            regs: RegisterFile::new(table(lines)),
            tx: VecDeque::with_capacity(FIFO),
            rx: VecDeque::with_capacity(FIFO),
            slaves,
            selected: 0,
        })
    }

    fn cr(&self, bits: u32) -> bool {
        self.regs.get(CR) & bits == bits
    }

    fn interrupt(&mut self, source: u32) {
        self.regs.modify(IISR, source, source);
    }

    /// The lines that SSR drives low, where a slave is.
    fn chosen(&self) -> u32 {
        let lines = ((1u64 << self.slaves.len()) - 1) as u32;
        !self.regs.get(SSR) & lines
    }

    fn set_selected(&mut self, selected: u32) {
        let changed = self.selected ^ selected;
        self.selected = selected;
        for (n, slave) in self.slaves.iter_mut().enumerate() {
            let bit = 1 << n;
            if changed & bit == 0 {
                continue;
            }
            if selected & bit != 0 {
                slave.select();
            } else {
                slave.deselect();
            }
        }
    }

    fn update_selected(&mut self) {
        let selected = if self.cr(CR_MANUAL_SELECT) {
            self.chosen()
        } else {
            0
        };
        self.set_selected(selected);
    }

    /// Exchanges what waits, as far as the control register allows: at most one FIFO full.
    fn pump(&mut self) {
        let allowed = self.cr(CR_ENABLE | CR_MASTER) && !self.cr(CR_INHIBIT);
        if !allowed || self.tx.is_empty() {
            return;
        }
        // Without manual selection the lines are driven for the time of the exchange.
        self.set_selected(self.chosen());
        while let Some(word) = self.tx.pop_front() {
            let reply = self.exchange(word);
            if self.tx.len() == FIFO / 2 {
                self.interrupt(INT_TX_HALF_EMPTY);
            }
            if self.rx.len() >= FIFO {
                self.interrupt(INT_RX_OVERRUN);
                continue;
            }
            self.rx.push_back(reply);
            if self.rx.len() == FIFO {
                self.interrupt(INT_RX_FULL);
            }
        }
        self.interrupt(INT_TX_EMPTY);
        self.update_selected();
    }

    fn exchange(&mut self, word: u8) -> u8 {
        if self.cr(CR_LOOP) {
            return word;
        }
        let lsb_first = self.cr(CR_LSB_FIRST);
        let wire = |byte: u8| if lsb_first { byte.reverse_bits() } else { byte };
        // An idle MISO line is pulled up; several chips at once pull it down together.
        let mut reply = 0xff;
        for (n, slave) in self.slaves.iter_mut().enumerate() {
            if self.selected & 1 << n != 0 {
                reply &= slave.exchange(wire(word));
            }
        }
        wire(reply)
    }

    fn reset(&mut self) {
        self.regs.reset();
        self.tx.clear();
        self.rx.clear();
        self.update_selected();
    }

    fn write_cr(&mut self, value: u32) {
        if value & CR_TX_RESET != 0 {
            self.tx.clear();
        }
        if value & CR_RX_RESET != 0 {
            self.rx.clear();
        }
        self.regs.write(CR, value);
        self.update_selected();
        self.pump();
    }
}

impl Device for AxiQuadSpi {
    fn registers(&self) -> &[Register] {
        self.regs.table()
    }

    fn peek(&self, offset: u64) -> u32 {
        let flag = |on: bool, bit| if on { bit } else { 0 };
        let occupancy = |fifo: &VecDeque<u8>| (fifo.len() as u32).saturating_sub(1);
        match offset {
            SR => {
                self.regs.get(SR)
                    | flag(self.rx.is_empty(), SR_RX_EMPTY)
                    | flag(self.rx.len() >= FIFO, SR_RX_FULL)
                    | flag(self.tx.is_empty(), SR_TX_EMPTY)
                    | flag(self.tx.len() >= FIFO, SR_TX_FULL)
            }
            RXD => self.rx.front().copied().unwrap_or(0).into(),
            TX_OCCUPANCY => occupancy(&self.tx),
            RX_OCCUPANCY => occupancy(&self.rx),
            _ => self.regs.get(offset),
        }
    }

    fn read_effect(&mut self, offset: u64, _ctx: &mut Context<'_>) {
        if offset == RXD {
            self.rx.pop_front();
        }
    }

    fn write(&mut self, offset: u64, value: u32, _ctx: &mut Context<'_>) {
        match offset {
            RESETR if value == RESET_KEY => self.reset(),
            CR => self.write_cr(value),
            TXD => {
                // A word too many is lost, as on hardware.
                if self.tx.len() < FIFO {
                    self.tx.push_back(value as u8);
                }
                self.pump();
            }
            SSR => {
                self.regs.write(SSR, value);
                self.update_selected();
            }
            // Writing 1 toggles.
            IISR => {
                let toggled = self.regs.get(IISR) ^ value & INT_ALL;
                self.regs.set(IISR, toggled);
            }
            _ => {
                self.regs.write(offset, value);
            }
        }
    }

    fn irq(&self) -> bool {
        let enabled = self.regs.get(DGIER) & GLOBAL_ENABLE != 0;
        enabled && self.regs.get(IISR) & self.regs.get(IIER) != 0
    }

    fn save(&self) -> Result<Saved, SaveError> {
        self.save_state()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        self.restore_state(saved)
    }
}

/// Registers, FIFOs, and the chips' states.
#[derive(Debug, Serialize, Deserialize)]
pub struct QuadSpiState {
    regs: Vec<u32>,
    tx: VecDeque<u8>,
    rx: VecDeque<u8>,
    chips: Vec<Saved>,
    selected: u32,
}

impl State for QuadSpiState {
    const COMPONENT: &'static str = "axi-quad-spi";
    const VERSION: u16 = 1;
}

impl Stateful for AxiQuadSpi {
    type State = QuadSpiState;

    fn state(&self) -> Result<QuadSpiState, SaveError> {
        let AxiQuadSpi {
            regs,
            tx,
            rx,
            slaves,
            selected,
        } = self;
        let chips = slaves.iter().map(|chip| chip.save());
        Ok(QuadSpiState {
            regs: regs.values().to_vec(),
            tx: tx.clone(),
            rx: rx.clone(),
            chips: chips.collect::<Result<_, _>>()?,
            selected: *selected,
        })
    }

    fn set_state(&mut self, state: QuadSpiState) -> Result<(), Refused> {
        for fifo in [&state.tx, &state.rx] {
            no_longer("words in a FIFO", fifo.len(), FIFO)?;
        }
        same("number of chips", &state.chips.len(), &self.slaves.len())?;
        let lines = (1u64 << self.slaves.len()) - 1;
        at_most("chips selected", state.selected.into(), lines)?;
        self.regs.set_values(state.regs)?;
        for (chip, saved) in self.slaves.iter_mut().zip(&state.chips) {
            chip.restore(saved)?;
        }
        self.tx = state.tx;
        self.rx = state.rx;
        self.selected = state.selected;
        Ok(())
    }
}
