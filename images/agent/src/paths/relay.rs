// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Device to DMABUF to device, without the CPU.
//!
//! Each buffer is attached to both devices. A frame is queued to the first device, then to the
//! second, whose ioctl waits in the kernel for the first one's fence (both frameworks block in
//! their enqueue, up to 5 s: `iio_buffer_enqueue_dmabuf`, `ffs_dmabuf_transfer`). User space neither
//! polls in between nor touches the data.
//!
//! With `cpu_sync` it helps out the way programs can today: wait for the first device, claim and
//! release a CPU access that never happens, and only then queue the buffer to the second.
//!
//! With `resume` it looks at how each transfer over USB ended: see [`super::resume`].

use std::io::Write;

use staleline_guest::{Access, Direction, DmaBuf, Endpoint, Error, Fences, Gadget, IioBuffer};
use staleline_protocol::pattern::Mismatch;
use staleline_protocol::plan::When;

use super::trailer::Trailers;
use super::under_way::UnderWay;
use super::{Job, attached, resume};
use crate::ktap::Subtests;

pub const PHASES: [&str; 5] = ["devices", "gadget", "buffers", "transfer", "teardown"];

/// A device of the path.
struct Device<'a> {
    queue: &'a dyn Fn(&DmaBuf, u64) -> Result<(), Error>,
    under_way: UnderWay<'a>,
}

impl<'a> Device<'a> {
    fn new(name: &'a str, queue: &'a dyn Fn(&DmaBuf, u64) -> Result<(), Error>) -> Self {
        Device {
            queue,
            under_way: UnderWay::new(name),
        }
    }

    fn take(&mut self, job: Job<'_>, buffers: &[DmaBuf], frame: u32) -> Result<(), Error> {
        let buffer = &buffers[job.slot(frame)];
        (self.queue)(buffer, job.transfer.bytes_of_frame(frame))?;
        self.under_way.queued(frame, buffer)
    }
}

/// Moves all frames. `start` starts the converter once the first frames are queued.
///
/// What one device did not do is not passed on to the other, as far as the kernel tells in time.
fn relay(
    job: Job<'_>,
    buffers: &[DmaBuf],
    mut first: Device<'_>,
    mut second: Device<'_>,
    between: Access,
    start: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let t = job.transfer;
    let trailers = Trailers::of(job);
    let buffer_of = |n| &buffers[job.slot(n)];
    for n in 0..t.buffers.min(t.frames) {
        trailers.write(When::Before, n, buffer_of(n))?;
        first.take(job, buffers, n)?;
    }
    start()?;
    for n in 0..t.buffers.min(t.frames) {
        trailers.write(When::During, n, buffer_of(n))?;
    }
    for n in 0..t.frames {
        if trailers.are(When::Between) {
            buffer_of(n).wait(Fences::Writers)?;
            trailers.write(When::Between, n, buffer_of(n))?;
        }
        if t.cpu_sync {
            buffer_of(n).wait(Fences::Writers)?;
            buffer_of(n).pretend(between)?;
        }
        first.under_way.look()?;
        second.take(job, buffers, n)?;
        first.under_way.look()?;
        if let Some(next) = refill(n, t.buffers).filter(|&next| next < t.frames) {
            if trailers.are(When::Before) {
                // The second device may still have it.
                buffer_of(next).wait(Fences::All)?;
                trailers.write(When::Before, next, buffer_of(next))?;
            }
            first.take(job, buffers, next)?;
            trailers.write(When::During, next, buffer_of(next))?;
        }
        second.under_way.look()?;
    }
    finish(buffers)?;
    first.under_way.look()?;
    second.under_way.look()
}

/// Waits until all devices are done.
fn finish(buffers: &[DmaBuf]) -> Result<(), Error> {
    buffers
        .iter()
        .try_for_each(|buffer| buffer.wait(Fences::All))
}

/// The frame to queue to the first device after frame `n` went to the second. Its buffer is still
/// busy with an earlier frame, and queueing it blocks until the second device is done with that
/// one; so half of the buffers are left queued to the second device meanwhile.
fn refill(n: u32, buffers: u32) -> Option<u32> {
    let lag = buffers / 2;
    n.checked_sub(lag)?.checked_add(buffers)
}

