// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The one gate through which all DMA goes.
//!
//! A device model never holds guest memory. It gets a [`DmaPort`] for the time of one call, bound
//! to its own master identity, and can copy bytes through it. What lies behind the port (snooping
//! or not, cache, fault hooks) is the board's business: see [`DmaMemory`].

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::cpu::{CpuId, MAX_CPUS};
use crate::state::{Invalid, at_most, times};

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
    /// First byte in memory; as a device tells it, on its bus.
    pub pa: u64,
    /// What its bus calls it, if that is another address. A device leaves that to the gate.
    #[serde(default)]
    pub bus: Option<u64>,
    /// It goes on elsewhere before `len` bytes: an SMMU has it in several pieces. As `bus`.
    #[serde(default)]
    pub scattered: bool,
    /// Length in bytes.
    pub len: u64,
    /// Where the descriptor or TRB stands, or 0 if the transfer was programmed by registers.
    pub descriptor: u64,
    /// The device's channel or endpoint number.
    pub channel: u8,
    /// Whether its accesses ask to be snooped (AxCACHE). The port decides whether that takes effect.
    pub snoop: bool,
}

impl Transfer {
    /// The memory that it is of, as far as it is in one piece.
    pub fn range(&self) -> Range<u64> {
        self.pa..self.pa.saturating_add(self.len)
    }
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

/// How a master's port is wired into the interconnect: which of its accesses look into the CPU
/// caches. What the device tree claims is another matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Port {
    /// Does not snoop (ZynqMP S_AXI_HP).
    Hp,
    /// Snoops where the access asks for it (ZynqMP S_AXI_HPC).
    Hpc,
    /// Only its reads snoop.
    HpcRead,
    /// Only its writes snoop.
    HpcWrite,
}

impl Port {
    /// All of them.
    pub const ALL: [Port; 4] = [Port::Hp, Port::Hpc, Port::HpcRead, Port::HpcWrite];

    /// The name in settings and results.
    pub fn name(self) -> &'static str {
        match self {
            Port::Hp => "hp",
            Port::Hpc => "hpc",
            Port::HpcRead => "hpc-read",
            Port::HpcWrite => "hpc-write",
        }
    }

    /// Whether reads can snoop.
    pub fn snoops_reads(self) -> bool {
        matches!(self, Port::Hpc | Port::HpcRead)
    }

    /// Whether writes can snoop.
    pub fn snoops_writes(self) -> bool {
        matches!(self, Port::Hpc | Port::HpcWrite)
    }

    /// Whether the port is as coherent as `dma-coherent` promises.
    pub fn is_coherent(self) -> bool {
        self == Port::Hpc
    }
}

/// What started a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartedBy {
    /// Nothing: it goes by itself.
    #[default]
    Itself,
    /// A register write.
    Doorbell,
    /// A word in memory that it polls.
    Word,
}

/// The moment at which a device was started by a register write, and what was ordered and
/// complete by then. Made by [`DmaPort::doorbell`]; a device keeps it with the work it was told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doorbell {
    /// When, in accesses of the CPU since power-on.
    pub at: u64,
    /// When the last barrier was that orders stores as bus masters see them, likewise.
    pub ordered_at: u64,
    /// Maintenance operations that had been begun.
    pub issued: u32,
    /// How many barriers had completed some of them.
    pub completed: u32,
    /// The CPU that told the device. Stores of others are taken to be ordered before by whatever
    /// handed the work over to that CPU.
    #[serde(default)]
    pub cpu: CpuId,
    /// What it was.
    #[serde(default)]
    pub by: StartedBy,
}

impl Doorbell {
    /// For a state that comes from outside.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        at_most("CPU of a doorbell", self.cpu.0.into(), MAX_CPUS as u64 - 1)?;
        times("time of a doorbell", &[self.at])
    }
}

/// What made a device access memory: where software had to have everything in place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Nothing software did: it may come at any time.
    #[default]
    Unprompted,
    /// A register write. What comes after it comes too late.
    Doorbell(Doorbell),
    /// The device polls a word that says whether the memory is its own. As long as it does not, the
    /// device takes no notice of what it has read.
    Handover {
        /// Address of the word, 4 bytes.
        word: u64,
        /// Bits of it that are all set when it says so; none if the device has looked already.
        shows: u32,
        /// The device was idle until then, so a word stored before was not seen before.
        idle_until: Doorbell,
    },
    /// Nothing software did: the device looks when it needs to know, at one word, of which it takes notice in
    /// part. Whether the rest of it is old or new makes no difference.
    Word {
        /// Address of the word, 8 bytes, which the access is of.
        word: u64,
        /// Bits of it that count.
        counts: u64,
    },
}

impl Order {
    /// For a state that comes from outside.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        match self {
            Order::Unprompted | Order::Word { .. } => Ok(()),
            Order::Doorbell(doorbell) => doorbell.check(),
            Order::Handover { idle_until, .. } => idle_until.check(),
        }
    }
}

/// What the bytes of an access are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Data of a transfer.
    Data,
    /// A descriptor, read or written back.
    Descriptor,
    /// An event: tells the driver that what was written before is there.
    Event,
}

