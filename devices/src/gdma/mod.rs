// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! One channel of the general purpose DMA of the Zynq UltraScale+: memory to memory. It is there twice
//! on the chip, as GDMA in the full-power domain, whose ports do not snoop, and as ADMA in the
//! low-power domain, whose transactions can be routed through the coherent interconnect.
//!
//! Sources: the driver `drivers/dma/xilinx/zynqmp_dma.c` of Linux 6.12; UG1085 (chapter "DMA
//! Controller") for what a channel does, UG1087 (module ZDMA) for its registers.
//!
//! # Device tree
//! ```text
//! dma-controller@ADDR {
//!     compatible = "xlnx,zynqmp-dma-1.0";
//!     reg = <ADDR 0x1000>;
//!     interrupts = <0 SPI 4>;            // level, high
//!     clocks = <&clk>, <&clk>;           // any fixed clocks
//!     clock-names = "clk_main", "clk_apb";
//!     xlnx,bus-width = <128>;            // 64 or 128; the probe fails without
//!     #dma-cells = <1>;
//! };
//! ```
//! With `dma-coherent` the driver marks descriptors, and what they point to, as coherent.
//!
//! # What it does
//! Simple mode (one buffer each way, in registers) and scatter-gather: a list of source and a list of
//! destination descriptors, whose buffers need not have the same sizes. A source descriptor may
//! pause the channel or stop it; when the source stops, the channel is done, whatever room is left
//! at the destination. A buffer's [`dma::Transfer`](crate::dma::Transfer) is open from the moment its
//! descriptor is fetched to its last byte, and closed before anybody is told.
//!
//! # Coherency
//! Each access asks for itself: data if its descriptor says that it is coherent *and* AxCACHE in
//! DATA_ATTR says that it is cacheable (no other transaction can be shareable); descriptors likewise
//! by DSCR_ATTR. What comes of it, the port decides.
//!
//! # Not modelled
//! Write-only and read-only mode, fixed bursts, flow control by a peripheral, rate control: their
//! bits are not writable, or have no effect. A disabled channel cannot be told from one that has
//! never run. Nothing is fetched ahead of its use.
//!
//! # Guest errors
//! A descriptor that cannot be read or is misaligned, and data that cannot be moved, set the error's
//! bit in ISR and disable the channel, with STATUS 3. A write to the channel that would have to be
//! ignored is ignored. All of it is in [`Gdma::errors`].

mod descriptor;
mod engine;
mod error;
mod regs;
mod state;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_hostile;
#[cfg(test)]
mod tests_rig;
#[cfg(test)]
mod tests_state;

use serde::{Deserialize, Serialize};

use self::descriptor::Descriptor;
use self::engine::{Engine, Then, Work};
pub use self::error::{GuestError, Side};
use self::regs::*;
use crate::bus::{Context, Device};
use crate::clock::{Ticks, Token};
use crate::diagnostics::BoundedLog;
use crate::registers::{Register, RegisterFile};
use crate::state::{RestoreError, SaveError, Saved, Stateful as _};

/// Ticks from the channel's start, or from the end of a buffer, to the fetch of a descriptor.
pub const FETCH_TICKS: Ticks = 6;

/// The engine's next step is due.
const STEP: Token = 0;

/// Which accesses may ask to be snooped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attributes {
    /// Reads of data, if their descriptor is coherent.
    read: bool,
    /// Writes of data, likewise.
    write: bool,
    /// Fetches of descriptors.
    descriptor: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// Disabled: never started, done, or stopped by an error.
    Off {
        error: bool,
    },
    /// One event is on the clock's queue.
    Busy,
    Paused,
}

/// How an instance was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Width of the data bus.
    pub width: BusWidth,
    /// Channel number shown in transfers.
    pub channel: u8,
}

/// Width of the data bus: what moves in a tick of device time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusWidth {
    /// ADMA.
    Bits64,
    /// GDMA.
    Bits128,
}

impl BusWidth {
    /// In bits, as the device tree has it.
    pub fn bits(self) -> u32 {
        match self {
            BusWidth::Bits64 => 64,
            BusWidth::Bits128 => 128,
        }
    }
}

/// The device.
#[derive(Debug)]
pub struct Gdma {
    regs: RegisterFile,
    engine: Engine,
    state: State,
    log: BoundedLog<GuestError>,
}

