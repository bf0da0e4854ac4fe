// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The control endpoint, as in ep0.c, and the answers of a composite gadget with one vendor
//! interface.

use super::*;

const HWO: u32 = 1;
const LST: u32 = 1 << 1;
const CHN: u32 = 1 << 2;
const ISP: u32 = 1 << 10;
const IOC: u32 = 1 << 11;
const SETUP: u32 = 2 << 4;
const STATUS2: u32 = 3 << 4;
const STATUS3: u32 = 4 << 4;
const CONTROL_DATA: u32 = 5 << 4;

const SETUP_PENDING: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Setup,
    Data,
    Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum NextEvent {
    #[default]
    Complete,
    NotReadyData,
    NotReadyStatus,
}

#[derive(Debug, Default)]
pub(super) struct Ep0 {
    state: State,
    next: NextEvent,
    three_stage: bool,
    expect_in: bool,
    setup_pending: bool,
    delayed_status: bool,
    bounced: bool,
    /// The data stage's request: buffer, length, zero flag.
    request: Option<(u64, u32, bool)>,
    /// Data stages of vendor requests, as received.
    pub(super) received: Vec<Vec<u8>>,
    configuration: u8,
    /// Setup packets, in order.
    pub(super) setups: Vec<[u8; 8]>,
    /// TRBs of a data stage of length 0 at 255, as the driver uses for a bounce.
    enqueue: u64,
}

/// What the gadget does with a SETUP packet.
enum Answer {
    /// Sends this, cut to wLength.
    Data(Vec<u8>),
    /// Wants the data stage in a buffer of so many bytes.
    Receive(u32),
    /// Goes on to the status stage.
    Status,
    /// Will go on to the status stage later.
    Delayed,
    /// Will queue the data stage later, or never.
    Unanswered,
    Stall,
}

impl Driver {
    pub(in crate::dwc3) fn setups(&self) -> &[[u8; 8]] {
        &self.ep0.setups
    }

    pub(in crate::dwc3) fn received(&self) -> &[Vec<u8>] {
        &self.ep0.received
    }

    fn ep0_trb(&mut self, n: usize, buffer: u64, size: u32, kind: u32, chain: bool) {
        let at = EP0_TRB + 16 * self.ep0.enqueue;
        let ends = if chain { CHN } else { IOC | LST };
        assert!(n < 2);
        self.put_trb(at, buffer, size, kind | HWO | ISP | ends);
        self.ep0.enqueue += u64::from(chain);
    }

    fn ep0_start(&mut self, n: usize) {
        if self.eps[n].started {
            return;
        }
        self.start_transfer(n, EP0_TRB);
        self.ep0.next = NextEvent::Complete;
    }

    pub(super) fn ep0_out_start(&mut self) {
        self.ep0_trb(0, EP0_TRB, 8, SETUP, false);
        self.ep0_start(0);
    }

    fn stall_and_restart(&mut self) {
        self.eps[1].started = false;
        self.command(0, 4, [0; 3]);
        self.ep0.delayed_status = false;
        self.ep0.request = None;
        self.ep0.enqueue = 0;
        self.ep0.state = State::Setup;
        self.ep0_out_start();
    }

    pub(super) fn ep0_reset_state(&mut self) {
        if self.ep0.state == State::Setup {
            return;
        }
        let direction = usize::from(self.ep0.expect_in);
        let n = match self.ep0.state {
            State::Data => direction,
            _ => direction ^ 1,
        };
        self.end_control(n);
        self.ep0.enqueue = 0;
        self.stall_and_restart();
    }

    /// dwc3_ep0_end_control_data.
    fn end_control(&mut self, n: usize) {
        let index = self.eps[n].resource_index;
        if index != 0 || n == 0 {
            self.command(n, 8 | CMD_IOC | index << 16, [0; 3]);
            self.eps[n].resource_index = 0;
        }
    }

    pub(super) fn ep0_event(&mut self, n: usize, kind: u32, status: u32, parameters: u32) {
        match kind {
            1 => self.ep0_complete(n),
            3 => self.ep0_not_ready(n, status),
            7 if parameters >> 8 & 0xf == 8 => self.eps[n].started = false,
            other => panic!("unexpected event {other} of endpoint {n}"),
        }
    }

