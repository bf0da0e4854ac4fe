// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `axi_adc`, version 10, one channel. Source: `drivers/iio/adc/adi-axi-adc.c` of Linux 6.12.
//! Device tree: see [`crate::converters`].

use serde::{Deserialize, Serialize};

use super::*;
use crate::bus::{Context, Device};
use crate::registers::{Register, RegisterFile};
use crate::state::{Refused, RestoreError, SaveError, Saved, State, Stateful};
use crate::stream::StreamId;

pub(super) const CHAN_CTRL: u64 = 0x400;
pub(super) const CHAN_STATUS: u64 = 0x404;
const CHAN_CTRL_1: u64 = 0x410;
const CHAN_CTRL_2: u64 = 0x414;
pub(super) const CHAN_CTRL_3: u64 = 0x418;
/// Tap of I/O lane *n* at `DELAY + 4 n`.
pub(super) const DELAY: u64 = 0x800;

/// 10.00.a
const VERSION_10_00_A: u32 = 0x000a_0061;

pub(super) const CHAN_ENABLE: u32 = 1 << 0;
/// Enable, PN type, formatting, filters, PN select and loopback.
const CHAN_CTRL_ALL: u32 = CHAN_ENABLE | 1 << 1 | 0b111 << 4 | 0b1111 << 8;
/// Over-range and the errors of the pseudo-noise monitor, which compares what arrives with what the
/// chip says it sends. Nothing sets them: the link is perfect.
const CHAN_STATUS_ALL: u32 = 0b111;
const DELAY_MASK: u32 = 0x1f;

const fn delay(lane: u64) -> Register {
    Register::rw(DELAY + 4 * lane, "DELAY", DELAY_MASK)
}

pub(super) const TABLE: &[Register] = &[
    Register::ro(VERSION, "VERSION", VERSION_10_00_A),
    Register::ro(PERIPHERAL_ID, "PERIPHERAL_ID", 0),
    Register::rw(SCRATCH, "SCRATCH", u32::MAX),
    Register::ro(CONFIG, "CONFIG", 0),
    Register::rw(RSTN, "RSTN", RSTN_ALL),
    // Pin mode, edge select, R1 mode, sync; lanes; symbol format; single data rate.
    Register::rw(CNTRL, "CNTRL", 0x0001_df0f),
    Register::ro(STATUS, "STATUS", 0),
    Register::ro(DRP_STATUS, "DRP_STATUS", 0),
    Register::rw(CHAN_CTRL, "CHAN_CTRL", CHAN_CTRL_ALL),
    Register::w1c(CHAN_STATUS, "CHAN_STATUS", CHAN_STATUS_ALL),
    Register::rw(CHAN_CTRL_1, "CHAN_CTRL_1", u32::MAX),
    Register::rw(CHAN_CTRL_2, "CHAN_CTRL_2", u32::MAX),
    Register::rw(CHAN_CTRL_3, "CHAN_CTRL_3", 0x000f_000f),
    delay(0),
    delay(1),
    delay(2),
    delay(3),
    delay(4),
    delay(5),
    delay(6),
    delay(7),
    delay(8),
    delay(9),
    delay(10),
    delay(11),
    delay(12),
    delay(13),
    delay(14),
    delay(15),
];

/// The core: its channel's enable bit, out of reset, opens the gate of the stream.
#[derive(Debug)]
pub struct AxiAdc {
    regs: RegisterFile,
    stream: StreamId,
}

impl AxiAdc {
    /// A core after reset in front of `stream`.
    pub fn new(stream: StreamId) -> Self {
        AxiAdc {
            regs: RegisterFile::new(TABLE),
            stream,
        }
    }
}

impl Device for AxiAdc {
    fn registers(&self) -> &[Register] {
        self.regs.table()
    }

    fn peek(&self, offset: u64) -> u32 {
        match offset {
            STATUS => status(self.regs.get(RSTN)),
            DRP_STATUS => drp_status(self.regs.get(RSTN)),
            _ => self.regs.get(offset),
        }
    }

    fn write(&mut self, offset: u64, value: u32, ctx: &mut Context<'_>) {
        self.regs.write(offset, value);
        let enabled = self.regs.get(CHAN_CTRL) & CHAN_ENABLE != 0;
        let open = enabled && running(self.regs.get(RSTN));
        ctx.set_gate(self.stream, open);
    }

    fn save(&self) -> Result<Saved, SaveError> {
        self.save_state()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        self.restore_state(saved)
    }
}

/// Its registers. Whether the gate is open is known to the stream.
#[derive(Debug, Serialize, Deserialize)]
pub struct AdcState {
    regs: Vec<u32>,
}

impl State for AdcState {
    const COMPONENT: &'static str = "axi-adc";
    const VERSION: u16 = 1;
}

impl Stateful for AxiAdc {
    type State = AdcState;

    fn state(&self) -> Result<AdcState, SaveError> {
        let AxiAdc { regs, stream: _ } = self;
        Ok(AdcState {
            regs: regs.values().to_vec(),
        })
    }

    fn set_state(&mut self, state: AdcState) -> Result<(), Refused> {
        Ok(self.regs.set_values(state.regs)?)
    }
}
