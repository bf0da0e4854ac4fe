// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! ADI's AXI ADC and DAC cores, between the converters and the DMA engines.
//!
//! Bindings: adi,axi-adc.yaml and adi,axi-dac.yaml in Documentation/devicetree/bindings/iio.

use staleline_devices::bus::Device;
use staleline_devices::converters::{AxiAdc, AxiDac};
use staleline_devices::stream::StreamId;

use super::{Model, OneOf, Site, dmac};
use crate::board::fdt::{Clock, NodeWriter};

/// One of them.
pub struct Converter {
    name: &'static str,
    compatible: &'static str,
    stream: &'static str,
    /// Its DMA engine, and the name of that channel.
    dma: (&'static dmac::Dmac, &'static str),
    /// Those of the core and of the converter behind it.
    options: &'static [OneOf],
    device: fn(StreamId) -> Box<dyn Device>,
}

/// In front of the ADC.
pub static ADC: Converter = Converter {
    name: "axi-adc",
    compatible: "adi,axi-adc-10.0.a",
    stream: dmac::ADC_STREAM,
    dma: (&dmac::CAPTURE, "rx"),
    options: &[&["CONFIG_ADI_AXI_ADC"], &["CONFIG_AD9467"]],
    device: |stream| Box::new(AxiAdc::new(stream)),
};

/// In front of the DAC.
pub static DAC: Converter = Converter {
    name: "axi-dac",
    compatible: "adi,axi-dac-9.1.b",
    stream: dmac::DAC_STREAM,
    dma: (&dmac::PLAYBACK, "tx"),
    options: &[&["CONFIG_ADI_AXI_DAC"], &["CONFIG_AD9739A"]],
    device: |stream| Box::new(AxiDac::new(stream)),
};

impl Model for Converter {
    fn name(&self) -> &'static str {
        self.name
    }

    fn options(&self) -> &'static [OneOf] {
        self.options
    }

    fn describe(&self, node: &mut NodeWriter<'_>) -> Result<(), vm_fdt::Error> {
        let (dma, channel) = self.dma;
        let dma = node.handle(dma.name());
        node.string("compatible", self.compatible)?;
        node.u32s("dmas", &[dma, 0])?;
        node.string("dma-names", channel)?;
        node.clock(Clock::Fabric)?;
        node.u32("#io-backend-cells", 0)
    }

    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Device>, String> {
        Ok((self.device)(site.stream(self.stream)))
    }
}
