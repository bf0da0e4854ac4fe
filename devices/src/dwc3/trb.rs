// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Transfer request blocks. Layout: Linux drivers/usb/dwc3/core.h, `struct dwc3_trb` and the
//! `DWC3_TRB_*` constants.

use serde::{Deserialize, Serialize};

/// Bytes of a TRB in memory.
pub(super) const TRB_BYTES: u64 = 16;

const SIZE_MASK: u32 = 0x00ff_ffff;
/// In the control word: the TRB is the controller's.
pub(super) const HWO: u32 = 1 << 0;
const LST: u32 = 1 << 1;
const CHN: u32 = 1 << 2;
const CSP: u32 = 1 << 3;
const ISP: u32 = 1 << 10;
const IOC: u32 = 1 << 11;

/// TRBSTS: done.
pub(super) const TRBSTS_OK: u32 = 0;
/// TRBSTS: a SETUP packet cut the control transfer short.
pub(super) const TRBSTS_SETUP_PENDING: u32 = 2;
/// TRBSTS: End Transfer came while it was in progress.
pub(super) const TRBSTS_IN_PROGRESS: u32 = 4;

/// TRBCTL, as far as this controller's endpoints use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrbKind {
    Normal,
    Setup,
    Status2,
    Status3,
    Data,
    Link,
    /// Isochronous or undefined.
    Other,
}

/// A TRB as read from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trb {
    /// Data buffer, or target of a link.
    pub(super) buffer: u64,
    size: u32,
    control: u32,
}

impl Trb {
    pub(super) fn from_bytes(bytes: [u8; TRB_BYTES as usize]) -> Self {
        let [
            b0,
            b1,
            b2,
            b3,
            b4,
            b5,
            b6,
            b7,
            s0,
            s1,
            s2,
            s3,
            c0,
            c1,
            c2,
            c3,
        ] = bytes;
        Trb {
            buffer: u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
            size: u32::from_le_bytes([s0, s1, s2, s3]),
            control: u32::from_le_bytes([c0, c1, c2, c3]),
        }
    }

    /// Bytes of its buffer, less than 16 MiB.
    pub(super) fn len(&self) -> u32 {
        self.size & SIZE_MASK
    }

    pub(super) fn kind(&self) -> TrbKind {
        match self.control >> 4 & 0x3f {
            1 => TrbKind::Normal,
            2 => TrbKind::Setup,
            3 => TrbKind::Status2,
            4 => TrbKind::Status3,
            5 => TrbKind::Data,
            8 => TrbKind::Link,
            _ => TrbKind::Other,
        }
    }

    pub(super) fn hwo(&self) -> bool {
        self.control & HWO != 0
    }

    pub(super) fn lst(&self) -> bool {
        self.control & LST != 0
    }

    pub(super) fn chained(&self) -> bool {
        self.control & CHN != 0
    }

    pub(super) fn csp(&self) -> bool {
        self.control & CSP != 0
    }

    pub(super) fn isp(&self) -> bool {
        self.control & ISP != 0
    }

    pub(super) fn ioc(&self) -> bool {
        self.control & IOC != 0
    }

    /// The second half of the TRB as the controller writes it back: bytes not moved, status, and
    /// HWO clear.
    pub(super) fn written_back(&self, remaining: u32, status: u32) -> [u8; 8] {
        let size = remaining & SIZE_MASK | status << 28;
        let [s0, s1, s2, s3] = size.to_le_bytes();
        let [c0, c1, c2, c3] = (self.control & !HWO).to_le_bytes();
        [s0, s1, s2, s3, c0, c1, c2, c3]
    }
}
