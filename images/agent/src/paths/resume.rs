// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Device to DMABUF to device, with a USB host that cuts transfers off.
//!
//! The kernel cancels what FunctionFS has queued when the host releases a halted endpoint, resets
//! the bus or goes away, and the fences of these transfers signal with an error. Neither framework
//! looks at the error of a fence it waits for: an IIO buffer plays what a cancelled USB transfer
//! left. So user space looks, before it gives the buffer away, and moves a frame that was cancelled
//! again, from its start. Frames that the host sends, it sends again in order, into whatever buffer
//! comes first; frames for it may reach it in another order than before, as later ones may have
//! been queued meanwhile.

use std::collections::VecDeque;

use staleline_guest::{
    Access, Context, DmaBuf, End, Endpoint, Error, Fence, Fences, Gadget, IioBuffer, before_others,
};
use staleline_protocol::plan::Transfer;

use super::Job;
use super::under_way::UnderWay;

/// Times that a transfer may fail because the host cuts it off: more than cuts that a scenario may
/// have.
pub const ATTEMPTS: u32 = 2048;

/// One end of the path: transfers under way over USB, oldest first.
struct Usb<'a> {
    gadget: &'a Gadget,
    endpoint: &'a Endpoint,
    under_way: VecDeque<(u32, Fence)>,
}

impl<'a> Usb<'a> {
    fn new(gadget: &'a Gadget, endpoint: &'a Endpoint) -> Self {
        Usb {
            gadget,
            endpoint,
            under_way: VecDeque::new(),
        }
    }

