// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What user space writes behind frames, while devices have them or not, and looks for later.

use std::io::Write;

use staleline_guest::{Access, CpuAccess, DmaBuf, Error};
use staleline_protocol::pattern::Mismatch;
use staleline_protocol::plan::{Trailer, TrailerSync, When};
use staleline_protocol::report::Report;

use super::Job;
use crate::ktap::Subtests;

/// The trailers of a job, if it has any.
#[derive(Clone, Copy)]
pub struct Trailers<'a> {
    job: Job<'a>,
    trailer: Option<&'a Trailer>,
}

impl<'a> Trailers<'a> {
    /// Those of the plan.
    pub fn of(job: Job<'a>) -> Self {
        let trailer = job.transfer.parts.trailer.as_ref();
        Trailers { job, trailer }
    }

    /// Whether they are written then.
    pub fn are(&self, when: When) -> bool {
        self.trailer.is_some_and(|t| t.when == when)
    }

    /// Writes that of a frame, if it is due now.
    pub fn write(&self, when: When, frame: u32, buffer: &DmaBuf) -> Result<(), Error> {
        let Some(trailer) = self.trailer.filter(|t| t.when == when) else {
            return Ok(());
        };
        let (access, sync) = match trailer.sync {
            TrailerSync::Rw => (Access::ReadWrite, true),
            TrailerSync::Write => (Access::Write, true),
            TrailerSync::None => (Access::Write, false),
        };
        let place = trailer.place(self.job.transfer.bytes_of_frame(frame));
        let mut access = buffer.cpu_access(access, sync)?;
        let position = trailer.position(frame);
        access.fill_at(place, self.job.pattern, position, trailer.bytes);
        access.end()
    }

    /// Whether that of a frame is still what was written. It is told as a frame behind all of the plan's,
    /// so that it counts as wrong data and not as data that had to come.
    pub fn check(
        &self,
        frame: u32,
        buffer: &DmaBuf,
        access: &CpuAccess<'_>,
    ) -> Option<(Report, Mismatch)> {
        let (trailer, t) = (self.trailer?, self.job.transfer);
        let place = trailer.place(t.bytes_of_frame(frame));
        let position = trailer.position(frame);
        let found = access.check_at(place, self.job.pattern, position, trailer.bytes);
        let report = Report::Data {
            frame: t.frames.saturating_add(frame),
            buffer: buffer.index,
            bytes: found.bytes,
            corrupt: found.corrupt,
            first_corrupt: found.first,
        };
        Some((report, found))
    }

    /// Looks for those of the last frames in all buffers, when the devices are done.
    pub fn check_last<W: Write>(
        &self,
        phases: &mut Subtests<'_, W>,
        buffers: &[DmaBuf],
    ) -> Result<Mismatch, Error> {
        let mut seen = Mismatch::default();
        let Some(trailer) = self.trailer else {
            return Ok(seen);
        };
        let t = self.job.transfer;
        for frame in t.frames.saturating_sub(t.buffers)..t.frames {
            let buffer = &buffers[self.job.slot(frame)];
            let access = buffer.cpu_access(Access::Read, trailer.sync != TrailerSync::None)?;
            let found = self.check(frame, buffer, &access);
            access.end()?;
            if let Some((report, found)) = found {
                phases.report(&report);
                seen.merge(found);
            }
        }
        Ok(seen)
    }
}
