// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a scenario can do without, and what there can be less of.

use crate::scenario::Scenario;
use crate::scenario::limits::{FRAME_ALIGN, PAGE};

/// Something that can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// A fault, by its place in the list.
    Fault(usize),
    /// An incident, likewise.
    Incident(usize),
    /// What the CPU writes behind frames.
    Trailer,
    /// The order of DMABUFs.
    Order,
    /// Where DMABUFs begin.
    Offset,
    /// That they are parts of one memory.
    Stride,
    /// Which device is attached first.
    UsbFirst,
    /// That DMABUFs are detached before they are read.
    ReadDetached,
    /// Sizes of the host's transfers.
    Sizes,
    /// That devices are late.
    Jitter,
}

/// All that a scenario has.
pub fn of(s: &Scenario) -> Vec<Part> {
    let faults = (0..s.faults.inject.len()).map(Part::Fault);
    let incidents = (0..s.usb.incidents.len()).map(Part::Incident);
    let transfer = s.transfer.as_ref();
    let has = |part: Part, there: bool| there.then_some(part);
    let others = [
        has(Part::Jitter, s.board.jitter_ticks > 0),
        has(Part::Sizes, !s.usb.sizes.is_empty()),
        has(Part::Trailer, transfer.is_some_and(|t| t.trailer.is_some())),
        has(Part::Order, transfer.is_some_and(|t| !t.order.is_empty())),
        has(Part::Offset, transfer.is_some_and(|t| t.offset_bytes > 0)),
        has(
            Part::Stride,
            transfer.is_some_and(|t| t.stride_bytes.is_some()),
        ),
        has(Part::UsbFirst, transfer.is_some_and(|t| t.usb_first)),
        has(
            Part::ReadDetached,
            transfer.is_some_and(|t| t.read_detached),
        ),
    ];
    faults
        .chain(incidents)
        .chain(others.into_iter().flatten())
        .collect()
}

/// The scenario with no parts but these.
pub fn only(s: &Scenario, kept: &[Part]) -> Scenario {
    let mut to = s.clone();
    let keeps = |part: Part| kept.contains(&part);
    let mut n = 0..;
    to.faults
        .inject
        .retain(|_| n.next().is_some_and(|n| keeps(Part::Fault(n))));
    let mut n = 0..;
    to.usb
        .incidents
        .retain(|_| n.next().is_some_and(|n| keeps(Part::Incident(n))));
    if !keeps(Part::Jitter) {
        to.board.jitter_ticks = 0;
    }
    if !keeps(Part::Sizes) {
        to.usb.sizes.clear();
    }
    let Some(t) = &mut to.transfer else {
        return to;
    };
    if !keeps(Part::Trailer) {
        t.trailer = None;
    }
    if !keeps(Part::Order) {
        t.order.clear();
    }
    if !keeps(Part::Offset) {
        t.offset_bytes = 0;
    }
    if !keeps(Part::Stride) {
        t.stride_bytes = None;
    }
    t.usb_first &= keeps(Part::UsbFirst);
    t.read_detached &= keeps(Part::ReadDetached);
    to
}

/// Something that there can be less of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Number {
    /// CPUs.
    Cpus,
    /// Where an incident is, by its place in the list: whole frames earlier, or else it would keep the frames
    /// before it.
    Incident(usize),
    /// Frames, and with them what is before each incident: one at the end stays there.
    FramesBefore,
    /// Frames.
    Frames,
    /// DMABUFs.
    Buffers,
    /// Bytes of a frame.
    FrameBytes,
    /// Bytes of the last frame.
    LastFrameBytes,
    /// Bytes of a DMABUF.
    BufferBytes,
    /// Copies of dmatest.
    Iterations,
    /// Bytes of its buffers.
    DmatestBytes,
    /// Rounds of the work on the disk that the guest boots from.
    DiskRounds,
    /// Bytes of its files.
    DiskBytes,
    /// Stretches that are written to a disk.
    RawRounds,
    /// Bytes of each.
    RawBytes,
}

/// How much of it there is, and how little there may be: never nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Now.
    pub value: u64,
    /// At least.
    pub least: u64,
    /// Between two that can be told apart.
    pub step: u64,
}

impl Number {
    /// All that a scenario has, in the order in which they are made less.
    pub fn of(s: &Scenario) -> Vec<Self> {
        use Number::{
            BufferBytes, Buffers, Cpus, DiskBytes, DiskRounds, DmatestBytes, FrameBytes, Frames,
            FramesBefore, Incident, Iterations, LastFrameBytes, RawBytes, RawRounds,
        };
        let incidents = (0..s.usb.incidents.len()).map(Incident);
        let others = [
            FramesBefore,
            Frames,
            Buffers,
            FrameBytes,
            LastFrameBytes,
            BufferBytes,
            Iterations,
            DmatestBytes,
            DiskRounds,
            DiskBytes,
            RawRounds,
            RawBytes,
        ];
        let all = std::iter::once(Cpus).chain(incidents).chain(others);
        all.filter(|number| number.amount(s).is_some()).collect()
    }

