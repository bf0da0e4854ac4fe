// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The PCI host bridge: where it is, and how the device tree tells of it. There is nothing else at these
//! addresses on QEMU's `virt`, whose own bridge is there, too.
//!
//! Binding: Documentation/devicetree/bindings/pci/host-generic-pci.yaml.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use vm_fdt::{Error, FdtWriter};

use super::settings::PciSettings;

/// What it is called on the board, in diagnostics and results.
pub const NAME: &str = "pci";

/// Where configuration space is: ECAM, of bus 0 alone.
pub const ECAM: Range<u64> = 0x3f00_0000..0x3f10_0000;

/// Where registers of devices may be.
pub const MEMORY: Range<u64> = 0x1000_0000..0x3e00_0000;

/// Shared peripheral interrupts of its four lines, from here on.
pub const FIRST_IRQ: u8 = 3;

/// Its lines.
const LINES: u32 = 4;

/// The last of them.
pub const LAST_IRQ: u8 = FIRST_IRQ + LINES as u8 - 1;

/// Devices that there can be: the first place on the bus stays empty.
pub const MAX_DEVICES: usize = 31;

/// The place on the bus of a device, from 1, by its number among the settings' devices.
pub fn slot(index: usize) -> u32 {
    (index as u32 % MAX_DEVICES as u32) + 1
}

/// The shared peripheral interrupt of a device's pin, from 1 (INTA#): lines take turns, as they do behind bridges.
pub fn irq(slot: u32, pin: u8) -> u8 {
    FIRST_IRQ + ((u32::from(pin).wrapping_sub(1).wrapping_add(slot)) % LINES) as u8
}

/// An address on the host's bus: domain, bus, device and function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostAddress {
    domain: u16,
    bus: u8,
    device: u8,
    function: u8,
}

impl FromStr for HostAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (domain, rest) = text.split_once(':')?;
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            let hex = |digits: &str, len| {
                let are = digits.len() == len && digits.bytes().all(|b| b.is_ascii_hexdigit());
                are.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
            };
            Some(HostAddress {
                domain: hex(domain, 4)?,
                bus: hex(bus, 2)?.try_into().ok()?,
                device: hex(device, 2)?.try_into().ok().filter(|d| *d < 32)?,
                function: hex(function, 1)?.try_into().ok().filter(|f| *f < 8)?,
            })
        };
        parse().ok_or_else(|| {
            format!(
                "`{}` is no address of a PCI device: write it as `lspci -D` does, 0000:00:03.0",
                text.escape_debug()
            )
        })
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostAddress {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

/// What is wrong with the settings, if something is.
///
/// # Errors
/// It.
pub fn check(settings: &PciSettings) -> Result<(), String> {
    use super::settings::Port;
    if !matches!(settings.port, Port::Hp | Port::Hpc) {
        return Err(format!(
            "board.pci.port = {}: a device of the host works on one memory, so it is hp or hpc",
            settings.port.name()
        ));
    }
    if settings.devices.len() > MAX_DEVICES {
        return Err(format!(
            "board.pci.devices has {} of at most {MAX_DEVICES}",
            settings.devices.len()
        ));
    }
    let mut known = Vec::new();
    for device in &settings.devices {
        let address: HostAddress = device
            .parse()
            .map_err(|why: String| format!("board.pci.devices: {why}"))?;
        if known.contains(&address) {
            return Err(format!("board.pci.devices has {address} twice"));
        }
        known.push(address);
    }
    Ok(())
}

/// Writes the bridge's node. `gic` is the handle of the interrupt controller.
///
/// # Errors
/// If a name or value is not allowed in a device tree.
pub fn write(fdt: &mut FdtWriter, settings: &PciSettings, gic: u32) -> Result<(), Error> {
    /// In an address of PCI's: of memory, 32 bits wide, not prefetchable.
    const MEMORY_32: u32 = 0x0200_0000;
    // All of it is below 4 GiB.
    let (high, low) = (0, MEMORY.start as u32);
    let node = fdt.begin_node(&format!("pcie@{:x}", ECAM.start))?;
    fdt.property_string("compatible", "pci-host-ecam-generic")?;
    fdt.property_string("device_type", "pci")?;
    fdt.property_u32("#address-cells", 3)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("#interrupt-cells", 1)?;
    fdt.property_u32("linux,pci-domain", 0)?;
    fdt.property_array_u32("bus-range", &[0, 0])?;
    fdt.property_array_u64("reg", &[ECAM.start, ECAM.end - ECAM.start])?;
    let bytes = (MEMORY.end - MEMORY.start) as u32;
    fdt.property_array_u32("ranges", &[MEMORY_32, high, low, high, low, 0, bytes])?;
    if settings.attachment().claims_coherent() {
        fdt.property_null("dma-coherent")?;
    }
    // Of the device's address, its number on the bus as far as lines go by it; and the pin.
    fdt.property_array_u32("interrupt-map-mask", &[0x1800, 0, 0, 7])?;
    let map = (0..LINES).flat_map(|slot| {
        (1..=LINES as u8).flat_map(move |pin| {
            let irq = u32::from(irq(slot, pin));
            // Shared, level, active high.
            [slot << 11, 0, 0, pin.into(), gic, 0, irq, 4]
        })
    });
    fdt.property_array_u32("interrupt-map", &map.collect::<Vec<u32>>())?;
    fdt.end_node(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::settings::Port;

    #[test]
    fn addresses_are_as_lspci_writes_them() {
        let address: HostAddress = "0000:3a:1F.7".parse().unwrap();
        assert_eq!(address.to_string(), "0000:3a:1f.7");
        for wrong in [
            "",
            "00:03.0",
            "0000:00:03",
            "0000:00:20.0",
            "0000:00:03.8",
            "0000:+0:03.0",
            "0000:00:03.0/../x",
        ] {
            assert!(wrong.parse::<HostAddress>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines_take_turns() {
        let of = |slot, pin| irq(slot, pin);
        assert_eq!((of(0, 1), of(3, 1), of(3, 2), of(4, 1)), (3, 6, 3, 3));
        assert!((0..40).all(|s| (0..=255).all(|pin| (3..7).contains(&of(s, pin)))));
    }

    #[test]
    fn a_bridge_has_one_port_and_each_device_once() {
        let settings = |port, devices: &[&str]| PciSettings {
            port,
            dma_coherent: None,
            devices: devices.iter().map(|d| (*d).to_owned()).collect(),
        };
        assert_eq!(check(&settings(Port::Hp, &["0000:00:03.0"])), Ok(()));
        assert!(check(&settings(Port::HpcRead, &[])).is_err());
        assert!(check(&settings(Port::Hp, &["3"])).is_err());
        let twice = ["0000:0a:03.0", "0000:0A:03.0"];
        assert!(check(&settings(Port::Hp, &twice)).is_err());
    }
}
