// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! One physical endpoint: its configuration, its transfer, and the walk through its TRBs.
//!
//! Up to [`CACHE`] TRBs are fetched ahead, at a doorbell and as earlier ones retire. A fetched TRB's
//! buffer belongs to the device: its [`Transfer`] is open until the TRB retires or the transfer is
//! ended, and closed before the driver is told.

mod state;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::event::{EndpointEvent, STATUS_BUS_ERROR, STATUS_IOC, STATUS_LST, STATUS_SHORT};
use super::fault::Fault;
use super::io::Io;
use super::trb::{self, TRB_BYTES, TRBSTS_IN_PROGRESS, TRBSTS_OK, Trb, TrbKind};
use crate::dma::{Access, Direction, DmaError, Doorbell, Order, Transfer, TransferId};

pub(super) use self::state::EndpointState;

/// TRBs fetched ahead of their use.
pub(super) const CACHE: usize = 16;

/// TRBs that one packet or one skip may pass; the driver's rings have 256.
pub(super) const CHAIN_LIMIT: u32 = 1024;

/// Link TRBs followed in a row. The driver's rings have one each.
const LINK_LIMIT: u32 = 4;

/// Offset of the TRB's control word, whose HWO bit hands it over.
const TRB_CTRL: u64 = 12;

/// DEPCFG parameters (drivers/usb/dwc3/gadget.h).
const CFG0_TYPE_SHIFT: u32 = 1;
const CFG0_MAX_PACKET_SHIFT: u32 = 3;
const CFG1_COMPLETE_EN: u32 = 1 << 8;
const CFG1_IN_PROGRESS_EN: u32 = 1 << 9;
const CFG1_NOT_READY_EN: u32 = 1 << 10;

/// USB transfer type of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum EndpointKind {
    Control,
    Isochronous,
    Bulk,
    Interrupt,
}

/// What SETEPCONFIG has set.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) kind: EndpointKind,
    /// Bytes, 1 to 2047.
    pub(super) max_packet: usize,
    events: u32,
}

impl Config {
    /// `None` if the packet size is 0.
    pub(super) fn from_parameters(par0: u32, par1: u32) -> Option<Self> {
        let max_packet = (par0 >> CFG0_MAX_PACKET_SHIFT & 0x7ff) as usize;
        let kind = match par0 >> CFG0_TYPE_SHIFT & 3 {
            0 => EndpointKind::Control,
            1 => EndpointKind::Isochronous,
            2 => EndpointKind::Bulk,
            _ => EndpointKind::Interrupt,
        };
        (max_packet != 0).then_some(Config {
            kind,
            max_packet,
            events: par1,
        })
    }
}

/// State of the transfer resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    /// No transfer.
    Idle,
    /// Started; it may have no TRBs at the moment.
    Active,
    /// Stopped by a fault until End Transfer.
    Failed,
}

/// A TRB in the cache.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) trb: Trb,
    pub(super) at: u64,
    pub(super) id: TransferId,
    /// What made the device take it.
    pub(super) order: Order,
    /// Bytes moved.
    pub(super) done: u32,
}

impl Entry {
    pub(super) fn remaining(&self) -> usize {
        self.trb.len().saturating_sub(self.done) as usize
    }

    /// Address of the next byte to move. A buffer that wraps round the address space was refused
    /// when the TRB was fetched.
    pub(super) fn cursor(&self) -> u64 {
        self.trb.buffer.wrapping_add(u64::from(self.done))
    }
}

