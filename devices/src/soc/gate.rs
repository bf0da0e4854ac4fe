// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What stands between a master's port and memory: where RAM is, and which addresses the master's bus has
//! for it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::coherency::{Domain, DomainConfig};
use crate::dma::{Access, DmaError, DmaMemory, Doorbell, MasterId, Order, Transfer, TransferId};

/// A piece of memory as a master's bus has it: one triple of `dma-ranges`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DmaRange {
    /// The first address on the bus.
    pub bus: u64,
    /// The physical address there.
    pub pa: u64,
    /// Bytes.
    pub bytes: u64,
}

impl DmaRange {
    /// The physical address of `len` bytes of the bus that lie wholly in it.
    fn translate(&self, at: u64, len: u64) -> Option<u64> {
        let offset = at.checked_sub(self.bus)?;
        let left = self.bytes.checked_sub(offset)?;
        if left == 0 || len > left {
            return None;
        }
        self.pa.checked_add(offset)
    }
}

/// Where memory is, for all masters.
#[derive(Debug, Default)]
pub(super) struct Map {
    /// RAM, by physical addresses.
    pub ram: Vec<Range<u64>>,
    /// By master: what its bus has for memory. None: all of it, at its physical addresses.
    pub ranges: Vec<Vec<DmaRange>>,
}

impl Map {
    /// For a domain, of which only `ram` is memory; without that, all.
    pub fn new(domain: &DomainConfig, ram: Vec<Range<u64>>) -> Self {
        let all = domain.base..domain.base + domain.ram_bytes;
        Map {
            ram: if ram.is_empty() { vec![all] } else { ram },
            ranges: Vec::new(),
        }
    }

    fn ranges(&self, master: MasterId) -> &[DmaRange] {
        let ranges = self.ranges.get(usize::from(master.0));
        ranges.map_or(&[], Vec::as_slice)
    }

    /// Where `len` bytes of a master's bus are.
    fn translate(&self, master: MasterId, at: u64, len: u64) -> Result<u64, DmaError> {
        let pa = match self.ranges(master) {
            [] => at,
            ranges => {
                let mut found = ranges.iter().filter_map(|range| range.translate(at, len));
                let len = len as usize;
                found.next().ok_or(DmaError::OutsideRanges { at, len })?
            }
        };
        let end = pa.checked_add(len);
        let holds = |ram: &Range<u64>| ram.contains(&pa) && end.is_some_and(|end| end <= ram.end);
        if self.ram.iter().any(holds) {
            return Ok(pa);
        }
        let len = len as usize;
        Err(DmaError::OutsideRam { pa, len })
    }
}

/// The way of one call from a device to the domain.
pub(super) struct Gate<'a> {
    pub domain: &'a mut Domain,
    pub map: &'a Map,
}

impl Gate<'_> {
    /// The access with the address of the word that hands memory over as the domain knows it. A word that is
    /// nowhere hands nothing over.
    fn resolve(&self, master: MasterId, order: Order) -> Order {
        match order {
            Order::Handover {
                word,
                shows,
                idle_until,
            } => Order::Handover {
                word: self.map.translate(master, word, 4).unwrap_or(u64::MAX),
                shows,
                idle_until,
            },
            other => other,
        }
    }

    fn resolved(&self, master: MasterId, access: Access) -> Access {
        Access {
            order: self.resolve(master, access.order),
            ..access
        }
    }
}

impl DmaMemory for Gate<'_> {
    fn dma_read(
        &mut self,
        master: MasterId,
        access: Access,
        pa: u64,
        buf: &mut [u8],
    ) -> Result<(), DmaError> {
        let pa = self.map.translate(master, pa, buf.len() as u64)?;
        let access = self.resolved(master, access);
        self.domain.dma_read(master, access, pa, buf)
    }

    fn dma_write(
        &mut self,
        master: MasterId,
        access: Access,
        pa: u64,
        data: &[u8],
    ) -> Result<(), DmaError> {
        let pa = self.map.translate(master, pa, data.len() as u64)?;
        let access = self.resolved(master, access);
        self.domain.dma_write(master, access, pa, data)
    }

    fn doorbell(&mut self, master: MasterId) -> Doorbell {
        self.domain.doorbell(master)
    }

    fn transfer_open(&mut self, master: MasterId, transfer: Transfer, order: Order) -> TransferId {
        let order = self.resolve(master, order);
        if self.map.ranges(master).is_empty() {
            return self.domain.transfer_open(master, transfer, order);
        }
        let at = transfer.pa;
        let descriptor = self.map.translate(master, transfer.descriptor, 1);
        let placed = Transfer {
            bus: Some(at),
            descriptor: descriptor.unwrap_or(transfer.descriptor),
            ..transfer
        };
        match self.map.translate(master, at, transfer.len) {
            Ok(pa) => {
                let placed = Transfer { pa, ..placed };
                self.domain.transfer_open(master, placed, order)
            }
            // It has no memory, and will fail at its first access beyond what there is.
            Err(_) => self.domain.open_in(master, placed, order, &[]),
        }
    }

    fn transfer_close(&mut self, master: MasterId, id: TransferId) {
        self.domain.transfer_close(master, id);
    }
}

#[cfg(test)]
mod tests;
