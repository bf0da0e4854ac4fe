// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The chip, built from the board's description.

use staleline_devices::coherency::{DomainConfig, DramImage, Poison};
use staleline_devices::jitter::Jitter;
use staleline_devices::soc::{Attachment, Outsider, Parts, Soc, SocError};
use staleline_devices::stream::Streams;
use vm_memory::MmapRegion;

use super::Board;
use super::config::MachineConfig;
use super::models::Site;
use super::pci;
use super::settings::PortSettings;
use crate::boot::RAM_BASE;

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Its memory cannot be set up.
    #[error(transparent)]
    Memory(#[from] SocError),
    /// Its devices of the host's have nothing to work on.
    #[error("this engine hands over no devices of the host: board.pci is for the kvm engine")]
    Pci,
    /// A device refuses its parameters: a mistake in the board's description.
    #[error("board device {name}: {why}")]
    Device {
        /// Which one.
        name: &'static str,
        /// Why.
        why: String,
    },
}

/// Builds the chip over `memory`: guest RAM, and its image in DRAM if the engine has made that, which it shares
/// with devices of the host that there are; then the register windows. `lazy` is [`DomainConfig::lazy`].
///
/// # Errors
/// [`MachineError`].
pub fn build(
    config: &MachineConfig,
    memory: (MmapRegion, Option<DramImage>),
    windows: Option<MmapRegion>,
    lazy: Option<Poison>,
) -> Result<Soc, MachineError> {
    let board = Board::new(&config.board);
    let mut streams = Streams::default();
    let mut stream_names = Vec::new();
    let devices = board
        .nodes()
        .iter()
        .enumerate()
        .map(|(index, node)| {
            let mut site = Site::new(config, node.port.as_ref(), &mut streams, &mut stream_names);
            let device = node.model.build(&mut site);
            Ok(Attachment {
                name: node.name().into(),
                irq: node.irq,
                port: node.port.as_ref().map(|p| p.port),
                claims_coherent: node
                    .port
                    .as_ref()
                    .is_some_and(PortSettings::claims_coherent),
                ranges: node
                    .port
                    .as_ref()
                    .map_or(Vec::new(), |p| p.dma_ranges.clone()),
                stream: board.stream(index).map(|(_, stream)| stream),
                device: device.map_err(|why| MachineError::Device {
                    name: node.name(),
                    why,
                })?,
            })
        })
        .collect::<Result<Vec<_>, MachineError>>()?;
    let outsider = match (&config.board.pci, &memory.1) {
        (None, _) => None,
        (Some(pci), Some(DramImage::Shared(_))) => Some(Outsider {
            name: pci::NAME.into(),
            port: pci.port,
            claims_coherent: pci.attachment().claims_coherent(),
        }),
        (Some(_), _) => return Err(MachineError::Pci),
    };
    let parts = Parts {
        domain: DomainConfig {
            base: RAM_BASE,
            ram_bytes: board.memory_bytes(),
            policy: config.board.cache,
            snoop_write: config.board.snoop_write,
            seed: config.seed,
            ports: Vec::new(),
            faults: config.faults.clone(),
            census: config.census,
            power_on: config.board.power_on,
            occurrences: false,
            lazy,
        },
        ram: board.ram(),
        wide: board.is_wide(),
        devices,
        streams,
        stream_names,
        jitter: Jitter::new(config.seed, config.board.jitter_ticks),
        identity: config.identity(),
        outsider,
    };
    let mut soc = Soc::new(parts, memory, windows)?;
    for (pa, len) in &config.loaded {
        soc.domain().loaded(*pa, *len);
    }
    Ok(soc)
}
