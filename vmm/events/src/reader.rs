// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Frames, read.

use std::io::{self, Read};

use crate::frame::{HEAD, Head, MAX_FRAME, START, Tag};
use crate::{MAGIC, VERSION};

/// Why a log cannot be read, or no further.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it is no log of a run")]
    NotALog,
    /// It was written by another version of the program.
    #[error("it has version {found}, and this program reads {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// It ends within a frame: whoever wrote it was stopped.
    #[error("it is cut short after record {records}")]
    CutShort {
        /// Whole records before.
        records: u64,
    },
    /// A frame is not what was written.
    #[error("it is damaged after record {records}, at byte {offset}")]
    Damaged {
        /// Whole records before.
        records: u64,
        /// Where the frame starts.
        offset: u64,
    },
    /// A frame is whole, and its records are none.
    #[error("a record makes no sense: {0}")]
    Record(String),
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it holds.
    pub tag: Tag,
    /// How many records.
    pub records: u32,
    /// In which encoding, the tag says.
    pub payload: Vec<u8>,
}

/// Reads a log frame by frame. Holds one at a time.
pub struct Reader<R> {
    from: R,
    /// Bytes read.
    offset: u64,
    /// Records of the frames read.
    records: u64,
    over: bool,
}

impl<R: Read> Reader<R> {
    /// Takes a log from its start.
    ///
    /// # Errors
    /// [`LogError::NotALog`], [`LogError::Version`], [`LogError::Io`].
    pub fn new(mut from: R) -> Result<Self, LogError> {
        let mut start = [0; START];
        if read_up_to(&mut from, &mut start)? < START || start[..8] != MAGIC {
            return Err(LogError::NotALog);
        }
        let found = u32::from_le_bytes([start[8], start[9], start[10], start[11]]);
        if found != VERSION {
            return Err(LogError::Version { found });
        }
        Ok(Reader {
            from,
            offset: START as u64,
            records: 0,
            over: false,
        })
    }

    /// How many records the frames read so far hold.
    pub fn records(&self) -> u64 {
        self.records
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, LogError> {
        let cut = LogError::CutShort {
            records: self.records,
        };
        let damaged = LogError::Damaged {
            records: self.records,
            offset: self.offset,
        };
        let mut head = [0; HEAD];
        match read_up_to(&mut self.from, &mut head)? {
            0 => return Ok(None),
            HEAD => {}
            _ => return Err(cut),
        }
        let head = Head::parse(head);
        if head.len as usize > MAX_FRAME {
            return Err(damaged);
        }
        // Grows with what is there, not with what the head says.
        let mut payload = Vec::new();
        let len = u64::from(head.len);
        (&mut self.from).take(len).read_to_end(&mut payload)?;
        if (payload.len() as u64) < len {
            return Err(cut);
        }
        if !head.fits(&payload) {
            return Err(damaged);
        }
        self.offset += HEAD as u64 + len;
        self.records += u64::from(head.records);
        Ok(Some(Frame {
            tag: head.tag,
            records: head.records,
            payload,
        }))
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Frame, LogError>;

    /// The next frame; nothing comes after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.next_frame().transpose();
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Fills `buf` as far as there is something.
pub(crate) fn read_up_to(from: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
