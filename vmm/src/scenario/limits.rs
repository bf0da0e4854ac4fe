// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Bounds on what a scenario may ask for, so that a file cannot exhaust host or guest.

use staleline_devices::cpu::MAX_CPUS;
use staleline_devices::jitter::MAX_TICKS;
use staleline_protocol::plan::{DataPath, DiskTest, DmaTest, Exporter, RawDisk};

use super::{SCHEMA, Scenario, Transfer, exec, guest, modules, parts, ranges, usb};
use crate::board::Board;
use crate::board::pci;
use crate::board::settings::BoardSettings;
use crate::events::filter::LIMIT_MIB;
use crate::exit::Error;

pub use super::outside::TOTAL_BYTES;
pub use super::parts::PAGE;

/// CPUs of the board.
pub const CPUS: std::ops::RangeInclusive<u32> = 1..=MAX_CPUS as u32;
/// Guest RAM in MiB below 4 GiB, from 1 GiB on.
pub const RAM_MIB: std::ops::RangeInclusive<u32> = 64..=3072;
/// More of it in MiB, from 4 GiB on. The guest's kernel needs a 64th of it to describe its pages.
pub const RAM_HIGH_MIB: std::ops::RangeInclusive<u32> = 0..=16384;
/// Host seconds.
pub const TIMEOUT_SECONDS: std::ops::RangeInclusive<u32> = 1..=3600;
/// DMABUFs.
pub const BUFFERS: std::ops::RangeInclusive<u32> = 1..=64;
/// Frames.
pub const FRAMES: std::ops::RangeInclusive<u32> = 1..=65_536;
/// The guest kernel's pool of contiguous memory in bytes (CONFIG_CMA_SIZE_MBYTES).
pub const CMA_BYTES: u64 = 16 << 20;
/// Frames are multiples of this many bytes: the converters' bus width.
pub const FRAME_ALIGN: u64 = 8;

/// Copies of dmatest.
pub const ITERATIONS: std::ops::RangeInclusive<u32> = 1..=65_536;
/// Bytes of each of dmatest's buffers; kmalloc() has a limit.
pub const DMATEST_BYTES: std::ops::RangeInclusive<u32> = 1..=1 << 20;

/// Rounds of the work on a disk.
pub const ROUNDS: std::ops::RangeInclusive<u32> = 0..=64;
/// Bytes of all files that are written; the disk has 16 MiB, with the agent on it.
pub const DISK_BYTES: u64 = 8 << 20;

/// Bytes of what is written to a disk in one round: there is a buffer of that size.
pub const RAW_BYTES: u64 = 8 << 20;

/// Checks all bounds.
///
/// # Errors
/// [`Error::Limit`] that names the key, the value, and what is allowed.
pub fn check(scenario: &Scenario, origin: &str) -> Result<(), Error> {
    find(scenario).map_err(|what| Error::Limit {
        origin: origin.to_owned(),
        what,
    })
}

fn find(s: &Scenario) -> Result<(), String> {
    if s.schema != SCHEMA {
        return Err(format!(
            "schema = {} is not known; this program reads schema = {SCHEMA}",
            s.schema
        ));
    }
    if !is_name(&s.name) {
        return Err(format!(
            "name = {:?} must be 1 to 64 lower-case letters, digits and dashes, with no dash at either end",
            s.name
        ));
    }
    within("timeout-seconds", s.timeout_seconds, TIMEOUT_SECONDS)?;
    within("board.ram-mib", s.board.ram_mib, RAM_MIB)?;
    within("board.ram-high-mib", s.board.ram_high_mib, RAM_HIGH_MIB)?;
    within("log.limit-mib", s.log.limit_mib, LIMIT_MIB)?;
    within("board.cpus", s.board.cpus.into(), CPUS)?;
    ranges::check(&s.board)?;
    within("board.jitter-ticks", s.board.jitter_ticks, 0..=MAX_TICKS)?;
    if let Some(t) = &s.transfer {
        transfer(t, &s.board)?;
    }
    if let Some(test) = &s.dmatest {
        dmatest(test, s)?;
    }
    if let Some(test) = &s.disk {
        disk(test, s)?;
    }
    if let Some(test) = &s.raw_disk {
        raw_disk(test, s)?;
    }
    if let Some(settings) = &s.board.pci {
        pci::check(settings)?;
    }
    guest::check(&s.guest, s.board.cpus)?;
    exec::check(&s.guest)?;
    modules::check(&s.guest)?;
    if !s.guest.modules.is_empty() && s.disk.is_some() {
        return Err(
            "there is guest.modules beside [disk]: a guest that boots from the disk has no other files"
                .into(),
        );
    }
    if s.guest.has_program() && (s.transfer.is_some() || s.dmatest.is_some() || s.disk.is_some()) {
        return Err(
            "there is guest.exec beside [transfer], [dmatest] or [disk]: leave one of them out"
                .into(),
        );
    }
    if let Some(t) = &s.transfer {
        parts::check_cuts(t, s.cuts())?;
    }
    usb::check(s)
}

