// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which parts of memory DMABUFs are, in which order they are used, and what the CPU writes behind
//! frames: what may be asked for.

use staleline_protocol::plan::{DataPath, Exporter, When};

use super::Transfer;

/// Guest page size in bytes; DMABUFs are multiples of it.
pub const PAGE: u64 = 4096;

/// Bytes of the largest alignment of a trailer.
pub const ALIGN: u64 = PAGE;

/// What is wrong with them, for people; `room` is what all DMABUFs may take.
pub(super) fn check(t: &Transfer, room: u64) -> Result<(), String> {
    let set = [
        ("offset-bytes", t.offset_bytes > 0),
        ("stride-bytes", t.stride_bytes.is_some()),
        ("order", !t.order.is_empty()),
        ("trailer", t.trailer.is_some()),
    ];
    let first = set.iter().find(|(_, is_set)| *is_set);
    if let Some((key, _)) = first
        && t.path == DataPath::UsbLoopback
    {
        return Err(format!(
            "transfer.{key} is not for usb-loopback, which has no DMABUF: FunctionFS copies"
        ));
    }
    placed(t, room)?;
    let mut order = t.order.clone();
    order.sort_unstable();
    if !order.is_empty() && !order.iter().copied().eq(0..t.buffers) {
        return Err(format!(
            "transfer.order must name each of the {} DMABUFs once, from 0 to {}",
            t.buffers,
            t.buffers.saturating_sub(1)
        ));
    }
    trailer(t)
}

/// The same of what goes with a host that cuts transfers off.
pub(super) fn check_cuts(t: &Transfer, cuts: bool) -> Result<(), String> {
    let key = match (&t.trailer, &t.order[..]) {
        (Some(_), _) => "trailer",
        (None, [_, ..]) => "order",
        (None, []) => return Ok(()),
    };
    if !cuts {
        return Ok(());
    }
    Err(format!(
        "transfer.{key} cannot be set beside usb.incidents and faults host@N that break transfers off: frames then go to \
         DMABUFs as these come back"
    ))
}

fn placed(t: &Transfer, room: u64) -> Result<(), String> {
    let parts = [
        ("offset-bytes", Some(t.offset_bytes).filter(|b| *b > 0)),
        ("stride-bytes", t.stride_bytes),
    ];
    for (key, bytes) in parts {
        let Some(bytes) = bytes else {
            continue;
        };
        if t.exporter != Exporter::Udmabuf {
            return Err(format!(
                "transfer.{key} needs transfer.exporter = \"udmabuf\": a DMABUF of {} is memory of its \
                 own, and IIO and FunctionFS transfer a DMABUF from its first byte on (their ioctls have \
                 a length and no offset); only a udmabuf can begin in the middle of other memory",
                t.exporter.name()
            ));
        }
        if bytes == 0 || !bytes.is_multiple_of(PAGE) {
            return Err(format!(
                "transfer.{key} = {bytes} must be a multiple of {PAGE}: udmabufs are made of whole pages"
            ));
        }
    }
    let end = end(t);
    let buffers = u64::from(t.buffers);
    let all = match t.stride_bytes {
        Some(stride) if stride < end => {
            return Err(format!(
                "transfer.stride-bytes = {stride} must be at least {end}, where a frame (with its \
                 trailer) ends: else it lies in the next one"
            ));
        }
        // Frames are within the buffer, and so this is at most a few times the room, or refused.
        Some(stride) => stride
            .saturating_mul(buffers.saturating_sub(1))
            .saturating_add(t.offset_bytes)
            .saturating_add(t.buffer_bytes),
        None => t
            .offset_bytes
            .saturating_add(t.buffer_bytes)
            .saturating_mul(buffers),
    };
    if all > room {
        return Err(format!(
            "with transfer.offset-bytes and transfer.stride-bytes, the DMABUFs need {all} bytes of memory, \
             more than a quarter of the guest's RAM ({room}): reduce one, or raise board.ram-mib"
        ));
    }
    Ok(())
}

/// Where what is written of a DMABUF ends.
fn end(t: &Transfer) -> u64 {
    let frame = longest(t);
    let trailer = t.trailer.as_ref();
    trailer.map_or(frame, |trailer| {
        let align = trailer.align.clamp(1, ALIGN);
        frame.next_multiple_of(align).saturating_add(trailer.bytes)
    })
}

fn longest(t: &Transfer) -> u64 {
    t.frame_bytes.max(t.last_frame_bytes.unwrap_or(0))
}

fn trailer(t: &Transfer) -> Result<(), String> {
    let Some(trailer) = &t.trailer else {
        return Ok(());
    };
    if !trailer.align.is_power_of_two() || !(8..=ALIGN).contains(&trailer.align) {
        return Err(format!(
            "transfer.trailer.align = {} must be a power of two from 8 to {ALIGN}",
            trailer.align
        ));
    }
    let end = end(t);
    if trailer.bytes == 0 || !trailer.bytes.is_multiple_of(8) || end > t.buffer_bytes {
        return Err(format!(
            "transfer.trailer.bytes = {} must be a multiple of 8, at least 8, and fit behind a frame of {} \
             bytes into transfer.buffer-bytes ({})",
            trailer.bytes,
            longest(t),
            t.buffer_bytes
        ));
    }
    let two = [DataPath::IioToUsb, DataPath::UsbToIio].contains(&t.path);
    if trailer.when == When::Between && !two {
        return Err(
            "transfer.trailer.when = \"between\" is for iio-to-usb and usb-to-iio: on the other paths no \
             second device follows"
                .into(),
        );
    }
    Ok(())
}
