// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Register map: two pages of 64 KiB.
//!
//! Sources: Arm IHI0070, chapter 6 (registers), and `drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.h` of
//! Linux 6.12.

use crate::registers::Register;

pub(super) const IDR0: u64 = 0x00;
pub(super) const IDR1: u64 = 0x04;
pub(super) const IDR5: u64 = 0x14;
pub(super) const CR0: u64 = 0x20;
pub(super) const CR0ACK: u64 = 0x24;
pub(super) const CR1: u64 = 0x28;
pub(super) const CR2: u64 = 0x2c;
pub(super) const GBPA: u64 = 0x44;
pub(super) const IRQ_CTRL: u64 = 0x50;
pub(super) const IRQ_CTRLACK: u64 = 0x54;
pub(super) const GERROR: u64 = 0x60;
pub(super) const GERRORN: u64 = 0x64;
pub(super) const STRTAB_BASE: u64 = 0x80;
pub(super) const STRTAB_BASE_CFG: u64 = 0x88;
pub(super) const CMDQ_BASE: u64 = 0x90;
pub(super) const CMDQ_PROD: u64 = 0x98;
pub(super) const CMDQ_CONS: u64 = 0x9c;
pub(super) const EVTQ_BASE: u64 = 0xa0;
/// In the second page.
pub(super) const EVTQ_PROD: u64 = 0x1_00a8;
pub(super) const EVTQ_CONS: u64 = 0x1_00ac;

/// Log2 of the most commands, events and streams.
pub(super) const CMDQ_BITS: u32 = 8;
pub(super) const EVTQ_BITS: u32 = 7;
pub(super) const STREAM_BITS: u32 = 4;
/// Bits of addresses that come out.
pub(super) const OUTPUT_BITS: u32 = 48;

const COHACC: u32 = 1 << 4;
/// Stage 1, tables of AArch64 and little-endian, 16 bits of ASID, faults that end the access with an
/// abort (no stall, TERM_MODEL), a linear stream table. No stage 2, MSI, ATS, PRI, SEV, or update of flags.
const FEATURES: u32 = 1 << 1 | 2 << 2 | 1 << 12 | 2 << 21 | 1 << 24 | 1 << 26;
/// Of IDR5: granule of 4 KiB, 48 bits.
const SIZES: u32 = 1 << 4 | 5;

pub(super) const SMMUEN: u32 = 1 << 0;
pub(super) const EVTQEN: u32 = 1 << 2;
pub(super) const CMDQEN: u32 = 1 << 3;

pub(super) const RECINVSID: u32 = 1 << 1;

pub(super) const GBPA_UPDATE: u32 = 1 << 31;
pub(super) const GBPA_ABORT: u32 = 1 << 20;

pub(super) const IRQ_GERROR: u32 = 1 << 0;
pub(super) const IRQ_EVTQ: u32 = 1 << 2;

pub(super) const CMDQ_ERR: u32 = 1 << 0;
pub(super) const EVTQ_ABT_ERR: u32 = 1 << 2;

/// Bits 51 to 32 of an address, and the hint in bit 62 that the driver sets.
const HIGH: u32 = 0x000f_ffff | 1 << 30;

/// The registers of an SMMU; `coherent` says what its port does with tables and queues.
pub(super) fn table(coherent: bool) -> Vec<Register> {
    let idr0 = FEATURES | if coherent { COHACC } else { 0 };
    let queue = |bits: u32| (2 << bits) - 1;
    vec![
        Register::ro(IDR0, "IDR0", idr0),
        Register::ro(
            IDR1,
            "IDR1",
            CMDQ_BITS << 21 | EVTQ_BITS << 16 | STREAM_BITS,
        ),
        Register::ro(0x08, "IDR2", 0),
        Register::ro(0x0c, "IDR3", 0),
        Register::ro(0x10, "IDR4", 0),
        Register::ro(IDR5, "IDR5", SIZES),
        Register::ro(0x18, "IIDR", 0),
        Register::ro(0x1c, "AIDR", 0),
        Register::rw(CR0, "CR0", SMMUEN | EVTQEN | CMDQEN),
        Register::ro(CR0ACK, "CR0ACK", 0),
        Register::rw(CR1, "CR1", 0xfff),
        Register::rw(CR2, "CR2", 0x7),
        Register::ro(0x40, "STATUSR", 0),
        Register::rw(GBPA, "GBPA", GBPA_ABORT).with_acts(GBPA_UPDATE),
        Register::rw(IRQ_CTRL, "IRQ_CTRL", IRQ_GERROR | IRQ_EVTQ),
        Register::ro(IRQ_CTRLACK, "IRQ_CTRLACK", 0),
        Register::ro(GERROR, "GERROR", 0),
        Register::rw(GERRORN, "GERRORN", CMDQ_ERR | EVTQ_ABT_ERR),
        Register::rw(STRTAB_BASE, "STRTAB_BASE", 0xffff_ffc0),
        Register::rw(STRTAB_BASE + 4, "STRTAB_BASE_HIGH", HIGH),
        Register::rw(STRTAB_BASE_CFG, "STRTAB_BASE_CFG", 0x0003_07ff),
        Register::rw(CMDQ_BASE, "CMDQ_BASE", 0xffff_ffff),
        Register::rw(CMDQ_BASE + 4, "CMDQ_BASE_HIGH", HIGH),
        Register::rw(CMDQ_PROD, "CMDQ_PROD", queue(CMDQ_BITS)),
        Register::rw(CMDQ_CONS, "CMDQ_CONS", queue(CMDQ_BITS)),
        Register::rw(EVTQ_BASE, "EVTQ_BASE", 0xffff_ffff),
        Register::rw(EVTQ_BASE + 4, "EVTQ_BASE_HIGH", HIGH),
        Register::rw(EVTQ_PROD, "EVTQ_PROD", 1 << 31 | queue(EVTQ_BITS)),
        Register::rw(EVTQ_CONS, "EVTQ_CONS", 1 << 31 | queue(EVTQ_BITS)),
    ]
}
