// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A virtio block device behind MMIO registers, as a device in hardware: it goes by the port that the
//! board gives it, and tells the driver so.
//!
//! Source: "Virtual I/O Device (VIRTIO) Version 1.2" (OASIS), 4.2 (MMIO), 2.7 (split virtqueues),
//! 5.2 (block device). Driver: `drivers/virtio/virtio_mmio.c`, `virtio_ring.c` and
//! `drivers/block/virtio_blk.c` of Linux 6.12.
//!
//! # Device tree
//! ```text
//! virtio-blk@ADDR {
//!     compatible = "virtio,mmio";
//!     reg = <ADDR 0x200>;
//!     interrupts = <0 SPI 4>;            // level, high
//! };
//! ```
//! With `dma-coherent` the driver keeps its rings in cacheable memory and maintains nothing.
//!
//! # What it does
//! One queue of up to 128 entries; requests to read, write, flush and identify. Chains are taken one
//! after the other. A segment of data is a [`dma::Transfer`](crate::dma::Transfer) from the moment that
//! its chain is taken to its last byte, closed before anybody is told.
//!
//! # Coherency
//! ACCESS_PLATFORM is offered and required: the driver has to go through the DMA API, which knows how
//! the device is attached. ORDER_PLATFORM is offered too, unless the board withholds it
//! ([`Config::order_platform`]): without it Linux orders its rings as for another CPU, by barriers that
//! do not reach bus masters. All accesses ask to be snooped; what comes of that, the port decides.
//! QueueNotify is the doorbell. While it is at work the device also looks at the index of the available
//! ring by itself, so each chain is handed over by the word that the index is in.
//!
//! # Not modelled
//! Indirect descriptors, event indices, packed rings, a queue's own reset: not offered. Suppression of
//! notifications by the device. Writes are there at once, so a flush has nothing to do.
//!
//! # Guest errors
//! What is wrong with a ring or a chain, and memory that is not there, set DEVICE_NEEDS_RESET and raise
//! the interrupt for a change of configuration; nothing more is done until the driver resets the
//! device. A request that is well formed and cannot be served ends with its status. All of the former is
//! in [`VirtioBlk::errors`].

mod backing;
mod chain;
mod error;
mod queue;
mod regs;
mod request;
mod state;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_hostile;
#[cfg(test)]
mod tests_rig;
#[cfg(test)]
mod tests_state;

pub use self::backing::{Backing, MemoryDisk, SECTOR};
pub use self::error::{GuestError, Part};
use self::queue::Queue;
use self::regs::*;
use self::request::{Counts, Request};
use crate::bus::{Context, Device};
use crate::clock::{Ticks, Token};
use crate::diagnostics::BoundedLog;
use crate::dma::Doorbell;
use crate::registers::{Register, RegisterFile};
use crate::state::{RestoreError, SaveError, Saved, Stateful as _};

/// Ticks from a notification, or the end of a request, to the next look at the ring.
pub const FETCH_TICKS: Ticks = 8;
/// Ticks for a page of data.
pub const PAGE_TICKS: Ticks = 64;

/// The device's next step is due. Above its lowest byte stands for which reset.
const STEP: Token = 0;

/// How an instance was built.
#[derive(Debug)]
pub struct Config {
    /// What the disk holds.
    pub disk: Box<dyn Backing>,
    /// Whether ORDER_PLATFORM is offered.
    pub order_platform: bool,
}

#[derive(Debug)]
enum State {
    /// Nothing to do, as far as it knows.
    Idle,
    /// About to look at the ring.
    Looking,
    /// At work on a request.
    Working(Request),
}

/// The device.
#[derive(Debug)]
pub struct VirtioBlk {
    regs: RegisterFile,
    config: Config,
    /// What the driver has accepted.
    features: u64,
    queue: Option<Queue>,
    state: State,
    /// The notification that ended the last time of doing nothing.
    idle_until: Doorbell,
    /// How often it has been reset: events from before are not for now.
    era: u32,
    counts: Counts,
    log: BoundedLog<GuestError>,
}