/// Directories are named so, and options begin with a dash.
fn is_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends = name.starts_with('-') || name.ends_with('-');
    (1..=64).contains(&name.len()) && name.chars().all(legal) && !ends
}

/// Checks that DMABUFs from the kernel's pool of contiguous memory fit into it, on our own kernels.
///
/// # Errors
/// [`Error::Limit`].
pub fn check_pool(scenario: &Scenario, origin: &str) -> Result<(), Error> {
    let Some(t) = &scenario.transfer else {
        return Ok(());
    };
    let all = t.buffer_bytes.saturating_mul(t.buffers.into());
    if t.exporter != Exporter::Cma || all <= CMA_BYTES {
        return Ok(());
    }
    Err(Error::Limit {
        origin: origin.to_owned(),
        what: format!(
            "transfer.buffers * transfer.buffer-bytes = {all} is more than the {CMA_BYTES} bytes that \
             the guest kernel has for exporter cma: reduce one, or use another exporter"
        ),
    })
}

fn dmatest(test: &DmaTest, s: &Scenario) -> Result<(), String> {
    within("dmatest.iterations", test.iterations, ITERATIONS)?;
    within("dmatest.buffer-bytes", test.buffer_bytes, DMATEST_BYTES)?;
    if s.transfer.is_some() {
        return Err("there are both [transfer] and [dmatest]: leave one of them out".into());
    }
    if s.board.gdma.is_none() {
        return Err(
            "[dmatest] copies with the board's GDMA, and there is none: set board.gdma.port".into(),
        );
    }
    let total = u64::from(test.iterations) * test.checked_bytes();
    if total > TOTAL_BYTES {
        return Err(format!(
            "dmatest.iterations * 2 * dmatest.buffer-bytes = {total} is more than {TOTAL_BYTES}"
        ));
    }
    Ok(())
}

fn disk(test: &DiskTest, s: &Scenario) -> Result<(), String> {
    within("disk.rounds", test.rounds, ROUNDS)?;
    if s.transfer.is_some() || s.dmatest.is_some() {
        return Err("there is [disk] beside [transfer] or [dmatest]: leave one of them out".into());
    }
    if s.board.blk.is_none() {
        return Err(
            "[disk] boots from the board's disk, and there is none: set board.blk.port".into(),
        );
    }
    let bytes = u64::from(test.file_bytes);
    if bytes == 0 || !bytes.is_multiple_of(PAGE) {
        return Err(format!(
            "disk.file-bytes = {bytes} must be a multiple of {PAGE}, at least {PAGE}"
        ));
    }
    let total = 2 * u64::from(test.rounds) * bytes;
    if total > DISK_BYTES {
        return Err(format!(
            "2 * disk.rounds * disk.file-bytes = {total} is more than {DISK_BYTES}"
        ));
    }
    Ok(())
}

