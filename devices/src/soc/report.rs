// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the whole chip leaves behind at the end of a run.

use serde::{Deserialize, Serialize};
use staleline_protocol::pattern::Mismatch;

use crate::coherency::report::DomainReport;
use crate::dma::{MasterId, Port};

/// The machine's side of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SocReport {
    /// Coherency.
    pub domain: DomainReport,
    /// Bus masters by ID.
    pub masters: Vec<MasterInfo>,
    /// Streams by ID, with what their sinks found.
    pub streams: Vec<StreamReport>,
    /// Interrupts raised (rising edges), all lines.
    pub interrupts: u64,
    /// Register accesses by the guest.
    pub register_accesses: u64,
    /// What a device could not do because of a guest's mistake, in order, bounded.
    pub device_errors: Vec<DeviceError>,
    /// What others have to say, by their names: `usb-host` is a
    /// [`crate::usb::report::UsbHostReport`] with the sums that make it an end of a data path.
    pub extra: std::collections::BTreeMap<String, serde_json::Value>,
}

/// The names of what a chip is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Bus masters by ID.
    pub masters: Vec<String>,
    /// Devices in order of their windows, each of [`super::WINDOW`] bytes.
    pub devices: Vec<String>,
    /// Interrupt lines, and whose they are.
    pub interrupts: Vec<(u8, String)>,
    /// Physical address of the first window.
    pub windows: u64,
}

/// A bus master as the board names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterInfo {
    /// Its identity.
    pub id: MasterId,
    /// Its name, for example `axi-dmac-rx`.
    pub name: String,
    /// Its port.
    pub port: Port,
    /// Whether the device tree says that it is coherent with the CPU caches.
    pub claims_coherent: bool,
    /// Whether its driver makes it ask to be snooped only if the device tree says so.
    #[serde(default)]
    pub asks_if_claimed: bool,
    /// Whether it leaves its driver no other way than to order memory as for another CPU.
    #[serde(default)]
    pub ordered_as_a_cpu: bool,
}

impl MasterInfo {
    /// Whether the device tree says other than what is.
    pub fn lies(&self) -> bool {
        self.claims_coherent != self.port.is_coherent()
    }
}

/// A sample stream at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Its name, for example `adc` or `dac`.
    pub name: String,
    /// Bytes that passed.
    pub bytes: u64,
    /// Bytes the sink compared.
    pub checked: u64,
    /// Bytes that were wrong.
    pub corrupt: u64,
    /// Stream offset of the first wrong one.
    pub first_corrupt: Option<u64>,
}

impl StreamReport {
    /// From a sink's findings.
    pub fn new(name: String, bytes: u64, found: Mismatch) -> Self {
        StreamReport {
            name,
            bytes,
            checked: found.bytes,
            corrupt: found.corrupt,
            first_corrupt: found.first,
        }
    }
}

/// A guest's mistake as a device met it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceError {
    /// Device name.
    pub device: String,
    /// What went wrong.
    pub what: String,
}
