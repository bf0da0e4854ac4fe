// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Events and the ring in memory that carries them to the driver.
//!
//! Layout of events: Linux drivers/usb/dwc3/core.h, `struct dwc3_event_depevt` and
//! `struct dwc3_event_devt`. Use of the ring: `dwc3_event_buffers_setup` in core.c and
//! `dwc3_check_event_buf` in gadget.c.

use serde::{Deserialize, Serialize};

use super::registers::{
    DEVTEN, GEVNTADRHI, GEVNTADRLO, GEVNTCOUNT, GEVNTCOUNT_MASK, GEVNTSIZ, GEVNTSIZ_INTMASK,
    GEVNTSIZ_SIZE,
};
use crate::dma::{Access, DmaError, DmaPort};
use crate::registers::RegisterFile;
use crate::state::{Invalid, at_most};

/// Bytes of an event.
const BYTES: u32 = 4;

/// XferComplete and XferInProgress: the transfer met a bus error.
pub(super) const STATUS_BUS_ERROR: u8 = 1 << 0;
/// XferComplete and XferInProgress: a short packet ended the transfer descriptor.
pub(super) const STATUS_SHORT: u8 = 1 << 1;
/// XferComplete and XferInProgress: a TRB with IOC is done.
pub(super) const STATUS_IOC: u8 = 1 << 2;
/// XferComplete: a TRB with LST is done.
pub(super) const STATUS_LST: u8 = 1 << 3;
/// XferNotReady on a control endpoint: the host wants the data stage.
pub(super) const STATUS_CONTROL_DATA: u8 = 1;
/// XferNotReady on a control endpoint: the host wants the status stage.
pub(super) const STATUS_CONTROL_STATUS: u8 = 2;

/// An event of the device as a whole. Its number is also its bit in DEVTEN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeviceEvent {
    Disconnect = 0,
    Reset = 1,
    ConnectDone = 2,
    CommandComplete = 10,
    Overflow = 11,
}

/// Kind of an endpoint event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndpointEvent {
    TransferComplete = 1,
    TransferInProgress = 2,
    TransferNotReady = 3,
    CommandComplete = 7,
}

impl DeviceEvent {
    fn raw(self) -> u32 {
        1 | (self as u32) << 8
    }
}

impl EndpointEvent {
    /// The event word of physical endpoint `endpoint`; `status` has 4 bits.
    pub(super) fn raw(self, endpoint: u8, status: u8, parameters: u16) -> u32 {
        u32::from(endpoint & 0x1f) << 1
            | (self as u32) << 6
            | u32::from(status & 0xf) << 12
            | u32::from(parameters) << 16
    }
}

/// The producer's side of event buffer 0. All but its place in the ring is in registers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct EventRing {
    offset: u32,
    overflowed: bool,
}

