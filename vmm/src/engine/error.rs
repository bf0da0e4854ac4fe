// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Everything that can go wrong with the infrastructure of a run.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::HandoverError;
use crate::boot::BootError;

/// Why a run has no outcome. None of these says anything about the software under test, save
/// perhaps [`EngineError::Timeout`] and [`EngineError::NoPowerOff`].
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The images do not load.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The job itself makes no sense.
    #[error("bad job: {0}")]
    BadJob(String),
    /// With the arguments that the user has added, the engine does not even start.
    #[error("it does not start with these: {why}")]
    Arguments {
        /// Its own words.
        why: String,
    },
    /// The debugger's port cannot be had.
    #[error("port {port} of 127.0.0.1, where a debugger was to come, cannot be had")]
    DebuggerPort {
        /// Which.
        port: u16,
        /// Why not.
        source: std::io::Error,
    },
    /// The operating system refused something.
    #[error("cannot {what}")]
    Os {
        /// What was being done.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The machine has given up, or what hosts it.
    #[error("the machine inside the engine failed: {message}")]
    MachineFailed {
        /// Its message.
        message: String,
    },
    /// The guest took too long.
    #[error("the guest did not end within {} s{}", timeout.as_secs_f32(), tail("its console", console))]
    Timeout {
        /// The limit.
        timeout: Duration,
        /// The last lines of the console.
        console: String,
    },
    /// The user did not want it to go on.
    #[error("interrupted")]
    Interrupted,
    /// The user has left the console before there was anything on it.
    #[error("left before the guest had begun")]
    Left,
    /// The emulation stopped for a reason other than the guest's own power-off or reset.
    #[error(
        "the guest did not power off: the emulation stopped, {reason}{}",
        tail("its console", console)
    )]
    NoPowerOff {
        /// The engine's words for why.
        reason: String,
        /// The last lines of the console.
        console: String,
    },
    /// The engine itself has noticed that it gets the guest wrong.
    #[error("{0}")]
    Misunderstood(String),
    /// The guest ended, but what the engine should have written is not to be read.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// What only one of the engines knows.
    #[error(transparent)]
    Own(#[from] Fault),
}

/// Trouble of one engine, with what can be done about it.
#[derive(Debug)]
pub struct Fault {
    error: Box<dyn Error + Send + Sync>,
    help: Cow<'static, str>,
}

impl Fault {
    /// Of that kind.
    pub fn new(
        error: impl Error + Send + Sync + 'static,
        help: impl Into<Cow<'static, str>>,
    ) -> Self {
        Fault {
            error: error.into(),
            help: help.into(),
        }
    }

    /// As the engine has it, if it is that engine's.
    pub fn of<E: Error + 'static>(&self) -> Option<&E> {
        self.error.downcast_ref()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl EngineError {
    /// What the user can do about it.
    pub fn help(&self) -> &str {
        match self {
            EngineError::Boot(error) => error.help(),
            EngineError::BadJob(_) => "check the scenario's board settings",
            EngineError::Arguments { .. } => "see the engine's own manual for what it takes",
            EngineError::DebuggerPort { .. } => "name another port (--gdb=PORT)",
            EngineError::Os { .. } => "check memory, file descriptor limits and free space",
            EngineError::Misunderstood(_) => {
                "please report this with the kernel and the run's directory"
            }
            EngineError::MachineFailed { .. } => "please report this with the run's directory",
            EngineError::Timeout { .. } => {
                "look at console.log for where the guest hangs; if it is only slow, raise the \
                 timeout"
            }
            EngineError::Interrupted | EngineError::Left => "run it again",
            EngineError::NoPowerOff { .. } => {
                "was it stopped from outside? Otherwise look at console.log"
            }
            EngineError::Handover(HandoverError::TooLarge { .. }) => {
                "move less data, or the same in fewer and larger frames"
            }
            EngineError::Handover(HandoverError::Unreadable { .. }) => {
                "check free space and permissions of the run's directory"
            }
            EngineError::Own(fault) => &fault.help,
        }
    }
}

/// For `map_err`: the operating system refused `what`.
pub(super) fn os(what: &'static str) -> impl Fn(std::io::Error) -> EngineError {
    move |source| EngineError::Os { what, source }
}

/// The end of a text that says why, for a message.
pub(super) fn tail(name: &str, text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("; the end of {name}:\n{text}")
    }
}
