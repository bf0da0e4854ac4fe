// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Synopsys DesignWare USB 3.0 controller (DWC3) in gadget mode, as the upstream Linux driver
//! (drivers/usb/dwc3 of 6.12) programs it.
//!
//! The controller owns the [`UsbHost`] at the other end of its cable. A doorbell schedules one
//! event; each event lets the host move at most one burst; what was moved has its time on the wire
//! before the next one. A host that waits schedules nothing.
//!
//! # Device tree
//!
//! ```text
//! usb@<base> {
//!     compatible = "snps,dwc3";
//!     reg = <base 0x10000>;                 // registers::WINDOW
//!     interrupts = <GIC_SPI n IRQ_TYPE_LEVEL_HIGH>;
//!     dr_mode = "peripheral";
//!     maximum-speed = "super-speed";        // or "high-speed"
//!     dma-coherent;                         // iff the guest may rely on a snooping port
//!     snps,dis_u2_susphy_quirk;             // the rest only saves register accesses
//!     snps,dis_enblslpm_quirk;
//!     snps,usb2-gadget-lpm-disable;
//! };
//! ```
//!
//! Clocks, resets, PHYs and an extcon are optional to the driver and absent here.
//!
//! # Not modelled
//!
//! Isochronous transfers (Start Transfer on such an endpoint is refused), bulk streams, link power
//! states (no suspend, resume or LPM), interrupt moderation, the host and OTG roles, XferNotReady of
//! bulk endpoints. Interrupt endpoints move data like bulk ones, without service intervals.
//!
//! # Where the driver source leaves the hardware's behaviour open
//!
//! * Bus reset and disconnection in the middle of a control transfer: the stage that is started
//!   completes with TRBSTS 2 (SETUP pending) before the reset event. Any other answer that comes to
//!   mind leaves the driver without a SETUP TRB.
//! * Bus reset and disconnection leave the transfers of other endpoints as they are until the driver
//!   ends them (`dwc3_stop_active_transfers`); their buffers belong to the controller as long.
//! * A short packet in a chain that the driver has not finished: the TRBs passed so far are
//!   reported by one XferInProgress event if one of them has IOC, the rest when they are added. TRBs
//!   that are passed keep HWO; the walk ends where it began if the ring is full of them.
//! * Bus errors: GSTS.BusErrAddrVld and the event status are documented in core.h; that the
//!   transfer stops until End Transfer is not.
//! * Status of a refused endpoint command: always 1, which the driver names for Start Transfer
//!   (no resource) only.
//! * The transfer resource of physical endpoint *n* has index *n* + 1.
//!
//! # Threats
//!
//! | guest input | answer |
//! |---|---|
//! | TRB, buffer or SETUP buffer outside RAM | bus error: GSTS.BusErrAddrVld, GBUSERRADDR, an event with the bus-error status; the transfer stops |
//! | links that lead to links only; chains without end; TRB types that do not fit | the same, after a bounded number of TRBs |
//! | TRB of up to 16 MiB | moved in bursts of [`BURST_PACKETS`] packets |
//! | commands on endpoints that are not configured or not started | status 1 in DEPCMD |
//! | event buffer too small, full or outside RAM | overflow event; events are lost; bus error |
//! | any register write | masked by the register table |

mod command;
mod control;
mod core;
mod endpoint;
mod event;
mod fault;
mod io;
mod packets;
mod port;
pub mod registers;
mod state;
mod trb;

#[cfg(test)]
mod driver;
#[cfg(test)]
mod tests;

pub use fault::{Fault, Faults};

use self::core::Core;
use self::port::Port;
use crate::bus::{Context, Device};
use crate::clock::{Ticks, Token};
use crate::registers::Register;
use crate::state::{RestoreError, SaveError, Saved, Stateful as _};
use crate::usb::{Next, UsbHost};

/// Packets moved in one event at most.
pub const BURST_PACKETS: usize = packets::BURST_PACKETS;

/// Time from a doorbell to the host's next look at the port, in ticks.
pub const KICK_TICKS: Ticks = 64;

/// Time that any use of the port takes, in ticks.
pub const TRANSACTION_TICKS: Ticks = 32;

/// Time that 1 KiB of data takes on the wire, in ticks: SuperSpeed, high speed, full speed.
pub const KIB_TICKS: [Ticks; 3] = [512, 5120, 204_800];

/// The one event of this device: the host runs.
const RUN_HOST: Token = 0;

/// The controller and the host it is connected to.
#[derive(Debug)]
pub struct Dwc3<H> {
    core: Core,
    host: H,
    /// An event is waiting.
    scheduled: bool,
}

impl<H: UsbHost> Dwc3<H> {
    /// A controller after power-on reset.
    pub fn new(host: H) -> Self {
        Dwc3 {
            core: Core::new(),
            host,
            scheduled: false,
        }
    }

    /// The host.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// What the guest did wrong so far.
    pub fn faults(&self) -> &Faults {
        &self.core.faults
    }

    fn schedule(&mut self, delay: Ticks, ctx: &mut Context<'_>) {
        if !self.scheduled {
            self.scheduled = true;
            ctx.clock.schedule(delay, RUN_HOST);
        }
    }
}

impl<H: UsbHost> Device for Dwc3<H> {
    fn registers(&self) -> &[Register] {
        &registers::TABLE
    }

    fn peek(&self, offset: u64) -> u32 {
        self.core.regs.get(offset)
    }

    fn write(&mut self, offset: u64, value: u32, ctx: &mut Context<'_>) {
        self.core.write(offset, value, &mut ctx.dma);
        if self.core.take_kick() {
            self.schedule(KICK_TICKS, ctx);
        }
    }

    fn wake(&mut self, token: Token, ctx: &mut Context<'_>) {
        if token != RUN_HOST || !std::mem::take(&mut self.scheduled) {
            return;
        }
        let now = ctx.clock.now();
        let mut port = Port::new(&mut self.core, &mut ctx.dma, now);
        let next = self.host.run(&mut port);
        let busy = port.elapsed();
        match next {
            Next::Wait => {}
            Next::Continue => self.schedule(busy, ctx),
            Next::After(delay) => self.schedule(busy.saturating_add(delay), ctx),
        }
    }

    fn irq(&self) -> bool {
        self.core.irq()
    }

    fn errors(&self) -> Vec<String> {
        self.core
            .faults
            .first()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn save(&self) -> Result<Saved, SaveError> {
        self.save_state()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        self.restore_state(saved)
    }

    fn report(&self) -> Option<(Option<&'static str>, serde_json::Value)> {
        let report = self.host.report()?;
        let received = report.received();
        Some((
            Some("usb-host"),
            serde_json::json!({
                "checked": received.bytes,
                "repeated": report.repeated(),
                "corrupt": received.corrupt,
                "first_corrupt": received.first,
                "sent": report.sent(),
                "host": report,
            }),
        ))
    }
}
