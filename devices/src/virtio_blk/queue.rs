// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A split virtqueue, from the device's side (virtio 1.2, 2.7).

use serde::{Deserialize, Serialize};

use super::GuestError;
use super::chain::{Chain, Segment};
use super::error::Part;
use super::regs::QUEUE_SIZE;
use crate::bus::Context;
use crate::dma::{Access, Doorbell, Order};

/// Bytes of a descriptor (2.7.5).
const DESCRIPTOR: u64 = 16;
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Bytes of either ring before its first entry: flags, and index in the upper half (2.7.6, 2.7.8).
const RING: u64 = 4;
/// In the driver's flags: do not interrupt.
const NO_INTERRUPT: u16 = 1;

/// A queue that the driver has set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Queue {
    size: u16,
    descriptors: u64,
    driver: u64,
    device: u64,
    /// Entries taken from the driver's ring, modulo 2^16.
    taken: u16,
    /// Entries put into the device's ring, likewise.
    used: u16,
}

impl Queue {
    /// A queue of `size` entries.
    ///
    /// # Errors
    /// [`GuestError::Queue`] if it has no size or alignment that a queue may have, or ends beyond the
    /// address space.
    pub fn new(size: u32, descriptors: u64, driver: u64, device: u64) -> Result<Self, GuestError> {
        let wrong = GuestError::Queue {
            size,
            descriptors,
            driver,
            device,
        };
        let size = u16::try_from(size)
            .ok()
            .filter(|size| size.is_power_of_two() && *size <= QUEUE_SIZE);
        let size = size.ok_or(wrong)?;
        // 2.7, alignments. More than any part has bytes:
        const ROOM: u64 = 1 << 16;
        let fits = |at: u64, align: u64| at.is_multiple_of(align) && at.checked_add(ROOM).is_some();
        // The driver's ring may begin anywhere even; its index is handed over with the word it is in.
        if !(fits(descriptors, DESCRIPTOR) && fits(driver, 2) && fits(device, 4)) {
            return Err(wrong);
        }
        Ok(Queue {
            size,
            descriptors,
            driver,
            device,
            taken: 0,
            used: 0,
        })
    }

    /// For a state that comes from outside: whether a driver could have set it up.
    pub fn is_possible(&self) -> bool {
        Queue::new(self.size.into(), self.descriptors, self.driver, self.device).is_ok()
    }

    /// What hands descriptors over: the index of the driver's ring, in its word.
    fn order(&self, idle_until: Doorbell) -> Order {
        Order::Handover {
            word: (self.driver + 2) & !3,
            shows: 0,
            idle_until,
        }
    }

    /// Flags and index of the driver's ring.
    fn available(&self, order: Order, ctx: &mut Context<'_>) -> Result<(u16, u16), GuestError> {
        let word: [u8; RING as usize] = fetch(Part::Available, self.driver, order, ctx)?;
        Ok((half(&word, 0), half(&word, 2)))
    }

    /// Takes the next chain, if the driver has made one available.
    ///
    /// # Errors
    /// What is wrong with the ring or the chain.
    pub fn take(
        &mut self,
        idle_until: Doorbell,
        ctx: &mut Context<'_>,
    ) -> Result<Option<Chain>, GuestError> {
        let order = self.order(idle_until);
        let (_, index) = self.available(order, ctx)?;
        if index == self.taken {
            return Ok(None);
        }
        if index.wrapping_sub(self.taken) > self.size {
            return Err(GuestError::Index {
                from: self.taken,
                to: index,
                size: self.size,
            });
        }
        let entry = self.driver + RING + 2 * u64::from(self.taken % self.size);
        let entry: [u8; 2] = fetch(Part::Available, entry, order, ctx)?;
        self.taken = self.taken.wrapping_add(1);
        self.chain(half(&entry, 0), order, ctx).map(Some)
    }

    fn chain(&self, head: u16, order: Order, ctx: &mut Context<'_>) -> Result<Chain, GuestError> {
        let mut chain = Chain::new(head, order);
        let mut index = head;
        for _ in 0..self.size {
            if index >= self.size {
                let size = self.size;
                return Err(GuestError::NoDescriptor { index, size });
            }
            let at = self.descriptors + DESCRIPTOR * u64::from(index);
            let raw: [u8; DESCRIPTOR as usize] = fetch(Part::Descriptor, at, order, ctx)?;
            let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = raw;
            let (flags, next) = (half(&raw, 12), half(&raw, 14));
            if flags & !(NEXT | WRITE) != 0 {
                return Err(GuestError::Flags { index, flags });
            }
            let segment = Segment {
                pa: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                len: u32::from_le_bytes([i, j, k, l]).into(),
                descriptor: at,
                transfer: None,
            };
            if segment.pa.checked_add(segment.len).is_none() {
                return Err(GuestError::Address { index });
            }
            if flags & WRITE != 0 {
                chain.writable.push(segment);
            } else if chain.writable.is_empty() {
                chain.readable.push(segment);
            } else {
                return Err(GuestError::Order { index });
            }
            if flags & NEXT == 0 {
                return Ok(chain);
            }
            index = next;
        }
        Err(GuestError::Loop { head })
    }

    /// Gives a chain back, of which `written` bytes were written. Whether the driver wants to be
    /// interrupted.
    ///
    /// # Errors
    /// If a ring cannot be accessed.
    pub fn give_back(
        &mut self,
        head: u16,
        written: u32,
        idle_until: Doorbell,
        ctx: &mut Context<'_>,
    ) -> Result<bool, GuestError> {
        let order = self.order(idle_until);
        let used = |source| GuestError::Memory {
            part: Part::Used,
            source,
        };
        let entry = self.device + RING + 8 * u64::from(self.used % self.size);
        let mut element = [0; 8];
        element[..4].copy_from_slice(&u32::from(head).to_le_bytes());
        element[4..].copy_from_slice(&written.to_le_bytes());
        ctx.dma
            .write(Access::descriptor(order), entry, &element)
            .map_err(used)?;
        self.used = self.used.wrapping_add(1);
        // From here on the driver may see all of it.
        let index = self.used.to_le_bytes();
        ctx.dma
            .write(Access::event(), self.device + 2, &index)
            .map_err(used)?;
        let (flags, _) = self.available(order, ctx)?;
        Ok(flags & NO_INTERRUPT == 0)
    }
}

/// Reads what is no data.
pub(super) fn fetch<const N: usize>(
    part: Part,
    at: u64,
    order: Order,
    ctx: &mut Context<'_>,
) -> Result<[u8; N], GuestError> {
    let mut bytes = [0; N];
    match ctx.dma.read(Access::descriptor(order), at, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(source) => Err(GuestError::Memory { part, source }),
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}
