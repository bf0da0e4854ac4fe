// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a scenario can choose about the board.

use serde::{Deserialize, Serialize};
pub use staleline_devices::coherency::{Policy as CachePolicy, PowerOn, SnoopWrite};
pub use staleline_devices::dma::Port;
pub use staleline_devices::soc::DmaRange;

/// Where devices are that are on each board, unless its settings say otherwise.
const DMAC_PORT: Port = Port::Hp;
const USB_PORT: Port = Port::Hpc;

/// Settings of the board; everything has a default, the ZynqMP-like board of the project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BoardSettings {
    /// Guest RAM in MiB from 1 GiB on, 64 to 3072: below 4 GiB, where every master reaches it.
    pub ram_mib: u32,
    /// More of it from 4 GiB on, up to 16384 MiB. What lies between the two is empty.
    #[serde(skip_serializing_if = "is_zero")]
    pub ram_high_mib: u32,
    /// CPUs, 1 to 4. They share one cache, as those of a cluster share their second level.
    pub cpus: u8,
    /// Replacement policy of the CPU cluster's cache.
    pub cache: CachePolicy,
    /// What a snooping master's write does to the cache.
    pub snoop_write: SnoopWrite,
    /// What the caches hold when the CPU starts.
    pub power_on: PowerOn,
    /// Whether the AXI-DMACs merge ends of transfer that the driver has not acknowledged into one, as
    /// ADI's core does, or hold the next one back. The driver in 6.12 takes one for one: it waits for
    /// ever for a transfer whose end was merged. That is about interrupts, not about caches.
    pub merge_ends: bool,
    /// How many ticks later than they would, at most, devices act and interrupts come, by the seed; 0: none.
    #[serde(skip_serializing_if = "is_zero")]
    pub jitter_ticks: u32,
    /// The AXI-DMACs' ports.
    #[serde(deserialize_with = "partial::dmac")]
    pub dmac: PortSettings,
    /// The USB controller's port.
    #[serde(deserialize_with = "partial::usb")]
    pub usb: PortSettings,
    /// The general purpose DMA's port; without it, there is none on the board.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gdma: Option<PortSettings>,
    /// The disk; without it, there is none on the board.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blk: Option<BlkSettings>,
    /// The SMMU; without it, no master's addresses are translated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smmu: Option<SmmuSettings>,
    /// The PCI host bridge; without it, there is none on the board.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pci: Option<PciSettings>,
}

/// How the PCI host bridge is attached, and which devices of the host are behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PciSettings {
    /// As for other devices: that of all that are behind it.
    #[serde(default = "pci_port")]
    pub port: Port,
    /// As for other devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dma_coherent: Option<bool>,
    /// Their addresses on the host, as in 0000:00:03.0.
    #[serde(default)]
    pub devices: Vec<String>,
}

fn pci_port() -> Port {
    Port::Hp
}

impl PciSettings {
    /// What it has in common with other devices.
    pub fn attachment(&self) -> PortSettings {
        PortSettings {
            dma_coherent: self.dma_coherent,
            ..PortSettings::new(self.port)
        }
    }
}

/// How the SMMU reads its tables, and whom it stands in front of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SmmuSettings {
    /// The port of its table walks and queues.
    pub port: Port,
    /// As for other devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dma_coherent: Option<bool>,
    /// The masters that it translates; by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masters: Option<Vec<Translated>>,
}

/// Masters that an SMMU may translate, as a board's settings call them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Translated {
    /// Both AXI-DMACs.
    Dmac,
    /// The USB controller.
    Usb,
    /// The general purpose DMA.
    Gdma,
    /// The disk.
    Blk,
}

impl SmmuSettings {
    /// What it has in common with other devices.
    pub fn attachment(&self) -> PortSettings {
        PortSettings {
            dma_coherent: self.dma_coherent,
            ..PortSettings::new(self.port)
        }
    }

    /// Whether it stands in front of these.
    pub fn translates(&self, master: Translated) -> bool {
        let masters = self.masters.as_ref();
        masters.is_none_or(|masters| masters.contains(&master))
    }
}

impl Default for BoardSettings {
    fn default() -> Self {
        BoardSettings {
            ram_mib: 128,
            ram_high_mib: 0,
            cpus: 1,
            cache: CachePolicy::Zynqmp,
            snoop_write: SnoopWrite::WriteThrough,
            power_on: PowerOn::Dirty,
            merge_ends: false,
            jitter_ticks: 0,
            dmac: PortSettings::new(DMAC_PORT),
            usb: PortSettings::new(USB_PORT),
            gdma: None,
            blk: None,
            smmu: None,
            pci: None,
        }
    }
}

