// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Register map of one channel (UG1087, module ZDMA).

use crate::registers::Register;

pub(super) const ERR_CTRL: u64 = 0x000;
pub(super) const ISR: u64 = 0x100;
pub(super) const IMR: u64 = 0x104;
pub(super) const IEN: u64 = 0x108;
pub(super) const IDS: u64 = 0x10c;
pub(super) const CTRL0: u64 = 0x110;
pub(super) const CTRL1: u64 = 0x114;
pub(super) const FCI: u64 = 0x118;
pub(super) const STATUS: u64 = 0x11c;
pub(super) const DATA_ATTR: u64 = 0x120;
pub(super) const DSCR_ATTR: u64 = 0x124;
pub(super) const SRC_DSCR_WORD0: u64 = 0x128;
pub(super) const SRC_DSCR_WORD1: u64 = 0x12c;
pub(super) const SRC_DSCR_WORD2: u64 = 0x130;
pub(super) const SRC_DSCR_WORD3: u64 = 0x134;
pub(super) const DST_DSCR_WORD0: u64 = 0x138;
pub(super) const DST_DSCR_WORD1: u64 = 0x13c;
pub(super) const DST_DSCR_WORD2: u64 = 0x140;
pub(super) const DST_DSCR_WORD3: u64 = 0x144;
pub(super) const WR_ONLY_WORD0: u64 = 0x148;
pub(super) const WR_ONLY_WORD1: u64 = 0x14c;
pub(super) const WR_ONLY_WORD2: u64 = 0x150;
pub(super) const WR_ONLY_WORD3: u64 = 0x154;
pub(super) const SRC_START_LSB: u64 = 0x158;
pub(super) const SRC_START_MSB: u64 = 0x15c;
pub(super) const DST_START_LSB: u64 = 0x160;
pub(super) const DST_START_MSB: u64 = 0x164;
pub(super) const SRC_CUR_PYLD_LSB: u64 = 0x168;
pub(super) const SRC_CUR_PYLD_MSB: u64 = 0x16c;
pub(super) const DST_CUR_PYLD_LSB: u64 = 0x170;
pub(super) const DST_CUR_PYLD_MSB: u64 = 0x174;
pub(super) const SRC_CUR_DSCR_LSB: u64 = 0x178;
pub(super) const SRC_CUR_DSCR_MSB: u64 = 0x17c;
pub(super) const DST_CUR_DSCR_LSB: u64 = 0x180;
pub(super) const DST_CUR_DSCR_MSB: u64 = 0x184;
pub(super) const TOTAL_BYTE: u64 = 0x188;
pub(super) const RATE_CTRL: u64 = 0x18c;
pub(super) const IRQ_SRC_ACCT: u64 = 0x190;
pub(super) const IRQ_DST_ACCT: u64 = 0x194;
pub(super) const DBG0: u64 = 0x198;
pub(super) const DBG1: u64 = 0x19c;
pub(super) const CTRL2: u64 = 0x200;

// ISR, IMR, IEN, IDS.
pub(super) const INV_APB: u32 = 1 << 0;
pub(super) const SRC_DSCR_DONE: u32 = 1 << 1;
pub(super) const DST_DSCR_DONE: u32 = 1 << 2;
pub(super) const BYTE_CNT_OVRFL: u32 = 1 << 3;
pub(super) const IRQ_SRC_ACCT_ERR: u32 = 1 << 4;
pub(super) const IRQ_DST_ACCT_ERR: u32 = 1 << 5;
pub(super) const AXI_RD_SRC_DSCR: u32 = 1 << 6;
pub(super) const AXI_RD_DST_DSCR: u32 = 1 << 7;
pub(super) const AXI_RD_DATA: u32 = 1 << 8;
pub(super) const AXI_WR_DATA: u32 = 1 << 9;
pub(super) const DMA_DONE: u32 = 1 << 10;
pub(super) const DMA_PAUSE: u32 = 1 << 11;
pub(super) const IRQ_ALL: u32 = 0xfff;

// CTRL0.
pub(super) const CONT: u32 = 1 << 1;
pub(super) const CONT_ADDR: u32 = 1 << 2;
const RATE_CTRL_EN: u32 = 1 << 3;
pub(super) const POINT_TYPE_SG: u32 = 1 << 6;
const OVR_FETCH: u32 = 1 << 7;

// CTRL2.
pub(super) const ENABLE: u32 = 1 << 0;

// STATUS.
pub(super) const DONE: u32 = 0;
pub(super) const PAUSED: u32 = 1;
pub(super) const BUSY: u32 = 2;
pub(super) const DONE_ERROR: u32 = 3;

// DATA_ATTR: AxBURST [27:26] and [13:12] are fixed at INCR here.
const AXBURST: u32 = 0b11 << 26 | 0b11 << 12;
const DATA_ATTR_ALL: u32 = 0x0fff_ffff;
pub(super) const ARCACHE_SHIFT: u32 = 22;
pub(super) const AWCACHE_SHIFT: u32 = 8;

// DSCR_ATTR.
pub(super) const AXCOHRNT: u32 = 1 << 8;
pub(super) const AXCACHE_SHIFT: u32 = 4;

/// Bits of the upper word of an address: 44 in all.
pub(super) const MSB: u32 = 0xfff;
/// Bits of SIZE: at most 1 GiB - 1.
pub(super) const SIZE: u32 = 0x3fff_ffff;
/// Bits of an interrupt accounting counter.
pub(super) const ACCT: u32 = 0xff;

