// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Register map of the AXI-DMAC.
//!
//! Sources: `drivers/dma/dma-axi-dmac.c` of Linux 6.12 for what the driver uses; Analog Devices'
//! register description (`docs/regmap/adi_regmap_dmac.txt` in their hdl repository) for reset
//! values and for what the driver leaves alone.

use super::Config;
use crate::registers::Register;

pub(super) const VERSION: u64 = 0x000;
pub(super) const PERIPHERAL_ID: u64 = 0x004;
pub(super) const SCRATCH: u64 = 0x008;
pub(super) const IDENTIFICATION: u64 = 0x00c;
pub(super) const INTERFACE_DESC: u64 = 0x010;
pub(super) const COHERENCY_DESC: u64 = 0x014;
pub(super) const IRQ_MASK: u64 = 0x080;
pub(super) const IRQ_PENDING: u64 = 0x084;
pub(super) const IRQ_SOURCE: u64 = 0x088;
pub(super) const CTRL: u64 = 0x400;
pub(super) const TRANSFER_ID: u64 = 0x404;
pub(super) const START_TRANSFER: u64 = 0x408;
pub(super) const FLAGS: u64 = 0x40c;
pub(super) const DEST_ADDRESS: u64 = 0x410;
pub(super) const SRC_ADDRESS: u64 = 0x414;
pub(super) const X_LENGTH: u64 = 0x418;
pub(super) const Y_LENGTH: u64 = 0x41c;
pub(super) const DEST_STRIDE: u64 = 0x420;
pub(super) const SRC_STRIDE: u64 = 0x424;
pub(super) const TRANSFER_DONE: u64 = 0x428;
pub(super) const ACTIVE_TRANSFER_ID: u64 = 0x42c;
pub(super) const STATUS: u64 = 0x430;
// The core's own description has the destination first; the driver's names for these two are
// swapped, but it never reads them.
pub(super) const CURRENT_DEST_ADDR: u64 = 0x434;
pub(super) const CURRENT_SRC_ADDR: u64 = 0x438;
pub(super) const TRANSFER_PROGRESS: u64 = 0x448;
pub(super) const PARTIAL_XFER_LEN: u64 = 0x44c;
pub(super) const PARTIAL_XFER_ID: u64 = 0x450;
pub(super) const CURRENT_SG_ID: u64 = 0x454;
pub(super) const SG_ADDRESS: u64 = 0x47c;
pub(super) const SG_ADDRESS_HIGH: u64 = 0x4bc;

pub(super) const CTRL_ENABLE: u32 = 1 << 0;
pub(super) const CTRL_PAUSE: u32 = 1 << 1;
pub(super) const CTRL_ENABLE_SG: u32 = 1 << 2;

pub(super) const IRQ_SOT: u32 = 1 << 0;
pub(super) const IRQ_EOT: u32 = 1 << 1;
const IRQ_ALL: u32 = IRQ_SOT | IRQ_EOT;

pub(super) const FLAG_CYCLIC: u32 = 1 << 0;
pub(super) const FLAG_LAST: u32 = 1 << 1;
pub(super) const FLAG_PARTIAL_REPORT: u32 = 1 << 2;

/// In TRANSFER_DONE: at least one partial transfer waits to be read.
pub(super) const PARTIAL_XFER_DONE: u32 = 1 << 31;

/// 4.04.a: the first version whose driver support has everything used here, up to the coherency
/// description.
const VERSION_4_04_A: u32 = 0x0004_0461;
/// "DMAC".
const IDENTITY: u32 = 0x444d_4143;

/// Bits of an address that are a multiple of `bytes`, a power of two.
fn aligned(bytes: u32) -> u32 {
    !(bytes.wrapping_sub(1))
}

