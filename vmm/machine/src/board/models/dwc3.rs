// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Synopsys' DWC3 in gadget mode, with a host at the other end of the cable.
//!
//! Binding: Documentation/devicetree/bindings/usb/snps,dwc3.yaml.

use staleline_devices::bus::Device;
use staleline_devices::usb::host::PlanHost;

use super::{Model, OneOf, Site};
use crate::board::fdt::NodeWriter;
use crate::board::settings::{BoardSettings, PortSettings, Translated};

/// The controller.
pub struct Dwc3;

impl Model for Dwc3 {
    fn name(&self) -> &'static str {
        "dwc3"
    }

    fn port(&self, settings: &BoardSettings) -> Option<PortSettings> {
        Some(settings.usb.clone())
    }

    fn interrupts(&self) -> bool {
        true
    }

    fn translated_as(&self) -> Option<Translated> {
        Some(Translated::Usb)
    }

    fn options(&self) -> &'static [OneOf] {
        &[
            &["CONFIG_USB_DWC3"],
            &["CONFIG_USB_DWC3_GADGET", "CONFIG_USB_DWC3_DUAL_ROLE"],
        ]
    }

    fn describe(&self, node: &mut NodeWriter<'_>) -> Result<(), vm_fdt::Error> {
        node.string("compatible", "snps,dwc3")?;
        node.string("dr_mode", "peripheral")?;
        node.string("maximum-speed", "super-speed")?;
        node.flag("snps,dis_u2_susphy_quirk")?;
        node.flag("snps,dis_enblslpm_quirk")
    }

    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Device>, String> {
        match PlanHost::new(site.config.usb_host.clone()) {
            Ok(host) => Ok(Box::new(staleline_devices::dwc3::Dwc3::new(host))),
            Err(e) => Err(e.to_string()),
        }
    }
}
