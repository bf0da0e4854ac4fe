// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What can keep the agent from carrying out its plan. None of these says anything about
//! coherency: the run is broken, not failed.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use staleline_protocol::plan::PlanError;

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
    /// The kernel does not take a module.
    #[error("the kernel refuses module {file}: {source}{}", quoted(said))]
    Module {
        /// Its file.
        file: String,
        /// The kernel's word for it.
        source: io::Error,
        /// What else it said.
        said: String,
    },
    /// Something did not happen.
    #[error("waited {seconds} s of guest time for {what}")]
    Timeout {
        /// What was awaited.
        what: String,
        /// How long, in seconds of guest time.
        seconds: u64,
    },
    /// The plan is no JSON or no plan.
    #[error("the plan in {path} is not valid: {source}")]
    Json {
        /// Where it was read.
        path: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
    /// The plan asks for the impossible.
    #[error("the plan cannot be carried out: {0}")]
    Plan(#[from] PlanError),
}

/// What the kernel said, if it did.
fn quoted(said: &str) -> String {
    match said {
        "" => String::new(),
        _ => format!("; it says: {said}"),
    }
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
    fn file(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
    /// For a call on something without a path.
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