/// The registers of an instance built with `config`. It has 32-bit addresses and no 2D transfers.
pub(super) fn table(config: &Config) -> Vec<Register> {
    let capture = config.is_capture();
    let address = |used: bool, offset, name| {
        let writable = if used {
            aligned(config.memory_width)
        } else {
            0
        };
        Register::rw(offset, name, writable)
    };
    let cyclic = if config.cyclic { FLAG_CYCLIC } else { 0 };
    // Low length bits are tied to one: a length is a multiple of the stream's width.
    let length_low = config.stream_width - 1;
    let length = config.max_x_length();
    let sg = if config.hw_sg { aligned(8) } else { 0 };
    vec![
        Register::ro(VERSION, "VERSION", VERSION_4_04_A),
        Register::ro(PERIPHERAL_ID, "PERIPHERAL_ID", 0),
        Register::rw(SCRATCH, "SCRATCH", u32::MAX),
        Register::ro(IDENTIFICATION, "IDENTIFICATION", IDENTITY),
        Register::ro(INTERFACE_DESC, "INTERFACE_DESC", interface(config)),
        Register::ro(COHERENCY_DESC, "COHERENCY_DESC", coherency(config)),
        Register::rw(IRQ_MASK, "IRQ_MASK", IRQ_ALL).with_reset(IRQ_ALL),
        Register::w1c(IRQ_PENDING, "IRQ_PENDING", IRQ_ALL),
        Register::ro(IRQ_SOURCE, "IRQ_SOURCE", 0),
        Register::rw(
            CTRL,
            "CTRL",
            CTRL_ENABLE | CTRL_PAUSE | if config.hw_sg { CTRL_ENABLE_SG } else { 0 },
        ),
        Register::ro(TRANSFER_ID, "TRANSFER_ID", 0),
        Register::ro(START_TRANSFER, "START_TRANSFER", 0).with_acts(1),
        Register::rw(FLAGS, "FLAGS", cyclic | FLAG_LAST | FLAG_PARTIAL_REPORT)
            .with_reset(cyclic | FLAG_LAST),
        address(capture, DEST_ADDRESS, "DEST_ADDRESS"),
        address(!capture, SRC_ADDRESS, "SRC_ADDRESS"),
        Register::rw(X_LENGTH, "X_LENGTH", length & !length_low).with_reset(length_low),
        Register::ro(Y_LENGTH, "Y_LENGTH", 0),
        Register::ro(DEST_STRIDE, "DEST_STRIDE", 0),
        Register::ro(SRC_STRIDE, "SRC_STRIDE", 0),
        Register::ro(TRANSFER_DONE, "TRANSFER_DONE", 0),
        Register::ro(ACTIVE_TRANSFER_ID, "ACTIVE_TRANSFER_ID", 0),
        Register::ro(STATUS, "STATUS", 0),
        Register::ro(CURRENT_DEST_ADDR, "CURRENT_DEST_ADDR", 0),
        Register::ro(CURRENT_SRC_ADDR, "CURRENT_SRC_ADDR", 0),
        Register::ro(TRANSFER_PROGRESS, "TRANSFER_PROGRESS", 0),
        Register::ro(PARTIAL_XFER_LEN, "PARTIAL_XFER_LEN", 0),
        Register::ro(PARTIAL_XFER_ID, "PARTIAL_XFER_ID", 0),
        Register::ro(CURRENT_SG_ID, "CURRENT_SG_ID", 0),
        Register::rw(SG_ADDRESS, "SG_ADDRESS", sg),
        Register::ro(SG_ADDRESS_HIGH, "SG_ADDRESS_HIGH", 0),
    ]
}

/// INTERFACE_DESC: burst \[19:16\], source type \[13:12\] and width \[11:8\], destination type
/// \[5:4\] and width \[3:0\]; sizes as log2 of bytes; type 0 is memory, 2 a FIFO.
fn interface(config: &Config) -> u32 {
    const FIFO: u32 = 2;
    let memory = config.memory_width.ilog2();
    let fifo = FIFO << 4 | config.stream_width.ilog2();
    let (source, destination) = if config.is_capture() {
        (fifo, memory)
    } else {
        (memory, fifo)
    };
    config.burst.ilog2() << 16 | source << 8 | destination
}

/// COHERENCY_DESC: coherent \[0\], AxCACHE \[7:4\], AxPROT \[10:8\] at their default values.
fn coherency(config: &Config) -> u32 {
    if config.coherent {
        0b010 << 8 | 0b1111 << 4 | 1
    } else {
        0b0011 << 4
    }
}