    /// Queues a transfer. `tag` tells it from others.
    ///
    /// The kernel tells how a transfer ended only to who has asked for its fence before. A transfer
    /// ends in the thread of the controller's interrupt handler: not while this one, on the only
    /// CPU, has queued it and not asked yet.
    fn queue(&mut self, tag: u32, buffer: &DmaBuf, bytes: u64) -> Result<(), Error> {
        let mut attempts = 0;
        loop {
            let queued = before_others(|| {
                self.endpoint.transfer(buffer, bytes)?;
                Fence::of(buffer)
            });
            match queued.call("sched_setscheduler", "the agent")? {
                Ok(fence) => {
                    self.under_way.push_back((tag, fence));
                    return Ok(());
                }
                Err(e) if e.is_cancelled() && attempts < ATTEMPTS => {
                    attempts += 1;
                    self.gadget.wait_until_enabled()?;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Waits for the oldest transfer. Gives its tag, and how it ended; `None` if there is none.
    fn next(&mut self) -> Result<Option<(u32, End)>, Error> {
        let Some((tag, fence)) = self.under_way.pop_front() else {
            return Ok(None);
        };
        let end = fence.wait()?;
        if end == End::Cancelled {
            self.gadget.wait_until_enabled()?;
        }
        Ok(Some((tag, end)))
    }
}

/// ADC to USB host. Frame *n* is always in the buffer that its number names.
pub fn to_usb(
    job: Job<'_>,
    buffers: &[DmaBuf],
    iio: &IioBuffer,
    gadget: &Gadget,
) -> Result<(), Error> {
    let t = job.transfer;
    let buffer = |frame| &buffers[job.slot(frame)];
    let mut usb = Usb::new(gadget, &gadget.bulk_in);
    // Frames given to the ADC and not yet to USB, and the next one for the ADC.
    let mut capturing = VecDeque::new();
    let mut converter = UnderWay::new(iio.name());
    let mut next = 0;
    let mut free = vec![true; buffers.len()];
    let mut delivered = 0;
    while delivered < t.frames {
        let first = next == 0;
        while next < t.frames && std::mem::take(&mut free[job.slot(next)]) {
            iio.enqueue(buffer(next), t.bytes_of_frame(next))?;
            converter.queued(next, buffer(next))?;
            capturing.push_back(next);
            next += 1;
        }
        if first {
            iio.enable()?;
        }
        // As many as without cuts.
        if usb.under_way.len() <= buffers.len() / 2
            && let Some(frame) = capturing.pop_front()
        {
            if t.cpu_sync {
                buffer(frame).wait(Fences::Writers)?;
                buffer(frame).pretend(Access::Read)?;
            }
            converter.look()?;
            usb.queue(frame, buffer(frame), t.bytes_of_frame(frame))?;
            converter.look()?;
            continue;
        }
        match usb.next()? {
            Some((frame, End::Done)) => {
                delivered += 1;
                free[job.slot(frame)] = true;
            }
            Some((frame, End::Cancelled)) => {
                usb.queue(frame, buffer(frame), t.bytes_of_frame(frame))?;
            }
            None => break,
        }
    }
    Ok(())
}

/// USB host to DAC. What arrives next is the next frame, whichever buffer it is in.
pub fn from_usb(
    job: Job<'_>,
    buffers: &[DmaBuf],
    iio: &IioBuffer,
    gadget: &Gadget,
) -> Result<(), Error> {
    let t = job.transfer;
    let mut usb = Usb::new(gadget, &gadget.bulk_out);
    let mut fresh = 0..t.buffers;
    // Buffers that the DAC has got, oldest first. Queueing one blocks until the DAC is done with
    // it; so half of them are left to it meanwhile.
    let mut played = VecDeque::new();
    let mut arrived = 0;
    let mut enabled = false;
    let mut converter = UnderWay::new(iio.name());
    while arrived < t.frames {
        while let Some(bytes) = expected(t, arrived, usb.under_way.len()) {
            let spare = played.len() > buffers.len() / 2 || usb.under_way.is_empty();
            let reuse = || spare.then(|| played.pop_front()).flatten();
            let Some(slot) = fresh.next().or_else(reuse) else {
                break;
            };
            usb.queue(slot, &buffers[slot as usize], bytes)?;
        }
        if !std::mem::replace(&mut enabled, true) {
            iio.enable()?;
        }
        let Some((slot, end)) = usb.next()? else {
            break;
        };
        let buffer = &buffers[slot as usize];
        if end == End::Cancelled {
            // It was counted among those under way, so there is a frame left for it.
            if let Some(bytes) = expected(t, arrived, usb.under_way.len()) {
                usb.queue(slot, buffer, bytes)?;
            }
            continue;
        }
        if t.cpu_sync {
            buffer.pretend(Access::Write)?;
        }
        iio.enqueue(buffer, t.bytes_of_frame(arrived))?;
        converter.queued(arrived, buffer)?;
        converter.look()?;
        played.push_back(slot);
        arrived += 1;
    }
    Ok(())
}

/// Bytes of the next frame to expect, if there is one, when `arrived` frames are there and
/// `under_way` are awaited. After a cut, the first one to come may end up in a buffer that was queued
/// for a later one: so none is awaited together with a last one of another size.
fn expected(t: &Transfer, arrived: u32, under_way: usize) -> Option<u64> {
    let frame = arrived.checked_add(u32::try_from(under_way).ok()?)?;
    let bytes = t.bytes_of_frame(frame);
    (frame < t.frames && (bytes == t.frame_bytes || under_way == 0)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use staleline_protocol::plan::{DataPath, Exporter, Parts};

    use super::*;

    #[test]
    fn a_last_frame_of_another_size_is_awaited_alone() {
        let mut t = Transfer {
            path: DataPath::UsbToIio,
            exporter: Exporter::System,
            buffers: 2,
            frames: 3,
            buffer_bytes: 4096,
            frame_bytes: 4096,
            last_frame_bytes: Some(8),
            cpu_sync: false,
            resume: true,
            usb_first: false,
            read_detached: false,
            parts: Parts::default(),
        };
        assert_eq!(expected(&t, 0, 1), Some(4096));
        assert_eq!(expected(&t, 1, 1), None);
        assert_eq!(expected(&t, 2, 0), Some(8));
        assert_eq!(expected(&t, 3, 0), None);
        t.last_frame_bytes = None;
        assert_eq!(expected(&t, 1, 1), Some(4096));
        assert_eq!(expected(&t, 1, 2), None);
    }
}
