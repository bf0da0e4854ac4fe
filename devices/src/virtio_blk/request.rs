// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Requests of a block device (virtio 1.2, 5.2.6).

use serde::{Deserialize, Serialize};

use super::GuestError;
use super::backing::{Backing, SECTOR};
use super::chain::{Chain, Segments};
use super::error::Part;
use crate::bus::Context;
use crate::dma::{Access, Direction, Order};
use crate::state::{Invalid, at_most, times};

/// Bytes of the header: type, a reserved word, sector.
const HEADER: u64 = 16;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;

/// What a request came to, in its last byte.
const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// What GET_ID answers, in 20 bytes.
const SERIAL: &[u8; 20] = b"staleline\0\0\0\0\0\0\0\0\0\0\0";

/// What is to be done with the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Task {
    /// Disk to memory, from this byte of the disk on.
    Read(u64),
    /// Memory to disk.
    Write(u64),
    /// The serial number, from this byte on.
    Identify(usize),
    Nothing,
}

/// A request at work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Request {
    pub head: u16,
    order: Order,
    task: Task,
    data: Segments,
    /// Where the status goes.
    status_at: u64,
    status: u8,
    /// Bytes written so far.
    written: u64,
}

/// What the device has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Counts {
    /// Bytes read from the disk.
    pub read: u64,
    /// Bytes written to it.
    pub written: u64,
    /// Flushes.
    pub flushes: u64,
}

impl Request {
    /// Reads the header of what the driver has made available, and takes its memory over.
    ///
    /// # Errors
    /// If there is no room for a header or a status, or the header cannot be read.
    pub fn parse(
        mut chain: Chain,
        disk: &dyn Backing,
        counts: &mut Counts,
        ctx: &mut Context<'_>,
    ) -> Result<Self, GuestError> {
        let (readable, writable) = (chain.readable.bytes(), chain.writable.bytes());
        if readable < HEADER || writable == 0 {
            return Err(GuestError::Short {
                head: chain.head,
                readable,
                writable,
            });
        }
        let (kind, sector) = header(&mut chain, ctx)?;
        let mut input = chain.writable.split(writable - 1);
        // One byte is left there.
        let status_at = chain.writable.piece().map_or(0, |piece| piece.pa);
        let (output, in_bytes, out_bytes) = (chain.readable, writable - 1, readable - HEADER);
        let place = |bytes: u64| {
            let at = sector.checked_mul(SECTOR)?;
            let end = at.checked_add(bytes)?.div_ceil(SECTOR);
            (bytes.is_multiple_of(SECTOR) && end <= disk.sectors()).then_some(at)
        };
        if kind == FLUSH {
            counts.flushes += 1;
        }
        let (task, status) = match kind {
            IN => place(in_bytes).map_or((Task::Nothing, IO_ERROR), |at| (Task::Read(at), OK)),
            OUT => place(out_bytes).map_or((Task::Nothing, IO_ERROR), |at| (Task::Write(at), OK)),
            GET_ID => (Task::Identify(0), OK),
            FLUSH => (Task::Nothing, OK),
            _ => (Task::Nothing, UNSUPPORTED),
        };
        let (mut data, direction) = match task {
            Task::Write(_) => (output, Direction::FromMemory),
            Task::Read(_) => (input, Direction::ToMemory),
            Task::Identify(_) => (input.split(SERIAL.len() as u64), Direction::ToMemory),
            Task::Nothing => (Segments::default(), Direction::ToMemory),
        };
        data.open(direction, chain.order, ctx);
        log::trace!("virtio-blk: type {kind}, sector {sector}");
        Ok(Request {
            head: chain.head,
            order: chain.order,
            task,
            data,
            status_at,
            status,
            written: 0,
        })
    }

    /// Moves data of at most a page. Whether there was any.
    ///
    /// # Errors
    /// If memory cannot be accessed.
    pub fn step(
        &mut self,
        disk: &mut dyn Backing,
        counts: &mut Counts,
        ctx: &mut Context<'_>,
    ) -> Result<bool, GuestError> {
        let Some(piece) = self.data.piece() else {
            return Ok(false);
        };
        let mut page = [0; 4096];
        let buffer = &mut page[..piece.len];
        let mut access = Access::data(piece.transfer);
        access.order = self.order;
        let data = |source| GuestError::Memory {
            part: Part::Data,
            source,
        };
        let moved = match &mut self.task {
            Task::Read(at) => {
                let there = disk.read(*at, buffer);
                if there {
                    ctx.dma.write(access, piece.pa, buffer).map_err(data)?;
                }
                *at += piece.len as u64;
                there
            }
            Task::Write(at) => {
                ctx.dma.read(access, piece.pa, buffer).map_err(data)?;
                let there = disk.write(*at, buffer);
                *at += piece.len as u64;
                there
            }
            Task::Identify(done) => {
                // No longer than the serial number.
                buffer.copy_from_slice(&SERIAL[*done..*done + piece.len]);
                ctx.dma.write(access, piece.pa, buffer).map_err(data)?;
                *done += piece.len;
                true
            }
            Task::Nothing => false,
        };
        if !moved {
            self.status = IO_ERROR;
            self.abandon(ctx);
            return Ok(false);
        }
        let bytes = piece.len as u64;
        match self.task {
            Task::Read(_) => counts.read += bytes,
            Task::Write(_) => counts.written += bytes,
            Task::Identify(_) | Task::Nothing => {}
        }
        if !matches!(self.task, Task::Write(_)) {
            self.written += bytes;
        }
        self.data.advance(piece.len, ctx);
        Ok(true)
    }

    /// Writes the status; how many bytes were written in all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(&mut self, ctx: &mut Context<'_>) -> Result<u32, GuestError> {
        self.abandon(ctx);
        ctx.dma
            .write(
                Access::descriptor(self.order),
                self.status_at,
                &[self.status],
            )
            .map_err(|source| GuestError::Memory {
                part: Part::Status,
                source,
            })?;
        Ok(u32::try_from(self.written + 1).unwrap_or(u32::MAX))
    }

    /// Lets go of memory that has not been moved.
    pub fn abandon(&mut self, ctx: &mut Context<'_>) {
        self.data.close(ctx);
    }
}

impl Counts {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        times("counts", &[self.read, self.written, self.flushes])
    }
}

impl Request {
    /// For a state that comes from outside.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        self.order.check()?;
        self.data.check()?;
        times("bytes written", &[self.written])?;
        match self.task {
            Task::Read(at) | Task::Write(at) => times("place on the disk", &[at]),
            Task::Identify(done) => {
                let end = (done as u64).saturating_add(self.data.bytes());
                at_most("end of the serial number", end, SERIAL.len() as u64)
            }
            Task::Nothing => Ok(()),
        }
    }
}

/// Type and sector. Takes the header off what is to be read.
fn header(chain: &mut Chain, ctx: &mut Context<'_>) -> Result<(u32, u64), GuestError> {
    let mut header = [0; HEADER as usize];
    let mut parts = chain.readable.split(HEADER);
    let mut done = 0;
    while let Some(piece) = parts.piece() {
        let Some(rest) = header.get_mut(done..done + piece.len) else {
            break;
        };
        let access = Access::descriptor(chain.order);
        ctx.dma
            .read(access, piece.pa, rest)
            .map_err(|source| GuestError::Memory {
                part: Part::Header,
                source,
            })?;
        parts.advance(piece.len, ctx);
        done += piece.len;
    }
    let [a, b, c, d, _, _, _, _, sector @ ..] = header;
    Ok((u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(sector)))
}
