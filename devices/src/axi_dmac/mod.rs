// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Analog Devices AXI-DMAC, one channel between memory and a sample stream.
//!
//! Sources: the driver `drivers/dma/dma-axi-dmac.c` of Linux 6.12, and Analog Devices'
//! documentation of the core (`docs/library/axi_dmac`, `docs/regmap/adi_regmap_dmac.txt` in their
//! hdl repository).
//!
//! # Device tree
//! ```text
//! dma-controller@ADDR {
//!     compatible = "adi,axi-dmac-1.00.a";
//!     reg = <ADDR 0x1000>;
//!     interrupts = <0 SPI 4>;            // level, high
//!     clocks = <&fabric_clk>;            // any fixed-clock; the probe fails without
//!     #dma-cells = <1>;
//! };
//! ```
//! No `adi,channels`: from version 4.3 on the driver reads INTERFACE_DESC. `dma-coherent`, given or
//! inherited, makes the probe fail unless [`Config::coherent`] is set.
//!
//! # What it does
//! Register mode, cyclic register mode, and hardware scatter-gather. A segment's
//! [`dma::Transfer`](crate::dma::Transfer) is open from the moment its descriptor is fetched until
//! its last byte has moved or the channel is disabled; it is closed before the end-of-transfer
//! interrupt. While the stream's gate is closed the engine waits.
//!
//! Interrupt sources are sticky bits, one for all ends of transfer: an end that comes while the last
//! one is not acknowledged in IRQ_PENDING is not told apart from it (`axi_dmac_regmap.v`). With
//! scatter-gather the driver completes exactly one transfer per interrupt and does not look at
//! TRANSFER_DONE (`axi_dmac_transfer_done()`), so it falls behind for good by each such end. The
//! device's report counts them; [`Config::holds_ends`] avoids them, as no real core does.
//!
//! Two things the driver relies on:
//! - START_TRANSFER reads 0 while a transfer runs, up to [`Config::queue_depth`].
//! - Writing 0 to CTRL drops everything at once.
//!
//! 2D transfers are not supported, and reported so; partial transfers (a stream that ends early)
//! are reported, though no converter here ends a stream: see [`AxiDmac::end_packet`].
//!
//! # Guest errors
//! The core has no error register. What real hardware does with a bus error depends on the fabric;
//! here the engine stops with the transfer unfinished, no interrupt comes, and the channel stays
//! occupied until it is disabled. What hardware silently bends (misaligned addresses, lengths
//! beyond the register) is bent likewise. All of it is in [`AxiDmac::errors`]. A chain without an
//! end is legal: it is how a cyclic transfer is made.

mod config;
mod descriptor;
mod engine;
mod regs;
mod state;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_hostile;
#[cfg(test)]
mod tests_state;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub use self::config::{Config, ConfigError, Route};
use self::engine::{End, Engine, Progress, Request, Source};
use self::regs::*;
use crate::bus::{Context, Device};
use crate::clock::{Ticks, Token};
use crate::diagnostics::BoundedLog;
use crate::dma::{DmaError, Doorbell};
use crate::registers::{Register, RegisterFile};
use crate::state::{RestoreError, SaveError, Saved, Stateful as _};

/// Data rate: bytes per tick of device time.
pub const BYTES_PER_TICK: Ticks = 8;

/// Ticks from submission, or from the end of a segment, to the fetch of the descriptor.
pub const FETCH_TICKS: Ticks = 6;

/// The engine's next step is due.
const STEP: Token = 0;

/// The stream's gate has opened.
const GATE_OPENED: Token = 1;

/// Partial transfers the core remembers.
const PARTIALS: usize = 4;

/// The core names transfers by two bits.
const ID_MASK: u32 = 3;

