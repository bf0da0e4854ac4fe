// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The control path of the converters: an AXI Quad SPI controller and the register interfaces of
//! the chips behind it.
//!
//! # Device tree
//! ```text
//! spi@ADDR {
//!     compatible = "xlnx,axi-quad-spi-1.00.a";
//!     reg = <ADDR 0x1000>;
//!     xlnx,num-ss-bits = <2>;            // mandatory: the driver has no default
//!     #address-cells = <1>;
//!     #size-cells = <0>;
//!     // No interrupts: the driver then polls. No clock.
//!
//!     adc@0 {
//!         compatible = "adi,ad9467";     // or "adi,ad9649", as the model was built
//!         reg = <0>;
//!         spi-max-frequency = <10000000>;
//!         clocks = <&adc_clk>;           // fixed-clock, 250 MHz at most (AD9649: 80 MHz)
//!         clock-names = "adc-clk";
//!         io-backends = <&axi_adc>;
//!     };
//!
//!     dac@1 {
//!         compatible = "adi,ad9739a";
//!         reg = <1>;
//!         spi-max-frequency = <10000000>;
//!         clocks = <&dac_clk>;           // fixed-clock, 1.6 GHz to 2.5 GHz, else the probe fails
//!         io-backends = <&axi_dac>;
//!         // No reset-gpios: the driver then resets the chip over SPI.
//!     };
//! };
//! ```

use std::fmt::Debug;

use crate::state::{RestoreError, SaveError, Saved};

mod ad9467;
mod ad9739a;
mod quad;
#[cfg(test)]
pub(crate) mod tests;

pub use self::ad9467::{Ad9467, Part};
pub use self::ad9739a::Ad9739a;
pub use self::quad::{AxiQuadSpi, TooManySlaves};

/// A chip on the bus. It sees only what its pins see.
pub trait SpiSlave: Debug + Send {
    /// Chip select became active: a command begins.
    fn select(&mut self);

    /// Chip select became inactive: what was not complete is forgotten.
    fn deselect(&mut self);

    /// One byte each way, most significant bit first.
    fn exchange(&mut self, mosi: u8) -> u8;

    /// Its state, for [`SpiSlave::restore`].
    ///
    /// # Errors
    /// [`SaveError`].
    fn save(&self) -> Result<Saved, SaveError>;

    /// Takes over the state of a chip of the same kind.
    ///
    /// # Errors
    /// [`RestoreError`].
    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError>;
}
