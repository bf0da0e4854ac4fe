// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! ADI's AXI-DMAC, from a converter's stream to memory or back.
//!
//! Binding: Documentation/devicetree/bindings/dma/adi,axi-dmac.yaml.

use staleline_devices::axi_dmac::{AxiDmac, Config, Route};
use staleline_devices::bus::Device;
use staleline_devices::stream::StreamId;

use super::{Model, OneOf, Site};
use crate::board::fdt::{Clock, NodeWriter};
use crate::board::settings::{BoardSettings, PortSettings, Translated};

/// The ADC's samples.
pub(super) const ADC_STREAM: &str = "adc";
/// The DAC's.
pub(super) const DAC_STREAM: &str = "dac";

/// One way.
pub struct Dmac {
    name: &'static str,
    stream: &'static str,
    route: fn(StreamId) -> Route,
}

/// From the ADC's stream to memory.
pub static CAPTURE: Dmac = Dmac {
    name: "axi-dmac-rx",
    stream: ADC_STREAM,
    route: Route::Capture,
};

/// From memory to the DAC's stream.
pub static PLAYBACK: Dmac = Dmac {
    name: "axi-dmac-tx",
    stream: DAC_STREAM,
    route: Route::Playback,
};

impl Model for Dmac {
    fn name(&self) -> &'static str {
        self.name
    }

    fn port(&self, settings: &BoardSettings) -> Option<PortSettings> {
        Some(settings.dmac.clone())
    }

    fn interrupts(&self) -> bool {
        true
    }

    fn translated_as(&self) -> Option<Translated> {
        Some(Translated::Dmac)
    }

    fn options(&self) -> &'static [OneOf] {
        &[&["CONFIG_AXI_DMAC"]]
    }

    fn describe(&self, node: &mut NodeWriter<'_>) -> Result<(), vm_fdt::Error> {
        node.string("compatible", "adi,axi-dmac-1.00.a")?;
        node.u32("#dma-cells", 1)?;
        node.clock(Clock::Fabric)
    }

    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Device>, String> {
        let stream = site.stream(self.stream);
        let config = Config {
            coherent: site.port.is_some_and(PortSettings::claims_coherent),
            holds_ends: !site.config.board.merge_ends,
            ..Config::new((self.route)(stream))
        };
        match AxiDmac::new(config) {
            Ok(device) => Ok(Box::new(device)),
            Err(e) => Err(e.to_string()),
        }
    }
}
