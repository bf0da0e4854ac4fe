// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Endpoint 0: control transfers over physical endpoints 0 (OUT) and 1 (IN).
//!
//! Sources: Linux drivers/usb/dwc3/ep0.c. The driver starts one stage at a time: the SETUP TRB,
//! a data TRB (or two, chained), and, when told by XferNotReady that the host wants it, a status
//! TRB.

use serde::{Deserialize, Serialize};

use super::endpoint::{Endpoint, State};
use super::event::{
    EndpointEvent, STATUS_CONTROL_DATA, STATUS_CONTROL_STATUS, STATUS_IOC, STATUS_LST,
};
use super::io::Io;
use super::registers::ENDPOINTS;
use super::trb::{TRBSTS_OK, TRBSTS_SETUP_PENDING, TrbKind};
use crate::dma::Access;
use crate::state::{Invalid, no_longer};
use crate::usb::{InResult, OutResult, SetupResult};

const OUT: usize = 0;
const IN: usize = 1;

/// TRBs of the stages after the SETUP packet.
const STAGES: [TrbKind; 3] = [TrbKind::Data, TrbKind::Status2, TrbKind::Status3];

/// Where the host is in a control transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
enum Stage {
    /// Before a SETUP packet.
    #[default]
    Setup,
    /// Data in direction `OUT` or `IN`.
    Data(usize),
    /// Status in direction `OUT` or `IN`.
    Status(usize),
}

/// State of the control pipe.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Control {
    stage: Stage,
    stalled: bool,
    /// The driver knows that the host waits for the current stage.
    not_ready: bool,
    /// A SETUP packet waits for the driver to start a SETUP TRB.
    setup_waits: bool,
    /// The data stage has begun on the bus.
    moved: bool,
    /// A reset has ended the transfer while the driver still owed its data stage.
    forsaken: bool,
}