impl EventRing {
    /// For a state that comes from outside.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        at_most(
            "place in the event ring",
            self.offset.into(),
            GEVNTSIZ_SIZE.into(),
        )
    }

    /// The next event goes to the start of the buffer.
    pub(super) fn rewind(&mut self) {
        *self = EventRing::default();
    }

    /// The driver has written `bytes` to GEVNTCOUNT: it has taken so many.
    pub(super) fn acknowledge(&mut self, regs: &mut RegisterFile, bytes: u32) {
        let left = regs.get(GEVNTCOUNT).saturating_sub(bytes & GEVNTCOUNT_MASK);
        regs.set(GEVNTCOUNT, left);
        self.overflowed = false;
    }

    /// Level of the interrupt line.
    pub(super) fn irq(regs: &RegisterFile) -> bool {
        regs.get(GEVNTCOUNT) != 0 && regs.get(GEVNTSIZ) & GEVNTSIZ_INTMASK == 0
    }

    /// Posts a device event if DEVTEN enables it.
    ///
    /// # Errors
    /// The buffer is not in RAM; the event is lost.
    pub(super) fn post_device(
        &mut self,
        regs: &mut RegisterFile,
        dma: &mut DmaPort<'_>,
        event: DeviceEvent,
    ) -> Result<(), (u64, DmaError)> {
        if regs.get(DEVTEN) & 1 << event as u32 == 0 {
            return Ok(());
        }
        self.post(regs, dma, event.raw())
    }

    /// Appends an event word. A buffer with room for one more takes an overflow event instead;
    /// a full buffer, or none at all, loses the event.
    ///
    /// # Errors
    /// The buffer is not in RAM; the event is lost.
    pub(super) fn post(
        &mut self,
        regs: &mut RegisterFile,
        dma: &mut DmaPort<'_>,
        raw: u32,
    ) -> Result<(), (u64, DmaError)> {
        let size = regs.get(GEVNTSIZ) & GEVNTSIZ_SIZE & !(BYTES - 1);
        let count = regs.get(GEVNTCOUNT);
        if self.overflowed || count.saturating_add(BYTES) > size {
            return Ok(());
        }
        let raw = if count + 2 * BYTES > size {
            self.overflowed = true;
            DeviceEvent::Overflow.raw()
        } else {
            raw
        };
        if self.offset >= size {
            self.offset = 0;
        }
        let base = u64::from(regs.get(GEVNTADRHI)) << 32 | u64::from(regs.get(GEVNTADRLO));
        let pa = base.wrapping_add(u64::from(self.offset));
        dma.write(Access::event(), pa, &raw.to_le_bytes())
            .map_err(|e| (pa, e))?;
        self.offset = (self.offset + BYTES) % size;
        regs.set(GEVNTCOUNT, count + BYTES);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::registers::TABLE;
    use super::*;
    use crate::dma::MasterId;
    use crate::testutil::FlatMemory;

    fn ring(size: u32) -> (RegisterFile, FlatMemory, EventRing) {
        let mut regs = RegisterFile::new(&TABLE);
        regs.set(GEVNTADRLO, 0x1000);
        regs.set(GEVNTSIZ, size);
        (regs, FlatMemory::new(0x1000, 64), EventRing::default())
    }

    #[test]
    fn words_are_as_the_driver_decodes_them() {
        assert_eq!(DeviceEvent::Disconnect.raw(), 0x001);
        assert_eq!(DeviceEvent::Reset.raw(), 0x101);
        assert_eq!(DeviceEvent::ConnectDone.raw(), 0x201);
        let raw = EndpointEvent::CommandComplete.raw(3, 0, 8 << 8);
        assert_eq!(raw, 0x0800_01c6);
        assert_eq!(
            EndpointEvent::TransferNotReady.raw(1, STATUS_CONTROL_STATUS, 0),
            0x20c2
        );
    }

    #[test]
    fn the_ring_wraps_and_counts() {
        let (mut regs, mut memory, mut ring) = ring(16);
        let mut dma = DmaPort::new(&mut memory, MasterId(0));
        for n in 0..9 {
            ring.post(&mut regs, &mut dma, n).unwrap();
            assert!(EventRing::irq(&regs));
            ring.acknowledge(&mut regs, 4);
            assert!(!EventRing::irq(&regs));
        }
        assert_eq!(memory.u32(0x1000), 8);
        assert_eq!(memory.u32(0x100c), 7);
    }

    #[test]
    fn a_full_ring_ends_with_an_overflow_event() {
        let (mut regs, mut memory, mut ring) = ring(16);
        let mut dma = DmaPort::new(&mut memory, MasterId(0));
        for n in 0..9 {
            ring.post(&mut regs, &mut dma, n).unwrap();
        }
        assert_eq!(regs.get(GEVNTCOUNT), 16);
        assert_eq!(memory.u32(0x1008), 2);
        assert_eq!(memory.u32(0x100c), 0xb01);
    }

    #[test]
    fn buffers_of_no_size_or_outside_ram_take_nothing() {
        let (mut regs, mut memory, mut ring) = ring(3);
        let mut dma = DmaPort::new(&mut memory, MasterId(0));
        ring.post(&mut regs, &mut dma, 1).unwrap();
        regs.set(GEVNTSIZ, 64);
        regs.set(GEVNTADRHI, 1);
        assert!(ring.post(&mut regs, &mut dma, 1).is_err());
        assert_eq!(regs.get(GEVNTCOUNT), 0);
    }
}