impl VirtioBlk {
    /// A device after reset.
    pub fn new(config: Config) -> Self {
        VirtioBlk {
            regs: RegisterFile::new(TABLE),
            config,
            features: 0,
            queue: None,
            state: State::Idle,
            idle_until: Doorbell::default(),
            era: 0,
            counts: Counts::default(),
            log: BoundedLog::new(),
        }
    }

    /// What the guest did wrong, oldest first, and how often.
    pub fn errors(&self) -> &BoundedLog<GuestError> {
        &self.log
    }

    fn offered(&self) -> u64 {
        match self.config.order_platform {
            true => FEATURES | ORDER_PLATFORM,
            false => FEATURES,
        }
    }

    fn note(&mut self, error: GuestError, ctx: &Context<'_>) {
        if self.log.push(ctx.clock.now(), error) {
            log::warn!("virtio-blk: {error}");
        }
    }

    fn raise(&mut self, bits: u32) {
        self.regs.modify(INTERRUPT_STATUS, bits, bits);
    }

    fn status(&self, bit: u32) -> bool {
        self.regs.get(STATUS) & bit != 0
    }

    fn reset(&mut self, ctx: &mut Context<'_>) {
        self.stop(ctx);
        self.regs.reset();
        self.features = 0;
        self.queue = None;
    }

    /// Lets go of all memory; what is scheduled means nothing any more.
    fn stop(&mut self, ctx: &mut Context<'_>) {
        if let State::Working(request) = &mut self.state {
            request.abandon(ctx);
        }
        self.state = State::Idle;
        self.era = self.era.wrapping_add(1);
    }

    /// A mistake after which nothing can go on.
    fn fail(&mut self, error: GuestError, ctx: &mut Context<'_>) {
        self.stop(ctx);
        self.note(error, ctx);
        self.regs.modify(STATUS, NEEDS_RESET, NEEDS_RESET);
        if self.status(DRIVER_OK) {
            self.raise(CONFIGURATION_CHANGE);
        }
    }

    fn write_status(&mut self, value: u32, ctx: &mut Context<'_>) {
        if value == 0 {
            return self.reset(ctx);
        }
        let mut bits = value & STATUS_BITS;
        let acceptable =
            self.features & !self.offered() == 0 && self.features & REQUIRED == REQUIRED;
        if !acceptable {
            bits &= !FEATURES_OK;
        }
        self.regs.modify(STATUS, STATUS_BITS, bits);
    }

    fn write_features(&mut self, value: u32) {
        // What has been agreed on stays.
        if self.status(FEATURES_OK) {
            return;
        }
        let value = u64::from(value);
        self.features = match self.regs.get(DRIVER_FEATURES_SEL) {
            0 => self.features & !0xffff_ffff | value,
            1 => self.features & 0xffff_ffff | value << 32,
            _ => self.features,
        };
    }

    fn write_ready(&mut self, value: u32, ctx: &mut Context<'_>) {
        if self.regs.get(QUEUE_SEL) != 0 {
            return;
        }
        if value & 1 == 0 {
            self.stop(ctx);
            self.queue = None;
        } else if self.queue.is_none() {
            let at =
                |low, high| u64::from(self.regs.get(high)) << 32 | u64::from(self.regs.get(low));
            let queue = Queue::new(
                self.regs.get(QUEUE_NUM),
                at(QUEUE_DESC_LOW, QUEUE_DESC_HIGH),
                at(QUEUE_DRIVER_LOW, QUEUE_DRIVER_HIGH),
                at(QUEUE_DEVICE_LOW, QUEUE_DEVICE_HIGH),
            );
            match queue {
                Ok(queue) => self.queue = Some(queue),
                Err(error) => self.note(error, ctx),
            }
        }
    }