/// A physical endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Physical number; odd ones are IN.
    pub(super) number: u8,
    pub(super) config: Option<Config>,
    /// Whether SETTRANSFRESOURCE has given it a transfer resource.
    pub(super) resource: bool,
    pub(super) stalled: bool,
    pub(super) state: State,
    /// Where the next TRB to fetch stands.
    next: u64,
    /// Cleared by a TRB without HWO, set by a doorbell.
    may_fetch: bool,
    /// The last doorbell that found nothing under way. A later one only adds TRBs, which the device
    /// may come to before it.
    idle_until: Doorbell,
    pub(super) queue: VecDeque<Entry>,
    /// A short packet has ended the chain: drop its TRBs up to its end.
    skip: bool,
    /// A dropped TRB wants an event.
    skip_event: bool,
    /// The first TRB dropped since the last doorbell. Dropping leaves HWO set: who comes round a
    /// full ring to this one has seen it, and the driver has not given it again.
    dropped: Option<u64>,
    /// IN: bytes read from retired TRBs that wait for the rest of their packet.
    /// OUT: bytes received that wait for a TRB of their chain.
    pub(super) hold: Vec<u8>,
    /// OUT: the packet that `hold` ends was short.
    pub(super) hold_short: bool,
}

impl Endpoint {
    pub(super) fn new(number: u8) -> Self {
        Endpoint {
            number,
            config: None,
            resource: false,
            stalled: false,
            state: State::Idle,
            next: 0,
            may_fetch: false,
            idle_until: Doorbell::default(),
            queue: VecDeque::with_capacity(CACHE),
            skip: false,
            skip_event: false,
            dropped: None,
            hold: Vec::with_capacity(2048),
            hold_short: false,
        }
    }

    pub(super) fn is_in(&self) -> bool {
        self.number & 1 == 1
    }

    pub(super) fn is_control(&self) -> bool {
        self.number < 2
    }

    /// Bytes per packet, 0 if not configured.
    pub(super) fn max_packet(&self) -> usize {
        self.config.map_or(0, |c| c.max_packet)
    }

    fn wants(&self, event: EndpointEvent) -> bool {
        let enable = match event {
            EndpointEvent::TransferComplete => CFG1_COMPLETE_EN,
            EndpointEvent::TransferInProgress => CFG1_IN_PROGRESS_EN,
            EndpointEvent::TransferNotReady => CFG1_NOT_READY_EN,
            EndpointEvent::CommandComplete => return true,
        };
        self.config.is_some_and(|c| c.events & enable != 0)
    }

    /// Posts an event if the endpoint's configuration enables it.
    pub(super) fn post(&self, io: &mut Io<'_, '_>, event: EndpointEvent, status: u8) {
        if self.wants(event) {
            io.post(self.number, event, status, 0);
        }
    }

    /// Start Transfer. False if there is no free transfer resource, or the endpoint is of a type
    /// that is not modelled (isochronous).
    pub(super) fn start(&mut self, io: &mut Io<'_, '_>, trb: u64) -> bool {
        let usable = self
            .config
            .is_some_and(|c| c.kind != EndpointKind::Isochronous);
        if !usable || !self.resource || self.state != State::Idle {
            return false;
        }
        self.stop(io);
        self.state = State::Active;
        self.next = trb & !(TRB_BYTES - 1);
        self.doorbell(io);
        true
    }

    /// Update Transfer: the driver has added TRBs.
    pub(super) fn doorbell(&mut self, io: &mut Io<'_, '_>) {
        let doorbell = io.dma.doorbell();
        if self.queue.is_empty() && !self.may_fetch {
            self.idle_until = doorbell;
        }
        self.may_fetch = true;
        self.dropped = None;
        self.fetch(io);
        if !self.is_in() {
            self.flush(io);
        }
    }

    /// End Transfer. The TRB in progress tells how far it got, unless `force`.
    pub(super) fn end(&mut self, io: &mut Io<'_, '_>, force: bool) {
        if let Some(front) = self.queue.front()
            && front.done > 0
            && !force
            && self.state == State::Active
        {
            let half = front.trb.written_back(
                front.trb.len().saturating_sub(front.done),
                TRBSTS_IN_PROGRESS,
            );
            let (at, pa) = (front.at, front.at.wrapping_add(8));
            let access = Access::descriptor(front.order);
            if let Err(source) = io.dma.write(access, pa, &half) {
                let endpoint = self.number;
                io.fault(Fault::Bus {
                    endpoint,
                    pa: at,
                    source,
                });
            }
        }
        self.stop(io);
    }