    fn ep0_complete(&mut self, n: usize) {
        self.eps[n].started = false;
        self.eps[n].resource_index = 0;
        self.ep0.setup_pending = false;
        match self.ep0.state {
            State::Setup => self.inspect_setup(),
            State::Data => self.complete_data(n),
            State::Status => {
                let status = self.trb(EP0_TRB)[2] >> 28;
                self.ep0.setup_pending = status == SETUP_PENDING;
                self.ep0.state = State::Setup;
                self.ep0_out_start();
            }
        }
    }

    fn inspect_setup(&mut self) {
        let [low, high, size, control] = self.trb(EP0_TRB);
        assert_eq!((size, control & HWO), (0, 0), "SETUP TRB not written back");
        let mut packet = [0; 8];
        packet[..4].copy_from_slice(&low.to_le_bytes());
        packet[4..].copy_from_slice(&high.to_le_bytes());
        self.ep0.setups.push(packet);
        let length = u32::from(u16::from_le_bytes([packet[6], packet[7]]));
        self.ep0.three_stage = length != 0;
        self.ep0.expect_in = length != 0 && packet[0] & 0x80 != 0;
        self.ep0.next = if length == 0 {
            NextEvent::NotReadyStatus
        } else {
            NextEvent::NotReadyData
        };
        match self.answer(packet) {
            Answer::Data(mut data) => {
                let zero = (data.len() as u32) < length;
                data.truncate(length as usize);
                self.bench.memory.put(EP0_BUF, &data);
                self.data_stage(EP0_BUF, data.len() as u32, zero);
            }
            Answer::Receive(buffer) => self.data_stage(SETUP_BUF, buffer, false),
            Answer::Status => {}
            Answer::Unanswered => {}
            Answer::Delayed => self.ep0.delayed_status = true,
            Answer::Stall => self.stall_and_restart(),
        }
    }

    /// `__dwc3_ep0_do_control_data`.
    fn data_stage(&mut self, buffer: u64, length: u32, zero: bool) {
        self.ep0.state = State::Data;
        self.ep0.request = Some((buffer, length, zero));
        let n = usize::from(self.ep0.expect_in);
        let packet = self.eps[n].max_packet;
        let rest = length % packet;
        if n == 0 && rest != 0 {
            self.ep0.bounced = true;
            self.ep0_trb(n, buffer, length, CONTROL_DATA, true);
            self.ep0_trb(n, BOUNCE, packet - rest, CONTROL_DATA, false);
        } else if rest == 0 && length != 0 && zero {
            self.ep0_trb(n, buffer, length, CONTROL_DATA, true);
            let extra = if n == 0 { packet } else { 0 };
            self.ep0_trb(n, BOUNCE, extra, CONTROL_DATA, false);
        } else {
            self.ep0_trb(n, buffer, length, CONTROL_DATA, false);
        }
        self.ep0_start(n);
    }

    fn complete_data(&mut self, n: usize) {
        self.ep0.next = NextEvent::NotReadyStatus;
        let [_, _, size, _] = self.trb(EP0_TRB);
        let Some((buffer, length, zero)) = self.ep0.request.take() else {
            return;
        };
        if size >> 28 == SETUP_PENDING {
            self.ep0.setup_pending = true;
            return;
        }
        let actual = length - (size & 0xff_ffff);
        let packet = self.eps[n].max_packet;
        if length.is_multiple_of(packet) && length != 0 && zero
            || std::mem::take(&mut self.ep0.bounced)
        {
            self.ep0.enqueue = 0;
        }
        if n == 1 && actual < length {
            return self.stall_and_restart();
        }
        if n == 0 {
            let from = (buffer - RAM) as usize;
            let data = self.bench.memory.bytes[from..from + actual as usize].to_vec();
            self.ep0.received.push(data);
            // dwc3_ep0_set_sel_cmpl.
            self.write(0xc710, 0);
            self.write(DGCMD, 2 | CMD_ACT);
            assert_eq!(self.read(DGCMD) & (CMD_ACT | 0xf << 12), 0);
        }
    }

    fn ep0_not_ready(&mut self, n: usize, status: u32) {
        match status {
            1 => {
                let expected = usize::from(self.ep0.expect_in);
                if self.connected && expected != n {
                    self.wrong_directions += 1;
                    self.end_control(expected);
                    self.stall_and_restart();
                }
            }
            2 => {
                if self.ep0.next != NextEvent::NotReadyStatus {
                    return;
                }
                if self.ep0.setup_pending {
                    return self.stall_and_restart();
                }
                self.ep0.state = State::Status;
                if !self.ep0.delayed_status {
                    self.start_status(n);
                }
            }
            other => panic!("XferNotReady with status {other}"),
        }
    }

