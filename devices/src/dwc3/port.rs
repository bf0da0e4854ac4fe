// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The controller as its host sees it.

use super::core::Core;
use super::registers::{DALEPENA, ENDPOINTS};
use super::{KIB_TICKS, TRANSACTION_TICKS};
use crate::clock::Ticks;
use crate::dma::DmaPort;
use crate::usb::{InResult, OutResult, SetupResult, Speed, UsbPort};

/// One use of the port by the host, and the time it takes.
pub(super) struct Port<'a, 'd> {
    core: &'a mut Core,
    dma: &'a mut DmaPort<'d>,
    now: Ticks,
    busy: Ticks,
}

impl<'a, 'd> Port<'a, 'd> {
    pub(super) fn new(core: &'a mut Core, dma: &'a mut DmaPort<'d>, now: Ticks) -> Self {
        Port {
            core,
            dma,
            now,
            busy: TRANSACTION_TICKS,
        }
    }

    /// Time on the wire so far.
    pub(super) fn elapsed(&self) -> Ticks {
        self.busy
    }

    fn moved(&mut self, bytes: usize) {
        let per_kib = match self.core.link() {
            Some(Speed::Super) | None => KIB_TICKS[0],
            Some(Speed::High) => KIB_TICKS[1],
            Some(Speed::Full) => KIB_TICKS[2],
        };
        let ticks = (bytes as Ticks).saturating_mul(per_kib).div_ceil(1024);
        self.busy = self.busy.saturating_add(ticks);
    }

    /// The physical endpoint of a USB endpoint that the driver has enabled (DALEPENA). The driver
    /// maps them one to one.
    fn enabled(&self, endpoint: u8, input: bool) -> Option<usize> {
        let n = usize::from(endpoint) << 1 | usize::from(input);
        (n < ENDPOINTS && self.core.regs.get(DALEPENA) & 1 << n != 0).then_some(n)
    }
}

impl UsbPort for Port<'_, '_> {
    fn session(&self) -> Option<u32> {
        self.core.session()
    }

    fn now(&self) -> Ticks {
        self.now
    }

    fn busy(&self) -> bool {
        self.core.control.awaits_data_out(&self.core.endpoints)
    }

    fn reset(&mut self, best: Speed) -> Option<Speed> {
        self.core.bus_reset(best, self.dma)
    }

    fn disconnect(&mut self) {
        self.core.unplug(self.dma);
    }

    fn setup(&mut self, packet: &[u8; 8]) -> SetupResult {
        if self.core.link().is_none() {
            return SetupResult::Disconnected;
        }
        let (endpoints, control, mut io) = self.core.split(self.dma);
        let result = control.setup(endpoints, &mut io, packet);
        self.moved(packet.len());
        result
    }

    fn transfer_in(&mut self, endpoint: u8, buf: &mut [u8]) -> InResult {
        if self.core.link().is_none() {
            return InResult::Disconnected;
        }
        let Some(n) = self.enabled(endpoint, true) else {
            return InResult::Nak;
        };
        let (endpoints, control, mut io) = self.core.split(self.dma);
        let result = if endpoint == 0 {
            control.input(endpoints, &mut io, buf)
        } else if endpoints[n].stalled {
            InResult::Stall
        } else {
            endpoints[n].input(&mut io, buf)
        };
        if let InResult::Data { len, .. } = result {
            self.moved(len);
        }
        result
    }

    fn transfer_out(&mut self, endpoint: u8, data: &[u8]) -> OutResult {
        if self.core.link().is_none() {
            return OutResult::Disconnected;
        }
        let Some(n) = self.enabled(endpoint, false) else {
            return OutResult::Nak;
        };
        let (endpoints, control, mut io) = self.core.split(self.dma);
        let result = if endpoint == 0 {
            control.output(endpoints, &mut io, data)
        } else if endpoints[n].stalled {
            OutResult::Stall
        } else {
            endpoints[n].output(&mut io, data)
        };
        if let OutResult::Data { len } = result {
            self.moved(len);
        }
        result
    }
}