    fn notified(&mut self, queue: u32, ctx: &mut Context<'_>) {
        let doorbell = ctx.dma.doorbell();
        let works = self.status(DRIVER_OK) && !self.status(NEEDS_RESET) && self.queue.is_some();
        if queue != 0 || !works {
            return self.note(GuestError::Notified { queue }, ctx);
        }
        if let State::Idle = self.state {
            self.idle_until = doorbell;
            self.state = State::Looking;
            self.run_after(FETCH_TICKS, ctx);
        }
    }

    fn run_after(&self, delay: Ticks, ctx: &mut Context<'_>) {
        ctx.clock.schedule(delay, STEP.wrapping_add(self.era));
    }

    /// Does what is next; how long until there is more, if so.
    fn step(&mut self, ctx: &mut Context<'_>) -> Result<Option<Ticks>, GuestError> {
        let Some(queue) = &mut self.queue else {
            return Ok(None);
        };
        let disk = self.config.disk.as_mut();
        match &mut self.state {
            State::Idle => Ok(None),
            State::Looking => {
                let Some(chain) = queue.take(self.idle_until, ctx)? else {
                    self.state = State::Idle;
                    return Ok(None);
                };
                let request = Request::parse(chain, disk, &mut self.counts, ctx)?;
                self.state = State::Working(request);
                Ok(Some(PAGE_TICKS))
            }
            State::Working(request) => {
                if request.step(disk, &mut self.counts, ctx)? {
                    return Ok(Some(PAGE_TICKS));
                }
                let written = request.finish(ctx)?;
                let head = request.head;
                let interrupt = queue.give_back(head, written, self.idle_until, ctx)?;
                self.state = State::Looking;
                if interrupt {
                    self.raise(USED_BUFFER);
                }
                Ok(Some(FETCH_TICKS))
            }
        }
    }
}

impl Device for VirtioBlk {
    fn is_ordered_as_a_cpu(&self) -> bool {
        // virtio_ring.h: virtio_rmb() and the like go by VIRTIO_F_ORDER_PLATFORM.
        !self.config.order_platform
    }

    fn registers(&self) -> &[Register] {
        self.regs.table()
    }

    fn peek(&self, offset: u64) -> u32 {
        let half = |value: u64, number: u32| match number {
            0 => value as u32,
            1 => (value >> 32) as u32,
            _ => 0,
        };
        let selected = self.regs.get(QUEUE_SEL) == 0;
        match offset {
            DEVICE_FEATURES => half(self.offered(), self.regs.get(DEVICE_FEATURES_SEL)),
            QUEUE_NUM_MAX if selected => QUEUE_SIZE.into(),
            QUEUE_READY => (selected && self.queue.is_some()).into(),
            CONFIG_CAPACITY_LOW => half(self.config.disk.sectors(), 0),
            CONFIG_CAPACITY_HIGH => half(self.config.disk.sectors(), 1),
            _ => self.regs.get(offset),
        }
    }

    fn write(&mut self, offset: u64, value: u32, ctx: &mut Context<'_>) {
        match offset {
            STATUS => self.write_status(value, ctx),
            DRIVER_FEATURES => self.write_features(value),
            QUEUE_READY => self.write_ready(value, ctx),
            QUEUE_NOTIFY => self.notified(value, ctx),
            INTERRUPT_ACK => self.regs.modify(INTERRUPT_STATUS, value, 0),
            _ if !TABLE.iter().any(|r| r.offset == offset) => {
                self.note(GuestError::NoRegister { offset }, ctx);
            }
            _ => {
                self.regs.write(offset, value);
            }
        }
    }

    fn wake(&mut self, token: Token, ctx: &mut Context<'_>) {
        if token != STEP.wrapping_add(self.era) {
            return;
        }
        match self.step(ctx) {
            Ok(Some(delay)) => self.run_after(delay, ctx),
            Ok(None) => {}
            Err(error) => self.fail(error, ctx),
        }
    }

    fn irq(&self) -> bool {
        self.regs.get(INTERRUPT_STATUS) != 0
    }

    fn errors(&self) -> Vec<String> {
        let entries = self.log.entries();
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
        let counts = serde_json::to_value(self.counts).unwrap_or_default();
        Some((None, counts))
    }
}
