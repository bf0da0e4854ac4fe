// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The memory of a request: two strings of bytes, one to read and one to write. How they are cut into
//! descriptors is the driver's choice (virtio 1.2, 2.7.4).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::regs::QUEUE_SIZE;
use crate::bus::Context;
use crate::dma::{Direction, Order, Transfer, TransferId};
use crate::state::{Invalid, at_most, no_longer};

const PAGE: u64 = 4096;

/// Memory that one descriptor names, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    pub pa: u64,
    /// Bytes; `pa + len` does not overflow.
    pub len: u64,
    /// Where the descriptor is.
    pub descriptor: u64,
    /// While it is under DMA.
    pub transfer: Option<TransferId>,
}

/// A string of bytes, in pieces.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Segments(VecDeque<Segment>);

/// Some bytes in one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub pa: u64,
    /// 1 to 4096.
    pub len: usize,
    pub transfer: TransferId,
}

impl Segments {
    /// Adds memory at the end.
    pub fn push(&mut self, segment: Segment) {
        self.0.push_back(segment);
    }

    /// Whether nothing was ever added, or all was taken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that there are: at most 128 times 2^32.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|s| s.len).sum()
    }

    /// For a state that comes from outside.
    pub fn check(&self) -> Result<(), Invalid> {
        no_longer("segments", self.0.len(), QUEUE_SIZE.into())?;
        self.0.iter().try_for_each(|s| {
            at_most("bytes of a segment", s.len, u32::MAX.into())?;
            at_most("address of a segment", s.pa, u64::MAX - s.len)
        })
    }

    /// Takes the first `bytes` away, or all if there are fewer.
    pub fn split(&mut self, bytes: u64) -> Segments {
        let mut first = Segments::default();
        let mut left = bytes;
        while left > 0
            && let Some(mut segment) = self.0.pop_front()
        {
            let n = segment.len.min(left);
            left -= n;
            if n < segment.len {
                self.0.push_front(Segment {
                    pa: segment.pa + n,
                    len: segment.len - n,
                    ..segment
                });
                segment.len = n;
            }
            if n > 0 {
                first.push(segment);
            }
        }
        first
    }

    /// Memory to be moved: from now on it is the device's.
    pub fn open(&mut self, direction: Direction, order: Order, ctx: &mut Context<'_>) {
        for segment in self.0.iter_mut().filter(|s| s.len > 0) {
            let transfer = Transfer {
                direction,
                pa: segment.pa,
                bus: None,
                scattered: false,
                len: segment.len,
                descriptor: segment.descriptor,
                channel: 0,
                snoop: true,
            };
            segment.transfer = Some(ctx.dma.open(transfer, order));
        }
    }

    /// Gives it back, whatever has become of it.
    pub fn close(&mut self, ctx: &mut Context<'_>) {
        for segment in self.0.drain(..) {
            ctx.dma.close(segment.transfer.unwrap_or_default());
        }
    }

    /// What is to be moved next.
    pub fn piece(&self) -> Option<Piece> {
        let segment = self.0.iter().find(|s| s.len > 0)?;
        let room = PAGE - segment.pa % PAGE;
        Some(Piece {
            pa: segment.pa,
            // At most a page.
            len: segment.len.min(room) as usize,
            transfer: segment.transfer.unwrap_or_default(),
        })
    }

    /// The first `bytes`, all of one segment, have been moved.
    pub fn advance(&mut self, bytes: usize, ctx: &mut Context<'_>) {
        let mut left = bytes as u64;
        while let Some(segment) = self.0.front_mut() {
            let n = segment.len.min(left);
            segment.pa += n;
            segment.len -= n;
            left -= n;
            if segment.len > 0 {
                return;
            }
            ctx.dma.close(segment.transfer.unwrap_or_default());
            self.0.pop_front();
        }
    }
}

/// What the driver has made available.
#[derive(Debug)]
pub(super) struct Chain {
    /// Number of the first descriptor.
    pub head: u16,
    /// What handed it over.
    pub order: Order,
    pub readable: Segments,
    pub writable: Segments,
}

impl Chain {
    /// Without memory.
    pub fn new(head: u16, order: Order) -> Self {
        Chain {
            head,
            order,
            readable: Segments::default(),
            writable: Segments::default(),
        }
    }
}
