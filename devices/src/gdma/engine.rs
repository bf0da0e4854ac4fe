// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What moves the data: two lists of buffers, walked side by side, burst by burst.
//!
//! [`Engine::step`] does a bounded piece of work (one descriptor, or one burst) and says what came of
//! it. What the registers show of it is the caller's business.

use serde::{Deserialize, Serialize};

use super::descriptor::{ADDRESS, Command, Descriptor, HALF, link};
use super::regs::SIZE;
use super::{Attributes, FETCH_TICKS, GuestError, Side};
use crate::bus::Context;
use crate::clock::Ticks;
use crate::dma::{Access, Direction, DmaError, Doorbell, Order, Transfer, TransferId};
use crate::state::{Invalid, at_most};

/// Bytes of a burst at most: 16 beats of 128 bits. None crosses a 4 KiB boundary.
const BURST: usize = 256;
const BOUNDARY: u64 = 4096;

/// Where the buffers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// In lists of descriptors, which start here.
    Lists { source: u64, destination: u64 },
    /// In registers: one buffer each. Only the source's size counts.
    Registers {
        source: Descriptor,
        destination: Descriptor,
    },
}

/// A buffer at work.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Buffer {
    descriptor: Descriptor,
    transfer: TransferId,
    address: u64,
    left: u64,
}

/// One of the two lists.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct List {
    /// Address of the descriptor at work, or of the next one; 0 in simple mode.
    at: u64,
    /// Whether `at` is the descriptor of a buffer that is done, whose successor comes next.
    behind: bool,
    /// Whether that descriptor has a link.
    linked: bool,
    buffer: Option<Buffer>,
}

impl List {
    fn starts_at(at: u64) -> Self {
        List {
            at,
            ..List::default()
        }
    }
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Step {
    /// Bytes moved.
    pub moved: u64,
    /// A source descriptor is done that asks to be counted.
    pub source_done: bool,
    /// A destination descriptor is done that asks to be counted.
    pub destination_done: bool,
    pub then: Then,
}

/// How it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Then {
    /// More to do after a time.
    Again(Ticks),
    /// A source descriptor asked for a pause.
    Pause,
    /// The last source descriptor is done.
    #[default]
    Stop,
}

/// The data mover.
#[derive(Debug)]
pub(super) struct Engine {
    source: List,
    destination: List,
    doorbell: Doorbell,
    /// Bytes of a beat.
    width: Ticks,
    channel: u8,
}

impl Engine {
    /// With a data bus of `width` bytes, more than 0.
    pub(super) fn new(width: u32, channel: u8) -> Self {
        Engine {
            source: List::default(),
            destination: List::default(),
            doorbell: Doorbell::default(),
            width: width.into(),
            channel,
        }
    }

    /// Takes up work that a register write submitted.
    pub(super) fn start(
        &mut self,
        work: Work,
        asks: Attributes,
        doorbell: Doorbell,
        ctx: &mut Context<'_>,
    ) {
        self.drop_buffers(ctx);
        self.doorbell = doorbell;
        match work {
            Work::Lists {
                source,
                destination,
            } => {
                self.source = List::starts_at(source);
                self.destination = List::starts_at(destination);
            }
            Work::Registers {
                source,
                mut destination,
            } => {
                destination.size = source.size;
                let command = Command::Stop;
                self.source = List::default();
                self.destination = List::default();
                let source = Descriptor { command, ..source };
                self.open(Side::Source, source, asks, ctx);
                self.open(Side::Destination, destination, asks, ctx);
            }
        }
    }

    /// Goes on after a pause, told so by a register write.
    pub(super) fn resume(&mut self, doorbell: Doorbell) {
        self.doorbell = doorbell;
    }

    /// Gives up all memory it owns.
    pub(super) fn drop_buffers(&mut self, ctx: &mut Context<'_>) {
        for list in [&mut self.source, &mut self.destination] {
            if let Some(buffer) = list.buffer.take() {
                ctx.dma.close(buffer.transfer);
            }
        }
    }

