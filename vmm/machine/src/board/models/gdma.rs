// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! One channel of the Zynq UltraScale+'s general purpose DMA. On `hp` it is one of the GDMA in the
//! full-power domain, of which no access is coherent; on `hpc` one of the ADMA in the low-power domain,
//! routed through the coherent interconnect. Their drivers and registers are the same.
//!
//! Binding: Documentation/devicetree/bindings/dma/xilinx/xlnx,zynqmp-dma-1.0.yaml.

use staleline_devices::bus::Device;
use staleline_devices::gdma::{BusWidth, Config};

use super::{Model, OneOf, Site};
use crate::board::fdt::{Clock, NodeWriter};
use crate::board::settings::{BoardSettings, PortSettings, Translated};

const WIDTH: BusWidth = BusWidth::Bits128;

/// The channel.
pub struct Gdma;

impl Model for Gdma {
    fn name(&self) -> &'static str {
        "gdma"
    }

    fn present(&self, settings: &BoardSettings) -> bool {
        settings.gdma.is_some()
    }

    fn port(&self, settings: &BoardSettings) -> Option<PortSettings> {
        settings.gdma.clone()
    }

    fn interrupts(&self) -> bool {
        true
    }

    fn translated_as(&self) -> Option<Translated> {
        Some(Translated::Gdma)
    }

    fn options(&self) -> &'static [OneOf] {
        &[&["CONFIG_XILINX_ZYNQMP_DMA"]]
    }

    fn describe(&self, node: &mut NodeWriter<'_>) -> Result<(), vm_fdt::Error> {
        node.string("compatible", "xlnx,zynqmp-dma-1.0")?;
        node.u32("#dma-cells", 1)?;
        node.u32("xlnx,bus-width", WIDTH.bits())?;
        node.named_clocks(&[("clk_main", Clock::Fabric), ("clk_apb", Clock::Fabric)])
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Device>, String> {
        Ok(Box::new(staleline_devices::gdma::Gdma::new(Config {
            width: WIDTH,
            channel: 0,
        })))
    }
}
