// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The one gate through which all DMA goes.
//!
//! A device model never holds guest memory. It gets a [`DmaPort`] for the time of one call, bound
//! to its own master identity, and can copy bytes through it. What lies behind the port (snooping
//! or not, cache, fault hooks) is the board's business: see [`DmaMemory`].

use serde::{Deserialize, Serialize};

/// Identity of a bus master: index of its port on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MasterId(pub u8);

/// Which way a transfer moves data, seen from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The device reads memory (`DMA_TO_DEVICE`).
    FromMemory,
    /// The device writes memory (`DMA_FROM_DEVICE`).
    ToMemory,
}

/// A data transfer as the device knows it, for diagnostics and for ownership checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Which way.
    pub direction: Direction,
    /// First byte in memory.
    pub pa: u64,
    /// Length in bytes.
    pub len: u64,
    /// Where the descriptor or TRB stands, or 0 if the transfer was programmed by registers.
    pub descriptor: u64,
    /// The device's channel or endpoint number.
    pub channel: u8,
}

/// Handle of an open [`Transfer`].
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TransferId(pub u32);

impl TransferId {
    /// Accesses that belong to no data transfer: descriptors, rings, event buffers.
    pub const CONTROL: TransferId = TransferId(0);
}

/// Why an access could not be made. The device turns it into its architectural error state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DmaError {
    /// Not, or not wholly, within guest RAM.
    #[error("{len} bytes at {pa:#x} are not guest RAM")]
    OutsideRam {
        /// First byte of the access.
        pa: u64,
        /// Its length.
        len: usize,
    },
    /// A fault hook answered with a bus error.
    #[error("injected bus error at {pa:#x}")]
    Injected {
        /// First byte of the access.
        pa: u64,
    },
}

/// What lies behind all ports: the coherency domain, or plain memory in a device's unit test.
pub trait DmaMemory {
    /// Reads `buf.len()` bytes from `pa` as `master` sees them.
    ///
    /// # Errors
    /// [`DmaError`] if the range is not accessible; `buf` is then unspecified.
    fn dma_read(
        &mut self,
        master: MasterId,
        transfer: TransferId,
        pa: u64,
        buf: &mut [u8],
    ) -> Result<(), DmaError>;

    /// Writes `data` to `pa` as `master` does.
    ///
    /// # Errors
    /// [`DmaError`] if the range is not accessible; nothing is then written.
    fn dma_write(
        &mut self,
        master: MasterId,
        transfer: TransferId,
        pa: u64,
        data: &[u8],
    ) -> Result<(), DmaError>;

    /// A data transfer starts to own its range of memory.
    fn transfer_open(&mut self, master: MasterId, transfer: Transfer) -> TransferId;

    /// The transfer no longer owns it. Unknown IDs are ignored.
    fn transfer_close(&mut self, master: MasterId, id: TransferId);
}

/// A device's way to memory for the time of one call.
pub struct DmaPort<'a> {
    memory: &'a mut dyn DmaMemory,
    master: MasterId,
}

impl<'a> DmaPort<'a> {
    /// Binds `memory` to `master`.
    pub fn new(memory: &'a mut dyn DmaMemory, master: MasterId) -> Self {
        DmaPort { memory, master }
    }

    /// Reads data or descriptors; see [`DmaMemory::dma_read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(&mut self, id: TransferId, pa: u64, buf: &mut [u8]) -> Result<(), DmaError> {
        self.memory.dma_read(self.master, id, pa, buf)
    }

    /// Writes data, descriptors or events; see [`DmaMemory::dma_write`].
    ///
    /// # Errors
    /// As there.
    pub fn write(&mut self, id: TransferId, pa: u64, data: &[u8]) -> Result<(), DmaError> {
        self.memory.dma_write(self.master, id, pa, data)
    }

    /// Opens a data transfer; see [`DmaMemory::transfer_open`].
    pub fn open(&mut self, transfer: Transfer) -> TransferId {
        self.memory.transfer_open(self.master, transfer)
    }

    /// Closes a data transfer; see [`DmaMemory::transfer_close`].
    pub fn close(&mut self, id: TransferId) {
        self.memory.transfer_close(self.master, id);
    }
}
