// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What moves the data: one transfer at a time, segment by segment, burst by burst.
//!
//! [`Engine::step`] does a bounded piece of work (one descriptor, or one burst) and says what
//! comes of it. When the next step happens, and what the registers show, is the caller's business.

use serde::{Deserialize, Serialize};

use super::config::{Config, Route};
use super::descriptor::{Descriptor, FETCHED};
use super::{BYTES_PER_TICK, GuestError};
use crate::bus::Context;
use crate::clock::Ticks;
use crate::diagnostics::{BoundedLog, LogState};
use crate::dma::{Access, Doorbell, Order, Transfer, TransferId};
use crate::state::{Invalid, at_most, times};

/// Largest burst: no AXI burst crosses a 4 KiB boundary.
const MAX_BURST: usize = 4096;

/// Where the next segment comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Source {
    /// A descriptor in memory.
    Descriptor(u64),
    /// The address and length registers, as they were when the transfer was taken.
    Registers {
        address: u64,
        x_len: u32,
        cyclic: bool,
    },
}

/// A transfer the guest has submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) source: Source,
    /// The register write that submitted it.
    pub(super) doorbell: Doorbell,
    /// Record the length if the stream ends it early.
    pub(super) report_partial: bool,
}

/// A piece of contiguous memory the device owns.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Segment {
    transfer: TransferId,
    address: u64,
    left: u64,
    descriptor: u64,
    id: u32,
    end: End,
}

