// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The chip, built from the board's description.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use staleline_devices::coherency::DomainConfig;
use staleline_devices::soc::{Attachment, Parts, Soc, SocError};
use staleline_devices::stream::Streams;
use staleline_devices::usb::plan::UsbHostPlan;
use vm_memory::MmapRegion;

use super::Board;
use super::models::Site;
use super::settings::{BoardSettings, PortSettings};
use crate::boot::RAM_BASE;

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

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Its memory cannot be set up.
    #[error(transparent)]
    Memory(#[from] SocError),
    /// A device refuses its parameters: a mistake in the board's description.
    #[error("board device {name}: {why}")]
    Device {
        /// Which one.
        name: &'static str,
        /// Why.
        why: String,
    },
}

/// Builds the chip over `memory`: guest RAM, then the register windows.
///
/// # Errors
/// [`MachineError`].
pub fn build(
    config: &MachineConfig,
    ram: MmapRegion,
    windows: Option<MmapRegion>,
) -> Result<Soc, MachineError> {
    let board = Board::new(&config.board);
    let mut streams = Streams::default();
    let mut stream_names = Vec::new();
    let devices = board
        .nodes()
        .iter()
        .map(|node| {
            let mut site = Site::new(config, node.port, &mut streams, &mut stream_names);
            let device = node.model.build(&mut site);
            Ok(Attachment {
                name: node.name().into(),
                irq: node.irq,
                port: node.port.map(|p| p.port),
                claims_coherent: node.port.is_some_and(PortSettings::claims_coherent),
                device: device.map_err(|why| MachineError::Device {
                    name: node.name(),
                    why,
                })?,
            })
        })
        .collect::<Result<Vec<_>, MachineError>>()?;
    let parts = Parts {
        domain: DomainConfig {
            base: RAM_BASE,
            ram_bytes: board.ram_bytes(),
            policy: config.board.cache,
            snoop_write: config.board.snoop_write,
            seed: config.seed,
            ports: Vec::new(),
            drop_operation: config.drop_operation,
            power_on: config.board.power_on,
            occurrences: false,
        },
        devices,
        streams,
        stream_names,
    };
    let mut soc = Soc::new(parts, ram, windows)?;
    for (pa, len) in &config.loaded {
        soc.domain().loaded(*pa, *len);
    }
    Ok(soc)
}
