// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Control transfers from the host's side (USB 2.0, 8.5.3 and 9.3).

use serde::{Deserialize, Serialize};

use super::{InResult, OutResult, SetupResult, UsbPort};
use crate::state::{Invalid, no_longer};

/// Longest data stage that a host of this crate asks for, in bytes.
pub(super) const MAX_DATA: u16 = 4096;

/// A SETUP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Setup {
    /// bmRequestType.
    pub(super) kind: u8,
    /// bRequest.
    pub(super) request: u8,
    /// wValue.
    pub(super) value: u16,
    /// wIndex.
    pub(super) index: u16,
    /// wLength; at most [`MAX_DATA`].
    pub(super) length: u16,
}

impl Setup {
    pub(super) fn is_in(&self) -> bool {
        self.kind & 0x80 != 0
    }

    pub(super) fn bytes(&self) -> [u8; 8] {
        let [v0, v1] = self.value.to_le_bytes();
        let [i0, i1] = self.index.to_le_bytes();
        let [l0, l1] = self.length.to_le_bytes();
        [self.kind, self.request, v0, v1, i0, i1, l0, l1]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Setup,
    Data,
    Status,
}

/// How far a control transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Something was moved.
    Moved,
    /// The device is not ready.
    Waiting,
    /// Over; [`ControlTransfer::data`] holds what was received.
    Done,
    /// The device refused it.
    Stalled,
    /// The device sent more than was asked for.
    Overflow,
    /// The link is down.
    Disconnected,
}

/// A control transfer under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ControlTransfer {
    setup: Setup,
    data: Vec<u8>,
    at: usize,
    phase: Phase,
}

impl ControlTransfer {
    /// A transfer without data, or with data from the device.
    pub(super) fn new(setup: Setup) -> Self {
        let length = usize::from(setup.length.min(MAX_DATA));
        ControlTransfer {
            setup,
            data: vec![0; length],
            at: 0,
            phase: Phase::Setup,
        }
    }

    /// A transfer that sends `data`, whose length goes into the SETUP packet.
    pub(super) fn sending(setup: Setup, data: &[u8]) -> Self {
        ControlTransfer {
            setup: Setup {
                length: u16::try_from(data.len()).unwrap_or(u16::MAX),
                ..setup
            },
            data: data.to_vec(),
            at: 0,
            phase: Phase::Setup,
        }
    }

    /// For a state that comes from outside.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        no_longer(
            "data of a control transfer",
            self.data.len(),
            MAX_DATA.into(),
        )?;
        no_longer("data moved of a control transfer", self.at, self.data.len())
    }

    /// The SETUP packet.
    pub(super) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Data received so far.
    pub(super) fn data(&self) -> &[u8] {
        &self.data[..self.at]
    }

    /// Uses the port once.
    pub(super) fn advance(&mut self, port: &mut dyn UsbPort) -> Progress {
        match self.phase {
            Phase::Setup => match port.setup(&self.setup.bytes()) {
                SetupResult::Ack => {
                    self.phase = if self.setup.length == 0 {
                        Phase::Status
                    } else {
                        Phase::Data
                    };
                    Progress::Moved
                }
                SetupResult::Nak => Progress::Waiting,
                SetupResult::Disconnected => Progress::Disconnected,
            },
            Phase::Data if self.setup.is_in() => {
                match port.transfer_in(0, &mut self.data[self.at..]) {
                    InResult::Data { len, end } => {
                        self.at += len;
                        if end || self.at == self.data.len() {
                            self.phase = Phase::Status;
                        }
                        Progress::Moved
                    }
                    other => in_progress(other),
                }
            }
            Phase::Data => match port.transfer_out(0, &self.data[self.at..]) {
                OutResult::Data { len } => {
                    self.at += len;
                    if self.at == self.data.len() {
                        self.phase = Phase::Status;
                    }
                    Progress::Moved
                }
                other => out_progress(other),
            },
            Phase::Status if self.setup.length != 0 && self.setup.is_in() => {
                match port.transfer_out(0, &[]) {
                    OutResult::Data { .. } => Progress::Done,
                    other => out_progress(other),
                }
            }
            Phase::Status => match port.transfer_in(0, &mut []) {
                InResult::Data { .. } => Progress::Done,
                other => in_progress(other),
            },
        }
    }
}

fn in_progress(result: InResult) -> Progress {
    match result {
        InResult::Data { .. } => Progress::Moved,
        InResult::Nak => Progress::Waiting,
        InResult::Stall => Progress::Stalled,
        InResult::Overflow => Progress::Overflow,
        InResult::Disconnected => Progress::Disconnected,
    }
}

fn out_progress(result: OutResult) -> Progress {
    match result {
        OutResult::Data { .. } => Progress::Moved,
        OutResult::Nak => Progress::Waiting,
        OutResult::Stall => Progress::Stalled,
        OutResult::Disconnected => Progress::Disconnected,
    }
}