    /// How much there is of it; none if the scenario has no such thing.
    pub fn amount(self, s: &Scenario) -> Option<Amount> {
        let amount = |value: u64, least: u64, step: u64| Amount { value, least, step };
        let transfer = s.transfer.as_ref();
        match self {
            Number::Cpus => Some(amount(s.board.cpus.into(), 1, 1)),
            Number::Incident(n) => {
                let after = s.usb.incidents.get(n)?.after_bytes;
                let frame = transfer?.frame_bytes.max(1);
                Some(amount(after, after % frame, frame))
            }
            Number::FramesBefore if s.usb.incidents.is_empty() => None,
            Number::FramesBefore | Number::Frames => {
                transfer.map(|t| amount(t.frames.into(), 1, 1))
            }
            Number::Buffers => transfer.map(|t| amount(t.buffers.into(), 1, 1)),
            Number::FrameBytes => transfer.map(|t| amount(t.frame_bytes, FRAME_ALIGN, FRAME_ALIGN)),
            Number::LastFrameBytes => transfer?
                .last_frame_bytes
                .map(|b| amount(b, FRAME_ALIGN, FRAME_ALIGN)),
            Number::BufferBytes => transfer.map(|t| amount(t.buffer_bytes, PAGE, PAGE)),
            Number::Iterations => s
                .dmatest
                .as_ref()
                .map(|d| amount(d.iterations.into(), 1, 1)),
            Number::DmatestBytes => s
                .dmatest
                .as_ref()
                .map(|d| amount(d.buffer_bytes.into(), 1, 1)),
            // None is a boot from the disk.
            Number::DiskRounds => {
                let disk = s.disk.as_ref().filter(|d| d.rounds > 0);
                disk.map(|d| amount(d.rounds.into(), 1, 1))
            }
            Number::DiskBytes => s
                .disk
                .as_ref()
                .map(|d| amount(d.file_bytes.into(), PAGE, PAGE)),
            Number::RawRounds => s.raw_disk.as_ref().map(|d| amount(d.rounds.into(), 1, 1)),
            Number::RawBytes => s
                .raw_disk
                .as_ref()
                .map(|d| amount(d.bytes.into(), PAGE, PAGE)),
        }
    }

    /// The scenario with that much of it, which is not more than it had.
    pub fn set(self, s: &Scenario, value: u64) -> Scenario {
        let mut to = s.clone();
        let short = u32::try_from(value).unwrap_or(u32::MAX);
        match (self, &mut to.transfer, &mut to.dmatest) {
            (Number::Cpus, ..) => to.board.cpus = u8::try_from(value).unwrap_or(u8::MAX),
            (Number::Incident(n), ..) => {
                if let Some(incident) = to.usb.incidents.get_mut(n) {
                    incident.after_bytes = value;
                }
            }
            (Number::FramesBefore, Some(t), _) => {
                let gone = u64::from(t.frames.saturating_sub(short));
                let gone = gone.saturating_mul(t.frame_bytes);
                for incident in &mut to.usb.incidents {
                    let least = incident.after_bytes % t.frame_bytes.max(1);
                    incident.after_bytes = incident.after_bytes.saturating_sub(gone).max(least);
                }
                t.frames = short;
            }
            (Number::Frames, Some(t), _) => t.frames = short,
            (Number::Buffers, Some(t), _) => t.buffers = short,
            (Number::FrameBytes, Some(t), _) => {
                t.frame_bytes = value;
                // It may not be longer than the others.
                t.last_frame_bytes = t.last_frame_bytes.map(|last| last.min(value));
            }
            (Number::LastFrameBytes, Some(t), _) => t.last_frame_bytes = Some(value),
            (Number::BufferBytes, Some(t), _) => t.buffer_bytes = value,
            (Number::Iterations, _, Some(d)) => d.iterations = short,
            (Number::DmatestBytes, _, Some(d)) => d.buffer_bytes = short,
            _ => {}
        }
        if let Some(disk) = &mut to.disk {
            match self {
                Number::DiskRounds => disk.rounds = short,
                Number::DiskBytes => disk.file_bytes = short,
                _ => {}
            }
        }
        if let Some(disk) = &mut to.raw_disk {
            match self {
                Number::RawRounds => disk.rounds = short,
                Number::RawBytes => disk.bytes = short,
                _ => {}
            }
        }
        to
    }
}

/// How large a scenario is, for people.
pub fn told(s: &Scenario) -> String {
    let many = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let mut all = Vec::new();
    if let Some(t) = &s.transfer {
        all.push(many(t.frames.into(), "frame"));
        all.push(many(t.buffers.into(), "buffer"));
        all.push(many(t.frame_bytes, "byte") + " a frame");
    }
    if let Some(d) = &s.dmatest {
        all.push(many(d.iterations.into(), "copy").replace("copys", "copies"));
    }
    all.push(many(s.faults.inject.len() as u64, "fault"));
    all.push(many(s.usb.incidents.len() as u64, "incident"));
    all.push(many(s.board.cpus.into(), "CPU"));
    all.join(", ")
}