/// What a guest did wrong, or what became of it. A `descriptor` of 0 means register mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GuestError {
    /// The engine stopped: a descriptor cannot be read.
    #[error("descriptor at {address:#x} cannot be read")]
    Descriptor {
        /// Where it should be.
        address: u64,
        /// Why not.
        source: DmaError,
    },
    /// The engine stopped: data cannot be moved.
    #[error("data of the descriptor at {descriptor:#x} cannot be moved")]
    Data {
        /// The segment's descriptor.
        descriptor: u64,
        /// Why not.
        source: DmaError,
    },
    /// An address is misaligned or has more than 32 bits; the core uses what it has wires for.
    #[error("address {address:#x} in the descriptor at {descriptor:#x} is taken for {kept:#x}")]
    Address {
        /// The address in the descriptor.
        address: u64,
        /// The address used.
        kept: u64,
        /// The descriptor that holds it.
        descriptor: u64,
    },
    /// A length exceeds the length register, whose bits alone count, or is not a multiple of the
    /// stream's width.
    #[error(
        "length field {x_len:#x} of the descriptor at {descriptor:#x} is out of range or misaligned"
    )]
    Length {
        /// The length minus one.
        x_len: u32,
        /// The segment's descriptor.
        descriptor: u64,
    },
    /// A descriptor asks for more than one row; the core moves one.
    #[error("descriptor at {descriptor:#x} asks for a 2D transfer")]
    TwoDimensional {
        /// The segment's descriptor.
        descriptor: u64,
    },
    /// START_TRANSFER was written while the channel was disabled: ignored.
    #[error("a transfer was submitted while the channel was disabled")]
    Disabled,
    /// START_TRANSFER was written while it read 1: ignored.
    #[error("a transfer was submitted while START_TRANSFER still read 1")]
    QueueFull,
}

/// The device.
#[derive(Debug)]
pub struct AxiDmac {
    config: Config,
    regs: RegisterFile,
    engine: Engine,
    queue: VecDeque<Request>,
    /// START_TRANSFER: a transfer waits for room in the queue.
    submit: bool,
    /// The register write that submitted the last one.
    doorbell: Doorbell,
    /// A cyclic transfer has been taken: START_TRANSFER stays 1, nothing more is taken.
    endless: bool,
    transfer_id: u32,
    active_id: u32,
    done: u32,
    /// Lengths and IDs of partial transfers not read yet.
    partial: VecDeque<(u32, u32)>,
    /// Ends of transfer that found the last one not acknowledged, and when the first of them came.
    merged: u64,
    first_merged: Ticks,
    /// When the engine's next step is due; `None` while it waits for the guest or the stream.
    due: Option<Ticks>,
    /// An event is on the clock's queue. There is never more than one, however the guest toggles
    /// the channel: an event that comes too early is scheduled again.
    armed: bool,
}