impl Gdma {
    /// A channel after reset.
    pub fn new(config: Config) -> Self {
        Gdma {
            regs: RegisterFile::new(TABLE),
            engine: Engine::new(config.width.bits() / 8, config.channel),
            state: State::Off { error: false },
            log: BoundedLog::new(),
        }
    }

    /// What the guest did wrong, oldest first, and how often.
    pub fn errors(&self) -> &BoundedLog<GuestError> {
        &self.log
    }

    fn pending(&self) -> u32 {
        self.regs.get(ISR) & !self.regs.get(IMR)
    }

    fn raise(&mut self, bits: u32) {
        self.regs.modify(ISR, bits, bits);
    }

    fn fail(&mut self, error: GuestError, ctx: &Context<'_>) {
        if self.log.push(ctx.clock.now(), error) {
            log::warn!("GDMA: {error}");
        }
        self.raise(error.interrupt());
    }

    fn attributes(&self) -> Attributes {
        // AXI4: one of the two allocate bits makes a transaction cacheable.
        let cacheable = |register, shift| self.regs.get(register) >> shift & 0b1100 != 0;
        Attributes {
            read: cacheable(DATA_ATTR, ARCACHE_SHIFT),
            write: cacheable(DATA_ATTR, AWCACHE_SHIFT),
            descriptor: self.regs.get(DSCR_ATTR) & AXCOHRNT != 0
                && cacheable(DSCR_ATTR, AXCACHE_SHIFT),
        }
    }

    fn address(&self, low: u64, high: u64) -> u64 {
        u64::from(self.regs.get(high)) << 32 | u64::from(self.regs.get(low))
    }

    fn work(&self) -> Work {
        if self.regs.get(CTRL0) & POINT_TYPE_SG != 0 {
            return Work::Lists {
                source: self.address(SRC_START_LSB, SRC_START_MSB),
                destination: self.address(DST_START_LSB, DST_START_MSB),
            };
        }
        let words =
            |first| Descriptor::from_words([0, 4, 8, 12].map(|at| self.regs.get(first + at)));
        Work::Registers {
            source: words(SRC_DSCR_WORD0),
            destination: words(DST_DSCR_WORD0),
        }
    }

    fn write_ctrl2(&mut self, value: u32, ctx: &mut Context<'_>) {
        let enable = value & ENABLE;
        match self.state {
            State::Busy => self.fail(GuestError::Busy { value }, ctx),
            // It goes on, or is disabled, by CONT.
            State::Paused => self.regs.set(CTRL2, enable),
            State::Off { .. } if enable != 0 => {
                self.regs.set(CTRL2, ENABLE);
                let (work, doorbell) = (self.work(), ctx.dma.doorbell());
                self.engine.start(work, self.attributes(), doorbell, ctx);
                self.run_after(FETCH_TICKS, ctx);
            }
            State::Off { .. } => {}
        }
    }

    /// CONT: ends a pause.
    fn resume(&mut self, ctx: &mut Context<'_>) {
        if self.state != State::Paused {
            return;
        }
        if self.regs.get(CTRL2) & ENABLE == 0 {
            self.off(false, ctx);
            return;
        }
        let doorbell = ctx.dma.doorbell();
        if self.regs.get(CTRL0) & CONT_ADDR != 0 {
            let work = self.work();
            self.engine.start(work, self.attributes(), doorbell, ctx);
        } else {
            self.engine.resume(doorbell);
        }
        self.run_after(FETCH_TICKS, ctx);
    }

    fn run_after(&mut self, delay: Ticks, ctx: &mut Context<'_>) {
        self.state = State::Busy;
        ctx.clock.schedule(delay, STEP);
    }

    fn off(&mut self, error: bool, ctx: &mut Context<'_>) {
        self.engine.drop_buffers(ctx);
        self.state = State::Off { error };
        self.regs.set(CTRL2, 0);
    }

    /// Counts a descriptor that is done and asked for it.
    fn count(&mut self, register: u64, done: u32, overflow: u32) {
        let count = self.regs.get(register) + 1;
        self.regs.set(register, count & ACCT);
        self.raise(if count > ACCT { done | overflow } else { done });
    }

