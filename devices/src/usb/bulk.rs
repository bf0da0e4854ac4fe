// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A stream of bulk transfers from the host's side: produces, sends, receives and checks the
//! pattern.

mod state;

use staleline_protocol::pattern::Pattern;

use super::descriptor::{BulkEndpoint, Configuration};
use super::frames::Frames;
use super::plan::{Action, Step, Stream};
use super::report::StepReport;
use super::{InResult, OutResult, UsbPort};
use crate::clock::Ticks;
use crate::faults::HostFault;

pub(super) use self::state::FlowState;

/// The host's buffer: 16 SuperSpeed packets, and so a whole number of packets at any speed.
pub(super) const BUFFER: usize = 16 << 10;

/// What came of one use of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlowEvent {
    /// Something was moved.
    Moved,
    /// The device is not ready.
    Waiting,
    /// The plan wants silence.
    Pause(Ticks),
    /// The plan wants the endpoint halted.
    Halt(BulkEndpoint),
    /// The device has sent more than the plan had room for: the endpoint is to be recovered.
    Babbled(BulkEndpoint),
    /// The plan wants a bus reset.
    Reset,
    /// The plan wants the cable unplugged.
    Disconnect(Ticks),
    /// An endpoint answered STALL.
    Stalled(BulkEndpoint),
    /// The device sent more than the transfer was for.
    Overflow,
    /// All bytes have been moved.
    Done,
    /// The link is down.
    Disconnected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    In,
    Out,
    Loopback,
}

/// A stream under way.
#[derive(Debug)]
pub(super) struct Flow {
    kind: Kind,
    stream: Stream,
    pattern: Pattern,
    bulk_in: BulkEndpoint,
    bulk_out: BulkEndpoint,
    /// What has been moved; of a loopback, there and back.
    frames: Frames,
    /// Loopback: bytes sent that have not come back.
    ahead: u64,
    /// Transfers begun since the start or the last cut.
    index: usize,
    /// The current transfer reads.
    input: bool,
    /// Its size, and what is left of it.
    size: u64,
    left: u64,
    /// A zero-length packet ends it.
    zero_due: bool,
    /// Incidents that have happened.
    incidents: usize,
    /// Transfers begun, and faults that have taken place.
    begun: u32,
    faults: usize,
    /// Position and length for which the buffer holds the data to send.
    filled: Option<(u64, usize)>,
}

