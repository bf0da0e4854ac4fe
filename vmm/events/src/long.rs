// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Documents of any length, in frames.

use std::io::{self, ErrorKind, Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use crate::frame::{Tag, append};
use crate::{Frame, LogError};

/// Most bytes of a document, and of its frames: 1 GiB.
pub const MAX_LONG: u64 = 1 << 30;

/// How hard to try: much beyond this takes longer and saves little.
const LEVEL: Compression = Compression::new(3);

/// Bytes of a frame that is not the last one.
const PART: usize = 1 << 20;

/// Appends what `write` writes, in as many frames as it takes. They hold no record.
///
/// # Errors
/// Those of `out` and of `write`, and `FileTooLarge` beyond [`MAX_LONG`].
pub fn append_long<W: Write>(
    out: &mut W,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let parts = Parts {
        out,
        held: Vec::with_capacity(PART),
    };
    let mut document = Bounded {
        to: GzEncoder::new(parts, LEVEL),
        left: MAX_LONG,
    };
    write(&mut document)?;
    let parts = document.to.finish()?;
    append(parts.out, Tag::LAST_PART, 0, &parts.held)
}

/// What is written, in frames.
struct Parts<'a, W> {
    out: &'a mut W,
    held: Vec<u8>,
}

impl<W: Write> Write for Parts<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held.len() == PART {
            append(self.out, Tag::PART, 0, &self.held)?;
            self.held.clear();
        }
        let len = bytes.len().min(PART - self.held.len());
        self.held.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fails rather than to take more than a reader would.
struct Bounded<W> {
    to: W,
    left: u64,
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.to.write(bytes)?;
        let left = self.left.checked_sub(len as u64);
        self.left = left.ok_or_else(|| {
            let what = format!("a document of the log is longer than {MAX_LONG} bytes");
            io::Error::new(ErrorKind::FileTooLarge, what)
        })?;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Puts such documents together again.
#[derive(Debug, Default)]
pub struct Assembly(Vec<u8>);

impl Assembly {
    /// Takes the next frame, of any tag. With the last one of a document, that can be read.
    ///
    /// # Errors
    /// [`LogError::Record`] if it is too long.
    pub fn take(&mut self, frame: &Frame) -> Result<Option<impl Read + use<>>, LogError> {
        if !matches!(frame.tag, Tag::PART | Tag::LAST_PART) {
            return Ok(None);
        }
        if (self.0.len() + frame.payload.len()) as u64 > MAX_LONG {
            let what = format!("it is longer than {MAX_LONG} bytes");
            return Err(LogError::Record(what));
        }
        self.0.extend_from_slice(&frame.payload);
        if frame.tag == Tag::PART {
            return Ok(None);
        }
        let whole = io::Cursor::new(std::mem::take(&mut self.0));
        Ok(Some(GzDecoder::new(whole).take(MAX_LONG)))
    }

    /// Whether a document has begun whose last frame has not come.
    pub fn is_partial(&self) -> bool {
        !self.0.is_empty()
    }
}
