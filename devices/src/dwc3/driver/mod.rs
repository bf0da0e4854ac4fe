// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The driver's side of the controller, for tests: does register by register and TRB by TRB what
//! Linux drivers/usb/dwc3 does with a FunctionFS gadget (probe, pull-up, ep0.c's states, request
//! queues of gadget.c), and panics where the kernel would warn.

mod bulk;
mod ep0;

use std::collections::VecDeque;

use self::ep0::Ep0;
use super::Dwc3;
use super::port::Port;
use super::registers::*;
use crate::state::twins;
use crate::stream::Streams;
use crate::testutil::{Bench, FlatMemory};
use crate::usb::host::PlanHost;
use crate::usb::plan::{Step, UsbHostPlan};
use crate::usb::{Speed, UsbPort};

pub(super) const RAM: u64 = 0x4000_0000;
const RAM_BYTES: usize = 4 << 20;
const EVENTS: u64 = RAM + 0x1000;
const EVENT_BYTES: u32 = 4096;
const EP0_TRB: u64 = RAM + 0x2000;
const SETUP_BUF: u64 = RAM + 0x3000;
const BOUNCE: u64 = RAM + 0x4000;
const EP0_BUF: u64 = RAM + 0x5000;
const POOLS: u64 = RAM + 0x1_0000;
/// First byte that tests may use for data.
pub(super) const DATA: u64 = RAM + 0x10_0000;

/// Steps of a test after which it hangs.
const STEPS: usize = 200_000;

/// A request of the function (`struct usb_request`).
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    pub(super) tag: u64,
    /// Buffer: one piece, or a scatter list if `sg`.
    pub(super) pieces: Vec<(u64, u32)>,
    pub(super) sg: bool,
    pub(super) length: u32,
    pub(super) zero: bool,
    pub(super) no_interrupt: bool,
    remaining: u32,
    trbs: u32,
    queued_sgs: usize,
    pending_sgs: usize,
    first_sg: usize,
    extra: bool,
    trb: Option<u64>,
}

impl Request {
    /// One piece.
    pub(super) fn linear(tag: u64, pa: u64, length: u32) -> Self {
        Request {
            tag,
            pieces: vec![(pa, length)],
            length,
            ..Request::default()
        }
    }

    /// Pieces of `piece` bytes with gaps between them.
    pub(super) fn scattered(tag: u64, pa: u64, length: u32, piece: u32) -> Self {
        let stride = u64::from(piece) * 2;
        let pieces = (0..length.div_ceil(piece))
            .map(|n| (pa + u64::from(n) * stride, piece.min(length - n * piece)))
            .collect();
        Request {
            tag,
            pieces,
            sg: true,
            length,
            ..Request::default()
        }
    }
}

