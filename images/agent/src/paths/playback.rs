// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! User space fills a DMABUF through its mapping, a converter plays it. The converter's sink
//! checks the data.

use std::io::Write;

use staleline_guest::{Access, Direction, Error, Fences, IioBuffer};
use staleline_protocol::pattern::Mismatch;
use staleline_protocol::plan::When;

use super::trailer::Trailers;
use super::under_way::UnderWay;
use super::{Job, attached};
use crate::ktap::Subtests;

pub const PHASES: [&str; 4] = ["devices", "buffers", "playback", "teardown"];

pub fn run<W: Write>(job: Job<'_>, phases: &mut Subtests<'_, W>) -> Result<Mismatch, Error> {
    let t = job.transfer;
    let iio = phases.phase(|_| IioBuffer::open(Direction::Out))?;
    let buffers = phases.phase(|p| {
        let buffers = job.allocate(p)?;
        for buffer in &buffers {
            iio.attach(buffer)?;
            p.report(&attached(buffer, iio.name()));
        }
        Ok(buffers)
    })?;

    let trailers = Trailers::of(job);
    let seen = phases.phase(|p| {
        // The converter starts when all buffers, or all frames, are queued.
        let start = t.buffers.min(t.frames) - 1;
        let mut under_way = UnderWay::new(iio.name());
        for frame in job.frames() {
            let buffer = &buffers[job.slot(frame.number)];
            if frame.number >= t.buffers {
                buffer.wait(Fences::All)?;
                under_way.look()?;
            }
            let mut access = buffer.cpu_access(Access::Write, t.cpu_sync)?;
            access.fill(job.pattern, frame.position, frame.bytes);
            access.end()?;
            trailers.write(When::Before, frame.number, buffer)?;
            iio.enqueue(buffer, frame.bytes)?;
            under_way.queued(frame.number, buffer)?;
            if frame.number == start {
                iio.enable()?;
            }
            // Those that were queued before the converter was started come with the one that starts it.
            let first = if frame.number == start {
                0
            } else {
                frame.number
            };
            for n in first..=frame.number {
                if frame.number >= start {
                    trailers.write(When::During, n, &buffers[job.slot(n)])?;
                }
            }
        }
        buffers
            .iter()
            .try_for_each(|buffer| buffer.wait(Fences::All))?;
        under_way.look()?;
        trailers.check_last(p, &buffers)
    })?;

    phases.phase(|_| {
        iio.disable()?;
        buffers.iter().try_for_each(|buffer| iio.detach(buffer))
    })?;
    Ok(seen)
}
