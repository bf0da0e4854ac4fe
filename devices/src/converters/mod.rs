// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The converters' side of the fabric: the cores that gate the sample streams.
//!
//! The chips themselves are controlled over SPI ([`crate::spi`]); the DMA engines
//! ([`crate::axi_dmac`]) move the samples.
//!
//! # Device tree
//! ```text
//! axi_adc: adc@ADDR {
//!     compatible = "adi,axi-adc-10.0.a";
//!     reg = <ADDR 0x1000>;
//!     clocks = <&fabric_clk>;            // any fixed-clock
//!     dmas = <&rx_dma 0>;
//!     dma-names = "rx";
//!     #io-backend-cells = <0>;
//! };
//! axi_dac: dac@ADDR {
//!     compatible = "adi,axi-dac-9.1.b";
//!     reg = <ADDR 0x1000>;
//!     clocks = <&fabric_clk>;
//!     dmas = <&tx_dma 0>;
//!     dma-names = "tx";
//!     #io-backend-cells = <0>;
//! };
//! ```
//! The IIO devices are those of the SPI chips, whose nodes name these as their `io-backends`.

mod adc;
mod dac;
#[cfg(test)]
mod tests;

pub use self::adc::AxiAdc;
pub use self::dac::AxiDac;

// What both cores have in common: the base and interface registers of Analog Devices' cores
// (docs/regmap/adi_regmap_common.txt, adi_regmap_adc.txt and adi_regmap_dac.txt in their hdl
// repository).
const VERSION: u64 = 0x000;
const PERIPHERAL_ID: u64 = 0x004;
const SCRATCH: u64 = 0x008;
const CONFIG: u64 = 0x00c;
const RSTN: u64 = 0x040;
const CNTRL: u64 = 0x044;
const CNTRL_2: u64 = 0x048;
const STATUS: u64 = 0x05c;
const DRP_STATUS: u64 = 0x074;

/// Core out of reset.
const RSTN_RSTN: u32 = 1 << 0;
/// Clock generator out of reset.
const RSTN_MMCM_RSTN: u32 = 1 << 1;
/// Clock disabled.
const RSTN_CE_N: u32 = 1 << 2;
const RSTN_ALL: u32 = RSTN_RSTN | RSTN_MMCM_RSTN | RSTN_CE_N;

/// Clock generator locked.
const DRP_LOCKED: u32 = 1 << 17;
/// Interface in order.
const STATUS_OK: u32 = 1 << 0;

/// Whether RSTN lets the core work.
fn running(rstn: u32) -> bool {
    rstn & (RSTN_RSTN | RSTN_CE_N) == RSTN_RSTN
}

/// DRP_STATUS: the clock generator locks as soon as it is out of reset.
fn drp_status(rstn: u32) -> u32 {
    if rstn & RSTN_MMCM_RSTN != 0 {
        DRP_LOCKED
    } else {
        0
    }
}

fn status(rstn: u32) -> u32 {
    if running(rstn) { STATUS_OK } else { 0 }
}
