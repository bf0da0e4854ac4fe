// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Registers of the controller in gadget mode.
//!
//! Offsets and bits are those of Linux drivers/usb/dwc3/core.h; the names are those of that file
//! without their prefix. Offsets count from the start of the xHCI-compatible window, as there.

use crate::registers::Register;

/// Size of the register window in bytes.
pub const WINDOW: u64 = 0x1_0000;

/// Physical endpoints, even ones OUT, odd ones IN: USB endpoints 0 to 3 in both directions.
pub const ENDPOINTS: usize = 8;

pub(super) const GSBUSCFG0: u64 = 0xc100;
pub(super) const GCTL: u64 = 0xc110;
pub(super) const GSTS: u64 = 0xc118;
pub(super) const GUCTL1: u64 = 0xc11c;
pub(super) const GUID: u64 = 0xc128;
pub(super) const GUCTL: u64 = 0xc12c;
pub(super) const GBUSERRADDR0: u64 = 0xc130;
pub(super) const GBUSERRADDR1: u64 = 0xc134;
pub(super) const GUSB2PHYCFG: u64 = 0xc200;
pub(super) const GUSB3PIPECTL: u64 = 0xc2c0;
pub(super) const GEVNTADRLO: u64 = 0xc400;
pub(super) const GEVNTADRHI: u64 = 0xc404;
pub(super) const GEVNTSIZ: u64 = 0xc408;
pub(super) const GEVNTCOUNT: u64 = 0xc40c;
pub(super) const DCFG: u64 = 0xc700;
pub(super) const DCTL: u64 = 0xc704;
pub(super) const DEVTEN: u64 = 0xc708;
pub(super) const DSTS: u64 = 0xc70c;
pub(super) const DGCMD: u64 = 0xc714;
pub(super) const DALEPENA: u64 = 0xc720;

const DEP: u64 = 0xc800;
const DEP_STRIDE: u64 = 0x10;
pub(super) const PAR2: u64 = 0x0;
pub(super) const PAR1: u64 = 0x4;
pub(super) const PAR0: u64 = 0x8;
pub(super) const CMD: u64 = 0xc;

/// First register of an endpoint.
pub(super) const fn dep(endpoint: usize) -> u64 {
    DEP + endpoint as u64 * DEP_STRIDE
}

/// Endpoint and register (`PAR2` to `CMD`) of an offset.
pub(super) fn dep_of(offset: u64) -> Option<(usize, u64)> {
    let from = offset.checked_sub(DEP)?;
    let endpoint = usize::try_from(from / DEP_STRIDE).ok()?;
    (endpoint < ENDPOINTS).then_some((endpoint, from % DEP_STRIDE))
}

pub(super) const GSTS_BUS_ERR_ADDR_VLD: u32 = 1 << 4;
const GSTS_CSR_TIMEOUT: u32 = 1 << 5;

pub(super) const GEVNTSIZ_INTMASK: u32 = 1 << 31;
pub(super) const GEVNTSIZ_SIZE: u32 = 0xffff;
pub(super) const GEVNTCOUNT_MASK: u32 = 0xfffc;

pub(super) const DCFG_SPEED: u32 = 7;
pub(super) const DCTL_RUN_STOP: u32 = 1 << 31;
pub(super) const DCTL_CSFTRST: u32 = 1 << 30;
const DCTL_LSFTRST: u32 = 1 << 29;
const DCTL_ULSTCHNGREQ: u32 = 0xf << 5;

pub(super) const DSTS_COREIDLE: u32 = 1 << 23;
pub(super) const DSTS_DEVCTRLHLT: u32 = 1 << 22;
pub(super) const DSTS_USBLNKST_SHIFT: u32 = 18;
pub(super) const DSTS_RXFIFOEMPTY: u32 = 1 << 17;

/// Values of DSTS.USBLNKST (core.h, `enum dwc3_link_state`).
pub(super) const LINK_U0: u32 = 0;
pub(super) const LINK_SS_DIS: u32 = 4;
pub(super) const LINK_RX_DET: u32 = 5;

/// Encodings of speed in DCFG and DSTS.
pub(super) const SPEED_HIGH: u32 = 0;
pub(super) const SPEED_FULL: u32 = 1;
pub(super) const SPEED_SUPER: u32 = 4;

/// CMDACT and CMDIOC of both DGCMD and DEPCMD.
pub(super) const CMD_ACT: u32 = 1 << 10;
pub(super) const CMD_IOC: u32 = 1 << 8;
pub(super) const CMD_STATUS_SHIFT: u32 = 12;
pub(super) const CMD_PARAM_SHIFT: u32 = 16;

