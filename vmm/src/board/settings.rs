// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a scenario can choose about the board.

use serde::{Deserialize, Serialize};
pub use staleline_devices::coherency::{Policy as CachePolicy, PowerOn, SnoopWrite};
pub use staleline_devices::dma::Port;

/// Settings of the board; everything has a default, the ZynqMP-like board of the project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BoardSettings {
    /// Guest RAM in MiB, 64 to 2816.
    pub ram_mib: u32,
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
    pub dmac: PortSettings,
    /// The USB controller's port.
    pub usb: PortSettings,
    /// The general purpose DMA's port; without it, there is none on the board.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gdma: Option<PortSettings>,
    /// The disk; without it, there is none on the board.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blk: Option<BlkSettings>,
}

impl Default for BoardSettings {
    fn default() -> Self {
        BoardSettings {
            ram_mib: 128,
            cpus: 1,
            cache: CachePolicy::Zynqmp,
            snoop_write: SnoopWrite::WriteThrough,
            power_on: PowerOn::Dirty,
            merge_ends: false,
            jitter_ticks: 0,
            dmac: PortSettings {
                port: Port::Hp,
                dma_coherent: None,
            },
            usb: PortSettings {
                port: Port::Hpc,
                dma_coherent: None,
            },
            gdma: None,
            blk: None,
        }
    }
}

/// How a device is attached, and what the guest's device tree says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PortSettings {
    /// The port it really is on.
    pub port: Port,
    /// Whether its node has `dma-coherent`; by default the truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dma_coherent: Option<bool>,
}

/// How the disk is attached, and what is said about that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BlkSettings {
    /// As for other devices.
    pub port: Port,
    /// As for other devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dma_coherent: Option<bool>,
    /// Whether it says that its accesses have to be ordered as a bus master's (VIRTIO_F_ORDER_PLATFORM),
    /// and not as a CPU's.
    #[serde(default = "yes")]
    pub order_platform: bool,
}

fn yes() -> bool {
    true
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl BlkSettings {
    /// What it has in common with other devices.
    pub fn attachment(self) -> PortSettings {
        PortSettings {
            port: self.port,
            dma_coherent: self.dma_coherent,
        }
    }
}

impl PortSettings {
    /// What the device tree says.
    pub fn claims_coherent(self) -> bool {
        self.dma_coherent.unwrap_or(self.port.is_coherent())
    }

    /// Whether the device tree says other than what is.
    pub fn lies(self) -> bool {
        self.claims_coherent() != self.port.is_coherent()
    }
}
