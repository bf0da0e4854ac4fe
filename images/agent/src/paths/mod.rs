// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! One module per kind of data path. Each drives the real interfaces the way a careful program
//! would, and nothing more: no cache operation is asked for that the plan does not ask for.

use std::io::Write;

use staleline_guest::{DmaBuf, Error, Memory, Mount};
use staleline_protocol::pattern::{Mismatch, Pattern};
use staleline_protocol::plan::{DataPath, Transfer};
use staleline_protocol::report::Report;

use crate::ktap::{Ktap, Outcome, Subtests};

mod capture;
mod loopback;
mod playback;
mod relay;
mod resume;
mod trailer;
mod under_way;

/// What every path needs to know.
#[derive(Debug, Clone, Copy)]
struct Job<'a> {
    transfer: &'a Transfer,
    pattern: Pattern,
}

impl Job<'_> {
    /// Position in the stream, in bytes, and length of each frame.
    fn frames(&self) -> impl Iterator<Item = Frame> + '_ {
        let mut position = 0;
        (0..self.transfer.frames).map(move |number| {
            let bytes = self.transfer.bytes_of_frame(number);
            let frame = Frame {
                number,
                position,
                bytes,
            };
            position += bytes;
            frame
        })
    }

    /// Index of the buffer that holds frame `n`.
    fn slot(&self, n: u32) -> usize {
        self.transfer.parts.slot(n, self.transfer.buffers) as usize
    }

    /// Allocates and reports the buffers.
    fn allocate<W: Write>(&self, phases: &mut Subtests<'_, W>) -> Result<Vec<DmaBuf>, Error> {
        let t = self.transfer;
        let (offset, bytes) = (t.parts.offset_bytes, t.buffer_bytes);
        let behind = |index: u32, stride: u64| offset + u64::from(index) * stride;
        let shared = match t.parts.stride_bytes {
            Some(stride) => Some((Memory::new(behind(t.buffers - 1, stride) + bytes)?, stride)),
            None => None,
        };
        (0..t.buffers)
            .map(|index| {
                let buffer = match &shared {
                    Some((memory, stride)) => {
                        memory.udmabuf(index, behind(index, *stride), bytes)?
                    }
                    None if offset > 0 => {
                        Memory::new(offset + bytes)?.udmabuf(index, offset, bytes)?
                    }
                    None => DmaBuf::allocate(t.exporter, index, bytes)?,
                };
                phases.report(&allocated(&buffer));
                Ok(buffer)
            })
            .collect()
    }
}

/// The report of a buffer's allocation.
fn allocated(buffer: &DmaBuf) -> Report {
    Report::Buffer {
        index: buffer.index,
        exporter: buffer.exporter().name().into(),
        bytes: buffer.bytes(),
        extents: buffer.extents().to_vec(),
        va: buffer.address() as u64,
    }
}

/// The report of its attachment to a device.
fn attached(buffer: &DmaBuf, to: &str) -> Report {
    Report::Attached {
        buffer: buffer.index,
        to: to.into(),
    }
}

/// One frame of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    number: u32,
    position: u64,
    bytes: u64,
}

/// Judges the data that user space has seen.
fn data_outcome(seen: &Mismatch) -> Outcome {
    match seen.first {
        None => Outcome::Pass,
        Some(first) => Outcome::Fail(format!(
            "{} of {} bytes wrong, the first at byte {first} of the stream",
            seen.corrupt, seen.bytes
        )),
    }
}

/// What has come of a path. That the kernel refuses a buffer is an answer to the test, and nothing that kept
/// it from being carried out.
fn ended(result: &Result<Mismatch, Error>) -> (Outcome, Option<Report>) {
    match result {
        Ok(seen) => (data_outcome(seen), None),
        Err(e @ Error::Refused { buffer, to, source }) => {
            let report = Report::Refused {
                buffer: *buffer,
                to: to.clone(),
                error: source.raw_os_error().unwrap_or_default(),
            };
            (Outcome::Fail(e.to_string()), Some(report))
        }
        Err(e) => (Outcome::Error(e.to_string()), None),
    }
}

