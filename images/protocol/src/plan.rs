// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the agent is asked to do. The VMM writes it as JSON into the property
//! [`FDT_PROPERTY`] of `/chosen`; the agent reads it back below `/sys/firmware/devicetree`.

use serde::{Deserialize, Serialize};

/// Property of `/chosen` that holds the plan as JSON text.
pub const FDT_PROPERTY: &str = "staleline,plan";

/// Version of [`Plan`]; the agent refuses any other.
pub const SCHEMA: u32 = 1;

/// One run of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// Seed of every data pattern of the run.
    pub seed: u64,
    /// The data path to drive; `None` boots, reports and powers off.
    pub transfer: Option<Transfer>,
}

/// Frames moved along one data path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// From where to where.
    pub path: DataPath,
    /// Who allocates the DMABUFs.
    pub exporter: Exporter,
    /// DMABUFs allocated and used in rotation, at least 1.
    pub buffers: u32,
    /// Frames moved in all, at least 1; more than `buffers` means reuse.
    pub frames: u32,
    /// Size of each DMABUF in bytes, a multiple of the page size.
    pub buffer_bytes: u64,
    /// Bytes moved in each frame, at most `buffer_bytes`, a multiple of 8.
    pub frame_bytes: u64,
    /// Bytes moved in the last frame, if other than `frame_bytes`.
    pub last_frame_bytes: Option<u64>,
    /// Whether user space brackets its own accesses with `DMA_BUF_IOCTL_SYNC`; on device-to-device
    /// paths, whether it uses SYNC between the devices as a work-around.
    pub cpu_sync: bool,
}

impl Transfer {
    /// Bytes of frame `n`.
    pub fn bytes_of_frame(&self, n: u32) -> u64 {
        match self.last_frame_bytes {
            Some(last) if n + 1 == self.frames => last,
            _ => self.frame_bytes,
        }
    }

    /// Bytes of all frames.
    pub fn total_bytes(&self) -> u64 {
        (0..self.frames).map(|n| self.bytes_of_frame(n)).sum()
    }
}

/// A data path through the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataPath {
    /// ADC to a DMABUF; user space checks it through its mapping.
    IioCapture,
    /// User space fills a DMABUF through its mapping; DAC plays it.
    IioPlayback,
    /// USB host to the gadget and back, through FunctionFS read and write.
    UsbLoopback,
    /// ADC to a DMABUF to the USB host, without the CPU.
    IioToUsb,
    /// USB host to a DMABUF to the DAC, without the CPU.
    UsbToIio,
}

impl DataPath {
    /// All paths.
    pub const ALL: [DataPath; 5] = [
        DataPath::IioCapture,
        DataPath::IioPlayback,
        DataPath::UsbLoopback,
        DataPath::IioToUsb,
        DataPath::UsbToIio,
    ];

    /// Whether the USB controller takes part.
    pub fn uses_usb(self) -> bool {
        matches!(
            self,
            DataPath::UsbLoopback | DataPath::IioToUsb | DataPath::UsbToIio
        )
    }
}

/// Who allocates a DMABUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exporter {
    /// `/dev/udmabuf` over a memfd.
    Udmabuf,
    /// `/dev/dma_heap/system`.
    System,
    /// The default CMA heap.
    Cma,
}

impl Exporter {
    /// All exporters.
    pub const ALL: [Exporter; 3] = [Exporter::Udmabuf, Exporter::System, Exporter::Cma];

    /// The name users give on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Exporter::Udmabuf => "udmabuf",
            Exporter::System => "system",
            Exporter::Cma => "cma",
        }
    }
}