impl Flow {
    /// The stream of `step` over the endpoints of `config`; `None` if the step is none.
    ///
    /// # Errors
    /// Names what the configuration lacks.
    pub(super) fn new(step: &Step, config: &Configuration) -> Option<Result<Self, &'static str>> {
        let (kind, stream) = match step {
            Step::BulkIn(stream) => (Kind::In, stream),
            Step::BulkOut(stream) => (Kind::Out, stream),
            Step::Loopback(stream) => (Kind::Loopback, stream),
            Step::Halt { .. } | Step::Reset | Step::Disconnect { .. } | Step::Pause { .. } => {
                return None;
            }
        };
        let (bulk_in, bulk_out) = match endpoints(kind, config) {
            Ok(both) => both,
            Err(why) => return Some(Err(why)),
        };
        let mut flow = Flow {
            kind,
            stream: stream.clone(),
            pattern: Pattern::new(stream.seed),
            bulk_in,
            bulk_out,
            frames: Frames::new(stream.bytes, stream.frame),
            ahead: 0,
            index: 0,
            input: false,
            size: 0,
            left: 0,
            zero_due: false,
            incidents: 0,
            begun: 0,
            faults: 0,
            filled: None,
        };
        flow.begin();
        Some(Ok(flow))
    }

    /// The device has lost what was under way. If it moves frames again, the stream goes on with
    /// those that are missing; false if it does not.
    pub(super) fn cut(&mut self, report: &mut StepReport) -> bool {
        if self.stream.frame.is_none() {
            return false;
        }
        let back = self.frames.cut();
        match self.kind {
            Kind::In => report.received_cut += back,
            Kind::Out => report.sent_cut += back,
            // The device wants it again: a cut comes when some of it has come back, or nothing of
            // it has been sent.
            Kind::Loopback => {
                report.received_cut += back;
                report.sent_cut += back + self.ahead;
            }
        }
        self.ahead = 0;
        self.index = 0;
        self.zero_due = false;
        self.begin();
        true
    }

    /// The device has been configured anew.
    ///
    /// # Errors
    /// Names what the configuration lacks.
    pub(super) fn reconnect(&mut self, config: &Configuration) -> Result<(), &'static str> {
        (self.bulk_in, self.bulk_out) = endpoints(self.kind, config)?;
        Ok(())
    }

    /// Incidents of the plan that have not happened.
    fn missed(&self) -> u32 {
        u32::try_from(self.stream.incidents.len() - self.incidents).unwrap_or(u32::MAX)
    }

    /// Sets the next transfer up. False if the stream is over.
    fn begin(&mut self) -> bool {
        let left = self.stream.bytes.saturating_sub(self.frames.moved());
        let sizes = &self.stream.sizes;
        let Some(size) = sizes.get(self.index % sizes.len().max(1)) else {
            return false;
        };
        self.index += 1;
        self.begun = self.begun.saturating_add(1);
        self.input = self.kind == Kind::In;
        self.size = u64::from(*size).min(left);
        self.left = self.size;
        left > 0
    }

    /// Whether a transfer is about to begin.
    fn is_between(&self) -> bool {
        let forward = self.input == (self.kind == Kind::In);
        forward && self.left == self.size && !self.zero_due
    }

    /// The fault that is due before the transfer that is about to begin.
    fn due(&self) -> Option<(u32, HostFault)> {
        let (number, what) = *self.stream.faults.get(self.faults)?;
        (self.is_between() && number <= self.begun).then_some((number, what))
    }

    /// It takes place.
    fn took_place(
        &mut self,
        (number, what): (u32, HostFault),
        now: Ticks,
        report: &mut StepReport,
    ) {
        self.faults += 1;
        report.faults.push((number, what, now));
        report.cuts += 1;
    }

    fn fault(&mut self, now: Ticks, report: &mut StepReport) -> Option<FlowEvent> {
        let due = self.due()?;
        let event = match due.1 {
            HostFault::Halt if self.kind == Kind::In => FlowEvent::Halt(self.bulk_in),
            HostFault::Halt => FlowEvent::Halt(self.bulk_out),
            HostFault::Reset => FlowEvent::Reset,
            HostFault::Disconnect(ticks) => FlowEvent::Disconnect(ticks.into()),
            // Only when the device sends.
            HostFault::Babble => return None,
        };
        self.took_place(due, now, report);
        Some(event)
    }

    fn incident(&mut self, report: &mut StepReport) -> Option<FlowEvent> {
        let incident = self.stream.incidents.get(self.incidents)?;
        let between = self.is_between();
        let due = self.frames.moved() >= incident.after_bytes && !self.zero_due;
        if !due || incident.action == Action::Halt && !between {
            return None;
        }
        self.incidents += 1;
        report.incidents += 1;
        report.cuts += u32::from(incident.action.cuts());
        Some(match incident.action {
            Action::Pause { ticks } => FlowEvent::Pause(ticks),
            Action::Halt if self.kind == Kind::In => FlowEvent::Halt(self.bulk_in),
            Action::Halt => FlowEvent::Halt(self.bulk_out),
            Action::Reset => FlowEvent::Reset,
            Action::Disconnect { ticks } => FlowEvent::Disconnect(ticks),
        })
    }

    /// Uses the port once. `buf` is the same at every call and [`BUFFER`] long.
    pub(super) fn advance(
        &mut self,
        port: &mut dyn UsbPort,
        buf: &mut [u8],
        report: &mut StepReport,
    ) -> FlowEvent {
        report.begun = self.begun;
        let fault = self.fault(port.now(), report);
        if let Some(event) = fault.or_else(|| self.incident(report)) {
            return event;
        }
        let event = if self.input {
            self.receive(port, buf, report)
        } else {
            self.send(port, buf, report)
        };
        match event {
            FlowEvent::Waiting => report.naks += 1,
            FlowEvent::Stalled(_) => report.stalls += 1,
            FlowEvent::Done => report.missed = self.missed(),
            _ => {}
        }
        event
    }

    fn burst(&self) -> usize {
        usize::try_from(self.left).map_or(BUFFER, |left| left.min(BUFFER))
    }

    fn receive(
        &mut self,
        port: &mut dyn UsbPort,
        buf: &mut [u8],
        report: &mut StepReport,
    ) -> FlowEvent {
        self.filled = None;
        let babble = match (self.kind, self.due()) {
            (Kind::In, Some(due @ (_, HostFault::Babble))) => Some(due),
            _ => None,
        };
        // No packet but a short one fits into that.
        let want = if babble.is_some() { 1 } else { self.burst() };
        match port.transfer_in(self.bulk_in.address & 0x0f, &mut buf[..want]) {
            InResult::Data { len, end } => {
                self.check(&buf[..len], report);
                self.ahead = self.ahead.saturating_sub(len as u64);
                self.left -= len as u64;
                report.short_packets += u64::from(end);
                report.zero_packets +=
                    u64::from(end && len % usize::from(self.bulk_in.packet) == 0);
                if end || self.left == 0 {
                    return self.end(report);
                }
                FlowEvent::Moved
            }
            InResult::Nak => FlowEvent::Waiting,
            InResult::Stall => FlowEvent::Stalled(self.bulk_in),
            InResult::Overflow => match babble {
                Some(due) => {
                    self.took_place(due, port.now(), report);
                    FlowEvent::Babbled(self.bulk_in)
                }
                None => FlowEvent::Overflow,
            },
            InResult::Disconnected => FlowEvent::Disconnected,
        }
    }

    /// Checks what has arrived.
    fn check(&mut self, mut data: &[u8], report: &mut StepReport) {
        let offset = self.stream.offset;
        while !data.is_empty() {
            if self.kind == Kind::In {
                self.frames.recognise(&self.pattern, offset, data);
            }
            // A host asks for no more than what is missing, so there is room for all of it.
            let left = usize::try_from(self.frames.left()).unwrap_or(usize::MAX);
            let (piece, rest) = data.split_at(data.len().min(left.max(1)));
            let position = offset + self.frames.position();
            report.received.merge(self.pattern.check(position, piece));
            self.frames.advance(piece.len() as u64);
            data = rest;
        }
    }

    fn send(
        &mut self,
        port: &mut dyn UsbPort,
        buf: &mut [u8],
        report: &mut StepReport,
    ) -> FlowEvent {
        let len = self.burst();
        let position = self.stream.offset + self.frames.position() + self.ahead;
        if self.filled != Some((position, len)) {
            self.pattern.fill(position, &mut buf[..len]);
            self.filled = Some((position, len));
        }
        match port.transfer_out(self.bulk_out.address & 0x0f, &buf[..len]) {
            OutResult::Data { len } => {
                report.sent += len as u64;
                self.left -= len as u64;
                if self.kind == Kind::Loopback {
                    self.ahead += len as u64;
                } else {
                    self.sent(len as u64);
                }
                if self.left > 0 {
                    return FlowEvent::Moved;
                }
                let whole = self.size.is_multiple_of(u64::from(self.bulk_out.packet));
                if self.stream.zero_packet && whole && !self.zero_due {
                    self.zero_due = true;
                    return FlowEvent::Moved;
                }
                report.zero_packets += u64::from(self.zero_due);
                self.zero_due = false;
                self.end(report)
            }
            OutResult::Nak => FlowEvent::Waiting,
            OutResult::Stall => FlowEvent::Stalled(self.bulk_out),
            OutResult::Disconnected => FlowEvent::Disconnected,
        }
    }

    fn sent(&mut self, mut len: u64) {
        while len > 0 {
            let n = len.min(self.frames.left().max(1));
            self.frames.advance(n);
            len -= n;
        }
    }

    /// A transfer has ended.
    fn end(&mut self, report: &mut StepReport) -> FlowEvent {
        report.transfers += 1;
        if self.kind == Kind::Loopback && (!self.input || self.ahead > 0) {
            self.input = true;
            self.size = self.ahead;
            self.left = self.size;
            return FlowEvent::Moved;
        }
        if self.begin() {
            FlowEvent::Moved
        } else {
            FlowEvent::Done
        }
    }
}

/// The bulk endpoints in and out. That of a direction which is not used does not matter.
fn endpoints(
    kind: Kind,
    config: &Configuration,
) -> Result<(BulkEndpoint, BulkEndpoint), &'static str> {
    match (kind, config.bulk_in, config.bulk_out) {
        (Kind::In, Some(e), _) | (Kind::Out, _, Some(e)) => Ok((e, e)),
        (Kind::Loopback, Some(i), Some(o)) => Ok((i, o)),
        (Kind::In | Kind::Loopback, None, _) => Err("no bulk IN endpoint"),
        (Kind::Out | Kind::Loopback, ..) => Err("no bulk OUT endpoint"),
    }
}
