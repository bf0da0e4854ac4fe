// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which frame, and so which DMABUF, a device's transfer belongs to.
//!
//! A guest cannot always tell where its DMABUFs are in physical memory. But each channel moves the
//! frames in order: if its transfers add up to exactly what the scenario moves, the position in
//! that sequence tells the frame.

use std::collections::HashMap;

use staleline_devices::coherency::report::TransferRecord;
use staleline_protocol::plan;

/// Frames by transfer number.
#[derive(Debug, Default)]
pub struct Frames {
    by_transfer: HashMap<u32, u32>,
    buffers: u32,
}

impl Frames {
    /// Works it out; empty where the sums do not agree.
    pub fn new(plan: Option<&plan::Transfer>, records: &[TransferRecord]) -> Self {
        let Some(plan) = plan else {
            return Frames::default();
        };
        let mut channels: HashMap<_, Vec<&TransferRecord>> = HashMap::new();
        for record in records {
            let t = &record.transfer;
            let key = (record.master, t.direction, t.channel);
            channels.entry(key).or_default().push(record);
        }
        let mut frames = Frames {
            by_transfer: HashMap::new(),
            buffers: plan.buffers,
        };
        let planned = plan.total_bytes();
        for transfers in channels.values() {
            let moved = transfers
                .iter()
                .try_fold(0u64, |sum, r| sum.checked_add(r.bytes));
            if moved == Some(planned) {
                frames.walk(plan, transfers);
            }
        }
        frames
    }

    fn walk(&mut self, plan: &plan::Transfer, transfers: &[&TransferRecord]) {
        // Where the current frame ends and the next transfer starts, in the stream.
        let (mut frame, mut end, mut at) = (0, plan.bytes_of_frame(0), 0);
        for record in transfers {
            while at >= end && frame + 1 < plan.frames {
                frame += 1;
                end += plan.bytes_of_frame(frame);
            }
            self.by_transfer.insert(record.id.0, frame);
            at += record.bytes;
        }
    }

    /// The frame of a transfer.
    pub fn of(&self, transfer: u32) -> Option<u32> {
        self.by_transfer.get(&transfer).copied()
    }

    /// The DMABUF of a frame: they are used in rotation.
    pub fn buffer(&self, frame: u32) -> Option<u32> {
        frame.checked_rem(self.buffers)
    }
}

#[cfg(test)]
mod tests {
    use staleline_devices::dma::{Direction, MasterId, Transfer, TransferId};

    use super::*;
    use crate::scenario::Scenario;

    fn record(id: u32, bytes: u64) -> TransferRecord {
        TransferRecord {
            id: TransferId(id),
            master: MasterId(0),
            transfer: Transfer {
                direction: Direction::ToMemory,
                pa: 0,
                bus: None,
                scattered: false,
                len: bytes,
                descriptor: 0,
                channel: 0,
                snoop: true,
            },
            opened_at: 0,
            closed_at: None,
            bytes,
        }
    }

    #[test]
    fn transfers_of_a_frame_go_together() {
        let plan = Scenario::load("iio-capture").unwrap().plan().transfer;
        // Five frames of 12040 bytes in three segments each, and one of 1000.
        let mut records = Vec::new();
        for n in 0..15 {
            records.push(record(n + 1, [4096, 4096, 3848][n as usize % 3]));
        }
        records.push(record(16, 1000));
        let frames = Frames::new(plan.as_ref(), &records);
        let of = |n| frames.of(n).unwrap();
        assert_eq!([of(1), of(3), of(4), of(15), of(16)], [0, 0, 1, 4, 5]);
        assert_eq!(frames.buffer(5), Some(1));
        assert_eq!(frames.of(17), None);

        records.pop();
        assert_eq!(Frames::new(plan.as_ref(), &records).of(1), None);
        assert_eq!(Frames::new(None, &records).buffer(1), None);
    }
}