/// How a device is attached, and what the guest's device tree says about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PortSettings {
    /// The port it really is on.
    pub port: Port,
    /// Whether its node has `dma-coherent`; by default the truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dma_coherent: Option<bool>,
    /// What its bus has for memory, and at which addresses; none: all of it, at its physical addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dma_ranges: Vec<DmaRange>,
    /// Whether the tree says so.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub tell_dma_ranges: bool,
}

/// Tables of devices that are on each board: what they leave out is as by default, the port too.
mod partial {
    use serde::{Deserialize, Deserializer};

    use super::{DMAC_PORT, DmaRange, Port, PortSettings, USB_PORT, yes};

    #[derive(Deserialize)]
    #[serde(
        deny_unknown_fields,
        rename_all = "kebab-case",
        expecting = "a table, as { port = \"hp\" }"
    )]
    struct Partial {
        port: Option<Port>,
        dma_coherent: Option<bool>,
        #[serde(default)]
        dma_ranges: Vec<DmaRange>,
        #[serde(default = "yes")]
        tell_dma_ranges: bool,
    }

    pub fn dmac<'de, D: Deserializer<'de>>(from: D) -> Result<PortSettings, D::Error> {
        Partial::deserialize(from).map(|partial| partial.unless_said(DMAC_PORT))
    }

    pub fn usb<'de, D: Deserializer<'de>>(from: D) -> Result<PortSettings, D::Error> {
        Partial::deserialize(from).map(|partial| partial.unless_said(USB_PORT))
    }

    impl Partial {
        fn unless_said(self, port: Port) -> PortSettings {
            PortSettings {
                port: self.port.unwrap_or(port),
                dma_coherent: self.dma_coherent,
                dma_ranges: self.dma_ranges,
                tell_dma_ranges: self.tell_dma_ranges,
            }
        }
    }
}

/// How the disk is attached, and what is said about that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BlkSettings {
    /// As for other devices.
    pub port: Port,
    /// As for other devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dma_coherent: Option<bool>,
    /// As for other devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dma_ranges: Vec<DmaRange>,
    /// As for other devices.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub tell_dma_ranges: bool,
    /// Whether it says that its accesses have to be ordered as a bus master's (VIRTIO_F_ORDER_PLATFORM),
    /// and not as a CPU's.
    #[serde(default = "yes")]
    pub order_platform: bool,
}

// serde hands over a reference.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_true(told: &bool) -> bool {
    *told
}

#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn yes() -> bool {
    true
}

impl BlkSettings {
    /// What it has in common with other devices.
    pub fn attachment(&self) -> PortSettings {
        PortSettings {
            dma_coherent: self.dma_coherent,
            dma_ranges: self.dma_ranges.clone(),
            tell_dma_ranges: self.tell_dma_ranges,
            ..PortSettings::new(self.port)
        }
    }
}

impl PortSettings {
    /// On a port of which the tree tells the truth.
    pub fn new(port: Port) -> Self {
        PortSettings {
            port,
            dma_coherent: None,
            dma_ranges: Vec::new(),
            tell_dma_ranges: true,
        }
    }

    /// The ranges that the device tree has for it.
    pub fn told_ranges(&self) -> &[DmaRange] {
        match self.tell_dma_ranges {
            true => &self.dma_ranges,
            false => &[],
        }
    }

    /// What the device tree says.
    pub fn claims_coherent(&self) -> bool {
        self.dma_coherent.unwrap_or(self.port.is_coherent())
    }

    /// Whether the device tree says other than what is.
    pub fn lies(&self) -> bool {
        self.claims_coherent() != self.port.is_coherent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_table_leaves_out_is_as_by_default() {
        let text = "[dmac]\ndma-coherent = true\n[usb]\ntell-dma-ranges = false\n";
        let board: BoardSettings = toml::from_str(text).unwrap();
        assert_eq!(board.dmac.port, Port::Hp);
        assert!(board.dmac.lies());
        assert_eq!(board.usb.port, Port::Hpc);
        assert!(!board.usb.tell_dma_ranges);
        let written = toml::to_string(&board).unwrap();
        assert_eq!(toml::from_str::<BoardSettings>(&written).unwrap(), board);
        // Whether it is there at all is said by its table, and that has to say where.
        assert!(toml::from_str::<BoardSettings>("[gdma]\ndma-coherent = true").is_err());
        assert!(toml::from_str::<BoardSettings>("[usb]\nprt = 'hp'").is_err());
    }
}
