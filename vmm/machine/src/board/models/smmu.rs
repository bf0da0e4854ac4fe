// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Arm's SMMUv3, in front of those masters that the board says.
//!
//! Binding: Documentation/devicetree/bindings/iommu/arm,smmu-v3.yaml.

use staleline_devices::bus::Device;
use staleline_devices::smmu::BYTES;
use staleline_devices::soc::WINDOW;

use super::{Model, OneOf, Site};
use crate::board::fdt::NodeWriter;
use crate::board::settings::{BoardSettings, PortSettings, SmmuSettings};

/// The SMMU.
pub struct Smmu;

impl Model for Smmu {
    fn name(&self) -> &'static str {
        "smmu"
    }

    fn present(&self, settings: &BoardSettings) -> bool {
        settings.smmu.is_some()
    }

    fn port(&self, settings: &BoardSettings) -> Option<PortSettings> {
        settings.smmu.as_ref().map(SmmuSettings::attachment)
    }

    fn interrupts(&self) -> bool {
        true
    }

    fn windows(&self) -> u64 {
        BYTES / WINDOW
    }

    fn options(&self) -> &'static [OneOf] {
        &[&["CONFIG_ARM_SMMU_V3"]]
    }

    fn describe(&self, node: &mut NodeWriter<'_>) -> Result<(), vm_fdt::Error> {
        node.string("compatible", "arm,smmu-v3")?;
        node.string("interrupt-names", "combined")?;
        node.u32("#iommu-cells", 1)
    }

    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Device>, String> {
        let coherent = site.port.is_some_and(|port| port.port.is_coherent());
        Ok(Box::new(staleline_devices::smmu::Smmu::new(coherent)))
    }
}
