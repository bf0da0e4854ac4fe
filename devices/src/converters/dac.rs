// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `axi_dac`, version 9, one channel, without tone generators. Source:
//! `drivers/iio/dac/adi-axi-dac.c` of Linux 6.12. Device tree: see [`crate::converters`].

use serde::{Deserialize, Serialize};

use super::*;
use crate::bus::{Context, Device};
use crate::registers::{Register, RegisterFile};
use crate::state::{Refused, RestoreError, SaveError, Saved, State, Stateful};
use crate::stream::StreamId;

pub(super) const CHAN_CNTRL_7: u64 = 0x418;

/// 9.01.b
const VERSION_9_01_B: u32 = 0x0009_0162;

/// In CONFIG: built without tone generators; the driver then offers no controls for them.
pub(super) const DDS_DISABLE: u32 = 1 << 6;
const DATA_SEL_MASK: u32 = 0xf;
/// Samples come from the DMA engine.
pub(super) const DATA_SEL_DMA: u32 = 2;

pub(super) const TABLE: &[Register] = &[
    Register::ro(VERSION, "VERSION", VERSION_9_01_B),
    Register::ro(PERIPHERAL_ID, "PERIPHERAL_ID", 0),
    Register::rw(SCRATCH, "SCRATCH", u32::MAX),
    Register::ro(CONFIG, "CONFIG", DDS_DISABLE),
    Register::rw(RSTN, "RSTN", RSTN_ALL),
    // SYNC, all it has here, clears itself.
    Register::ro(CNTRL, "CNTRL_1", 0),
    // Data format, R1 mode, parity; symbol format; lanes; single data rate.
    Register::rw(CNTRL_2, "CNTRL_2", 0x0001_dff0),
    Register::ro(STATUS, "STATUS", 0),
    Register::ro(DRP_STATUS, "DRP_STATUS", 0),
    Register::rw(CHAN_CNTRL_7, "CHAN_CNTRL_7", DATA_SEL_MASK),
];

/// The core: its channel set to DMA data, out of reset, opens the gate of the stream.
#[derive(Debug)]
pub struct AxiDac {
    regs: RegisterFile,
    stream: StreamId,
}

impl AxiDac {
    /// A core after reset behind `stream`.
    pub fn new(stream: StreamId) -> Self {
        AxiDac {
            regs: RegisterFile::new(TABLE),
            stream,
        }
    }
}

impl Device for AxiDac {
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
        let dma = self.regs.get(CHAN_CNTRL_7) & DATA_SEL_MASK == DATA_SEL_DMA;
        let open = dma && running(self.regs.get(RSTN));
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
pub struct DacState {
    regs: Vec<u32>,
}

impl State for DacState {
    const COMPONENT: &'static str = "axi-dac";
    const VERSION: u16 = 1;
}

impl Stateful for AxiDac {
    type State = DacState;

    fn state(&self) -> Result<DacState, SaveError> {
        let AxiDac { regs, stream: _ } = self;
        Ok(DacState {
            regs: regs.values().to_vec(),
        })
    }

    fn set_state(&mut self, state: DacState) -> Result<(), Refused> {
        Ok(self.regs.set_values(state.regs)?)
    }
}