fn phases_of(path: DataPath) -> (&'static str, &'static [&'static str]) {
    match path {
        DataPath::IioCapture => ("iio-capture", &capture::PHASES),
        DataPath::IioPlayback => ("iio-playback", &playback::PHASES),
        DataPath::UsbLoopback => ("usb-loopback", &loopback::PHASES),
        DataPath::IioToUsb => ("iio-to-usb", &relay::PHASES),
        DataPath::UsbToIio => ("usb-to-iio", &relay::PHASES),
    }
}

/// What the test of a transfer is called.
pub fn name(transfer: &Transfer) -> &'static str {
    phases_of(transfer.path).0
}

/// Carries out a transfer as the next test of `ktap`.
pub fn run<W: Write>(ktap: &mut Ktap<W>, seed: u64, transfer: &Transfer) -> Result<(), Error> {
    let job = Job {
        transfer,
        pattern: Pattern::new(seed),
    };
    let (name, names) = phases_of(transfer.path);
    let mut phases = ktap.subtests(names);
    let result = Mount::Dev.mount().and_then(|()| match transfer.path {
        DataPath::IioCapture => capture::run(job, &mut phases),
        DataPath::IioPlayback => playback::run(job, &mut phases),
        DataPath::UsbLoopback => loopback::run(job, &mut phases),
        DataPath::IioToUsb => relay::iio_to_usb(job, &mut phases),
        DataPath::UsbToIio => relay::usb_to_iio(job, &mut phases),
    });
    phases.finish();
    let (outcome, refused) = ended(&result);
    if let Some(report) = &refused {
        ktap.report(report);
    }
    ktap.test(name, &outcome);
    match refused {
        Some(_) => Ok(()),
        None => result.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use staleline_protocol::plan::{Exporter, Parts};

    use super::*;

    #[test]
    fn frames_tile_the_stream() {
        let transfer = Transfer {
            path: DataPath::IioCapture,
            exporter: Exporter::System,
            buffers: 2,
            frames: 3,
            buffer_bytes: 4096,
            frame_bytes: 4096,
            last_frame_bytes: Some(8),
            cpu_sync: true,
            resume: false,
            usb_first: false,
            read_detached: false,
            parts: Parts::default(),
        };
        let job = Job {
            transfer: &transfer,
            pattern: Pattern::new(0),
        };
        let frames: Vec<_> = job
            .frames()
            .map(|f| (f.number, f.position, f.bytes))
            .collect();
        assert_eq!(frames, [(0, 0, 4096), (1, 4096, 4096), (2, 8192, 8)]);
        assert_eq!([0, 1, 2].map(|n| job.slot(n)), [0, 1, 0]);
    }

    #[test]
    fn names_are_those_of_the_plan() {
        for path in DataPath::ALL {
            let json = serde_json::to_string(&path).unwrap();
            assert_eq!(json, format!("{:?}", phases_of(path).0));
        }
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let error = Error::Refused {
            buffer: 1,
            to: "/dev/ffs/ep1".into(),
            source: std::io::Error::from_raw_os_error(95),
        };
        let (outcome, report) = ended(&Err(error));
        assert!(matches!(outcome, Outcome::Fail(why) if why.contains("DMABUF 1 to /dev/ffs/ep1")));
        let refused = Report::Refused {
            buffer: 1,
            to: "/dev/ffs/ep1".into(),
            error: 95,
        };
        assert_eq!(report, Some(refused));
        let untold = Error::Untold { what: "x".into() };
        assert!(matches!(ended(&Err(untold)), (Outcome::Error(_), None)));
    }

    #[test]
    fn wrong_data_fails_without_being_an_error() {
        let good = Pattern::new(1).check(0, &[]);
        assert_eq!(data_outcome(&good), Outcome::Pass);
        let bad = Pattern::new(1).check(64, &[0; 8]);
        assert!(matches!(data_outcome(&bad), Outcome::Fail(why) if why.contains("byte 64")));
    }
}
