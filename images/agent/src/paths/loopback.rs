// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! USB host to gadget and back through FunctionFS read and write: no DMABUF, the kernel's own
//! buffers only. The host checks the data; the check here tells which of the two legs lost it.

use std::io::Write;

use staleline_guest::{Error, Gadget};
use staleline_protocol::pattern::Mismatch;
use staleline_protocol::report::Report;

use super::resume::ATTEMPTS;
use super::{Frame, Job, data_outcome};
use crate::ktap::Subtests;

pub const PHASES: [&str; 3] = ["gadget", "loopback", "data"];

pub fn run<W: Write>(job: Job<'_>, phases: &mut Subtests<'_, W>) -> Result<Mismatch, Error> {
    let gadget = phases.phase(|_| Gadget::bring_up())?;
    let seen = phases.phase(|p| {
        let mut seen = Mismatch::default();
        for frame in job.frames() {
            let found = echo(job, &gadget, frame)?;
            p.report(&Report::Data {
                frame: frame.number,
                buffer: 0,
                bytes: found.bytes,
                corrupt: found.corrupt,
                first_corrupt: found.first,
            });
            seen.merge(found);
        }
        Ok(seen)
    })?;
    phases.result(&data_outcome(&seen));
    Ok(seen)
}

/// Receives a frame, checks it and sends it back. If the host cuts that off, it starts over.
fn echo(job: Job<'_>, gadget: &Gadget, frame: Frame) -> Result<Mismatch, Error> {
    // A frame is at most a buffer, which fits in memory or could not have been planned.
    let bytes = usize::try_from(frame.bytes).unwrap_or(usize::MAX);
    let mut attempts = 0;
    loop {
        let result = gadget.bulk_out.receive(vec![0; bytes]).and_then(|buf| {
            let found = job.pattern.check(frame.position, &buf);
            gadget.bulk_in.send(buf).map(|_| found)
        });
        match result {
            Err(e) if job.transfer.resume && e.is_cancelled() && attempts < ATTEMPTS => {
                attempts += 1;
                gadget.wait_until_enabled()?;
            }
            other => return other,
        }
    }
}