impl AxiDmac {
    /// An instance after reset.
    ///
    /// # Errors
    /// [`ConfigError`] names the parameter the core cannot have.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(AxiDmac {
            config,
            regs: RegisterFile::new(table(&config)),
            engine: Engine::new(config),
            queue: VecDeque::with_capacity(config.queue_depth),
            submit: false,
            doorbell: Doorbell::default(),
            endless: false,
            transfer_id: 0,
            active_id: 0,
            done: 0,
            partial: VecDeque::with_capacity(PARTIALS),
            merged: 0,
            first_merged: 0,
            due: None,
            armed: false,
        })
    }

    /// What the guest did wrong, oldest first, and how often.
    pub fn errors(&self) -> &BoundedLog<GuestError> {
        &self.engine.log
    }

    /// Whether the engine stopped because of a guest error, until the channel is disabled.
    pub fn is_stopped(&self) -> bool {
        self.engine.is_stopped()
    }

    /// The stream ends its packet with the last byte moved (TLAST), so the running capture ends
    /// early. For tests and fault injection. What is left of the transfer, segments of the chain
    /// included, is dropped; real hardware drops what comes before the next LAST flag.
    /// Returns false, and does nothing, unless a capture has moved data.
    pub fn end_packet(&mut self, ctx: &mut Context<'_>) -> bool {
        let cut = self.config.is_capture() && !self.engine.is_stopped() && self.engine.cut(ctx);
        if cut {
            self.due = None;
            self.kick(ctx, 1);
        }
        cut
    }

    fn ctrl(&self, bit: u32) -> bool {
        self.regs.get(CTRL) & bit != 0
    }

    fn pending(&self) -> u32 {
        self.regs.get(IRQ_SOURCE) & !self.regs.get(IRQ_MASK)
    }

    fn raise(&mut self, source: u32) {
        self.regs.modify(IRQ_SOURCE, source, source);
    }

    fn write_ctrl(&mut self, value: u32, ctx: &mut Context<'_>) {
        self.regs.write(CTRL, value);
        if self.ctrl(CTRL_ENABLE) {
            self.kick(ctx, 1);
            return;
        }
        self.engine.abort(ctx);
        self.queue.clear();
        self.partial.clear();
        self.submit = false;
        self.endless = false;
        self.transfer_id = 0;
        self.active_id = 0;
        self.done = 0;
        self.due = None;
    }

    fn write_start(&mut self, value: u32, ctx: &mut Context<'_>) {
        if value & 1 == 0 {
            return;
        }
        let refused = if !self.ctrl(CTRL_ENABLE) {
            Some(GuestError::Disabled)
        } else if self.submit || self.endless {
            Some(GuestError::QueueFull)
        } else {
            None
        };
        if let Some(error) = refused {
            self.engine.log.push(ctx.clock.now(), error);
            return;
        }
        self.submit = true;
        self.doorbell = ctx.dma.doorbell();
        self.take();
        self.kick(ctx, FETCH_TICKS);
    }

    /// Moves the submitted transfer to the queue if there is room.
    fn take(&mut self) {
        let taken = usize::from(self.engine.is_busy()) + self.queue.len();
        if !self.submit || taken >= self.config.queue_depth {
            return;
        }
        self.submit = false;
        let flags = self.regs.get(FLAGS);
        let source = if self.ctrl(CTRL_ENABLE_SG) {
            Source::Descriptor(self.regs.get(SG_ADDRESS).into())
        } else {
            let address = if self.config.is_capture() {
                DEST_ADDRESS
            } else {
                SRC_ADDRESS
            };
            Source::Registers {
                address: self.regs.get(address).into(),
                x_len: self.regs.get(X_LENGTH),
                cyclic: flags & FLAG_CYCLIC != 0,
            }
        };
        self.queue.push_back(Request {
            source,
            doorbell: self.doorbell,
            report_partial: flags & FLAG_PARTIAL_REPORT != 0,
        });
        if let Source::Registers { cyclic: true, .. } = source {
            // Neither a start nor an end of a cyclic transfer is ever reported.
            self.endless = true;
            return;
        }
        self.done &= !(1 << self.transfer_id);
        self.transfer_id = (self.transfer_id + 1) & ID_MASK;
        self.raise(IRQ_SOT);
    }

    /// Lets the engine step after `delay`, unless a step is due anyway.
    fn kick(&mut self, ctx: &mut Context<'_>, delay: Ticks) {
        let work = self.engine.is_busy() || !self.queue.is_empty();
        if self.due.is_none() && work && !self.engine.is_stopped() {
            self.wait(ctx, delay);
        }
    }

    fn wait(&mut self, ctx: &mut Context<'_>, delay: Ticks) {
        self.due = Some(ctx.clock.now().saturating_add(delay));
        if !self.armed {
            self.armed = true;
            ctx.clock.schedule(delay, STEP);
        }
    }

    /// One step of the engine, and what follows from it.
    fn run(&mut self, ctx: &mut Context<'_>) {
        if !self.ctrl(CTRL_ENABLE) || self.ctrl(CTRL_PAUSE) {
            return;
        }
        if !self.engine.is_busy() {
            let Some(request) = self.queue.pop_front() else {
                return;
            };
            self.engine.start(request);
        }
        match self.engine.step(ctx) {
            Progress::Again(delay) => self.wait(ctx, delay),
            Progress::Gated => ctx.wait_for_gate(self.config.stream(), GATE_OPENED),
            Progress::Ended(end) => self.end(end, ctx),
            Progress::Stopped | Progress::Idle => {}
        }
    }

    /// Reports the end of a transfer or of a part of it; or leaves it, and with it the engine,
    /// waiting until the guest has made room.
    fn end(&mut self, end: End, ctx: &mut Context<'_>) {
        let unread = self.pending() & IRQ_EOT != 0;
        // The core takes no response at all while it has no room for a length.
        let full = self.partial.len() >= PARTIALS;
        if end.eot && (full || unread && self.config.holds_ends) {
            return;
        }
        if end.eot {
            if unread {
                self.first_merged = match self.merged {
                    0 => ctx.clock.now(),
                    _ => self.first_merged,
                };
                self.merged += 1;
            }
            if let Some(len) = end.partial {
                let len = u32::try_from(len).unwrap_or(u32::MAX);
                self.partial.push_back((len, self.active_id));
            }
            self.done |= 1 << self.active_id;
            self.active_id = (self.active_id + 1) & ID_MASK;
            self.raise(IRQ_EOT);
        }
        if !self.engine.reported() {
            self.take();
        }
        self.kick(ctx, FETCH_TICKS);
    }
}