/// DWC_usb3 2.90a: the newest release without interrupt moderation, as on Zynq UltraScale+.
const RELEASE: u32 = 0x5533_290a;
/// Gadget only, 64-bit AXI data (MDWIDTH) and address (AWIDTH) width.
const HWPARAMS0: u32 = 64 << 24 | 32 << 16 | 64 << 8 | 1 << 3;
/// SuperSpeed Gen 1 PIPE, UTMI+, ENDPOINTS endpoints of which half are IN.
const HWPARAMS3: u32 = (ENDPOINTS as u32 / 2) << 18 | (ENDPOINTS as u32) << 12 | 1 << 2 | 1;
/// Depth of RAM2 (receive) and RAM1 (transmit) in words of MDWIDTH: the driver takes 16 packets
/// per burst from RAM2 (`dwc3_gadget_setup_nump`).
const HWPARAMS7: u32 = 0x0808 << 16 | 0x1000;

/// Words of MDWIDTH of each transmit FIFO; room for 3 packets of 1024 bytes.
const TX_FIFO: u32 = 0x184;
/// Words of MDWIDTH of FIFO 0, which serves endpoint 0.
const TX_FIFO0: u32 = 0x42;
/// Words of MDWIDTH of the receive FIFO: 3 packets of 1024 bytes, SETUP packets, margin. From it
/// the driver takes a packet limit of exactly 1024 bytes (`dwc3_gadget_init_out_endpoint`).
const RX_FIFO: u32 = 389;

const fn tx_fifo(n: u32) -> u32 {
    match n {
        0 => TX_FIFO0,
        _ => (TX_FIFO0 + (n - 1) * TX_FIFO) << 16 | TX_FIFO,
    }
}

const fn storage(offset: u64, name: &'static str) -> Register {
    Register::rw(offset, name, u32::MAX)
}

const GLOBAL: [Register; 42] = [
    storage(GSBUSCFG0, "GSBUSCFG0"),
    storage(0xc104, "GSBUSCFG1"),
    storage(0xc108, "GTXTHRCFG"),
    storage(0xc10c, "GRXTHRCFG"),
    storage(GCTL, "GCTL").with_reset(0x3000),
    Register {
        offset: GSTS,
        name: "GSTS",
        reset: 0,
        writable: 0,
        w1c: GSTS_BUS_ERR_ADDR_VLD | GSTS_CSR_TIMEOUT,
        acts: 0,
    },
    storage(GUCTL1, "GUCTL1"),
    Register::ro(0xc120, "GSNPSID", RELEASE),
    storage(GUID, "GUID"),
    storage(GUCTL, "GUCTL"),
    Register::ro(GBUSERRADDR0, "GBUSERRADDR0", 0),
    Register::ro(GBUSERRADDR1, "GBUSERRADDR1", 0),
    Register::ro(0xc140, "GHWPARAMS0", HWPARAMS0),
    Register::ro(0xc144, "GHWPARAMS1", 0),
    Register::ro(0xc148, "GHWPARAMS2", 0),
    Register::ro(0xc14c, "GHWPARAMS3", HWPARAMS3),
    Register::ro(0xc150, "GHWPARAMS4", 0),
    Register::ro(0xc154, "GHWPARAMS5", 0),
    Register::ro(0xc158, "GHWPARAMS6", 0),
    Register::ro(0xc15c, "GHWPARAMS7", HWPARAMS7),
    storage(0xc19c, "GUCTL2"),
    storage(GUSB2PHYCFG, "GUSB2PHYCFG0"),
    storage(GUSB3PIPECTL, "GUSB3PIPECTL0"),
    storage(0xc300, "GTXFIFOSIZ0").with_reset(tx_fifo(0)),
    storage(0xc304, "GTXFIFOSIZ1").with_reset(tx_fifo(1)),
    storage(0xc308, "GTXFIFOSIZ2").with_reset(tx_fifo(2)),
    storage(0xc30c, "GTXFIFOSIZ3").with_reset(tx_fifo(3)),
    storage(0xc380, "GRXFIFOSIZ0").with_reset(RX_FIFO),
    storage(GEVNTADRLO, "GEVNTADRLO0"),
    storage(GEVNTADRHI, "GEVNTADRHI0"),
    Register::rw(GEVNTSIZ, "GEVNTSIZ0", GEVNTSIZ_INTMASK | GEVNTSIZ_SIZE),
    // Writes subtract; the device does that.
    Register::ro(GEVNTCOUNT, "GEVNTCOUNT0", 0).with_acts(GEVNTCOUNT_MASK),
    Register::ro(0xc600, "GHWPARAMS8", 0),
    storage(0xc60c, "GUCTL3"),
    storage(0xc630, "GFLADJ"),
    storage(DCFG, "DCFG").with_reset(SPEED_SUPER),
    Register::rw(
        DCTL,
        "DCTL",
        !(DCTL_CSFTRST | DCTL_LSFTRST | DCTL_ULSTCHNGREQ),
    )
    .with_acts(DCTL_CSFTRST | DCTL_LSFTRST | DCTL_ULSTCHNGREQ),
    Register::rw(DEVTEN, "DEVTEN", 0x1fff),
    Register::ro(
        DSTS,
        "DSTS",
        DSTS_COREIDLE | DSTS_DEVCTRLHLT | LINK_SS_DIS << DSTS_USBLNKST_SHIFT | DSTS_RXFIFOEMPTY,
    ),
    storage(0xc710, "DGCMDPAR"),
    // The device writes back the command and its status.
    Register::ro(DGCMD, "DGCMD", 0).with_acts(u32::MAX),
    Register::rw(DALEPENA, "DALEPENA", (1 << ENDPOINTS) - 1),
];

