// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The guest's console while it runs: what it says is shown, what people type is passed on.
//!
//! QEMU writes the console's log as it always does, and what is shown is read from there. So whoever looks
//! on changes nothing, however slow their terminal is.

use std::fs::File;
use std::io::{self, ErrorKind, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// Bytes of the console that are shown before anything else is looked at again.
const PIECE: usize = 1 << 16;
/// Bytes that are read of what people type, at a time.
const KEYS: usize = 1 << 10;

/// Shows what comes into a file, on standard error.
pub(super) struct Follow {
    file: File,
    news: OwnedFd,
}

impl Follow {
    /// Of a file that is there from now on.
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        File::create(path)?;
        let news = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&news, path, WatchFlags::MODIFY)?;
        let file = File::open(path)?;
        Ok(Follow { file, news })
    }

    /// There is news: shows a piece of it.
    pub(super) fn read(&mut self) {
        if self.show() {
            // The news stay, and so does the reason to come back.
            return;
        }
        let mut buf = [0; 1 << 12];
        while rustix::io::read(&self.news, &mut buf).is_ok_and(|len| len > 0) {}
        // What came in between is no news any more.
        self.show();
    }

    /// Shows all that is left.
    pub(super) fn drain(&mut self) {
        while self.show() {}
    }

    /// Shows a piece; whether there may be more. Nobody has to look: a closed standard error is no
    /// reason to stop.
    fn show(&mut self) -> bool {
        let mut piece = Vec::new();
        let limit = PIECE as u64;
        let read = (&mut self.file).take(limit).read_to_end(&mut piece);
        let mut out = io::stderr();
        let _ = out.write_all(&piece).and_then(|()| out.flush());
        read.is_ok_and(|len| len == PIECE)
    }
}

impl AsRawFd for Follow {
    fn as_raw_fd(&self) -> RawFd {
        self.news.as_raw_fd()
    }
}

/// What people type at this process's standard input, for the guest.
pub(super) struct Typing {
    to: PipeWriter,
    escape: Escape,
    /// What the guest has yet to take.
    pending: Vec<u8>,
    /// Bytes passed on.
    pub(super) bytes: u64,
}

/// What came of a look at the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typed {
    /// All has been passed on.
    Taken,
    /// The guest is slow: no more until it has taken what there is.
    Full,
    /// Nobody is going to type any more.
    End,
    /// They want to leave.
    Leave,
    /// QEMU is gone, which is told elsewhere.
    Gone,
}

impl Typing {
    /// Into that pipe.
    pub(super) fn begin(to: PipeWriter) -> io::Result<Self> {
        fcntl_setfl(&to, fcntl_getfl(&to)? | OFlags::NONBLOCK)?;
        Ok(Typing {
            to,
            escape: Escape::default(),
            pending: Vec::new(),
            bytes: 0,
        })
    }

    /// Whether the guest has yet to take something.
    pub(super) fn is_full(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Reads what there is, which must be something.
    pub(super) fn read(&mut self) -> Typed {
        let mut keys = [0; KEYS];
        // Not by std, which would keep some for later.
        let len = match rustix::io::read(rustix::stdio::stdin(), &mut keys) {
            Ok(len) => len,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Typed::Taken,
            // The terminal has gone away.
            Err(_) => 0,
        };
        if len == 0 {
            return Typed::End;
        }
        self.take(keys.get(..len).unwrap_or_default())
    }

    fn take(&mut self, keys: &[u8]) -> Typed {
        for key in keys {
            match self.escape.key(*key) {
                Key::Guest(key) => self.pending.push(key),
                Key::Nothing => {}
                Key::Leave => return Typed::Leave,
            }
        }
        self.flush()
    }

    /// Passes on what is pending.
    pub(super) fn flush(&mut self) -> Typed {
        while !self.pending.is_empty() {
            match self.to.write(&self.pending) {
                Ok(len) => {
                    self.pending.drain(..len);
                    self.bytes += len as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Typed::Full,
                Err(_) => return Typed::Gone,
            }
        }
        Typed::Taken
    }
}

impl AsRawFd for Typing {
    fn as_raw_fd(&self) -> RawFd {
        self.to.as_raw_fd()
    }
}

/// The key that says that the next one is for us: Ctrl-A, as at QEMU's own consoles.
const ESCAPE: u8 = 1;

/// Tells keys for the guest from those for us: after Ctrl-A, `x` leaves, and Ctrl-A is one for the guest.
#[derive(Default)]
struct Escape {
    escaped: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Key {
    Guest(u8),
    Nothing,
    Leave,
}

impl Escape {
    fn key(&mut self, key: u8) -> Key {
        match (std::mem::take(&mut self.escaped), key) {
            (false, ESCAPE) => {
                self.escaped = true;
                Key::Nothing
            }
            (true, b'x' | b'X') => Key::Leave,
            (true, ESCAPE | b'a' | b'A') => Key::Guest(ESCAPE),
            // As QEMU has it: of a command that there is not, nothing is passed on.
            (true, _) => Key::Nothing,
            (false, key) => Key::Guest(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_for_us_are_told_from_those_for_the_guest() {
        let (mut guest, to) = io::pipe().unwrap();
        let mut typing = Typing::begin(to).unwrap();
        assert_eq!(typing.take(b"ls\r\x01"), Typed::Taken);
        assert_eq!(typing.take(b"\x01\x01a\x01?\x03"), Typed::Taken);
        let mut seen = [0; 6];
        guest.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"ls\r\x01\x01\x03");
        assert_eq!(typing.bytes, 6);
        assert_eq!(typing.take(b"q\x01xq"), Typed::Leave);
    }

    #[test]
    fn a_guest_that_takes_nothing_is_waited_for() {
        let (mut guest, to) = io::pipe().unwrap();
        let mut typing = Typing::begin(to).unwrap();
        let all = vec![b'x'; 1 << 18];
        assert_eq!(typing.take(&all), Typed::Full);
        let mut seen = 0;
        let mut chunk = vec![0; 1 << 15];
        while typing.flush() == Typed::Full {
            seen += guest.read(&mut chunk).unwrap();
        }
        drop(typing);
        seen += guest.read_to_end(&mut chunk).unwrap();
        assert_eq!(seen, all.len());
    }

    #[test]
    fn nobody_is_told_of_a_guest_that_is_gone() {
        let (guest, to) = io::pipe().unwrap();
        let mut typing = Typing::begin(to).unwrap();
        drop(guest);
        assert_eq!(typing.take(b"x"), Typed::Gone);
    }

    #[test]
    fn what_comes_is_news_until_it_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut follow = Follow::begin(&path).unwrap();
        let mut buf = [0; 256];
        let mut is_news = |follow: &Follow| rustix::io::read(&follow.news, &mut buf).is_ok();
        assert!(!is_news(&follow));
        // As QEMU opens it.
        let mut log = File::create(&path).unwrap();
        log.write_all(b"").unwrap();
        follow.read();
        std::thread::scope(|scope| {
            scope.spawn(|| log.write_all(b"one\n"));
        });
        assert!(is_news(&follow));
        follow.read();
        assert!(!is_news(&follow));
        assert!(!follow.show());
    }
}
