// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The emulated chip: a coherency domain that holds data, the gate through which devices reach
//! memory, and the device models. Knows no hypervisor and no emulator, and runs under a test
//! without a guest.
#![forbid(unsafe_code)]

pub mod axi_dmac;
pub mod bus;
pub mod clock;
pub mod coherency;
pub mod converters;
pub mod cpu;
pub mod diagnostics;
pub mod dma;
pub mod dwc3;
pub mod events;
pub mod faults;
pub mod fidelity;
pub mod gdma;
pub mod hazard;
pub mod jitter;
pub mod registers;
pub mod smmu;
pub mod soc;
pub mod spi;
pub mod state;
pub mod stream;
#[cfg(any(test, feature = "testutil"))]
pub mod testutil;
pub mod usb;
pub mod virtio_blk;