/// Attaches a buffer to both devices. Exporters that keep a list of attachments have it in this order.
fn attach<W: Write>(
    job: Job<'_>,
    phases: &mut Subtests<'_, W>,
    buffer: &DmaBuf,
    iio: &IioBuffer,
    usb: &Endpoint,
) -> Result<(), Error> {
    if job.transfer.usb_first {
        usb.attach(buffer)?;
        phases.report(&attached(buffer, &usb.path()));
    }
    iio.attach(buffer)?;
    phases.report(&attached(buffer, iio.name()));
    if !job.transfer.usb_first {
        usb.attach(buffer)?;
        phases.report(&attached(buffer, &usb.path()));
    }
    Ok(())
}

/// ADC to USB host.
pub fn iio_to_usb<W: Write>(job: Job<'_>, phases: &mut Subtests<'_, W>) -> Result<Mismatch, Error> {
    let iio = phases.phase(|_| IioBuffer::open(Direction::In))?;
    let gadget = phases.phase(|_| Gadget::bring_up())?;
    let buffers = phases.phase(|p| {
        let buffers = job.allocate(p)?;
        for buffer in &buffers {
            attach(job, p, buffer, &iio, &gadget.bulk_in)?;
            if job.transfer.cpu_sync {
                // udmabuf in 6.12.117 hands its pages to a non-snooping device as they are, with
                // the zeros of their allocation still dirty in the cache; the end of a write
                // access cleans them.
                buffer.pretend(Access::Write)?;
            }
        }
        Ok(buffers)
    })?;
    let seen = phases.phase(|p| {
        if job.transfer.resume {
            resume::to_usb(job, &buffers, &iio, &gadget)?;
            finish(&buffers)?;
            return Ok(Mismatch::default());
        }
        relay(
            job,
            &buffers,
            Device::new(iio.name(), &|buffer, bytes| iio.enqueue(buffer, bytes)),
            Device::new(&gadget.bulk_in.path(), &|buffer, bytes| {
                gadget.bulk_in.transfer(buffer, bytes)
            }),
            // The start of a read access invalidates what the snooping device would hit.
            Access::Read,
            || iio.enable(),
        )?;
        Trailers::of(job).check_last(p, &buffers)
    })?;
    phases.phase(|_| {
        iio.disable()?;
        buffers.iter().try_for_each(|buffer| {
            iio.detach(buffer)?;
            gadget.bulk_in.detach(buffer)
        })
    })?;
    Ok(seen)
}

/// USB host to DAC.
pub fn usb_to_iio<W: Write>(job: Job<'_>, phases: &mut Subtests<'_, W>) -> Result<Mismatch, Error> {
    let iio = phases.phase(|_| IioBuffer::open(Direction::Out))?;
    let gadget = phases.phase(|_| Gadget::bring_up())?;
    let buffers = phases.phase(|p| {
        let buffers = job.allocate(p)?;
        for buffer in &buffers {
            attach(job, p, buffer, &iio, &gadget.bulk_out)?;
        }
        Ok(buffers)
    })?;
    let seen = phases.phase(|p| {
        if job.transfer.resume {
            resume::from_usb(job, &buffers, &iio, &gadget)?;
            finish(&buffers)?;
            return Ok(Mismatch::default());
        }
        relay(
            job,
            &buffers,
            Device::new(&gadget.bulk_out.path(), &|buffer, bytes| {
                gadget.bulk_out.transfer(buffer, bytes)
            }),
            Device::new(iio.name(), &|buffer, bytes| iio.enqueue(buffer, bytes)),
            // The end of a write access cleans what the snooping device left in the cache. A read
            // access would start with an invalidate and lose it.
            Access::Write,
            || iio.enable(),
        )?;
        Trailers::of(job).check_last(p, &buffers)
    })?;
    phases.phase(|_| {
        iio.disable()?;
        buffers.iter().try_for_each(|buffer| {
            iio.detach(buffer)?;
            gadget.bulk_out.detach(buffer)
        })
    })?;
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every frame goes first to the first device, then to the second, once each and in order,
        /// and a buffer is never given to the first device before its earlier frame went to the
        /// second: else there would be no fence to wait for.
        #[test]
        fn frames_are_queued_in_an_order_that_fences_can_hold(
            buffers in 1u32..9, frames in 1u32..40,
        ) {
            let mut first: Vec<u32> = (0..buffers.min(frames)).collect();
            for n in 0..frames {
                prop_assert!(first.contains(&n), "frame {n} reaches the second device first");
                if let Some(next) = refill(n, buffers).filter(|&next| next < frames) {
                    prop_assert!(next - buffers <= n);
                    first.push(next);
                }
            }
            prop_assert_eq!(first, (0..frames).collect::<Vec<_>>());
        }
    }
}
