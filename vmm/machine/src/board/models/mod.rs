// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The kinds of devices that a board can have. All that is particular to one stands in its file
//! here, and once in [`MODELS`]; windows, interrupts, device tree, chip and table derive from that.

mod converters;
mod dmac;
mod dwc3;
mod gdma;
mod quad_spi;
mod smmu;
mod virtio_blk;

use staleline_devices::bus::Device;
use staleline_devices::stream::{Stream, StreamId, Streams};
use staleline_protocol::pattern::Pattern;

use super::config::MachineConfig;
use super::fdt::NodeWriter;
use super::settings::{BoardSettings, PortSettings, Translated};

/// All of them, in the order of their windows: those that a board may lack come last, and at the end the one
/// with more than one.
pub static MODELS: [&dyn Model; 9] = [
    &dmac::CAPTURE,
    &dmac::PLAYBACK,
    &dwc3::Dwc3,
    &converters::ADC,
    &converters::DAC,
    &quad_spi::QuadSpi,
    &gdma::Gdma,
    &virtio_blk::VirtioBlk,
    &smmu::Smmu,
];

/// Options of the kernel of which one has to be built in.
pub type OneOf = &'static [&'static str];

/// A kind of device, as the board knows it.
pub trait Model: Sync {
    /// Its name on the board, in diagnostics and results.
    fn name(&self) -> &'static str;

    /// Whether the board has one.
    fn present(&self, _settings: &BoardSettings) -> bool {
        true
    }

    /// Its port to memory; `None` if it is no bus master.
    fn port(&self, _settings: &BoardSettings) -> Option<PortSettings> {
        None
    }

    /// Whether it has an interrupt.
    fn interrupts(&self) -> bool {
        false
    }

    /// Register windows that it takes.
    fn windows(&self) -> u64 {
        1
    }

    /// What it is called among a board's settings, if they may put it behind an SMMU.
    fn translated_as(&self) -> Option<Translated> {
        None
    }

    /// Options of the kernel that give it its driver, each or one of each group. What others select needs
    /// no mention.
    fn options(&self) -> &'static [OneOf];

    /// Writes what the device tree says of it, beside window, interrupt and coherency.
    ///
    /// # Errors
    /// If a name or value is not allowed in a device tree.
    fn describe(&self, node: &mut NodeWriter<'_>) -> Result<(), vm_fdt::Error>;

    /// Makes one.
    ///
    /// # Errors
    /// What is wrong with its configuration, for the user.
    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Device>, String>;
}

/// Where a device is built: what it may look at, and what it shares with others.
pub struct Site<'a> {
    /// The machine's configuration.
    pub config: &'a MachineConfig,
    /// The device's port, as the board has it.
    pub port: Option<&'a PortSettings>,
    streams: &'a mut Streams,
    names: &'a mut Vec<String>,
}

impl<'a> Site<'a> {
    /// For a device on `port`.
    pub(super) fn new(
        config: &'a MachineConfig,
        port: Option<&'a PortSettings>,
        streams: &'a mut Streams,
        names: &'a mut Vec<String>,
    ) -> Self {
        Site {
            config,
            port,
            streams,
            names,
        }
    }

    /// The sample stream of that name; devices that name the same one share it.
    pub fn stream(&mut self, name: &str) -> StreamId {
        if let Some(known) = self.names.iter().position(|n| n == name) {
            // A board has a handful.
            return StreamId(known as u8);
        }
        self.names.push(name.to_owned());
        self.streams
            .add(Stream::new(Pattern::new(self.config.seed)))
    }
}