pub(super) const TABLE: &[Register] = &[
    Register::rw(ERR_CTRL, "ZDMA_ERR_CTRL", 1).with_reset(1),
    Register::w1c(ISR, "ZDMA_CH_ISR", IRQ_ALL),
    Register::ro(IMR, "ZDMA_CH_IMR", IRQ_ALL),
    Register::ro(IEN, "ZDMA_CH_IEN", 0).with_acts(IRQ_ALL),
    Register::ro(IDS, "ZDMA_CH_IDS", 0).with_acts(IRQ_ALL),
    Register::rw(
        CTRL0,
        "ZDMA_CH_CTRL0",
        CONT_ADDR | RATE_CTRL_EN | POINT_TYPE_SG | OVR_FETCH,
    )
    .with_reset(OVR_FETCH)
    .with_acts(CONT),
    Register::rw(CTRL1, "ZDMA_CH_CTRL1", 0x3ff).with_reset(0x3ff),
    Register::rw(FCI, "ZDMA_CH_FCI", 0x3f),
    Register::ro(STATUS, "ZDMA_CH_STATUS", DONE),
    Register::rw(DATA_ATTR, "ZDMA_CH_DATA_ATTR", DATA_ATTR_ALL & !AXBURST).with_reset(0x0483_d20f),
    Register::rw(DSCR_ATTR, "ZDMA_CH_DSCR_ATTR", 0x1ff),
    Register::rw(SRC_DSCR_WORD0, "ZDMA_CH_SRC_DSCR_WORD0", u32::MAX),
    Register::rw(SRC_DSCR_WORD1, "ZDMA_CH_SRC_DSCR_WORD1", MSB),
    Register::rw(SRC_DSCR_WORD2, "ZDMA_CH_SRC_DSCR_WORD2", SIZE),
    Register::rw(SRC_DSCR_WORD3, "ZDMA_CH_SRC_DSCR_WORD3", 0x1f),
    Register::rw(DST_DSCR_WORD0, "ZDMA_CH_DST_DSCR_WORD0", u32::MAX),
    Register::rw(DST_DSCR_WORD1, "ZDMA_CH_DST_DSCR_WORD1", MSB),
    Register::rw(DST_DSCR_WORD2, "ZDMA_CH_DST_DSCR_WORD2", SIZE),
    Register::rw(DST_DSCR_WORD3, "ZDMA_CH_DST_DSCR_WORD3", 0x7),
    Register::rw(WR_ONLY_WORD0, "ZDMA_CH_WR_ONLY_WORD0", u32::MAX),
    Register::rw(WR_ONLY_WORD1, "ZDMA_CH_WR_ONLY_WORD1", u32::MAX),
    Register::rw(WR_ONLY_WORD2, "ZDMA_CH_WR_ONLY_WORD2", u32::MAX),
    Register::rw(WR_ONLY_WORD3, "ZDMA_CH_WR_ONLY_WORD3", u32::MAX),
    Register::rw(SRC_START_LSB, "ZDMA_CH_SRC_START_LSB", u32::MAX),
    Register::rw(SRC_START_MSB, "ZDMA_CH_SRC_START_MSB", MSB),
    Register::rw(DST_START_LSB, "ZDMA_CH_DST_START_LSB", u32::MAX),
    Register::rw(DST_START_MSB, "ZDMA_CH_DST_START_MSB", MSB),
    Register::ro(SRC_CUR_PYLD_LSB, "ZDMA_CH_SRC_CUR_PYLD_LSB", 0),
    Register::ro(SRC_CUR_PYLD_MSB, "ZDMA_CH_SRC_CUR_PYLD_MSB", 0),
    Register::ro(DST_CUR_PYLD_LSB, "ZDMA_CH_DST_CUR_PYLD_LSB", 0),
    Register::ro(DST_CUR_PYLD_MSB, "ZDMA_CH_DST_CUR_PYLD_MSB", 0),
    Register::ro(SRC_CUR_DSCR_LSB, "ZDMA_CH_SRC_CUR_DSCR_LSB", 0),
    Register::ro(SRC_CUR_DSCR_MSB, "ZDMA_CH_SRC_CUR_DSCR_MSB", 0),
    Register::ro(DST_CUR_DSCR_LSB, "ZDMA_CH_DST_CUR_DSCR_LSB", 0),
    Register::ro(DST_CUR_DSCR_MSB, "ZDMA_CH_DST_CUR_DSCR_MSB", 0),
    Register::ro(TOTAL_BYTE, "ZDMA_CH_TOTAL_BYTE", 0).with_acts(u32::MAX),
    Register::rw(RATE_CTRL, "ZDMA_CH_RATE_CTRL", 0xfff),
    Register::ro(IRQ_SRC_ACCT, "ZDMA_CH_IRQ_SRC_ACCT", 0),
    Register::ro(IRQ_DST_ACCT, "ZDMA_CH_IRQ_DST_ACCT", 0),
    Register::ro(DBG0, "ZDMA_CH_DBG0", 0),
    Register::ro(DBG1, "ZDMA_CH_DBG1", 0),
    Register::rw(CTRL2, "ZDMA_CH_CTRL2", 0).with_acts(ENABLE),
];
