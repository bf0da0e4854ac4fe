// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! How an instance of the core was built.

use crate::dma::Direction;
use crate::stream::StreamId;

/// Which way the channel goes. The driver learns it from INTERFACE_DESC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// From the stream to memory.
    Capture(StreamId),
    /// From memory to the stream.
    Playback(StreamId),
}

/// Synthesis parameters of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Direction and stream.
    pub route: Route,
    /// Width of the memory port in bytes: a power of two, 2 to 128. Addresses are multiples of it.
    pub memory_width: u32,
    /// Width of the stream port in bytes: a power of two, 2 to 128. Lengths are multiples of it.
    pub stream_width: u32,
    /// Bits of a length register, 12 to 32: one segment has at most 2^length_bits bytes.
    pub length_bits: u32,
    /// Transfers the core takes before START_TRANSFER stays at 1, the running one included: 2 or 3.
    /// Fewer would stall the driver, which queues the next transfer while one runs; more would
    /// exceed the 2-bit transfer IDs.
    pub queue_depth: usize,
    /// Supports cyclic transfers (register mode; a chain is cyclic by its links).
    pub cyclic: bool,
    /// Supports hardware scatter-gather.
    pub hw_sg: bool,
    /// Says in COHERENCY_DESC that its memory port snoops. What the port really does is the
    /// board's business.
    pub coherent: bool,
    /// Holds an end of transfer back, and the engine with it, until the last one is acknowledged in
    /// IRQ_PENDING. The real core does not: it has one bit for all ends, so a driver that completes
    /// one transfer per interrupt, as Linux does with scatter-gather, loses those that come while
    /// the bit is set. For tests that are not about that.
    pub holds_ends: bool,
    /// Bytes moved by one event at most: a power of two, the memory width to 4096.
    pub burst: u32,
    /// Channel number shown in transfers.
    pub channel: u8,
}

/// A parameter the core cannot be built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("AXI-DMAC parameter {name} is {value}, must be {allowed}")]
pub struct ConfigError {
    /// The field of [`Config`].
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// What it may be.
    pub allowed: &'static str,
}

impl Config {
    /// The usual instance: 64-bit ports, 24-bit lengths, cyclic and scatter-gather capable, not
    /// coherent.
    pub fn new(route: Route) -> Self {
        Config {
            route,
            memory_width: 8,
            stream_width: 8,
            length_bits: 24,
            queue_depth: 2,
            cyclic: true,
            hw_sg: true,
            coherent: false,
            holds_ends: false,
            burst: 4096,
            channel: 0,
        }
    }

    /// Whether data goes to memory.
    pub fn is_capture(&self) -> bool {
        matches!(self.route, Route::Capture(_))
    }

    pub(super) fn stream(&self) -> StreamId {
        match self.route {
            Route::Capture(id) | Route::Playback(id) => id,
        }
    }

    pub(super) fn direction(&self) -> Direction {
        match self.route {
            Route::Capture(_) => Direction::ToMemory,
            Route::Playback(_) => Direction::FromMemory,
        }
    }

    /// The largest value of a length field, which is the length minus one.
    pub(super) fn max_x_length(&self) -> u32 {
        u32::MAX >> (32 - self.length_bits.clamp(1, 32))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fail = |name, value: u32, allowed| {
            Err(ConfigError {
                name,
                value: value.into(),
                allowed,
            })
        };
        let width = |w: u32| w.is_power_of_two() && (2..=128).contains(&w);
        const WIDTH: &str = "a power of two from 2 to 128";
        if !width(self.memory_width) {
            return fail("memory_width", self.memory_width, WIDTH);
        }
        if !width(self.stream_width) {
            return fail("stream_width", self.stream_width, WIDTH);
        }
        if !(12..=32).contains(&self.length_bits) {
            return fail("length_bits", self.length_bits, "12 to 32");
        }
        let burst = self.memory_width.max(self.stream_width)..=4096;
        if !self.burst.is_power_of_two() || !burst.contains(&self.burst) {
            let allowed = "a power of two from the wider port's width to 4096";
            return fail("burst", self.burst, allowed);
        }
        if !(2..=3).contains(&self.queue_depth) {
            return Err(ConfigError {
                name: "queue_depth",
                value: self.queue_depth as u64,
                allowed: "2 or 3",
            });
        }
        Ok(())
    }
}
