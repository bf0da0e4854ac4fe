// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Xilinx' AXI Quad SPI with both converters' control ports.
//!
//! Bindings: spi/spi-xilinx.yaml, iio/adc/adi,ad9467.yaml, iio/dac/adi,ad9739a.yaml.

use staleline_devices::bus::Device;
use staleline_devices::spi::{Ad9467, Ad9739a, AxiQuadSpi, Part};

use super::{Model, OneOf, Site, converters};
use crate::board::fdt::{Clock, NodeWriter};

/// The ADC on the board. Its samples have 16 real bits, so every word of a pattern is one.
const ADC: Part = Part::Ad9467;
/// Hertz, for both parts.
const SPI_CLOCK: u32 = 10_000_000;

/// The controller.
pub struct QuadSpi;

impl Model for QuadSpi {
    fn name(&self) -> &'static str {
        "axi-quad-spi"
    }

    fn options(&self) -> &'static [OneOf] {
        &[&["CONFIG_SPI"], &["CONFIG_SPI_XILINX"]]
    }

    fn describe(&self, node: &mut NodeWriter<'_>) -> Result<(), vm_fdt::Error> {
        let backends = [converters::ADC.name(), converters::DAC.name()].map(|n| node.handle(n));
        node.string("compatible", "xlnx,axi-quad-spi-1.00.a")?;
        node.u32("xlnx,num-ss-bits", 2)?;
        node.u32("#address-cells", 1)?;
        node.u32("#size-cells", 0)?;
        node.child("adc@0", |adc| {
            adc.string("compatible", ADC.compatible())?;
            adc.u32("reg", 0)?;
            adc.u32("spi-max-frequency", SPI_CLOCK)?;
            adc.clock(Clock::Adc)?;
            adc.string("clock-names", "adc-clk")?;
            adc.u32("io-backends", backends[0])
        })?;
        node.child("dac@1", |dac| {
            dac.string("compatible", "adi,ad9739a")?;
            dac.u32("reg", 1)?;
            dac.u32("spi-max-frequency", SPI_CLOCK)?;
            dac.clock(Clock::Dac)?;
            dac.u32("io-backends", backends[1])
        })
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Device>, String> {
        match AxiQuadSpi::new(vec![Box::new(Ad9467::new(ADC)), Box::new(Ad9739a::new())]) {
            Ok(device) => Ok(Box::new(device)),
            Err(e) => Err(e.to_string()),
        }
    }
}
