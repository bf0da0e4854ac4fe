// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Frames, written.

use std::io::{self, Write};

use twox_hash::XxHash3_64;

use crate::{MAGIC, VERSION};

/// Most bytes of a payload: 16 MiB. What a reader holds at a time.
pub const MAX_FRAME: usize = 16 << 20;

/// Bytes before a payload.
pub(crate) const HEAD: usize = 16;

/// Bytes before the first frame.
pub(crate) const START: usize = 12;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(pub u32);

impl Tag {
    /// A step of whoever carries the run out, as JSON: one record.
    pub const RUN: Tag = Tag(1);
    /// A machine begins, as JSON: what it is made of, and which records are kept.
    pub const MACHINE: Tag = Tag(2);
    /// What happened on the machine: a [`crate::Block`].
    pub const RECORDS: Tag = Tag(3);
    /// Places in guest code that the records after it refer to, as JSON.
    pub const PLACES: Tag = Tag(4);
    /// The log is full, as JSON: of what comes from here on, only the most important is kept.
    pub const FULL: Tag = Tag(5);
    /// The machine's part ends, as JSON: [`crate::Ended`].
    pub const END: Tag = Tag(6);
    /// A part of a longer document, which is compressed: see [`crate::append_long`].
    pub const PART: Tag = Tag(7);
    /// The last part.
    pub const LAST_PART: Tag = Tag(8);
}

/// A frame's head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub tag: Tag,
    pub records: u32,
    pub len: u32,
    pub check: u32,
}

impl Head {
    pub fn of(tag: Tag, records: u32, payload: &[u8]) -> Option<Self> {
        let len = u32::try_from(payload.len()).ok()?;
        (payload.len() <= MAX_FRAME).then(|| Head {
            tag,
            records,
            len,
            check: check(tag, records, payload),
        })
    }

    pub fn bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let words = [self.tag.0, self.records, self.len, self.check];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub fn parse(bytes: [u8; HEAD]) -> Self {
        let word = |n: usize| {
            let at = 4 * n;
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Head {
            tag: Tag(word(0)),
            records: word(1),
            len: word(2),
            check: word(3),
        }
    }

    /// Whether `payload`, of the length that the head says, is the one it was made for.
    pub fn fits(&self, payload: &[u8]) -> bool {
        self.check == check(self.tag, self.records, payload)
    }
}

/// No defence against an adversary: it tells what was cut or damaged.
fn check(tag: Tag, records: u32, payload: &[u8]) -> u32 {
    let seed = u64::from(tag.0) << 32 | u64::from(records);
    XxHash3_64::oneshot_with_seed(seed, payload) as u32
}

/// The bytes that a log starts with.
pub(crate) fn start() -> [u8; START] {
    let mut bytes = [0; START];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

/// Begins a log.
///
/// # Errors
/// Those of `out`.
pub fn begin(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&start())
}

/// Appends a frame. `out` should append each write as a whole, and buffer nothing: there is one.
///
/// # Errors
/// Those of `out`, and `FileTooLarge` beyond [`MAX_FRAME`].
pub fn append(out: &mut impl Write, tag: Tag, records: u32, payload: &[u8]) -> io::Result<()> {
    let head = Head::of(tag, records, payload).ok_or_else(|| {
        let what = format!("a record of the log is longer than {MAX_FRAME} bytes");
        io::Error::new(io::ErrorKind::FileTooLarge, what)
    })?;
    let mut whole = Vec::with_capacity(HEAD + payload.len());
    whole.extend(head.bytes());
    whole.extend(payload);
    out.write_all(&whole)
}
