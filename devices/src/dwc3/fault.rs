// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the guest did wrong, for the run's report. The guest itself sees GSTS.BusErrAddrVld with
//! the address in GBUSERRADDR, and an event with the bus-error status.

use serde::{Deserialize, Serialize};

use crate::dma::DmaError;
use crate::state::{Invalid, no_longer};

/// Faults kept with their details; later ones are only counted.
const KEPT: usize = 32;

/// A mistake of the guest that the controller could not act upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Fault {
    /// An access to memory failed.
    #[error("endpoint {endpoint}: {source}")]
    Bus {
        /// Physical endpoint.
        endpoint: u8,
        /// First byte of the access.
        pa: u64,
        /// Why.
        source: DmaError,
    },
    /// The event buffer could not be written.
    #[error("event buffer: {source}")]
    EventBuffer {
        /// First byte of the access.
        pa: u64,
        /// Why.
        source: DmaError,
    },
    /// Link TRBs lead only to link TRBs.
    #[error("endpoint {endpoint}: link TRBs from {pa:#x} on lead to no other TRB")]
    LinkLoop {
        /// Physical endpoint.
        endpoint: u8,
        /// The last link TRB followed.
        pa: u64,
    },
    /// A chain of TRBs is longer than any ring of the driver.
    #[error("endpoint {endpoint}: the chain of TRBs at {pa:#x} does not end")]
    EndlessChain {
        /// Physical endpoint.
        endpoint: u8,
        /// The TRB at which the controller gave up.
        pa: u64,
    },
    /// A TRB with HWO set is of a type that its endpoint cannot use.
    #[error("endpoint {endpoint}: the TRB at {pa:#x} has a type that does not fit the endpoint")]
    BadTrb {
        /// Physical endpoint.
        endpoint: u8,
        /// The TRB.
        pa: u64,
    },
    /// A packet did not fit into an OUT transfer descriptor. The driver must give OUT endpoints
    /// multiples of the packet size.
    #[error("endpoint {endpoint}: the OUT chain that ends at {pa:#x} is no multiple of a packet")]
    OutOverflow {
        /// Physical endpoint.
        endpoint: u8,
        /// The TRB that was too small.
        pa: u64,
    },
}

impl Fault {
    /// The address that GBUSERRADDR shows.
    pub(super) fn pa(&self) -> u64 {
        match *self {
            Fault::Bus { pa, .. }
            | Fault::EventBuffer { pa, .. }
            | Fault::LinkLoop { pa, .. }
            | Fault::EndlessChain { pa, .. }
            | Fault::BadTrb { pa, .. }
            | Fault::OutOverflow { pa, .. } => pa,
        }
    }
}

/// All faults so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Faults {
    total: u64,
    first: Vec<Fault>,
}

impl Faults {
    /// How many.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The first ones, at most 32.
    pub fn first(&self) -> &[Fault] {
        &self.first
    }

    /// For a state that comes from outside.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let kept = KEPT.min(usize::try_from(self.total).unwrap_or(KEPT));
        no_longer("faults", self.first.len(), kept)
    }

    pub(super) fn record(&mut self, fault: Fault) {
        self.total = self.total.saturating_add(1);
        if self.first.len() < KEPT {
            log::warn!("dwc3: {fault}");
            self.first.push(fault);
        }
    }
}
