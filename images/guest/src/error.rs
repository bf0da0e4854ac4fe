// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What can keep a program from doing what it set out to do. None of these says anything about
//! coherency.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// The step that failed, on what, and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A system call on something without a path.
    #[error("{call} on {target}: {source}")]
    Call {
        /// The ioctl or system call.
        call: &'static str,
        /// On what.
        target: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not let a device share a DMABUF ([`staleline_protocol::report::refusal`]).
    #[error("the kernel refuses to attach DMABUF {buffer} to {to}: {source}")]
    Refused {
        /// The buffer, by order of allocation.
        buffer: u32,
        /// The device.
        to: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The guest lacks something.
    #[error("no {what}; {hint}")]
    Missing {
        /// What was looked for and where.
        what: String,
        /// What would provide it.
        hint: &'static str,
    },
    /// The kernel does not tell how a transfer ended.
    #[error("the transfer of {what} ended before its fence could be looked at")]
    Untold {
        /// The buffer.
        what: String,
    },
    /// A transfer was not carried out, or not to its end.
    #[error("the transfer of {what} ended with error {code}: {source}")]
    Ended {
        /// The frame, the device and the buffer.
        what: String,
        /// The kernel's number for it.
        code: i32,
        /// The kernel's word for it.
        source: io::Error,
    },
    /// `STALELINE_SEED` is no seed.
    #[error("STALELINE_SEED={text} is not a number from 0 to 2^64 - 1")]
    Seed {
        /// What it is.
        text: String,
    },
    /// Something did not happen.
    #[error("waited {seconds} s of guest time for {what}")]
    Timeout {
        /// What was awaited.
        what: String,
        /// How long, in seconds of guest time.
        seconds: u64,
    },
}

/// Errors with which the kernel cancels what a gadget's function has queued: on a reset or
/// disconnection, for a released endpoint, for a request that is taken back (`dwc3_remove_requests`,
/// `dwc3_gadget_ep_cleanup_cancelled_requests` in drivers/usb/dwc3/gadget.c).
const CANCELLED: [Errno; 3] = [Errno::SHUTDOWN, Errno::PIPE, Errno::CONNRESET];

/// Whether a transfer that ended with this error was cancelled, and can be tried again.
pub fn is_cancelled(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    CANCELLED.iter().any(|e| code == Some(e.raw_os_error()))
}

impl Error {
    /// Whether it tells of a transfer that was cancelled, and can be tried again.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Error::File { source, .. } | Error::Call { source, .. } => is_cancelled(source),
            _ => false,
        }
    }
}

/// Adds what was tried to a plain I/O error.
pub trait Context<T> {
    /// For an operation on a file.
    ///
    /// # Errors
    /// [`Error::File`].
    fn file(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
    /// For a call on something without a path.
    ///
    /// # Errors
    /// [`Error::Call`].
    fn call(self, call: &'static str, target: impl ToString) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn file(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|e| Error::File {
            action,
            path: path.into(),
            source: e.into(),
        })
    }

    fn call(self, call: &'static str, target: impl ToString) -> Result<T, Error> {
        self.map_err(|e| Error::Call {
            call,
            target: target.to_string(),
            source: e.into(),
        })
    }
}
