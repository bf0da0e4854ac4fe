// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What stands between a master's port and memory: where RAM is, and which addresses the master's bus has
//! for it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::coherency::{Domain, DomainConfig};
use crate::dma::{
    Access, DmaError, DmaMemory, DmaPort, Doorbell, MasterId, Order, TRANSLATED_PAGE, Transfer,
    TransferId, Translated, Translator,
};

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

/// Pages of a transfer of which it is found out beforehand where they are, and the pieces that they make.
const FORESEEN: u64 = 4096;
const PIECES: usize = 64;

/// What stands in front of a master that is translated.
pub(super) struct Behind<'a> {
    pub translator: &'a mut dyn Translator,
    /// Who the translator is on the bus.
    pub walker: MasterId,
    /// Who the master is to the translator.
    pub stream: u32,
}

/// The way of one call from a device to the domain.
pub(super) struct Gate<'a> {
    pub domain: &'a mut Domain,
    pub map: &'a Map,
    /// None: addresses go by the map.
    pub behind: Option<Behind<'a>>,
}

/// A part of an access: where it is, its bytes of all, and what it is there.
type Part = (u64, Range<usize>, Access);

impl Gate<'_> {
    /// What an SMMU makes of one address; for an access, if it is one.
    fn translate(&mut self, at: u64, access: Option<bool>) -> Option<Translated> {
        let now = self.domain.now();
        let Behind {
            translator,
            walker,
            stream,
        } = self.behind.as_mut()?;
        let mut physical = Gate {
            domain: &mut *self.domain,
            map: self.map,
            behind: None,
        };
        let mut port = DmaPort::new(&mut physical, *walker);
        match access {
            Some(write) => translator.translate(*stream, at, write, now, &mut port),
            None => translator.foresee(*stream, at, &mut port),
        }
    }

    /// Where the parts of an access are, page by page. All are found before the first is made.
    fn parts(
        &mut self,
        master: MasterId,
        access: Access,
        at: u64,
        len: usize,
        write: bool,
    ) -> Result<Vec<Part>, DmaError> {
        let mut parts = Vec::new();
        let mut done = 0;
        while done < len {
            let outside = DmaError::Untranslated { at, len };
            let here = at.checked_add(done as u64).ok_or(outside)?;
            let left = TRANSLATED_PAGE - here % TRANSLATED_PAGE;
            let n = (len - done).min(left as usize);
            let to = self.translate(here, Some(write)).ok_or(outside)?;
            let pa = self.map.translate(master, to.at, n as u64)?;
            let access = Access {
                snoop: access.snoop && to.cacheable,
                ..access
            };
            parts.push((pa, done..done + n, access));
            done += n;
        }
        let order = self.resolve(master, access.order);
        for (.., access) in &mut parts {
            access.order = order;
        }
        Ok(parts)
    }

    /// The access with the address of the word that hands memory over as the domain knows it. A word that is
    /// nowhere hands nothing over.
    fn resolve(&mut self, master: MasterId, order: Order) -> Order {
        match order {
            Order::Handover {
                word,
                shows,
                idle_until,
            } => Order::Handover {
                word: self.foresee(master, word, 4).unwrap_or(u64::MAX),
                shows,
                idle_until,
            },
            other => other,
        }
    }

    /// Where something within a page is, if it is anywhere.
    fn foresee(&mut self, master: MasterId, at: u64, len: u64) -> Option<u64> {
        let at = match &self.behind {
            Some(_) => self.translate(at, None)?.at,
            None => at,
        };
        self.map.translate(master, at, len).ok()
    }

    fn resolved(&mut self, master: MasterId, access: Access) -> Access {
        Access {
            order: self.resolve(master, access.order),
            ..access
        }
    }

    /// The memory of a transfer behind an SMMU, as far as it is mapped and as that is found out; whether it
    /// may be snooped; and whether that is all.
    fn memory(&mut self, master: MasterId, at: u64, len: u64) -> (Vec<Range<u64>>, bool, bool) {
        let mut pieces: Vec<Range<u64>> = Vec::new();
        let (mut done, mut snoop) = (0, true);
        for _ in 0..FORESEEN {
            let here = at.checked_add(done).filter(|_| done < len);
            let Some(here) = here else {
                return (pieces, snoop, true);
            };
            let n = (len - done).min(TRANSLATED_PAGE - here % TRANSLATED_PAGE);
            done += n;
            let Some(to) = self.translate(here, None) else {
                continue;
            };
            let Ok(pa) = self.map.translate(master, to.at, n) else {
                continue;
            };
            snoop &= to.cacheable;
            if let Some(last) = pieces.last_mut()
                && last.end == pa
            {
                last.end += n;
            } else if pieces.len() == PIECES {
                return (pieces, snoop, false);
            } else {
                pieces.push(pa..pa + n);
            }
        }
        (pieces, snoop, done >= len)
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
        if self.behind.is_none() {
            let pa = self.map.translate(master, pa, buf.len() as u64)?;
            let access = self.resolved(master, access);
            return self.domain.dma_read(master, access, pa, buf);
        }
        for (pa, range, access) in self.parts(master, access, pa, buf.len(), false)? {
            self.domain.dma_read(master, access, pa, &mut buf[range])?;
        }
        Ok(())
    }

    fn dma_write(
        &mut self,
        master: MasterId,
        access: Access,
        pa: u64,
        data: &[u8],
    ) -> Result<(), DmaError> {
        if self.behind.is_none() {
            let pa = self.map.translate(master, pa, data.len() as u64)?;
            let access = self.resolved(master, access);
            return self.domain.dma_write(master, access, pa, data);
        }
        for (pa, range, access) in self.parts(master, access, pa, data.len(), true)? {
            self.domain.dma_write(master, access, pa, &data[range])?;
        }
        Ok(())
    }

    fn doorbell(&mut self, master: MasterId) -> Doorbell {
        self.domain.doorbell(master)
    }

    fn transfer_open(&mut self, master: MasterId, transfer: Transfer, order: Order) -> TransferId {
        let order = self.resolve(master, order);
        let (at, len) = (transfer.pa, transfer.len);
        if self.behind.is_none() && self.map.ranges(master).is_empty() {
            return self.domain.transfer_open(master, transfer, order);
        }
        let descriptor = match transfer.descriptor {
            0 => None,
            at => self.foresee(master, at, 1),
        };
        let placed = Transfer {
            bus: Some(at),
            descriptor: descriptor.unwrap_or(transfer.descriptor),
            ..transfer
        };
        // What has no memory, or not all, fails at its first access beyond what there is.
        let (pieces, snoop, all) = match &self.behind {
            None => match self.map.translate(master, at, len) {
                Ok(pa) => (std::iter::once(pa..pa + len).collect(), true, true),
                Err(_) => (Vec::new(), true, true),
            },
            Some(_) => self.memory(master, at, len),
        };
        if !all {
            self.domain.not_all_is_watched();
        }
        let placed = Transfer {
            pa: pieces.first().map_or(at, |piece| piece.start),
            snoop: transfer.snoop && snoop,
            scattered: pieces.len() > 1,
            ..placed
        };
        self.domain.open_in(master, placed, order, &pieces)
    }

    fn transfer_close(&mut self, master: MasterId, id: TransferId) {
        self.domain.transfer_close(master, id);
    }
}

#[cfg(test)]
mod tests;