    /// Forgets the transfer and gives all buffers back.
    pub(super) fn stop(&mut self, io: &mut Io<'_, '_>) {
        for entry in self.queue.drain(..) {
            close(io, entry.id);
        }
        self.state = State::Idle;
        self.may_fetch = false;
        self.skip = false;
        self.skip_event = false;
        self.dropped = None;
        self.hold.clear();
        self.hold_short = false;
    }

    /// Fills the cache with TRBs that have HWO set, from where the last fetch ended.
    pub(super) fn fetch(&mut self, io: &mut Io<'_, '_>) {
        let mut links = 0;
        let mut skipped = 0;
        while self.may_fetch && self.state == State::Active && self.queue.len() < CACHE {
            let (endpoint, at) = (self.number, self.next);
            // Once round a small ring: what follows is in the cache already.
            if self.queue.front().is_some_and(|front| front.at == at) {
                break;
            }
            let mut bytes = [0; TRB_BYTES as usize];
            let order = Order::Handover {
                word: at.wrapping_add(TRB_CTRL),
                shows: trb::HWO,
                idle_until: self.idle_until,
            };
            if let Err(source) = io.dma.read(Access::descriptor(order), at, &mut bytes) {
                return self.bus_error(io, at, source);
            }
            let trb = Trb::from_bytes(bytes);
            if !trb.hwo() || self.dropped == Some(at) {
                self.may_fetch = false;
                break;
            }
            if trb.kind() == TrbKind::Link {
                links += 1;
                if links > LINK_LIMIT {
                    return self.fail(io, Fault::LinkLoop { endpoint, pa: at });
                }
                self.next = trb.buffer & !(TRB_BYTES - 1);
                continue;
            }
            links = 0;
            self.next = at.wrapping_add(TRB_BYTES);
            if self.skip {
                skipped += 1;
                if skipped > CHAIN_LIMIT {
                    return self.fail(io, Fault::EndlessChain { endpoint, pa: at });
                }
                self.skip_one(io, at, &trb);
                continue;
            }
            let end = trb.buffer.checked_add(u64::from(trb.len()));
            if !self.accepts(trb.kind()) || end.is_none() {
                return self.fail(io, Fault::BadTrb { endpoint, pa: at });
            }
            let id = self.open(io, &trb, at, order);
            self.queue.push_back(Entry {
                trb,
                at,
                id,
                order,
                done: 0,
            });
            // Endpoint 0 has no ring: nothing valid follows the last TRB of a stage.
            if self.is_control() && !trb.chained() {
                self.may_fetch = false;
            }
        }
        // The chain goes on in TRBs that the driver adds once it knows of the short packet.
        if self.skip && self.skip_event {
            self.skip_event = false;
            self.post(
                io,
                EndpointEvent::TransferInProgress,
                STATUS_SHORT | STATUS_IOC,
            );
        }
    }

    fn accepts(&self, kind: TrbKind) -> bool {
        match kind {
            TrbKind::Normal => !self.is_control(),
            TrbKind::Setup => self.number == 0,
            TrbKind::Status2 | TrbKind::Status3 | TrbKind::Data => self.is_control(),
            TrbKind::Link | TrbKind::Other => false,
        }
    }

    fn open(&self, io: &mut Io<'_, '_>, trb: &Trb, at: u64, order: Order) -> TransferId {
        // A SETUP packet goes into its own TRB, a descriptor access.
        if trb.len() == 0 || !matches!(trb.kind(), TrbKind::Normal | TrbKind::Data) {
            return TransferId::CONTROL;
        }
        let transfer = Transfer {
            direction: if self.is_in() {
                Direction::FromMemory
            } else {
                Direction::ToMemory
            },
            pa: trb.buffer,
            bus: None,
            scattered: false,
            len: u64::from(trb.len()),
            descriptor: at,
            channel: self.number,
            snoop: true,
        };
        io.dma.open(transfer, order)
    }