    /// Address of the descriptor at work.
    pub(super) fn descriptor(&self, side: Side) -> u64 {
        self.list(side).at
    }

    /// Address of the next byte.
    pub(super) fn payload(&self, side: Side) -> u64 {
        self.list(side).buffer.map_or(0, |b| b.address)
    }

    fn list(&self, side: Side) -> &List {
        match side {
            Side::Source => &self.source,
            Side::Destination => &self.destination,
        }
    }

    fn list_mut(&mut self, side: Side) -> &mut List {
        match side {
            Side::Source => &mut self.source,
            Side::Destination => &mut self.destination,
        }
    }

    /// Does the next piece of work.
    pub(super) fn step(
        &mut self,
        asks: Attributes,
        ctx: &mut Context<'_>,
    ) -> Result<Step, GuestError> {
        let Some(source) = self.source.buffer else {
            return self.fetch(Side::Source, asks, ctx);
        };
        if source.left == 0 {
            return Ok(self.source_done(Step::default(), source, ctx));
        }
        let Some(destination) = self.destination.buffer else {
            return self.fetch(Side::Destination, asks, ctx);
        };
        let chunk = self.burst(source, destination, asks, ctx)?;
        Ok(self.moved(source, destination, chunk, ctx))
    }

    fn burst(
        &mut self,
        source: Buffer,
        destination: Buffer,
        asks: Attributes,
        ctx: &mut Context<'_>,
    ) -> Result<u64, GuestError> {
        let error = |side, descriptor, source| GuestError::Data {
            side,
            descriptor,
            source,
        };
        let chunk = [source, destination].iter().fold(BURST as u64, |n, b| {
            n.min(b.left).min(BOUNDARY - b.address % BOUNDARY)
        });
        // At most BURST.
        let data = &mut [0; BURST][..chunk as usize];
        let read = Access {
            snoop: source.descriptor.coherent && asks.read,
            ..Access::data(source.transfer)
        };
        ctx.dma
            .read(read, source.address, data)
            .map_err(|e| error(Side::Source, self.source.at, e))?;
        let write = Access {
            snoop: destination.descriptor.coherent && asks.write,
            ..Access::data(destination.transfer)
        };
        ctx.dma
            .write(write, destination.address, data)
            .map_err(|e| error(Side::Destination, self.destination.at, e))?;
        Ok(chunk)
    }

    /// Takes the bytes of a burst off both buffers, the destination's first: what a source
    /// descriptor's end tells must be there.
    fn moved(
        &mut self,
        mut source: Buffer,
        mut destination: Buffer,
        chunk: u64,
        ctx: &mut Context<'_>,
    ) -> Step {
        for buffer in [&mut source, &mut destination] {
            buffer.address += chunk;
            buffer.left -= chunk;
        }
        self.source.buffer = Some(source);
        self.destination.buffer = Some(destination);
        let mut step = Step {
            moved: chunk,
            then: Then::Again(chunk.div_ceil(self.width)),
            ..Step::default()
        };
        if destination.left == 0 {
            self.finish(Side::Destination, ctx);
            step.destination_done = destination.descriptor.interrupt;
        }
        if source.left == 0 {
            step = self.source_done(step, source, ctx);
        }
        step
    }

    fn source_done(&mut self, step: Step, source: Buffer, ctx: &mut Context<'_>) -> Step {
        self.finish(Side::Source, ctx);
        let then = match source.descriptor.command {
            Command::Next => Then::Again(FETCH_TICKS),
            Command::Pause => Then::Pause,
            Command::Stop => {
                // Of the destination, room may be left.
                self.drop_buffers(ctx);
                Then::Stop
            }
        };
        Step {
            source_done: source.descriptor.interrupt,
            then,
            ..step
        }
    }

    fn finish(&mut self, side: Side, ctx: &mut Context<'_>) {
        let list = self.list_mut(side);
        if let Some(buffer) = list.buffer.take() {
            list.behind = true;
            list.linked = buffer.descriptor.linked;
            ctx.dma.close(buffer.transfer);
        }
    }