const NAMES: [[&str; 4]; ENDPOINTS] = [
    ["DEPCMDPAR2_0", "DEPCMDPAR1_0", "DEPCMDPAR0_0", "DEPCMD_0"],
    ["DEPCMDPAR2_1", "DEPCMDPAR1_1", "DEPCMDPAR0_1", "DEPCMD_1"],
    ["DEPCMDPAR2_2", "DEPCMDPAR1_2", "DEPCMDPAR0_2", "DEPCMD_2"],
    ["DEPCMDPAR2_3", "DEPCMDPAR1_3", "DEPCMDPAR0_3", "DEPCMD_3"],
    ["DEPCMDPAR2_4", "DEPCMDPAR1_4", "DEPCMDPAR0_4", "DEPCMD_4"],
    ["DEPCMDPAR2_5", "DEPCMDPAR1_5", "DEPCMDPAR0_5", "DEPCMD_5"],
    ["DEPCMDPAR2_6", "DEPCMDPAR1_6", "DEPCMDPAR0_6", "DEPCMD_6"],
    ["DEPCMDPAR2_7", "DEPCMDPAR1_7", "DEPCMDPAR0_7", "DEPCMD_7"],
];

const fn table() -> [Register; GLOBAL.len() + 4 * ENDPOINTS] {
    let mut table = [GLOBAL[0]; GLOBAL.len() + 4 * ENDPOINTS];
    let mut at = 0;
    while at < GLOBAL.len() {
        table[at] = GLOBAL[at];
        at += 1;
    }
    let mut n = 0;
    while n < 4 * ENDPOINTS {
        let (endpoint, register) = (n / 4, n % 4);
        let offset = dep(endpoint) + 4 * register as u64;
        table[at] = storage(offset, NAMES[endpoint][register]);
        at += 1;
        n += 1;
    }
    table
}

/// All registers, in order.
pub(super) static TABLE: [Register; GLOBAL.len() + 4 * ENDPOINTS] = table();

/// Registers that a core soft reset leaves alone; it resets all others.
pub(super) const KEPT_BY_SOFT_RESET: [u64; 9] = [
    GCTL,
    GSTS,
    GUID,
    GUCTL,
    GUSB2PHYCFG,
    GUSB3PIPECTL,
    DCFG,
    DCTL,
    DEVTEN,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::RegisterFile;

    #[test]
    fn the_table_is_well_formed() {
        assert!(RegisterFile::check(&TABLE));
        assert!(TABLE.iter().all(|r| r.offset < WINDOW));
    }

    #[test]
    fn the_driver_derives_usable_packet_sizes_and_bursts() {
        // dwc3_gadget_init_in_endpoint for >= 2.90a, dwc3_gadget_init_out_endpoint, setup_nump.
        let words = 64 / 8;
        assert!(words * ((TX_FIFO - 1) - 1) - words >= 1024);
        assert_eq!((RX_FIFO * words - 40) / 3, 1024);
        assert_eq!(((HWPARAMS7 >> 16) * words - 40) / 1024, 16);
        assert_eq!(HWPARAMS3 >> 12 & 0x3f, 8);
    }

    #[test]
    fn endpoint_registers_are_found() {
        assert_eq!(dep_of(0xc80c), Some((0, CMD)));
        assert_eq!(dep_of(0xc838), Some((3, PAR0)));
        assert_eq!(dep_of(0xc880), None);
        assert_eq!(dep_of(0xc7fc), None);
    }
}