    /// Gives the buffer of the front TRB back and writes its result. Returns the TRB, `None` if
    /// there is none or it could not be written.
    pub(super) fn write_back(&mut self, io: &mut Io<'_, '_>, status: u32) -> Option<Trb> {
        let entry = self.queue.pop_front()?;
        close(io, entry.id);
        let remaining = entry.trb.len().saturating_sub(entry.done);
        let half = entry.trb.written_back(remaining, status);
        let pa = entry.at.wrapping_add(8);
        match io.dma.write(Access::descriptor(entry.order), pa, &half) {
            Ok(()) => Some(entry.trb),
            Err(source) => {
                self.bus_error(io, pa, source);
                None
            }
        }
    }

    /// Retires the front TRB, all of whose bytes have been moved, and returns it.
    pub(super) fn retire(&mut self, io: &mut Io<'_, '_>) -> Option<Trb> {
        let trb = self.write_back(io, TRBSTS_OK)?;
        let ioc = if trb.ioc() { STATUS_IOC } else { 0 };
        if trb.lst() {
            self.complete(io, ioc | STATUS_LST);
        } else if trb.ioc() {
            self.post(io, EndpointEvent::TransferInProgress, ioc);
        }
        Some(trb)
    }

    /// Retires the front TRB after a short packet and drops the rest of its chain.
    pub(super) fn retire_short(&mut self, io: &mut Io<'_, '_>) {
        let Some(trb) = self.write_back(io, TRBSTS_OK) else {
            return;
        };
        if !trb.csp() {
            self.complete(io, STATUS_SHORT | STATUS_IOC | STATUS_LST);
            return;
        }
        self.skip = true;
        self.skip_event = trb.isp();
        self.pass(io, &trb);
        while self.skip {
            let Some(entry) = self.queue.pop_front() else {
                break;
            };
            close(io, entry.id);
            self.skip_one(io, entry.at, &entry.trb);
        }
        if self.skip {
            self.fetch(io);
        }
    }

    /// Drops the TRB at `at` of a chain that a short packet has ended, without writing to it.
    fn skip_one(&mut self, io: &mut Io<'_, '_>, at: u64, trb: &Trb) {
        self.dropped.get_or_insert(at);
        self.pass(io, trb);
    }

    /// Goes on after a TRB of a chain that a short packet has ended, up to the end of the chain.
    fn pass(&mut self, io: &mut Io<'_, '_>, trb: &Trb) {
        self.skip_event |= trb.ioc();
        if trb.chained() {
            return;
        }
        self.skip = false;
        if trb.lst() {
            self.complete(io, STATUS_SHORT | STATUS_IOC | STATUS_LST);
        } else if self.skip_event {
            self.post(
                io,
                EndpointEvent::TransferInProgress,
                STATUS_SHORT | STATUS_IOC,
            );
        }
        self.skip_event = false;
    }

    /// Ends the transfer from the device's side.
    pub(super) fn complete(&mut self, io: &mut Io<'_, '_>, status: u8) {
        self.stop(io);
        self.post(io, EndpointEvent::TransferComplete, status);
    }

    /// An access to memory has failed, which stops the transfer.
    pub(super) fn bus_error(&mut self, io: &mut Io<'_, '_>, pa: u64, source: DmaError) {
        let endpoint = self.number;
        self.fail(
            io,
            Fault::Bus {
                endpoint,
                pa,
                source,
            },
        );
    }

    /// Stops the transfer with the architectural error: a bus-error event.
    pub(super) fn fail(&mut self, io: &mut Io<'_, '_>, fault: Fault) {
        io.fault(fault);
        self.stop(io);
        if self.is_control() {
            self.post(io, EndpointEvent::TransferComplete, STATUS_BUS_ERROR);
        } else {
            self.state = State::Failed;
            self.post(io, EndpointEvent::TransferInProgress, STATUS_BUS_ERROR);
        }
    }
}

fn close(io: &mut Io<'_, '_>, id: TransferId) {
    if id != TransferId::CONTROL {
        io.dma.close(id);
    }
}