impl Control {
    /// For a state that comes from outside.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        match self.stage {
            Stage::Setup => Ok(()),
            Stage::Data(direction) | Stage::Status(direction) => {
                no_longer("direction of a control transfer", direction, IN)
            }
        }
    }

    /// Set Stall: the host gets STALL until it sends the next SETUP packet.
    pub(super) fn stall(&mut self) {
        self.stalled = true;
    }

    /// The driver has started a transfer on endpoint 0 or 1. A stage that the host has given up
    /// ends at once.
    pub(super) fn started(&mut self, endpoints: &mut [Endpoint; ENDPOINTS], io: &mut Io<'_, '_>) {
        if self.setup_waits {
            self.cut_short(endpoints, io);
        }
    }

    /// Whether the driver owes the data stage of a request that it may not even have seen. If it
    /// learnt of a reset now, it would end a data stage on physical endpoint 0 that it had begun in
    /// the meantime, and take it for the SETUP TRB that it then does not start
    /// (`dwc3_ep0_reset_state`, `dwc3_ep0_start_trans`).
    pub(super) fn awaits_data_out(&self, endpoints: &[Endpoint; ENDPOINTS]) -> bool {
        self.stage == Stage::Data(OUT)
            && !self.stalled
            && !self.forsaken
            && self.owes_data(endpoints, OUT)
    }

    /// The data stage is neither started nor over: nothing of it has been moved.
    fn owes_data(&self, endpoints: &[Endpoint; ENDPOINTS], direction: usize) -> bool {
        !self.moved && front(&endpoints[direction], &[TrbKind::Data]).is_none()
    }

    /// Bus reset or disconnection. A stage that is started completes like one that a SETUP packet
    /// cuts short: else the driver could not start a SETUP TRB on physical endpoint 0, whose
    /// transfer it believes to be active (`dwc3_ep0_reset_state`, `dwc3_ep0_start_trans`). A
    /// status stage that the driver awaits stays on record: it takes no notice of the reset then,
    /// and must be asked for that stage before it starts a SETUP TRB.
    pub(super) fn reset(&mut self, endpoints: &mut [Endpoint; ENDPOINTS], io: &mut Io<'_, '_>) {
        let forsaken = match self.stage {
            Stage::Data(d) if !self.stalled => self.owes_data(endpoints, d),
            _ => false,
        };
        for n in [OUT, IN] {
            if front(&endpoints[n], &STAGES).is_some() {
                finish(&mut endpoints[n], io, TRBSTS_SETUP_PENDING);
            }
        }
        *self = Control {
            stage: self.stage,
            forsaken: forsaken || self.forsaken,
            moved: self.moved,
            ..Control::default()
        };
    }

    /// A SETUP packet.
    pub(super) fn setup(
        &mut self,
        endpoints: &mut [Endpoint; ENDPOINTS],
        io: &mut Io<'_, '_>,
        packet: &[u8; 8],
    ) -> SetupResult {
        let Some(buffer) = front(&endpoints[OUT], &[TrbKind::Setup]) else {
            if !self.setup_waits {
                self.setup_waits = true;
                let forsaken = match self.stage {
                    Stage::Data(d) => self.forsaken && self.owes_data(endpoints, d),
                    _ => false,
                };
                self.cut_short(endpoints, io);
                match self.stage {
                    // The driver has heard of the reset, which does not concern it before the data
                    // stage, and waits for that stage. What gets it out of there is a token in the
                    // other direction (`dwc3_ep0_xfernotready`).
                    Stage::Data(d) if forsaken => {
                        let other = &endpoints[d ^ 1];
                        other.post(io, EndpointEvent::TransferNotReady, STATUS_CONTROL_DATA);
                    }
                    // The driver may be waiting for this. It ignores it before the data stage.
                    Stage::Data(d) => {
                        // What it has been told so far was about the data stage.
                        self.not_ready = false;
                        self.wait(&endpoints[d ^ 1], io, STATUS_CONTROL_STATUS);
                    }
                    Stage::Status(d) => self.wait(&endpoints[d], io, STATUS_CONTROL_STATUS),
                    Stage::Setup => {}
                }
            }
            return SetupResult::Nak;
        };
        *self = Control::default();
        // The buffer is the TRB itself with this driver: write it first, then the TRB's second
        // half.
        let order = endpoints[OUT].queue.front().map(|front| front.order);
        let access = Access::descriptor(order.unwrap_or_default());
        if let Err(source) = io.dma.write(access, buffer, packet) {
            endpoints[OUT].bus_error(io, buffer, source);
            return SetupResult::Nak;
        }
        let length = u16::from_le_bytes([packet[6], packet[7]]);
        self.stage = match (length, packet[0] & 0x80) {
            (0, _) => Stage::Status(IN),
            (_, 0) => Stage::Data(OUT),
            _ => Stage::Data(IN),
        };
        if let Some(front) = endpoints[OUT].queue.front_mut() {
            front.done = front.trb.len().min(8);
        }
        finish(&mut endpoints[OUT], io, TRBSTS_OK);
        SetupResult::Ack
    }

    /// The host has sent a new SETUP packet in the middle of a control transfer: the stage that is
    /// started completes with the status that says so, and the driver is asked to go on to the
    /// status stage (`dwc3_ep0_xfernotready` then starts over).
    fn cut_short(&mut self, endpoints: &mut [Endpoint; ENDPOINTS], io: &mut Io<'_, '_>) {
        for n in [OUT, IN] {
            if front(&endpoints[n], &STAGES).is_none() {
                continue;
            }
            let was_data = front(&endpoints[n], &[TrbKind::Data]).is_some();
            finish(&mut endpoints[n], io, TRBSTS_SETUP_PENDING);
            if was_data {
                let status = &endpoints[n ^ 1];
                status.post(io, EndpointEvent::TransferNotReady, STATUS_CONTROL_STATUS);
            }
        }
    }

    /// IN tokens.
    pub(super) fn input(
        &mut self,
        endpoints: &mut [Endpoint; ENDPOINTS],
        io: &mut Io<'_, '_>,
        buf: &mut [u8],
    ) -> InResult {
        if self.stalled {
            return InResult::Stall;
        }
        match self.stage {
            Stage::Data(IN) => {
                if front(&endpoints[IN], &[TrbKind::Data]).is_none() {
                    self.wait(&endpoints[IN], io, STATUS_CONTROL_DATA);
                    return InResult::Nak;
                }
                self.moved = true;
                endpoints[IN].input(io, buf)
            }
            Stage::Data(_) => {
                self.leave_data(endpoints, io, OUT);
                self.status_in(endpoints, io)
            }
            Stage::Status(IN) => self.status_in(endpoints, io),
            Stage::Status(_) | Stage::Setup => InResult::Nak,
        }
    }

    fn status_in(
        &mut self,
        endpoints: &mut [Endpoint; ENDPOINTS],
        io: &mut Io<'_, '_>,
    ) -> InResult {
        if self.status(endpoints, io, IN) {
            InResult::Data { len: 0, end: true }
        } else {
            InResult::Nak
        }
    }

    /// OUT packets.
    pub(super) fn output(
        &mut self,
        endpoints: &mut [Endpoint; ENDPOINTS],
        io: &mut Io<'_, '_>,
        data: &[u8],
    ) -> OutResult {
        if self.stalled {
            return OutResult::Stall;
        }
        match self.stage {
            Stage::Data(OUT) => {
                if front(&endpoints[OUT], &[TrbKind::Data]).is_none() {
                    self.wait(&endpoints[OUT], io, STATUS_CONTROL_DATA);
                    return OutResult::Nak;
                }
                self.moved = true;
                return endpoints[OUT].output(io, data);
            }
            Stage::Data(_) => self.leave_data(endpoints, io, IN),
            Stage::Status(OUT) => {}
            Stage::Status(_) | Stage::Setup => return OutResult::Nak,
        }
        if self.status(endpoints, io, OUT) {
            OutResult::Data { len: 0 }
        } else {
            OutResult::Nak
        }
    }

    /// The host has had enough data and goes on to the status stage.
    fn leave_data(
        &mut self,
        endpoints: &mut [Endpoint; ENDPOINTS],
        io: &mut Io<'_, '_>,
        direction: usize,
    ) {
        if front(&endpoints[direction], &[TrbKind::Data]).is_some() {
            finish(&mut endpoints[direction], io, TRBSTS_OK);
        }
        self.stage = Stage::Status(direction ^ 1);
        self.not_ready = false;
    }

    /// The host wants the status stage. True if it is over.
    fn status(
        &mut self,
        endpoints: &mut [Endpoint; ENDPOINTS],
        io: &mut Io<'_, '_>,
        direction: usize,
    ) -> bool {
        let kinds = [TrbKind::Status2, TrbKind::Status3];
        if front(&endpoints[direction], &kinds).is_none() {
            self.wait(&endpoints[direction], io, STATUS_CONTROL_STATUS);
            return false;
        }
        finish(&mut endpoints[direction], io, TRBSTS_OK);
        *self = Control::default();
        true
    }

    /// Tells the driver, once per stage, that the host waits for it.
    fn wait(&mut self, endpoint: &Endpoint, io: &mut Io<'_, '_>, stage: u8) {
        if !self.not_ready {
            self.not_ready = true;
            endpoint.post(io, EndpointEvent::TransferNotReady, stage);
        }
    }
}

/// The buffer of the TRB that the endpoint works on, if it is of one of `kinds`.
fn front(endpoint: &Endpoint, kinds: &[TrbKind]) -> Option<u64> {
    let front = endpoint.queue.front()?;
    (endpoint.state == State::Active && kinds.contains(&front.trb.kind()))
        .then_some(front.trb.buffer)
}

/// Completes the TRB that the endpoint works on, and its transfer.
fn finish(endpoint: &mut Endpoint, io: &mut Io<'_, '_>, status: u32) {
    if endpoint.write_back(io, status).is_some() {
        endpoint.complete(io, STATUS_IOC | STATUS_LST);
    }
}