    fn step(&mut self, ctx: &mut Context<'_>) {
        let step = match self.engine.step(self.attributes(), ctx) {
            Ok(step) => step,
            Err(error) => {
                self.off(true, ctx);
                self.fail(error, ctx);
                return;
            }
        };
        // At most one burst.
        let (total, overflow) = self.regs.get(TOTAL_BYTE).overflowing_add(step.moved as u32);
        self.regs.set(TOTAL_BYTE, total);
        if overflow {
            self.raise(BYTE_CNT_OVRFL);
        }
        if step.source_done {
            self.count(IRQ_SRC_ACCT, SRC_DSCR_DONE, IRQ_SRC_ACCT_ERR);
        }
        if step.destination_done {
            self.count(IRQ_DST_ACCT, DST_DSCR_DONE, IRQ_DST_ACCT_ERR);
        }
        match step.then {
            Then::Again(delay) => self.run_after(delay, ctx),
            Then::Pause => {
                self.state = State::Paused;
                self.raise(DMA_PAUSE);
            }
            Then::Stop => {
                self.off(false, ctx);
                self.raise(DMA_DONE);
            }
        }
    }
}

impl Device for Gdma {
    fn asks_if_claimed(&self) -> bool {
        // zynqmp_dma.c: coherency is set per descriptor, by is_dmacoherent.
        true
    }

    fn registers(&self) -> &[Register] {
        self.regs.table()
    }

    fn peek(&self, offset: u64) -> u32 {
        // The upper part of an address has 12 bits.
        let high = |address: u64| (address >> 32) as u32;
        let (source, destination) = (Side::Source, Side::Destination);
        match offset {
            STATUS => match self.state {
                State::Off { error: false } => DONE,
                State::Off { error: true } => DONE_ERROR,
                State::Busy => BUSY,
                State::Paused => PAUSED,
            },
            SRC_CUR_PYLD_LSB => self.engine.payload(source) as u32,
            SRC_CUR_PYLD_MSB => high(self.engine.payload(source)),
            DST_CUR_PYLD_LSB => self.engine.payload(destination) as u32,
            DST_CUR_PYLD_MSB => high(self.engine.payload(destination)),
            SRC_CUR_DSCR_LSB => self.engine.descriptor(source) as u32,
            SRC_CUR_DSCR_MSB => high(self.engine.descriptor(source)),
            DST_CUR_DSCR_LSB => self.engine.descriptor(destination) as u32,
            DST_CUR_DSCR_MSB => high(self.engine.descriptor(destination)),
            _ => self.regs.get(offset),
        }
    }

    fn read_effect(&mut self, offset: u64, ctx: &mut Context<'_>) {
        match offset {
            IRQ_SRC_ACCT | IRQ_DST_ACCT => self.regs.set(offset, 0),
            _ if !is_register(offset) => self.fail(GuestError::NoRegister { offset }, ctx),
            _ => {}
        }
    }

    fn write(&mut self, offset: u64, value: u32, ctx: &mut Context<'_>) {
        match offset {
            IEN => self.regs.modify(IMR, value, 0),
            IDS => self.regs.modify(IMR, value & IRQ_ALL, value),
            TOTAL_BYTE => self.regs.set(TOTAL_BYTE, 0),
            CTRL2 => self.write_ctrl2(value, ctx),
            CTRL0 => {
                self.regs.write(CTRL0, value);
                if value & CONT != 0 {
                    self.resume(ctx);
                }
            }
            _ if !is_register(offset) => self.fail(GuestError::NoRegister { offset }, ctx),
            _ => {
                self.regs.write(offset, value);
            }
        }
    }

    fn wake(&mut self, _: Token, ctx: &mut Context<'_>) {
        if self.state == State::Busy {
            self.step(ctx);
        }
    }

    fn irq(&self) -> bool {
        self.pending() != 0
    }

    fn save(&self) -> Result<Saved, SaveError> {
        self.save_state()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        self.restore_state(saved)
    }

    fn errors(&self) -> Vec<String> {
        let entries = self.log.entries();
        entries
            .iter()
            .map(|(at, e)| format!("at tick {at}: {e}"))
            .collect()
    }
}

fn is_register(offset: u64) -> bool {
    TABLE.binary_search_by_key(&offset, |r| r.offset).is_ok()
}