/// What the function is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// SET_CONFIGURATION: endpoints are enabled.
    Configured,
    /// Endpoints are disabled.
    Disabled,
    /// A request is given back; `Err` is the errno.
    Complete {
        endpoint: usize,
        tag: u64,
        result: Result<u32, i32>,
        pieces: Vec<(u64, u32)>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Ep {
    pub(super) enabled: bool,
    pub(super) started: bool,
    end_pending: bool,
    delay_start: bool,
    stalled: bool,
    clear_stall: bool,
    resource_allocated: bool,
    resource_index: u32,
    max_packet: u32,
    enqueue: u8,
    dequeue: u8,
    pending: VecDeque<Request>,
    active: VecDeque<Request>,
    cancelled: VecDeque<(Request, i32)>,
}

/// The driver, the controller and its host.
pub(super) struct Driver {
    pub(super) bench: Bench<Dwc3<PlanHost>>,
    pub(super) eps: [Ep; ENDPOINTS],
    ep0: Ep0,
    event_at: u32,
    pub(super) connected: bool,
    soft_connect: bool,
    pub(super) speed: Speed,
    pub(super) notices: VecDeque<Notice>,
    /// Data stages that came in the wrong direction, at which the driver complains.
    pub(super) wrong_directions: u32,
    /// Endpoint events by type and device events, for tests that count them.
    pub(super) seen: Vec<u32>,
    /// Of what host, if the controller is renewed before whatever happens.
    renewed: Option<UsbHostPlan>,
    /// What may happen in one run.
    pub(super) steps: usize,
}

impl Driver {
    /// A controller whose host carries out `steps` at `speed`.
    pub(super) fn new(speed: Speed, steps: Vec<Step>) -> Self {
        let host = PlanHost::new(UsbHostPlan { speed, steps }).expect("the test's plan is valid");
        Driver {
            bench: Bench::new(
                Dwc3::new(host),
                FlatMemory::new(RAM, RAM_BYTES),
                Streams::default(),
            ),
            eps: Default::default(),
            ep0: Ep0::default(),
            event_at: 0,
            connected: false,
            soft_connect: false,
            speed: Speed::Super,
            notices: VecDeque::new(),
            wrong_directions: 0,
            seen: Vec::new(),
            renewed: None,
            steps: STEPS,
        }
    }

    /// From now on the controller goes on from its saved state before whatever happens; its host carries
    /// out the same steps.
    pub(super) fn renew(&mut self, speed: Speed, steps: Vec<Step>) {
        self.renewed = Some(UsbHostPlan { speed, steps });
    }

    /// A gadget that is bound and pulled up.
    pub(super) fn started(speed: Speed, steps: Vec<Step>) -> Self {
        let mut driver = Driver::new(speed, steps);
        driver.probe();
        driver.pull_up();
        driver
    }

    pub(super) fn read(&mut self, offset: u64) -> u32 {
        self.bench.read(offset)
    }

    pub(super) fn write(&mut self, offset: u64, value: u32) {
        self.bench.write(offset, value);
    }

    fn modify(&mut self, offset: u64, clear: u32, set: u32) {
        let value = self.read(offset);
        self.write(offset, value & !clear | set);
    }

    /// dwc3_probe as far as it touches the device.
    pub(super) fn probe(&mut self) {
        let id = self.read(0xc120);
        assert_eq!(id >> 16, 0x5533, "dwc3_core_is_valid");
        let hwparams0 = self.read(0xc140);
        assert_eq!((hwparams0 & 3, hwparams0 >> 24), (0, 64), "gadget, AWIDTH");
        assert_eq!(self.read(0xc14c) >> 2 & 3, 1, "UTMI: no ULPI access");
        self.modify(GUSB3PIPECTL, 1 << 27 | 1 << 17, 0);
        self.modify(GUSB2PHYCFG, 1 << 6 | 1 << 8, 0);
        self.modify(GUSB3PIPECTL, 0, 1 << 17);
        self.soft_reset();
        self.write(GUID, 0x060c_0000);
        self.modify(GCTL, 3 << 4 | 1 << 3, 0);
        self.setup_events();
        self.modify(GUCTL1, 1 << 26, 1 << 24 | 1 << 31);
        self.modify(GCTL, 3 << 12, 2 << 12);
    }

    fn soft_reset(&mut self) {
        self.modify(DCTL, DCTL_RUN_STOP | 0xf << 5, DCTL_CSFTRST);
        assert_eq!(
            self.read(DCTL) & DCTL_CSFTRST,
            0,
            "soft reset takes too long"
        );
    }

    fn setup_events(&mut self) {
        self.event_at = 0;
        self.write(GEVNTADRLO, EVENTS as u32);
        self.write(GEVNTADRHI, (EVENTS >> 32) as u32);
        self.write(GEVNTSIZ, EVENT_BYTES);
        let stale = self.read(GEVNTCOUNT);
        self.write(GEVNTCOUNT, stale);
    }

    /// dwc3_gadget_soft_connect.
    pub(super) fn pull_up(&mut self) {
        self.soft_connect = true;
        self.soft_reset();
        self.setup_events();
        self.modify(0xc10c, 1 << 29, 0);
        self.modify(DCFG, 0x1f << 17, 16 << 17 | 1 << 23);
        self.command(0, 9, [0; 3]);
        for ep in &mut self.eps {
            ep.resource_allocated = false;
        }
        for n in 0..2 {
            self.eps[n] = Ep {
                max_packet: 512,
                ..Ep::default()
            };
            self.ep_config(n, 0, 0);
            self.ep_enable_common(n);
        }
        self.ep0 = Ep0::default();
        self.ep0_out_start();
        self.write(DEVTEN, 1 << 11 | 1 << 10 | 1 << 9 | 1 << 6 | 1 << 4 | 7);
        self.modify(DCFG, 7, SPEED_SUPER);
        self.modify(DCTL, 1 << 19 | 0xf << 5, DCTL_RUN_STOP);
        assert_eq!(self.read(DSTS) & DSTS_DEVCTRLHLT, 0, "pull-up times out");
    }

    /// dwc3_gadget_soft_disconnect.
    pub(super) fn pull_down(&mut self) {
        self.soft_connect = false;
        self.connected = false;
        self.disable_function();
        self.modify(DCTL, DCTL_RUN_STOP, 0);
        assert_ne!(self.read(DSTS) & DSTS_DEVCTRLHLT, 0, "pull-down times out");
        self.write(DEVTEN, 0);
        for n in 0..2 {
            self.modify(DALEPENA, 1 << n, 0);
            self.eps[n] = Ep::default();
        }
    }

    /// dwc3_send_gadget_ep_cmd with CMDACT; panics at any status but success.
    fn command(&mut self, n: usize, command: u32, [par0, par1, par2]: [u32; 3]) -> u32 {
        let regs = dep(n);
        self.write(regs + PAR0, par0);
        self.write(regs + PAR1, par1);
        self.write(regs + PAR2, par2);
        self.write(regs + CMD, command | CMD_ACT);
        let answer = self.read(regs + CMD);
        assert_eq!(answer & CMD_ACT, 0, "command times out");
        assert_eq!(
            answer >> 12 & 0xf,
            0,
            "command {command:#x} of endpoint {n} failed"
        );
        answer
    }

    /// dwc3_gadget_set_ep_config for USB type `kind`.
    fn ep_config(&mut self, n: usize, kind: u32, action: u32) {
        let number = n as u32;
        let fifo = if n & 1 == 1 { number >> 1 } else { 0 };
        let par0 = kind << 1 | self.eps[n].max_packet << 3 | fifo << 17 | action << 30;
        let events = if kind == 0 { 1 << 8 | 1 << 10 } else { 1 << 9 };
        self.command(n, 1, [par0, events | number << 25, 0]);
    }

    fn ep_enable_common(&mut self, n: usize) {
        if !self.eps[n].resource_allocated {
            self.command(n, 2, [1, 0, 0]);
            self.eps[n].resource_allocated = true;
        }
        if !self.eps[n].enabled {
            self.eps[n].enabled = true;
            self.modify(DALEPENA, 0, 1 << n);
            self.eps[n].enqueue = 0;
            self.eps[n].dequeue = 0;
        }
    }

    fn start_transfer(&mut self, n: usize, trb: u64) {
        let answer = self.command(n, 6, [(trb >> 32) as u32, trb as u32, 0]);
        self.eps[n].started = true;
        self.eps[n].resource_index = answer >> 16 & 0x7f;
        assert_ne!(self.eps[n].resource_index, 0, "no resource index");
    }

    fn trb(&self, at: u64) -> [u32; 4] {
        [0, 4, 8, 12].map(|o| self.bench.memory.u32(at + o))
    }

    fn put_trb(&mut self, at: u64, buffer: u64, size: u32, control: u32) {
        let words = [buffer as u32, (buffer >> 32) as u32, size, control];
        for (n, word) in (0..).zip(words) {
            self.bench.memory.put(at + 4 * n, &word.to_le_bytes());
        }
    }

    /// dwc3_interrupt and dwc3_thread_interrupt.
    fn interrupt(&mut self) {
        let count = self.read(GEVNTCOUNT) & GEVNTCOUNT_MASK;
        assert!(
            count != 0 && count <= EVENT_BYTES,
            "bad event count {count}"
        );
        self.write(GEVNTSIZ, GEVNTSIZ_INTMASK | EVENT_BYTES);
        assert!(!self.has_event(), "masked line still high");
        let events: Vec<_> = (0..count / 4)
            .map(|n| {
                let at = (self.event_at + 4 * n) % EVENT_BYTES;
                self.bench.memory.u32(EVENTS + u64::from(at))
            })
            .collect();
        self.write(GEVNTCOUNT, count);
        for event in events {
            self.event(event);
            self.event_at = (self.event_at + 4) % EVENT_BYTES;
        }
        self.write(GEVNTSIZ, EVENT_BYTES);
    }

    pub(super) fn has_event(&self) -> bool {
        use crate::bus::Device;
        self.bench.device.irq()
    }

    fn event(&mut self, raw: u32) {
        self.seen.push(raw);
        if raw & 1 == 1 {
            return match raw >> 8 & 0xf {
                0 => self.disconnect_interrupt(),
                1 => self.reset_interrupt(),
                2 => self.connect_done_interrupt(),
                other => panic!("unexpected device event {other}"),
            };
        }
        let n = (raw >> 1 & 0x1f) as usize;
        let (kind, status) = (raw >> 6 & 0xf, raw >> 12 & 0xf);
        if !self.eps[n].enabled {
            if n > 1 && !self.eps[n].started {
                return;
            }
            if kind != 7 && !(n <= 1 && kind == 1) {
                return;
            }
        }
        if n < 2 {
            return self.ep0_event(n, kind, status, raw >> 16);
        }
        match kind {
            2 => self.transfer_in_progress(n, status),
            7 => self.command_complete(n, raw >> 24 & 0xf),
            other => panic!("unexpected event {other} of endpoint {n}"),
        }
    }

    fn reset_interrupt(&mut self) {
        self.connected = false;
        self.disable_function();
        self.ep0_reset_state();
        self.connected = true;
        self.modify(DCFG, 0x7f << 3, 0);
    }

    fn disconnect_interrupt(&mut self) {
        self.modify(DCTL, 0xf << 5, 5 << 5);
        self.modify(DCTL, 0xf << 5 | 1 << 10 | 1 << 12, 0);
        self.connected = false;
        self.disable_function();
        self.ep0_reset_state();
    }

    fn connect_done_interrupt(&mut self) {
        let (speed, packet) = match self.read(DSTS) & 7 {
            4 => (Speed::Super, 512),
            0 => (Speed::High, 64),
            other => panic!("unexpected speed {other}"),
        };
        self.speed = speed;
        for n in 0..2 {
            self.eps[n].max_packet = packet;
            self.ep_config(n, 0, 2);
        }
    }

    /// Handles interrupts and lets device time pass until nothing is left to happen, telling
    /// `function` what happens.
    pub(super) fn run(&mut self, mut function: impl FnMut(&mut Driver, Notice)) {
        for _ in 0..self.steps {
            if let Some(plan) = &self.renewed {
                let host = PlanHost::new(plan.clone()).expect("it was made before");
                twins::renew(&mut self.bench.device, Dwc3::new(host));
            }
            if self.has_event() {
                self.interrupt();
            } else if let Some(notice) = self.notices.pop_front() {
                function(self, notice);
            } else if !self.bench.step() {
                return;
            }
        }
        assert!(self.steps < STEPS, "still busy after {STEPS} steps");
    }

    /// Uses the port as a host would.
    pub(super) fn with_port<R>(&mut self, f: impl FnOnce(&mut dyn UsbPort) -> R) -> R {
        self.bench
            .with(|device, ctx| f(&mut Port::new(&mut device.core, &mut ctx.dma, 0)))
    }
}
