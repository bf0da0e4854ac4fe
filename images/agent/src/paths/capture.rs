// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Converter to DMABUF, checked by user space through its mapping.

use std::io::Write;
use std::time::Duration;

use staleline_guest::{Access, Direction, DmaBuf, Error, Fences, IioBuffer};
use staleline_protocol::pattern::Mismatch;
use staleline_protocol::plan::When;
use staleline_protocol::report::Report;

use super::trailer::Trailers;
use super::under_way::UnderWay;
use super::{Job, attached, data_outcome};
use crate::ktap::Subtests;

pub const PHASES: [&str; 5] = ["devices", "buffers", "capture", "data", "teardown"];

/// User space reads and nobody but the device writes, so all that the dma-buf API asks for is a
/// wait for the device's fence and then SYNC around the reads. Making the buffer ready for the
/// device, before the first frame too, is the business of the kernel.
pub fn run<W: Write>(job: Job<'_>, phases: &mut Subtests<'_, W>) -> Result<Mismatch, Error> {
    let t = job.transfer;
    let iio = phases.phase(|_| IioBuffer::open(Direction::In))?;
    let buffers = phases.phase(|p| {
        let buffers = job.allocate(p)?;
        for buffer in &buffers {
            iio.attach(buffer)?;
            p.report(&attached(buffer, iio.name()));
        }
        Ok(buffers)
    })?;
    let trailers = Trailers::of(job);
    let detached = |buffer| match t.read_detached {
        true => detach(&iio, buffer),
        false => Ok(()),
    };

    let seen = phases.phase(|p| {
        let mut under_way = UnderWay::new(iio.name());
        let enqueue = |n: u32, under_way: &mut UnderWay<'_>| {
            let buffer = &buffers[job.slot(n)];
            trailers.write(When::Before, n, buffer)?;
            iio.enqueue(buffer, t.bytes_of_frame(n))?;
            under_way.queued(n, buffer)
        };
        for n in 0..t.buffers.min(t.frames) {
            enqueue(n, &mut under_way)?;
        }
        iio.enable()?;
        for n in 0..t.buffers.min(t.frames) {
            trailers.write(When::During, n, &buffers[job.slot(n)])?;
        }
        let mut seen = Mismatch::default();
        for frame in job.frames() {
            let buffer = &buffers[job.slot(frame.number)];
            buffer.wait(Fences::Writers)?;
            under_way.look()?;
            detached(buffer)?;
            let access = buffer.cpu_access(Access::Read, t.cpu_sync)?;
            let found = access.check(job.pattern, frame.position, frame.bytes);
            let written = trailers.check(frame.number, buffer, &access);
            access.end()?;
            p.report(&Report::Data {
                frame: frame.number,
                buffer: buffer.index,
                bytes: found.bytes,
                corrupt: found.corrupt,
                first_corrupt: found.first,
            });
            seen.merge(found);
            if let Some((report, found)) = written {
                p.report(&report);
                seen.merge(found);
            }
            if let Some(next) = frame.number.checked_add(t.buffers)
                && next < t.frames
            {
                if t.read_detached {
                    iio.attach(buffer)?;
                }
                enqueue(next, &mut under_way)?;
                trailers.write(When::During, next, buffer)?;
            }
        }
        Ok(seen)
    })?;
    phases.result(&data_outcome(&seen));

    phases.phase(|_| {
        iio.disable()?;
        // Each of them has been read, and detached for that.
        if t.read_detached {
            return Ok(());
        }
        buffers.iter().try_for_each(|buffer| iio.detach(buffer))
    })?;
    Ok(seen)
}

/// Time for the kernel to let go of a detached DMABUF: a worker drops the last reference to the
/// attachment after it has signalled the fence of the transfer (iio_buffer_cleanup() in
/// industrialio-buffer.c).
const LET_GO: Duration = Duration::from_millis(2);

fn detach(iio: &IioBuffer, buffer: &DmaBuf) -> Result<(), Error> {
    iio.detach(buffer)?;
    std::thread::sleep(LET_GO);
    Ok(())
}
