// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What an endpoint needs of the rest of the controller while it works.

use super::event::{DeviceEvent, EndpointEvent, EventRing};
use super::fault::{Fault, Faults};
use super::registers::{GBUSERRADDR0, GBUSERRADDR1, GSTS, GSTS_BUS_ERR_ADDR_VLD};
use crate::dma::{DmaError, DmaPort};
use crate::registers::RegisterFile;

/// Registers, events, memory and faults, borrowed for one call.
pub(super) struct Io<'a, 'd> {
    pub(super) regs: &'a mut RegisterFile,
    pub(super) ring: &'a mut EventRing,
    pub(super) faults: &'a mut Faults,
    pub(super) dma: &'a mut DmaPort<'d>,
}

impl Io<'_, '_> {
    pub(super) fn post_device(&mut self, event: DeviceEvent) {
        let result = self.ring.post_device(self.regs, self.dma, event);
        self.posted(result);
    }

    pub(super) fn post(&mut self, endpoint: u8, event: EndpointEvent, status: u8, parameters: u16) {
        let raw = event.raw(endpoint, status, parameters);
        let result = self.ring.post(self.regs, self.dma, raw);
        self.posted(result);
    }

    fn posted(&mut self, result: Result<(), (u64, DmaError)>) {
        if let Err((pa, source)) = result {
            self.fault(Fault::EventBuffer { pa, source });
        }
    }

    /// Shows a fault in the global status registers and notes it for the report.
    pub(super) fn fault(&mut self, fault: Fault) {
        let pa = fault.pa();
        self.regs
            .modify(GSTS, GSTS_BUS_ERR_ADDR_VLD, GSTS_BUS_ERR_ADDR_VLD);
        let (low, high) = (pa & 0xffff_ffff, pa >> 32);
        self.regs
            .set(GBUSERRADDR0, u32::try_from(low).unwrap_or_default());
        self.regs
            .set(GBUSERRADDR1, u32::try_from(high).unwrap_or_default());
        self.faults.record(fault);
    }
}