fn raw_disk(test: &RawDisk, s: &Scenario) -> Result<(), String> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    let name = &test.device;
    if !(1..=32).contains(&name.len()) || !name.bytes().all(plain) {
        return Err(format!(
            "raw-disk.device = {name:?} must be the name of a disk in /dev, as nvme0n1"
        ));
    }
    if s.transfer.is_some() || s.dmatest.is_some() || s.disk.is_some() || s.guest.has_program() {
        return Err(
            "there is [raw-disk] beside [transfer], [dmatest], [disk] or guest.exec: leave one of them out"
                .into(),
        );
    }
    within("raw-disk.rounds", test.rounds, 1..=1024)?;
    let bytes = u64::from(test.bytes);
    if bytes == 0 || !bytes.is_multiple_of(PAGE) || bytes > RAW_BYTES {
        return Err(format!(
            "raw-disk.bytes = {bytes} must be a multiple of {PAGE}, from {PAGE} to {RAW_BYTES}"
        ));
    }
    if test.total_bytes() > TOTAL_BYTES {
        return Err(format!(
            "raw-disk.rounds * raw-disk.bytes = {} is more than {TOTAL_BYTES}",
            test.total_bytes()
        ));
    }
    Ok(())
}

fn transfer(t: &Transfer, board: &BoardSettings) -> Result<(), String> {
    within("transfer.buffers", t.buffers, BUFFERS)?;
    within("transfer.frames", t.frames, FRAMES)?;
    let ram = Board::bare(board).ram_bytes();
    if t.buffer_bytes == 0 || !t.buffer_bytes.is_multiple_of(PAGE) || t.buffer_bytes > ram {
        return Err(format!(
            "transfer.buffer-bytes = {} must be a multiple of {PAGE}, at least {PAGE}, and fit \
             into guest RAM",
            t.buffer_bytes
        ));
    }
    // The kernel, the page cache of the initramfs and udmabuf's memfd want room too.
    let all = t.buffer_bytes * u64::from(t.buffers);
    if all > ram / 4 {
        return Err(format!(
            "transfer.buffers * transfer.buffer-bytes = {all} is more than a quarter of the \
             guest's RAM ({} MiB): reduce one, or raise board.ram-mib",
            ram >> 20
        ));
    }
    frame("transfer.frame-bytes", t.frame_bytes, t.buffer_bytes)?;
    if let Some(last) = t.last_frame_bytes {
        frame("transfer.last-frame-bytes", last, t.buffer_bytes)?;
    }
    parts::check(t, ram / 4)?;
    let two = [DataPath::IioToUsb, DataPath::UsbToIio].contains(&t.path);
    if t.usb_first && !two {
        return Err(
            "transfer.usb-first is for iio-to-usb and usb-to-iio: on the other paths no \
                    DMABUF is attached to two devices"
                .into(),
        );
    }
    if t.read_detached && t.path != DataPath::IioCapture {
        return Err(
            "transfer.read-detached is for iio-capture: on no other path does user space \
                    read a DMABUF"
                .into(),
        );
    }
    let total = t.frame_bytes.max(t.last_frame_bytes.unwrap_or(0)) * u64::from(t.frames);
    if total > TOTAL_BYTES {
        return Err(format!(
            "transfer.frames * transfer.frame-bytes = {total} is more than {TOTAL_BYTES}"
        ));
    }
    Ok(())
}

fn frame(key: &str, bytes: u64, buffer: u64) -> Result<(), String> {
    if bytes == 0 || !bytes.is_multiple_of(FRAME_ALIGN) || bytes > buffer {
        return Err(format!(
            "{key} = {bytes} must be a multiple of {FRAME_ALIGN}, from {FRAME_ALIGN} to \
             transfer.buffer-bytes ({buffer})"
        ));
    }
    Ok(())
}

fn within(key: &str, value: u32, range: std::ops::RangeInclusive<u32>) -> Result<(), String> {
    if range.contains(&value) {
        Ok(())
    } else {
        Err(format!(
            "{key} = {value} must be from {} to {}",
            range.start(),
            range.end()
        ))
    }
}