    fn fetch(
        &mut self,
        side: Side,
        asks: Attributes,
        ctx: &mut Context<'_>,
    ) -> Result<Step, GuestError> {
        // Lists are complete when the channel is told of them; nothing in memory hands them over.
        let access = Access {
            snoop: asks.descriptor,
            ..Access::descriptor(Order::Doorbell(self.doorbell))
        };
        let mut raw = [0; HALF];
        let mut half = |address: u64| {
            let read = ctx.dma.read(access, address, &mut raw);
            read.map(|()| raw)
                .map_err(|source| unreadable(side, address, source))
        };
        let list = *self.list(side);
        // Only now: software may add to a list that is paused.
        let at = match (list.behind, list.linked) {
            (false, _) => list.at,
            (true, true) => link(&half(list.at.wrapping_add(HALF as u64) & ADDRESS)?),
            (true, false) => list.at.wrapping_add(HALF as u64) & ADDRESS,
        };
        let misaligned = GuestError::Misaligned {
            side,
            descriptor: at,
        };
        if !at.is_multiple_of(HALF as u64) {
            return Err(misaligned);
        }
        let descriptor = Descriptor::parse(&half(at)?);
        if descriptor.linked && !at.is_multiple_of(2 * HALF as u64) {
            return Err(misaligned);
        }
        *self.list_mut(side) = List::starts_at(at);
        self.open(side, descriptor, asks, ctx);
        if side == Side::Destination && descriptor.size == 0 {
            // No room in it; the next one is looked at in the next step.
            self.finish(side, ctx);
            return Ok(Step {
                destination_done: descriptor.interrupt,
                then: Then::Again(FETCH_TICKS),
                ..Step::default()
            });
        }
        Ok(Step {
            then: Then::Again(FETCH_TICKS),
            ..Step::default()
        })
    }

    fn open(
        &mut self,
        side: Side,
        descriptor: Descriptor,
        asks: Attributes,
        ctx: &mut Context<'_>,
    ) {
        let snoop = match side {
            Side::Source => asks.read,
            Side::Destination => asks.write,
        };
        let snoop = snoop && descriptor.coherent;
        let transfer = Transfer {
            direction: match side {
                Side::Source => Direction::FromMemory,
                Side::Destination => Direction::ToMemory,
            },
            pa: descriptor.address,
            bus: None,
            scattered: false,
            len: descriptor.size.into(),
            descriptor: self.list(side).at,
            channel: self.channel,
            snoop,
        };
        let transfer = match descriptor.size {
            0 => TransferId::CONTROL,
            _ => ctx.dma.open(transfer, Order::Doorbell(self.doorbell)),
        };
        self.list_mut(side).buffer = Some(Buffer {
            descriptor,
            transfer,
            address: descriptor.address,
            left: descriptor.size.into(),
        });
    }
}

/// What the engine is at.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EngineState {
    source: List,
    destination: List,
    doorbell: Doorbell,
}

impl List {
    fn check(&self) -> Result<(), Invalid> {
        at_most("address of a descriptor", self.at, ADDRESS)?;
        let Some(buffer) = self.buffer else {
            return Ok(());
        };
        // From its first byte to behind its last.
        at_most("address of a buffer", buffer.address, 2 * ADDRESS)?;
        at_most("bytes left", buffer.left, SIZE.into())
    }
}

impl Engine {
    pub(super) fn state(&self) -> EngineState {
        let Engine {
            source,
            destination,
            doorbell,
            width: _,
            channel: _,
        } = self;
        EngineState {
            source: *source,
            destination: *destination,
            doorbell: *doorbell,
        }
    }

    pub(super) fn set_state(&mut self, state: EngineState) -> Result<(), Invalid> {
        state.source.check()?;
        state.destination.check()?;
        state.doorbell.check()?;
        self.source = state.source;
        self.destination = state.destination;
        self.doorbell = state.doorbell;
        Ok(())
    }
}

fn unreadable(side: Side, address: u64, source: DmaError) -> GuestError {
    GuestError::Descriptor {
        side,
        address,
        source,
    }
}