/// What follows a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// An end of transfer is to be reported.
    pub(super) eot: bool,
    /// Length of a transfer that the stream ended early, if that is to be reported too.
    pub(super) partial: Option<u64>,
    next: Option<Source>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum State {
    Begin(Source, Order),
    Move(Segment),
    /// The data is there, the guest does not know yet.
    Report(End),
    /// A guest error: occupies the channel, as it would on hardware, until that is disabled.
    Failed,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Active {
    request: Request,
    state: State,
    /// Bytes since the transfer began or last reported an end.
    measured: u64,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// More to do after a time.
    Again(Ticks),
    /// More to do when the stream's gate opens.
    Gated,
    /// The end of a transfer, or of a part of a chain, wants to be reported. The engine does not go
    /// on before [`Engine::reported`].
    Ended(End),
    /// Stopped by a guest error: the transfer stays unfinished until the channel is disabled.
    Stopped,
    /// No transfer.
    Idle,
}

/// The data mover.
#[derive(Debug)]
pub(super) struct Engine {
    config: Config,
    active: Option<Active>,
    buffer: Box<[u8; MAX_BURST]>,
    pub(super) log: BoundedLog<GuestError>,
}

impl Engine {
    pub(super) fn new(config: Config) -> Self {
        Engine {
            config,
            active: None,
            buffer: Box::new([0; MAX_BURST]),
            log: BoundedLog::new(),
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.active.is_some()
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(
            self.active,
            Some(Active {
                state: State::Failed,
                ..
            })
        )
    }

    /// Takes a request; the engine must not be busy.
    pub(super) fn start(&mut self, request: Request) {
        self.active = Some(Active {
            request,
            state: State::Begin(request.source, Order::Doorbell(request.doorbell)),
            measured: 0,
        });
    }

    /// Drops the transfer.
    pub(super) fn abort(&mut self, ctx: &mut Context<'_>) {
        if let Some(Active {
            state: State::Move(segment),
            ..
        }) = self.active.take()
        {
            ctx.dma.close(segment.transfer);
        }
    }

    /// The next byte's address, while data moves.
    pub(super) fn address(&self) -> u64 {
        self.segment().map_or(0, |s| s.address)
    }

    /// The driver's ID of the segment at work, 0 without a descriptor.
    pub(super) fn descriptor_id(&self) -> u32 {
        self.segment().map_or(0, |s| s.id)
    }

    /// Bytes moved since the transfer began or last reported an end.
    pub(super) fn progress(&self) -> u64 {
        self.active.map_or(0, |a| a.measured)
    }

    fn segment(&self) -> Option<Segment> {
        match self.active?.state {
            State::Move(segment) => Some(segment),
            _ => None,
        }
    }

    /// Does the next piece of work.
    pub(super) fn step(&mut self, ctx: &mut Context<'_>) -> Progress {
        let Some(mut active) = self.active else {
            return Progress::Idle;
        };
        let result = match active.state {
            State::Begin(source, order) => self.begin(source, order, ctx).map(|segment| {
                active.state = State::Move(segment);
                Progress::Again(self.cost(segment))
            }),
            State::Move(segment) => self.burst(&mut active, segment, ctx),
            State::Report(end) => Ok(Progress::Ended(end)),
            State::Failed => Ok(Progress::Stopped),
        };
        let progress = result.unwrap_or_else(|error| {
            if self.log.push(ctx.clock.now(), error) {
                log::warn!("AXI-DMAC stopped: {error}");
            }
            if let State::Move(segment) = active.state {
                ctx.dma.close(segment.transfer);
            }
            active.state = State::Failed;
            Progress::Stopped
        });
        self.active = Some(active);
        progress
    }

    /// The guest knows of the last [`Progress::Ended`]: goes on with the chain, if there is more.
    /// Returns whether the transfer has more to do.
    pub(super) fn reported(&mut self) -> bool {
        let Some(active) = &mut self.active else {
            return false;
        };
        let State::Report(end) = active.state else {
            return true;
        };
        if end.eot {
            active.measured = 0;
        }
        match end.next {
            // A chain is complete when it is submitted; a cyclic transfer goes on by itself.
            Some(source) => {
                active.state = State::Begin(source, Order::Doorbell(active.request.doorbell));
            }
            None => self.active = None,
        }
        self.active.is_some()
    }

    /// The stream ends the transfer here (TLAST with the beat just taken). What is left of it,
    /// segments not fetched included, is dropped. Returns false if no data has moved.
    pub(super) fn cut(&mut self, ctx: &mut Context<'_>) -> bool {
        let Some(active) = &mut self.active else {
            return false;
        };
        let State::Move(segment) = active.state else {
            return false;
        };
        if active.measured == 0 {
            return false;
        }
        ctx.dma.close(segment.transfer);
        active.state = State::Report(End {
            eot: true,
            partial: active.request.report_partial.then_some(active.measured),
            next: None,
        });
        true
    }

    fn cost(&self, segment: Segment) -> Ticks {
        (self.chunk(segment) as Ticks).div_ceil(BYTES_PER_TICK)
    }

    /// Bytes of the next burst.
    fn chunk(&self, segment: Segment) -> usize {
        let boundary = MAX_BURST as u64 - segment.address % MAX_BURST as u64;
        let chunk = boundary.min(self.config.burst.into()).min(segment.left);
        // At most MAX_BURST, by the boundary.
        chunk as usize
    }

    fn begin(
        &mut self,
        source: Source,
        order: Order,
        ctx: &mut Context<'_>,
    ) -> Result<Segment, GuestError> {
        let (descriptor, id, address, x_len, end) = match source {
            Source::Registers {
                address,
                x_len,
                cyclic,
            } => {
                let end = End {
                    eot: !cyclic,
                    partial: None,
                    next: cyclic.then_some(source),
                };
                (0, 0, address, x_len, end)
            }
            Source::Descriptor(at) => {
                let d = fetch(at, order, ctx)?;
                let address = match self.config.route {
                    Route::Capture(_) => d.destination,
                    Route::Playback(_) => d.source,
                };
                let end = End {
                    eot: d.irq,
                    partial: None,
                    next: (!d.last).then(|| Source::Descriptor(self.wire(d.next, 8, at, ctx))),
                };
                if d.y_len != 0 {
                    let error = GuestError::TwoDimensional { descriptor: at };
                    self.log.push(ctx.clock.now(), error);
                }
                let address = self.wire(address, self.config.memory_width, at, ctx);
                (at, d.id, address, d.x_len, end)
            }
        };
        let kept = x_len & self.config.max_x_length();
        let len = u64::from(kept) + 1;
        if kept != x_len || len % u64::from(self.config.stream_width) != 0 {
            let error = GuestError::Length { x_len, descriptor };
            self.log.push(ctx.clock.now(), error);
        }
        let transfer = Transfer {
            direction: self.config.direction(),
            pa: address,
            bus: None,
            scattered: false,
            len,
            descriptor,
            channel: self.config.channel,
            snoop: true,
        };
        let transfer = ctx.dma.open(transfer, order);
        Ok(Segment {
            transfer,
            address,
            left: len,
            descriptor,
            id,
            end,
        })
    }

    /// The part of an address that the core has wires for; a loss is worth a note.
    fn wire(&mut self, address: u64, width: u32, descriptor: u64, ctx: &Context<'_>) -> u64 {
        let kept = address & u64::from(u32::MAX) & !u64::from(width - 1);
        if kept != address {
            let error = GuestError::Address {
                address,
                kept,
                descriptor,
            };
            self.log.push(ctx.clock.now(), error);
        }
        kept
    }

    fn burst(
        &mut self,
        active: &mut Active,
        mut segment: Segment,
        ctx: &mut Context<'_>,
    ) -> Result<Progress, GuestError> {
        let chunk = self.chunk(segment);
        let data = &mut self.buffer[..chunk];
        let stream = self.config.stream();
        if !ctx.streams.enabled(stream) {
            return Ok(Progress::Gated);
        }
        let access = Access::data(segment.transfer);
        let moved = match self.config.route {
            Route::Capture(_) => {
                ctx.streams.produce(stream, data);
                ctx.dma.write(access, segment.address, data)
            }
            Route::Playback(_) => ctx.dma.read(access, segment.address, data).map(|()| {
                ctx.streams.consume(stream, data);
            }),
        };
        moved.map_err(|source| GuestError::Data {
            descriptor: segment.descriptor,
            source,
        })?;
        segment.address += chunk as u64;
        segment.left -= chunk as u64;
        active.measured = active.measured.saturating_add(chunk as u64);
        if segment.left > 0 {
            active.state = State::Move(segment);
            return Ok(Progress::Again(self.cost(segment)));
        }
        ctx.dma.close(segment.transfer);
        active.state = State::Report(segment.end);
        Ok(Progress::Ended(segment.end))
    }
}

/// What the engine is at. Its buffer holds nothing between two steps.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EngineState {
    active: Option<Active>,
    log: LogState<GuestError>,
}

impl Request {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        self.doorbell.check()
    }
}

