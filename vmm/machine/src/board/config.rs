// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the machine has to know.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use staleline_devices::faults::Fault;
use staleline_devices::usb::plan::UsbHostPlan;

use staleline_support::digest;

use super::settings::BoardSettings;

/// All that the machine has to know; travels to wherever the engine hosts it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    /// The board.
    pub board: BoardSettings,
    /// Seed of the data patterns and of random choices.
    pub seed: u64,
    /// What the host at the other end of the USB cable does.
    pub usb_host: UsbHostPlan,
    /// What is to go wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// Whether to count what could.
    #[serde(default)]
    pub census: bool,
    /// What stands in RAM at power-on: address and length in bytes.
    pub loaded: Vec<(u64, u64)>,
    /// What the board's disk holds; without one, it has no sectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskImage>,
}

impl MachineConfig {
    /// A machine with this board and nothing else: its USB host does nothing, nothing goes wrong, nothing is loaded, and
    /// its disk has no sectors.
    #[must_use]
    pub fn new(board: BoardSettings) -> Self {
        MachineConfig {
            board,
            seed: 1,
            usb_host: UsbHostPlan::default(),
            faults: Vec::new(),
            census: false,
            loaded: Vec::new(),
            disk: None,
        }
    }

    /// A hash over all of it, but for where a disk's image is and for faults: two machines that have the same do
    /// the same with the same guest up to the first fault, and before that one goes on from the other's state.
    pub fn identity(&self) -> u64 {
        let mut all = self.without_faults();
        if let Some(disk) = &mut all.disk {
            disk.path = PathBuf::new();
        }
        // All that is in it can be written as JSON, and is the same each time.
        let text = serde_json::to_vec(&all).unwrap_or_default();
        let digest = digest::bytes(&text);
        u64::from_str_radix(digest::short(&digest), 16).unwrap_or_default()
    }

    /// The machine in which nothing goes wrong, and nobody counts.
    #[must_use]
    pub fn without_faults(&self) -> Self {
        MachineConfig {
            faults: Vec::new(),
            census: false,
            ..self.clone()
        }
    }
}

/// The same of one that is written down already: guests whose machines differ in nothing else are of one
/// snapshot.
#[must_use]
pub fn without_faults(machine: &serde_json::Value) -> serde_json::Value {
    let mut machine = machine.clone();
    if let Some(fields) = machine.as_object_mut() {
        fields.remove("faults");
        fields.remove("census");
    }
    machine
}

/// A file with a disk's contents. It is only read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskImage {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 that it must have, in hexadecimal.
    pub hash: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_of_all_but_the_place_of_a_disk_and_faults() {
        let one = MachineConfig {
            disk: Some(DiskImage {
                path: "/a/disk".into(),
                hash: "00".into(),
            }),
            ..MachineConfig::new(BoardSettings::default())
        };
        let with = |change: &dyn Fn(&mut MachineConfig)| {
            let mut other = one.clone();
            change(&mut other);
            other.identity()
        };
        let elsewhere = |c: &mut MachineConfig| {
            if let Some(disk) = &mut c.disk {
                disk.path = "/b/disk".into();
            }
        };
        assert_eq!(with(&elsewhere), one.identity());
        assert_ne!(with(&|c| c.seed = 2), one.identity());
        let fault = || "drop@1".parse().unwrap();
        assert_eq!(with(&|c| c.faults = vec![fault()]), one.identity());
        assert_eq!(with(&|c| c.census = true), one.identity());
        let mut faulty = one.clone();
        (faulty.faults, faulty.census) = (vec![fault()], true);
        let [a, b] = [&one, &faulty].map(|c| without_faults(&serde_json::to_value(c).unwrap()));
        assert_eq!(a, b);
        assert!(a.get("seed").is_some());
        assert_ne!(with(&|c| c.disk = None), one.identity());
    }
}