    fn start_status(&mut self, n: usize) {
        let kind = if self.ep0.three_stage {
            STATUS3
        } else {
            STATUS2
        };
        self.ep0_trb(n, EP0_TRB, 0, kind, false);
        self.ep0_start(n);
    }

    /// dwc3_ep0_send_delayed_status.
    pub(super) fn send_delayed_status(&mut self) {
        if std::mem::take(&mut self.ep0.delayed_status) && self.ep0.state == State::Status {
            self.start_status(usize::from(!self.ep0.expect_in));
        }
    }

    fn answer(&mut self, packet: [u8; 8]) -> Answer {
        let [kind, request, v0, v1, i0, _, l0, _] = packet;
        let endpoint = usize::from(i0 & 0xf) << 1 | usize::from(i0 >> 7);
        match (kind, request) {
            (0x80, 0) => Answer::Data(vec![1, 0]),
            (0x82, 0) => Answer::Data(vec![u8::from(self.is_stalled(endpoint)), 0]),
            (0x02, 3) => {
                self.set_halt(endpoint);
                Answer::Status
            }
            (0x02, 1) => match self.clear_halt(endpoint) {
                true => Answer::Delayed,
                false => Answer::Status,
            },
            (0x00, 5) => {
                self.modify(DCFG, 0x7f << 3, u32::from(v0) << 3);
                Answer::Status
            }
            (0x80, 6) => match descriptor(v1, v0, self.speed) {
                Some(descriptor) => Answer::Data(descriptor),
                None => Answer::Stall,
            },
            (0x80, 8) => Answer::Data(vec![self.ep0.configuration]),
            (0x00, 9) => {
                self.command(0, 9 | 2 << 16, [0; 3]);
                for ep in &mut self.eps[2..] {
                    ep.resource_allocated = false;
                }
                self.ep0.configuration = v0;
                self.ep_enable(3);
                self.ep_enable(2);
                self.notices.push_back(Notice::Configured);
                let enable = 1 << 9 | 1 << 11;
                self.modify(DCTL, 0, enable);
                Answer::Status
            }
            (0x00, 48) => Answer::Receive(self.eps[0].max_packet),
            (0x00, 49) => Answer::Status,
            // Vendor requests: data of a length that is no multiple of the packet size.
            (0x40, 1) => Answer::Receive(u32::from(l0)),
            (0x40 | 0xc0, 2) => Answer::Unanswered,
            (0xc0, 1) => Answer::Data(vec![0x5a; 2048]),
            _ => Answer::Stall,
        }
    }
}

/// Descriptors as composite.c and FunctionFS make them.
pub(super) fn descriptor(kind: u8, index: u8, speed: Speed) -> Option<Vec<u8>> {
    let super_speed = speed == Speed::Super;
    match kind {
        1 => {
            let (usb, packet0) = if super_speed { (3, 9) } else { (2, 64) };
            let bcd = if super_speed { 0x20 } else { 0x10 };
            Some(vec![
                18, 1, bcd, usb, 0, 0, 0, packet0, 0x6b, 0x1d, 0x04, 0x01, 0, 6, 1, 2, 3, 1,
            ])
        }
        2 => {
            let [p0, p1] = speed.bulk_packet().to_le_bytes();
            let mut d = vec![9, 2, 0, 0, 1, 1, 0, 0xc0, 1];
            d.extend([9, 4, 0, 0, 2, 0xff, 0, 0, 0]);
            for address in [0x81, 0x01] {
                d.extend([7, 5, address, 2, p0, p1, 0]);
                if super_speed {
                    d.extend([6, 48, 15, 0, 0, 0]);
                }
            }
            d[2] = d.len() as u8;
            Some(d)
        }
        3 if index == 0 => Some(vec![4, 3, 9, 4]),
        3 => {
            let text: Vec<u8> = ["", "Staleline", "Test gadget", "0001"][usize::from(index)]
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect();
            let mut d = vec![text.len() as u8 + 2, 3];
            d.extend(text);
            Some(d)
        }
        15 => {
            let mut d = vec![5, 15, 22, 0, 2];
            d.extend([7, 16, 2, 2, 0, 0, 0]);
            d.extend([10, 16, 3, 0, 0x0f, 0, 1, 10, 0xff, 1]);
            Some(d)
        }
        _ => None,
    }
}
