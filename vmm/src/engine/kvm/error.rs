// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What can go wrong with this engine alone.

use std::borrow::Cow;
use std::path::PathBuf;

use staleline_machine::snapshot::SnapshotError;

use crate::engine::EngineError;
use crate::engine::error::{Fault, tail};

/// Trouble of the KVM engine.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// The VMM cannot be had.
    #[error("there is no VMM for arm64")]
    NoVmm(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The emulated host has no kernel.
    #[error("the emulated host has no kernel")]
    NoHostKernel(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something of the cache is about to go.
    #[error("cannot use {}", path.display())]
    Going {
        /// What.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The VMM, or the machine that is emulated for it, does not start.
    #[error("cannot start {program}")]
    Start {
        /// Which program.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It is gone.
    #[error(
        "{what} has ended without a word ({program}: {status}){}",
        tail("its console", console)
    )]
    Gone {
        /// Who.
        what: &'static str,
        /// Its program.
        program: String,
        /// How that has ended.
        status: String,
        /// The last lines of its console.
        console: String,
    },
    /// It is there, but is not to be talked to.
    #[error(
        "{what} has not been ready within {seconds} s{}",
        tail("its console", console)
    )]
    Silent {
        /// Who.
        what: &'static str,
        /// How long it was waited for.
        seconds: u64,
        /// The last lines of its console.
        console: String,
    },
    /// It is there, but reads nothing.
    #[error(
        "{what} has taken nothing of what it was sent for {seconds} s{}",
        tail("its console", console)
    )]
    Deaf {
        /// Who.
        what: &'static str,
        /// How long that has lasted.
        seconds: u64,
        /// The last lines of its console.
        console: String,
    },
    /// The guest's time is up, and it does not say so.
    #[error(
        "{what} has not said within {grace} s that the guest's time limit of {limit} s is over{}",
        tail("its console", console)
    )]
    Stalled {
        /// Who.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// How long it was waited for beyond that.
        grace: u64,
        /// The last lines of its console.
        console: String,
    },
    /// A mistake of its own has ended it.
    #[error("the VMM has crashed: {what}")]
    Crashed {
        /// By which signal, and where.
        what: String,
    },
    /// A file cannot be sent.
    #[error("{} has {bytes} bytes, and a file for the VMM may have {limit}", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The most that it may have.
        limit: u64,
    },
    /// A snapshot is none.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Its sandbox has stopped it.
    #[error("the VMM has been stopped by its own sandbox, for the system call {call}")]
    Trespass {
        /// Which call, and where.
        call: String,
    },
    /// It says what makes no sense.
    #[error("what the VMM says makes no sense: {0}")]
    Protocol(String),
    /// The guest's kernel does not tell what it does.
    #[error(
        "the guest's kernel has not found the coherency port, so that nothing is known of what it did to caches"
    )]
    Untold,
    /// It could not run the guest.
    #[error("{message}")]
    Failed {
        /// The VMM's words.
        message: String,
        /// And its advice.
        help: String,
    },
}

impl KvmError {
    pub(super) fn help(&self) -> Cow<'static, str> {
        let known = match self {
            KvmError::NoVmm(_) => {
                "it is built of Staleline's sources: `staleline doctor` says what that takes. STALELINE_VMM names \
                 one that is there"
            }
            KvmError::NoHostKernel(_) => "`staleline kernel build --stack host` builds it",
            KvmError::Going { .. } => "`staleline clean` removes it just now: run again",
            KvmError::Start { .. } => {
                "is it installed? `staleline doctor` says; STALELINE_QEMU names another QEMU"
            }
            KvmError::Gone { .. } => {
                "was it stopped from outside, or is it not what STALELINE_QEMU or STALELINE_VMM should name? An emulated \
                 host is six times as large as its guest (`board.ram-mib`, `board.ram-high-mib`): is there so much \
                 memory? Otherwise please report it"
            }
            KvmError::Silent { .. } => "is this machine busy with something else? Run it again",
            KvmError::Stalled { .. } | KvmError::Deaf { .. } => {
                "was it stopped (SIGSTOP, a debugger), or is this machine busy with something else? Run it again"
            }
            KvmError::Crashed { .. } => "please report this with the scenario",
            KvmError::TooLong { .. } => "use a smaller one",
            KvmError::Snapshot(_) => SnapshotError::HELP,
            KvmError::Trespass { .. } => {
                "the VMM is not allowed to do that, and does not need to: please report it with the scenario"
            }
            KvmError::Protocol(_) => "please report this",
            KvmError::Untold => {
                "the device tree has it as `staleline,coherency-port`: does an overlay change that? A kernel with an \
                 earlier series of the stack `instrumented` has to be built again; what its console says of a \
                 coherency port tells more"
            }
            KvmError::Failed { help, .. } => return help.clone().into(),
        };
        known.into()
    }
}

impl From<KvmError> for EngineError {
    fn from(e: KvmError) -> Self {
        let help = e.help();
        EngineError::Own(Fault::new(e, help))
    }
}