/// What a bus transaction says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The transfer it belongs to, or [`TransferId::CONTROL`].
    pub transfer: TransferId,
    /// Whether it asks to be snooped (AxCACHE). The port decides whether that takes effect.
    pub snoop: bool,
    /// What its bytes are.
    pub content: Content,
    /// What made the device do it. For data of an open transfer, the transfer's counts.
    pub order: Order,
}

impl Access {
    /// Data of an open transfer.
    pub fn data(transfer: TransferId) -> Self {
        Access {
            transfer,
            snoop: true,
            content: Content::Data,
            order: Order::Unprompted,
        }
    }

    /// A descriptor, which the device accesses because of `order`.
    pub fn descriptor(order: Order) -> Self {
        Access {
            transfer: TransferId::CONTROL,
            snoop: true,
            content: Content::Descriptor,
            order,
        }
    }

    /// An event.
    pub fn event() -> Self {
        Access {
            content: Content::Event,
            ..Access::descriptor(Order::Unprompted)
        }
    }
}

/// Why an access could not be made. The device turns it into its architectural error state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
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
    /// Not, or not wholly, within one of the ranges that the device's bus has for memory.
    #[error("{len} bytes at {at:#x} of its bus are in none of its ranges for memory")]
    OutsideRanges {
        /// First byte of the access, on the bus.
        at: u64,
        /// Its length.
        len: usize,
    },
    /// The SMMU in front of the device does not let it through.
    #[error("the SMMU does not translate the access of {len} bytes at {at:#x}")]
    Untranslated {
        /// First byte of the access, as the device has it.
        at: u64,
        /// Its length.
        len: usize,
    },
    /// The board gives the device no port.
    #[error("no port to memory, access to {pa:#x}")]
    NoPort {
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
        access: Access,
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
        access: Access,
        pa: u64,
        data: &[u8],
    ) -> Result<(), DmaError>;

    /// A register write starts `master`.
    fn doorbell(&mut self, master: MasterId) -> Doorbell;

    /// A data transfer, taken up because of `order`, starts to own its range of memory.
    fn transfer_open(&mut self, master: MasterId, transfer: Transfer, order: Order) -> TransferId;

    /// The transfer no longer owns it. Unknown IDs are ignored.
    fn transfer_close(&mut self, master: MasterId, id: TransferId);
}

/// What an SMMU makes of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translated {
    /// The physical address.
    pub at: u64,
    /// Whether the memory's attributes let the access be snooped.
    pub cacheable: bool,
}

/// What translates addresses of masters, page by page ([`TRANSLATED_PAGE`]). What it reads of tables, it
/// reads through a port of its own.
pub trait Translator {
    /// The address of one byte, for an access of a stream at a time. What is wrong with it is told to the
    /// guest in the translator's way.
    fn translate(
        &mut self,
        stream: u32,
        at: u64,
        write: bool,
        now: u64,
        port: &mut DmaPort<'_>,
    ) -> Option<Translated>;

    /// Where an access would go. If it would go nowhere, nobody is told.
    fn foresee(&mut self, stream: u32, at: u64, port: &mut DmaPort<'_>) -> Option<Translated>;
}

/// Bytes within which a [`Translator`] changes only the upper part of an address.
pub const TRANSLATED_PAGE: u64 = 4096;

/// A device's way to memory for the time of one call.
pub struct DmaPort<'a> {
    behind: Option<(&'a mut dyn DmaMemory, MasterId)>,
}

impl<'a> DmaPort<'a> {
    /// Binds `memory` to `master`.
    pub fn new(memory: &'a mut dyn DmaMemory, master: MasterId) -> Self {
        DmaPort {
            behind: Some((memory, master)),
        }
    }

    /// What a device that is no bus master has: every access fails.
    pub fn none() -> Self {
        DmaPort { behind: None }
    }

    /// Reads data or descriptors; see [`DmaMemory::dma_read`].
    ///
    /// # Errors
    /// As there, or [`DmaError::NoPort`].
    pub fn read(&mut self, access: Access, pa: u64, buf: &mut [u8]) -> Result<(), DmaError> {
        match &mut self.behind {
            Some((memory, master)) => memory.dma_read(*master, access, pa, buf),
            None => Err(DmaError::NoPort { pa }),
        }
    }

    /// Writes data, descriptors or events; see [`DmaMemory::dma_write`].
    ///
    /// # Errors
    /// As there, or [`DmaError::NoPort`].
    pub fn write(&mut self, access: Access, pa: u64, data: &[u8]) -> Result<(), DmaError> {
        match &mut self.behind {
            Some((memory, master)) => memory.dma_write(*master, access, pa, data),
            None => Err(DmaError::NoPort { pa }),
        }
    }

    /// To be called in the write handler of each register that makes the device look at memory.
    pub fn doorbell(&mut self) -> Doorbell {
        match &mut self.behind {
            Some((memory, master)) => memory.doorbell(*master),
            None => Doorbell::default(),
        }
    }

    /// Opens a data transfer; see [`DmaMemory::transfer_open`].
    pub fn open(&mut self, transfer: Transfer, order: Order) -> TransferId {
        match &mut self.behind {
            Some((memory, master)) => memory.transfer_open(*master, transfer, order),
            None => TransferId::CONTROL,
        }
    }

    /// Closes a data transfer; see [`DmaMemory::transfer_close`].
    pub fn close(&mut self, id: TransferId) {
        if let Some((memory, master)) = &mut self.behind {
            memory.transfer_close(*master, id);
        }
    }
}
