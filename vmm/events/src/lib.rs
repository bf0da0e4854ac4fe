// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The log of a run: how it is written and read, whatever its records say.
//!
//! A log starts with [`MAGIC`] and [`VERSION`] (4 bytes, little-endian) and is a sequence of frames from
//! there on. A frame is 16 bytes of head and a payload:
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | [`Tag`] |
//! | 4..8 | how many records it holds |
//! | 8..12 | bytes of the payload, at most [`MAX_FRAME`] |
//! | 12..16 | low half of the XXH3-64 of tag, count and payload |
//!
//! All numbers are little-endian. Frames are appended, by one writer at a time, and never changed.
//! A writer that is killed leaves whole frames and at most a part of one more: [`settle`] takes that
//! away, so that another writer can go on.
//!
//! What happens on the machine is in frames of [`Tag::RECORDS`]: each is a [`Block`] of records in the
//! encoding of `postcard`, with times relative to the record before, compressed (an LZ4 block), and can
//! be read alone. A check for many records costs less than one for each; what a crash can take is what
//! the writer still held, at most one block. The other frames hold one JSON document each, but for
//! [`Tag::PART`]: what is longer is compressed (gzip: nothing waits for it), and goes over several.
//!
//! Frames with an unknown tag are passed over: new ones do not change [`VERSION`].
#![forbid(unsafe_code)]

mod block;
mod frame;
mod long;
mod reader;
mod recorder;
mod settle;

pub use block::{BLOCK, Block, Full, records};
pub use frame::{MAX_FRAME, Tag, append, begin};
pub use long::{Assembly, MAX_LONG, append_long};
pub use reader::{Frame, LogError, Reader};
pub use recorder::{Ended, Recorder};
pub use settle::{Found, settle};

/// How a log starts.
pub const MAGIC: [u8; 8] = *b"STALELOG";

/// Version of the framing and of the records. A reader knows one.
pub const VERSION: u32 = 2;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]
mod tests;
