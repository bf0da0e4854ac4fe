// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The kernel's log as it goes on (Documentation/ABI/testing/dev-kmsg).

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use staleline_guest::{Context, Error};

const LOG: &str = "/dev/kmsg";
/// The kernel's CONSOLE_EXT_LOG_MAX: the longest record.
const RECORD: usize = 8192;

/// The kernel's log from the moment at which it was opened.
pub struct Log(File);

impl Log {
    /// Needs `Mount::Dev`.
    pub fn open() -> Result<Self, Error> {
        let mut options = File::options();
        let nonblocking = libc::O_NONBLOCK | libc::O_CLOEXEC;
        let mut file = options
            .read(true)
            .custom_flags(nonblocking)
            .open(LOG)
            .file("open", LOG)?;
        file.seek(SeekFrom::End(0)).file("seek", LOG)?;
        Ok(Log(file))
    }

    /// The next message, if there is one already.
    pub fn try_next(&mut self) -> Result<Option<String>, Error> {
        let mut record = [0; RECORD];
        loop {
            match self.0.read(&mut record) {
                Ok(n) => {
                    let text = String::from_utf8_lossy(&record[..n]);
                    return Ok(Some(message(&text).to_owned()));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                // The oldest message left comes next.
                Err(e) if e.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => {}
                Err(e) => return Err(e).file("read", LOG),
            }
        }
    }

    /// The next message; waits for it that long. `who` is to say something.
    pub fn next(&mut self, who: &str, seconds: u64) -> Result<String, Error> {
        loop {
            match self.try_next()? {
                Some(message) => return Ok(message),
                None => self.wait(who, seconds)?,
            }
        }
    }

    fn wait(&self, who: &str, seconds: u64) -> Result<(), Error> {
        let mut fds = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
        let timeout = Timespec {
            tv_sec: seconds.cast_signed(),
            tv_nsec: 0,
        };
        match poll(&mut fds, Some(&timeout)).call("poll", LOG)? {
            0 => Err(Error::Timeout {
                what: format!("{who} to say something"),
                seconds,
            }),
            _ => Ok(()),
        }
    }
}

/// The text of a record: `PRIORITY,SEQUENCE,TIME,FLAGS[,...];TEXT`, and then lines with properties.
pub fn message(record: &str) -> &str {
    let text = record.split_once(';').map_or(record, |(_, text)| text);
    text.lines().next().unwrap_or_default()
}
