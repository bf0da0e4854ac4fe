// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! USB as a device controller meets it: a [`UsbPort`] that knows packets and bursts, and a
//! [`UsbHost`] that drives it.
//!
//! The controller owns its host and calls [`UsbHost::run`] when there may be something to do. The
//! host answers by using the port. So the host of this crate, [`host::PlanHost`], can be replaced
//! by any other that can put its traffic into single packets or bursts, such as a USB/IP server.
//!
//! Flow control needs no polling: a host that got [`InResult::Nak`] returns [`Next::Wait`], and
//! the controller runs it again when its driver has rung a doorbell.

mod bulk;
mod control;
pub mod descriptor;
mod enumerate;
mod frames;
pub mod host;
pub mod plan;
pub mod report;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::clock::Ticks;
use crate::state::{RestoreError, SaveError, Saved, State};

/// Speed of a connection.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "kebab-case")]
pub enum Speed {
    /// 12 Mbit/s.
    Full,
    /// 480 Mbit/s.
    High,
    /// 5 Gbit/s.
    #[default]
    Super,
}

impl Speed {
    /// The only packet size the USB specifications allow for bulk endpoints at this speed;
    /// full speed also allows smaller ones (USB 2.0, 5.8.3; USB 3.2, 8.12.1).
    pub fn bulk_packet(self) -> u16 {
        match self {
            Speed::Full => 64,
            Speed::High => 512,
            Speed::Super => 1024,
        }
    }
}

/// Answer of the device to IN tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InResult {
    /// Packets of `len` bytes in all; the last one was shorter than the packet size if `end`.
    Data {
        /// Bytes stored in the host's buffer.
        len: usize,
        /// A short or zero-length packet ended the device's transfer.
        end: bool,
    },
    /// Nothing to send yet.
    Nak,
    /// The endpoint is halted.
    Stall,
    /// The next packet is longer than the host's buffer (babble). The device keeps it.
    Overflow,
    /// No device, or the link is down.
    Disconnected,
}

/// Answer of the device to OUT packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutResult {
    /// The device took the first `len` bytes; all of them, or whole packets only. An empty packet
    /// was taken if it is 0.
    Data {
        /// Bytes taken.
        len: usize,
    },
    /// No buffer yet.
    Nak,
    /// The endpoint is halted.
    Stall,
    /// No device, or the link is down.
    Disconnected,
}

/// Answer of the device to a SETUP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetupResult {
    /// Taken.
    Ack,
    /// The driver must first finish with the last control transfer. The host tries again.
    Nak,
    /// No device, or the link is down.
    Disconnected,
}

/// The downstream port as its host sees it. One call is at most one burst of packets.
pub trait UsbPort {
    /// A number that is new each time the device attaches (pull-up or terminations), `None`
    /// while it is detached.
    fn session(&self) -> Option<u32>;

    /// Device time, for a host that writes down when something happened.
    fn now(&self) -> Ticks {
        0
    }

    /// Whether the device has taken a SETUP packet and not yet turned to its data. A host that
    /// resets the port then holds the reset for longer: it lasts 10 ms and more (USB 2.0, 7.1.7.5),
    /// in which any device gets so far.
    fn busy(&self) -> bool {
        false
    }

    /// Drives reset and brings the link up at the best common speed, `best` at most. `None` if no
    /// device is attached.
    fn reset(&mut self, best: Speed) -> Option<Speed>;

    /// Unplugs the cable. [`UsbPort::reset`] plugs it in again.
    fn disconnect(&mut self);

    /// Sends a SETUP packet to endpoint 0.
    fn setup(&mut self, packet: &[u8; 8]) -> SetupResult;

    /// Reads packets from IN endpoint `endpoint` (0 to 15) until `buf` is full, a short packet
    /// comes, or the burst is over. On endpoint 0 this is the data or the status stage.
    fn transfer_in(&mut self, endpoint: u8, buf: &mut [u8]) -> InResult;

    /// Sends `data` as packets to OUT endpoint `endpoint` (0 to 15), an empty packet if it is
    /// empty. If its length is not a multiple of the packet size, its end goes out as a short
    /// packet. On endpoint 0 this is the data or the status stage.
    fn transfer_out(&mut self, endpoint: u8, data: &[u8]) -> OutResult;
}

/// What a host asks for when it has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Run again when the device may have become ready, or its attachment changed.
    Wait,
    /// Run again as soon as what was moved has had its time on the wire. Only after progress.
    Continue,
    /// Run again after this time.
    After(Ticks),
}

/// A USB host.
pub trait UsbHost: Send {
    /// Uses the port for at most one burst.
    fn run(&mut self, port: &mut dyn UsbPort) -> Next;

    /// Its account of the run so far, if it keeps one.
    fn report(&self) -> Option<report::UsbHostReport> {
        None
    }

    /// Its state, for [`UsbHost::restore`].
    ///
    /// # Errors
    /// [`SaveError`].
    fn save(&self) -> Result<Saved, SaveError>;

    /// Takes over the state of a host that was built alike; this one has just been built.
    ///
    /// # Errors
    /// [`RestoreError`].
    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError>;
}

impl<H: UsbHost + ?Sized> UsbHost for Box<H> {
    fn run(&mut self, port: &mut dyn UsbPort) -> Next {
        (**self).run(port)
    }

    fn report(&self) -> Option<report::UsbHostReport> {
        (**self).report()
    }

    fn save(&self) -> Result<Saved, SaveError> {
        (**self).save()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        (**self).restore(saved)
    }
}

/// For a runner that keeps a handle of the host to read its report.
impl<H: UsbHost + ?Sized> UsbHost for Arc<Mutex<H>> {
    fn run(&mut self, port: &mut dyn UsbPort) -> Next {
        self.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .run(port)
    }

    fn report(&self) -> Option<report::UsbHostReport> {
        self.lock().unwrap_or_else(PoisonError::into_inner).report()
    }

    fn save(&self) -> Result<Saved, SaveError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).save()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        self.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .restore(saved)
    }
}

/// A host that never does anything: an empty port.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct NoHost;

impl State for NoHost {
    const COMPONENT: &'static str = "no-usb-host";
    const VERSION: u16 = 1;
}

impl UsbHost for NoHost {
    fn run(&mut self, _: &mut dyn UsbPort) -> Next {
        Next::Wait
    }

    fn save(&self) -> Result<Saved, SaveError> {
        Saved::new(self)
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        *self = saved.open()?;
        Ok(())
    }
}
