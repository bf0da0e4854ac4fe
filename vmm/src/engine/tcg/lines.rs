// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Lines from a socket, and the last lines of a stream.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Longest line accepted, in bytes. What grows with a run comes by files.
const LINE_LIMIT: usize = 1 << 20;
/// Bytes kept of a stream's end.
const TAIL_BYTES: usize = 4096;

/// Splits what arrives on a non-blocking socket into lines.
pub(super) struct Lines {
    pub stream: UnixStream,
    partial: Vec<u8>,
    /// The peer has closed.
    pub closed: bool,
}

impl Lines {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Lines {
            stream,
            partial: Vec::new(),
            closed: false,
        })
    }

    /// All complete lines that are there, without waiting for more.
    pub(super) fn read(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut lines = Vec::new();
        let mut chunk = [0; 16 << 10];
        while !self.closed {
            let len = match self.stream.read(&mut chunk) {
                Ok(len) => len,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                // The peer died with data of ours unread: an end like any other.
                Err(e) if e.kind() == ErrorKind::ConnectionReset => 0,
                Err(e) => return Err(e),
            };
            self.closed = len == 0;
            for part in chunk[..len].split_inclusive(|byte| *byte == b'\n') {
                self.partial.extend_from_slice(part);
                if part.ends_with(b"\n") {
                    lines.push(std::mem::take(&mut self.partial));
                } else if self.partial.len() > LINE_LIMIT {
                    return Err(io::Error::new(
                        ErrorKind::InvalidData,
                        format!("a line of more than {LINE_LIMIT} bytes"),
                    ));
                }
            }
        }
        Ok(lines)
    }
}

/// Keeps the end of a stream.
#[derive(Default)]
pub(super) struct Tail(VecDeque<u8>);

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let excess = self.0.len().saturating_sub(TAIL_BYTES);
        self.0.drain(..excess);
    }

    pub(super) fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

/// The end of a file, as text; empty if it cannot be read, for it only adorns a message.
pub(super) fn file_tail(path: &Path) -> String {
    tail_of(File::open(path))
}

/// The end of a file that may not be there, as [`file_tail`].
pub(in crate::engine) fn tail_of(file: io::Result<File>) -> String {
    let mut tail = Tail::default();
    let read = || -> io::Result<Vec<u8>> {
        let mut file = file?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES as u64)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    tail.push(&read().unwrap_or_default());
    tail.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_come_whole_and_the_end_is_seen() {
        let (mut peer, stream) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(stream).unwrap();
        assert!(lines.read().unwrap().is_empty());
        peer.write_all(b"one\ntw").unwrap();
        assert_eq!(lines.read().unwrap(), [b"one\n"]);
        peer.write_all(b"o\n\nrest").unwrap();
        assert_eq!(lines.read().unwrap(), [&b"two\n"[..], b"\n"]);
        assert!(!lines.closed);
        drop(peer);
        assert!(lines.read().unwrap().is_empty());
        assert!(lines.closed);
    }

    #[test]
    fn a_tail_is_bounded() {
        let mut tail = Tail::default();
        for n in 0..10_000 {
            tail.push(format!("line {n}\n").as_bytes());
        }
        assert!(tail.text().ends_with("line 9999"));
        assert!(tail.text().len() <= TAIL_BYTES);
    }
}