impl Device for AxiDmac {
    fn registers(&self) -> &[Register] {
        self.regs.table()
    }

    fn peek(&self, offset: u64) -> u32 {
        let address = || u32::try_from(self.engine.address()).unwrap_or(0);
        let capture = self.config.is_capture();
        let partial = self.partial.front();
        match offset {
            IRQ_PENDING => self.pending(),
            TRANSFER_ID => self.transfer_id,
            START_TRANSFER => u32::from(self.submit || self.endless),
            TRANSFER_DONE if partial.is_some() => self.done | PARTIAL_XFER_DONE,
            TRANSFER_DONE => self.done,
            ACTIVE_TRANSFER_ID => self.active_id,
            CURRENT_DEST_ADDR if capture => address(),
            CURRENT_SRC_ADDR if !capture => address(),
            TRANSFER_PROGRESS => self.engine.progress() as u32 & self.config.max_x_length(),
            PARTIAL_XFER_LEN => partial.map_or(0, |p| p.0),
            PARTIAL_XFER_ID => partial.map_or(0, |p| p.1),
            CURRENT_SG_ID => self.engine.descriptor_id(),
            _ => self.regs.get(offset),
        }
    }

    fn read_effect(&mut self, offset: u64, ctx: &mut Context<'_>) {
        if offset == PARTIAL_XFER_ID && self.partial.pop_front().is_some() {
            self.kick(ctx, 1);
        }
    }

    fn write(&mut self, offset: u64, value: u32, ctx: &mut Context<'_>) {
        match offset {
            CTRL => self.write_ctrl(value, ctx),
            START_TRANSFER => self.write_start(value, ctx),
            IRQ_PENDING => {
                self.regs.modify(IRQ_SOURCE, value, 0);
                self.kick(ctx, 1);
            }
            IRQ_MASK => {
                self.regs.write(IRQ_MASK, value);
                self.kick(ctx, 1);
            }
            _ => {
                self.regs.write(offset, value);
            }
        }
    }

    fn wake(&mut self, token: Token, ctx: &mut Context<'_>) {
        if token == GATE_OPENED {
            self.kick(ctx, 1);
            return;
        }
        self.armed = false;
        let Some(due) = self.due else {
            return;
        };
        let early = due.saturating_sub(ctx.clock.now());
        if early > 0 {
            self.wait(ctx, early);
            return;
        }
        self.due = None;
        self.run(ctx);
    }

    fn irq(&self) -> bool {
        self.pending() != 0
    }

    fn errors(&self) -> Vec<String> {
        let entries = AxiDmac::errors(self).entries();
        entries
            .iter()
            .map(|(at, e)| format!("at tick {at}: {e}"))
            .collect()
    }

    fn save(&self) -> Result<Saved, SaveError> {
        self.save_state()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        self.restore_state(saved)
    }

    fn report(&self) -> Option<(Option<&'static str>, serde_json::Value)> {
        // Nothing to tell of a core whose every end of transfer could be seen.
        (self.merged > 0).then(|| {
            let report = serde_json::json!({
                "merged_ends": self.merged,
                "first_merged_tick": self.first_merged,
            });
            (None, report)
        })
    }
}
