// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The chip, built from the board's description.

use serde::{Deserialize, Serialize};
use staleline_devices::axi_dmac::{AxiDmac, Config, Route};
use staleline_devices::bus::Device;
use staleline_devices::coherency::DomainConfig;
use staleline_devices::converters::{AxiAdc, AxiDac};
use staleline_devices::dwc3::Dwc3;
use staleline_devices::soc::{Attachment, Parts, Soc, SocError};
use staleline_devices::spi::{Ad9467, Ad9739a, AxiQuadSpi, Part};
use staleline_devices::stream::{Stream, StreamId, Streams};
use staleline_devices::usb::host::PlanHost;
use staleline_devices::usb::plan::UsbHostPlan;
use staleline_protocol::pattern::Pattern;
use vm_memory::MmapRegion;

use super::settings::BoardSettings;
use super::{Board, Model, Node};
use crate::boot::RAM_BASE;

/// The ADC on the board. Its samples have 16 real bits, so every word of a pattern is one.
pub const ADC: Part = Part::Ad9467;

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
    let adc = streams.add(Stream::new(Pattern::new(config.seed)));
    let dac = streams.add(Stream::new(Pattern::new(config.seed)));
    let devices = board
        .nodes()
        .iter()
        .map(|node| {
            Ok(Attachment {
                name: node.name.into(),
                irq: node.irq,
                port: node.port.map(|p| p.port),
                claims_coherent: node.port.is_some_and(|p| p.claims_coherent()),
                device: model(node, adc, dac, config)?,
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
        stream_names: vec!["adc".into(), "dac".into()],
    };
    let mut soc = Soc::new(parts, ram, windows)?;
    for (pa, len) in &config.loaded {
        soc.domain().loaded(*pa, *len);
    }
    Ok(soc)
}

fn model(
    node: &Node,
    adc: StreamId,
    dac: StreamId,
    config: &MachineConfig,
) -> Result<Box<dyn Device>, MachineError> {
    let refused = |why: String| MachineError::Device {
        name: node.name,
        why,
    };
    let dmac = |route| {
        let coherent = node.port.is_some_and(|p| p.claims_coherent());
        AxiDmac::new(Config {
            coherent,
            holds_ends: !config.board.merge_ends,
            ..Config::new(route)
        })
        .map(|d| Box::new(d) as Box<dyn Device>)
        .map_err(|e| refused(e.to_string()))
    };
    match node.model {
        Model::DmacCapture => dmac(Route::Capture(adc)),
        Model::DmacPlayback => dmac(Route::Playback(dac)),
        Model::AxiAdc => Ok(Box::new(AxiAdc::new(adc))),
        Model::AxiDac => Ok(Box::new(AxiDac::new(dac))),
        Model::QuadSpi => {
            AxiQuadSpi::new(vec![Box::new(Ad9467::new(ADC)), Box::new(Ad9739a::new())])
                .map(|d| Box::new(d) as Box<dyn Device>)
                .map_err(|e| refused(e.to_string()))
        }
        Model::Dwc3 => PlanHost::new(config.usb_host.clone())
            .map(|host| Box::new(Dwc3::new(host)) as Box<dyn Device>)
            .map_err(|e| refused(e.to_string())),
    }
}
