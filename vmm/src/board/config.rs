// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the machine has to know.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use staleline_devices::usb::plan::UsbHostPlan;

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
    /// Number of the maintenance operation to suppress.
    pub drop_operation: Option<u32>,
    /// What stands in RAM at power-on: address and length in bytes.
    pub loaded: Vec<(u64, u64)>,
    /// What the board's disk holds; without one, it has no sectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskImage>,
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
