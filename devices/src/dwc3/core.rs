// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The controller without its host: registers, run state, connection.

mod state;

use super::control::Control;
use super::endpoint::Endpoint;
use super::event::{DeviceEvent, EventRing};
use super::fault::Faults;
use super::io::Io;
use super::registers::{
    CMD, DCFG, DCFG_SPEED, DCTL, DCTL_CSFTRST, DCTL_RUN_STOP, DGCMD, DSTS, DSTS_COREIDLE,
    DSTS_DEVCTRLHLT, DSTS_RXFIFOEMPTY, DSTS_USBLNKST_SHIFT, ENDPOINTS, GEVNTADRHI, GEVNTADRLO,
    GEVNTCOUNT, KEPT_BY_SOFT_RESET, LINK_RX_DET, LINK_SS_DIS, LINK_U0, SPEED_FULL, SPEED_HIGH,
    SPEED_SUPER, TABLE, dep_of,
};
use crate::dma::DmaPort;
use crate::registers::RegisterFile;
use crate::usb::Speed;

pub(super) use self::state::CoreState;

/// All state of the controller.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) regs: RegisterFile,
    ring: EventRing,
    pub(super) faults: Faults,
    pub(super) endpoints: [Endpoint; ENDPOINTS],
    pub(super) control: Control,
    /// Counts how often DCTL.RunStop has been set.
    session: u32,
    /// Speed of the link while it is up.
    link: Option<Speed>,
    /// Something happened that the host may wait for.
    kick: bool,
}

impl Core {
    pub(super) fn new() -> Self {
        let mut number = 0;
        Core {
            regs: RegisterFile::new(&TABLE),
            ring: EventRing::default(),
            faults: Faults::default(),
            endpoints: [(); ENDPOINTS].map(|()| {
                let endpoint = Endpoint::new(number);
                number += 1;
                endpoint
            }),
            control: Control::default(),
            session: 0,
            link: None,
            kick: false,
        }
    }

    /// Splits off what endpoints need while they work.
    pub(super) fn split<'a, 'd>(
        &'a mut self,
        dma: &'a mut DmaPort<'d>,
    ) -> (&'a mut [Endpoint; ENDPOINTS], &'a mut Control, Io<'a, 'd>) {
        (
            &mut self.endpoints,
            &mut self.control,
            Io {
                regs: &mut self.regs,
                ring: &mut self.ring,
                faults: &mut self.faults,
                dma,
            },
        )
    }

    pub(super) fn irq(&self) -> bool {
        EventRing::irq(&self.regs)
    }

    /// Tells the host, when the current access is over, that there may be work.
    pub(super) fn kick(&mut self) {
        self.kick = true;
    }

    pub(super) fn take_kick(&mut self) -> bool {
        std::mem::take(&mut self.kick)
    }

    /// A write of the driver.
    pub(super) fn write(&mut self, offset: u64, value: u32, dma: &mut DmaPort<'_>) {
        match offset {
            GEVNTADRLO | GEVNTADRHI => {
                self.regs.write(offset, value);
                self.ring.rewind();
            }
            GEVNTCOUNT => self.ring.acknowledge(&mut self.regs, value),
            DCTL => self.write_dctl(value, dma),
            DGCMD => self.generic_command(value, dma),
            _ => match dep_of(offset) {
                Some((endpoint, CMD)) => self.endpoint_command(endpoint, value, dma),
                _ => {
                    self.regs.write(offset, value);
                }
            },
        }
    }

    fn write_dctl(&mut self, value: u32, dma: &mut DmaPort<'_>) {
        let was_running = self.running();
        self.regs.write(DCTL, value);
        if value & DCTL_CSFTRST != 0 {
            self.soft_reset(dma);
        }
        if was_running != self.running() || value & DCTL_CSFTRST != 0 {
            self.run_changed(dma);
        }
    }

    fn running(&self) -> bool {
        self.regs.get(DCTL) & DCTL_RUN_STOP != 0
    }

    fn soft_reset(&mut self, dma: &mut DmaPort<'_>) {
        self.stop_transfers(dma);
        for (n, endpoint) in (0..).zip(&mut self.endpoints) {
            *endpoint = Endpoint::new(n);
        }
        let kept = KEPT_BY_SOFT_RESET.map(|offset| self.regs.get(offset));
        self.regs.reset();
        for (offset, value) in KEPT_BY_SOFT_RESET.into_iter().zip(kept) {
            self.regs.set(offset, value);
        }
        self.ring.rewind();
    }

    fn run_changed(&mut self, dma: &mut DmaPort<'_>) {
        self.link = None;
        self.control = Control::default();
        if self.running() {
            self.session = self.session.wrapping_add(1);
        } else {
            self.stop_transfers(dma);
        }
        self.show_link();
        self.kick();
    }

    fn stop_transfers(&mut self, dma: &mut DmaPort<'_>) {
        let (endpoints, _, mut io) = self.split(dma);
        for endpoint in endpoints {
            endpoint.stop(&mut io);
        }
    }

    /// DSTS follows the run state and the link.
    fn show_link(&mut self) {
        let halted = if self.running() {
            0
        } else {
            DSTS_DEVCTRLHLT | DSTS_COREIDLE
        };
        let state = match (self.running(), self.link) {
            (false, _) => LINK_SS_DIS,
            (true, None) => LINK_RX_DET,
            (true, Some(_)) => LINK_U0,
        };
        let speed = match self.link {
            None | Some(Speed::High) => SPEED_HIGH,
            Some(Speed::Full) => SPEED_FULL,
            Some(Speed::Super) => SPEED_SUPER,
        };
        self.regs.set(
            DSTS,
            halted | state << DSTS_USBLNKST_SHIFT | DSTS_RXFIFOEMPTY | speed,
        );
    }

    /// See [`crate::usb::UsbPort::session`].
    pub(super) fn session(&self) -> Option<u32> {
        self.running().then_some(self.session)
    }

    /// The link's speed while it is up.
    pub(super) fn link(&self) -> Option<Speed> {
        self.link
    }

    /// The host resets the port: the link comes up at the best common speed.
    pub(super) fn bus_reset(&mut self, best: Speed, dma: &mut DmaPort<'_>) -> Option<Speed> {
        if !self.running() {
            return None;
        }
        let own = match self.regs.get(DCFG) & DCFG_SPEED {
            SPEED_HIGH => Speed::High,
            SPEED_FULL => Speed::Full,
            _ => Speed::Super,
        };
        let speed = best.min(own);
        self.link = Some(speed);
        self.show_link();
        let (endpoints, control, mut io) = self.split(dma);
        control.reset(endpoints, &mut io);
        // In this order: the driver takes only a reset for the start of a session.
        io.post_device(DeviceEvent::Reset);
        io.post_device(DeviceEvent::ConnectDone);
        Some(speed)
    }

    /// The cable is pulled.
    pub(super) fn unplug(&mut self, dma: &mut DmaPort<'_>) {
        if self.link.take().is_none() {
            return;
        }
        self.show_link();
        let (endpoints, control, mut io) = self.split(dma);
        control.reset(endpoints, &mut io);
        io.post_device(DeviceEvent::Disconnect);
    }
}