impl Active {
    fn check(&self) -> Result<(), Invalid> {
        self.request.check()?;
        times("bytes measured", &[self.measured])?;
        match self.state {
            State::Begin(_, order) => order.check(),
            State::Move(segment) => {
                at_most("bytes left", segment.left.wrapping_sub(1), u32::MAX.into())?;
                times("address of a segment", &[segment.address])
            }
            State::Report(_) | State::Failed => Ok(()),
        }
    }
}

impl Engine {
    pub(super) fn state(&self) -> EngineState {
        let Engine {
            config: _,
            active,
            buffer: _,
            log,
        } = self;
        EngineState {
            active: *active,
            log: log.state(),
        }
    }

    pub(super) fn set_state(&mut self, state: EngineState) -> Result<(), Invalid> {
        state.active.iter().try_for_each(Active::check)?;
        self.active = state.active;
        self.log.set_state(state.log)
    }
}

fn fetch(at: u64, order: Order, ctx: &mut Context<'_>) -> Result<Descriptor, GuestError> {
    let mut raw = [0; FETCHED];
    ctx.dma
        .read(Access::descriptor(order), at, &mut raw)
        .map_err(|source| GuestError::Descriptor {
            address: at,
            source,
        })?;
    Ok(Descriptor::parse(&raw))
}
