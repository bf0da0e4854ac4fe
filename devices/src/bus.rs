// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a register-programmed device is to the bus.

use crate::clock::{Clock, Token};
use crate::dma::{DmaPort, Translator};
use crate::registers::Register;
use crate::state::{RestoreError, SaveError, Saved};
use crate::stream::{StreamId, Streams};

/// Everything a device can reach while it handles an access or an event.
pub struct Context<'a> {
    /// The device's own port to memory.
    pub dma: DmaPort<'a>,
    /// Device time.
    pub clock: Clock<'a>,
    /// The sample streams of the fabric.
    pub streams: &'a mut Streams,
}

impl Context<'_> {
    /// Opens or closes the gate of a stream, and tells the device that waits for it.
    pub fn set_gate(&mut self, id: StreamId, open: bool) {
        if let Some((device, token)) = self.streams.set_enabled(id, open) {
            self.clock.wake(device, token);
        }
    }

    /// Asks for [`Device::wake`] with `token`, once, when the gate of a stream opens.
    pub fn wait_for_gate(&mut self, id: StreamId, token: Token) {
        self.streams.wait(id, self.clock.device(), token);
    }
}

/// A device with 32-bit registers in one window and at most one level interrupt.
///
/// Accesses are 32 bits wide and aligned: the bus splits wider and merges narrower ones, by what
/// the registers declare ([`Register::merge`]).
pub trait Device: Send {
    /// The declared registers in order of their offsets: all a driver can read. Offsets not listed
    /// read as zero.
    fn registers(&self) -> &[Register];

    /// What a read of `offset` would give, without side effects. Any offset, aligned to 4.
    fn peek(&self, offset: u64) -> u32;

    /// The side effects of a read, whose value was that of [`Device::peek`] just before.
    fn read_effect(&mut self, _offset: u64, _ctx: &mut Context<'_>) {}

    /// A write. Any offset, aligned to 4.
    fn write(&mut self, offset: u64, value: u32, ctx: &mut Context<'_>);

    /// An event scheduled with [`Clock::schedule`] is due.
    fn wake(&mut self, _token: Token, _ctx: &mut Context<'_>) {}

    /// The level of the interrupt line.
    fn irq(&self) -> bool {
        false
    }

    /// Whether its driver makes it ask to be snooped only if the device tree says `dma-coherent`.
    fn asks_if_claimed(&self) -> bool {
        false
    }

    /// Whether it leaves its driver no other way than to order memory as for another CPU, by barriers
    /// that need not reach a device.
    fn is_ordered_as_a_cpu(&self) -> bool {
        false
    }

    /// The guest's mistakes as the device met them, in order; bounded by the device.
    fn errors(&self) -> Vec<String> {
        Vec::new()
    }

    /// Its state, for [`Device::restore`].
    ///
    /// # Errors
    /// [`SaveError`].
    fn save(&self) -> Result<Saved, SaveError>;

    /// Takes over the state of a device that was built alike; this one has just been built. What it
    /// waits for on the clock and at a stream is no part of it.
    ///
    /// # Errors
    /// [`RestoreError`]: the device is then of no more use.
    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError>;

    /// Itself as what translates addresses of masters, if it does.
    fn translator(&mut self) -> Option<&mut dyn Translator> {
        None
    }

    /// What else there is to say at the end of a run, and who says it, if not the device itself.
    fn report(&self) -> Option<(Option<&'static str>, serde_json::Value)> {
        None
    }
}
