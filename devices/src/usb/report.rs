// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the host saw.

use serde::{Deserialize, Serialize};
use staleline_protocol::pattern::Mismatch;

use super::Speed;
use crate::faults::{HostFault, MAX_FAULTS};
use crate::state::{Invalid, no_longer, times};

/// Entries kept in each list of a report that grows with what the guest does.
const KEPT: usize = 64;

/// The host's account of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct UsbHostReport {
    /// Each time the device became configured; the first 64.
    pub enumerations: Vec<Enumeration>,
    /// One per step that has begun, in order of the plan.
    pub steps: Vec<StepReport>,
    /// What went against the USB specification or the plan; the first 64.
    pub errors: Vec<String>,
    /// Errors in all.
    pub error_count: u64,
    /// All steps have been carried out; each tells how it ended.
    pub finished: bool,
}

impl UsbHostReport {
    /// Adds an error.
    pub(super) fn error(&mut self, error: String) {
        self.error_count += 1;
        // A guest can make errors without end.
        if self.errors.len() < KEPT {
            log::warn!("USB host: {error}");
            self.errors.push(error);
        }
    }

    /// For a state that comes from outside, of a plan of so many steps.
    pub(super) fn check(&self, steps: usize) -> Result<(), Invalid> {
        no_longer("enumerations", self.enumerations.len(), KEPT)?;
        no_longer("errors", self.errors.len(), KEPT)?;
        times("errors in all", &[self.error_count])?;
        no_longer("steps begun", self.steps.len(), steps)?;
        self.steps.iter().try_for_each(StepReport::check)
    }

    pub(super) fn enumerated(&mut self, enumeration: Enumeration) {
        if self.enumerations.len() < KEPT {
            self.enumerations.push(enumeration);
        }
    }

    /// All IN data of all steps, checked.
    pub fn received(&self) -> Mismatch {
        let mut sum = Mismatch::default();
        for step in &self.steps {
            sum.merge(step.received);
        }
        sum
    }

    /// IN bytes of all steps that came again, because their frames were cut off.
    pub fn repeated(&self) -> u64 {
        self.steps.iter().map(|s| s.received_cut).sum()
    }

    /// Bytes sent in all steps.
    pub fn sent(&self) -> u64 {
        self.steps.iter().map(|s| s.sent).sum()
    }
}

/// A successful enumeration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Enumeration {
    /// Speed of the link.
    pub speed: Speed,
    /// bcdUSB.
    pub usb: u16,
    /// idVendor.
    pub vendor: u16,
    /// idProduct.
    pub product: u16,
    /// bConfigurationValue that was set.
    pub configuration: u8,
    /// Interfaces of that configuration.
    pub interfaces: u8,
    /// Address of the first bulk IN endpoint.
    pub bulk_in: Option<u8>,
    /// Address of the first bulk OUT endpoint.
    pub bulk_out: Option<u8>,
    /// Manufacturer, product and serial number, where the device has them.
    pub strings: [Option<String>; 3],
}

/// How a step went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepReport {
    /// IN data, checked; its first mismatch is a position in the pattern.
    pub received: Mismatch,
    /// OUT bytes that the device took.
    pub sent: u64,
    /// Transfers that came to their end, both ways.
    pub transfers: u64,
    /// IN transfers that a short packet ended, zero-length packets included.
    pub short_packets: u64,
    /// Zero-length packets, both ways.
    pub zero_packets: u64,
    /// Times the device was not ready.
    pub naks: u64,
    /// Times an endpoint answered STALL.
    pub stalls: u64,
    /// Incidents of the plan that happened.
    pub incidents: u32,
    /// Of these, those on which a device's driver cancels what its function has queued: halt,
    /// reset, disconnect.
    #[serde(default)]
    pub cuts: u32,
    /// Incidents of the plan that did not happen, because the stream was over before.
    #[serde(default)]
    pub missed: u32,
    /// Of the bytes received, those of frames that were cut off and therefore came again.
    #[serde(default)]
    pub received_cut: u64,
    /// Of the bytes sent, those of frames that were cut off.
    #[serde(default)]
    pub sent_cut: u64,
    /// Transfers that were begun, of a loopback there and back as one; those of frames that were cut off again.
    #[serde(default)]
    pub begun: u32,
    /// Faults of the plan that took place: before which transfer, which, and when.
    #[serde(default)]
    pub faults: Vec<(u32, HostFault, u64)>,
    /// How it ended.
    pub outcome: Outcome,
}

impl StepReport {
    fn check(&self) -> Result<(), Invalid> {
        let received = [self.received.bytes, self.received.corrupt];
        times("bytes received", &received)?;
        times("bytes sent", &[self.sent, self.sent_cut, self.received_cut])?;
        times(
            "transfers",
            &[self.transfers, self.short_packets, self.zero_packets],
        )?;
        times("packets not taken", &[self.naks, self.stalls])?;
        no_longer("faults", self.faults.len(), MAX_FAULTS)?;
        let incidents = [self.incidents, self.cuts].map(|n| u64::from(n) << 32);
        times("incidents, times 2^32", &incidents)
    }
}

/// How a step ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did not.
    #[default]
    Running,
    /// As planned.
    Complete,
    /// By a reset or disconnect of the plan, after which the stream does not go on.
    Interrupted,
    /// Otherwise; the report's errors say why.
    Failed,
}
