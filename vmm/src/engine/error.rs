// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Everything that can go wrong with the infrastructure of a run.

use std::path::PathBuf;
use std::time::Duration;

use crate::boot::BootError;

/// Why a run has no outcome. None of these says anything about the software under test, save
/// perhaps [`EngineError::Timeout`] and [`EngineError::NoPowerOff`].
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no QEMU.
    #[error("cannot run {}", program.display())]
    QemuMissing {
        /// What was tried.
        program: PathBuf,
        /// Why it does not run.
        source: std::io::Error,
    },
    /// `--version` printed something else.
    #[error("{} does not look like QEMU: {output:?}", program.display())]
    QemuUnknown {
        /// What was run.
        program: PathBuf,
        /// The start of what it printed.
        output: String,
    },
    /// QEMU lacks version 4 of the plugin interface.
    #[error("QEMU {found} is too old: {needed} or newer is needed")]
    QemuTooOld {
        /// Its version.
        found: String,
        /// The oldest that will do.
        needed: String,
    },
    /// QEMU was built without plugins.
    #[error("{} was built without plugins", program.display())]
    PluginsUnsupported {
        /// Which QEMU.
        program: PathBuf,
    },
    /// The plugin library is not where it is looked for.
    #[error("the QEMU plugin was not found: looked for {}", list(searched))]
    PluginMissing {
        /// Where it was looked for.
        searched: Vec<PathBuf>,
        /// What to do.
        help: &'static str,
    },
    /// QEMU refused the plugin library.
    #[error("QEMU cannot load {}: {stderr}", plugin.display())]
    PluginRejected {
        /// Which library.
        plugin: PathBuf,
        /// What QEMU said.
        stderr: String,
        /// What to do.
        help: &'static str,
    },
    /// The images do not load.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The job itself makes no sense.
    #[error("bad job: {0}")]
    BadJob(String),
    /// The operating system refused something.
    #[error("cannot {what}")]
    Os {
        /// What was being done.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// QEMU ended before the guest did, by itself or by a signal.
    #[error("QEMU ended unexpectedly ({status}){}", tail("its stderr", stderr))]
    QemuCrashed {
        /// Exit status or signal.
        status: std::process::ExitStatus,
        /// The last lines of its stderr.
        stderr: String,
    },
    /// The plugin or the machine in it has given up.
    #[error("the machine inside QEMU failed: {message}")]
    PluginFailed {
        /// The plugin's message.
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
    /// The emulation stopped for a reason other than the guest's own power-off or reset.
    #[error(
        "the guest did not power off: QEMU {}{}",
        stopped(reason.as_deref()),
        tail("its console", console)
    )]
    NoPowerOff {
        /// QMP's word for it (`host-signal`, `guest-panic`, …), if it said one.
        reason: Option<String>,
        /// The last lines of the console.
        console: String,
    },
    /// The engine itself has noticed that it gets the guest wrong.
    #[error("{0}")]
    Misunderstood(String),
    /// QEMU's control socket does not talk as expected.
    #[error("QEMU's control protocol failed: {0}")]
    Protocol(String),
    /// The machine's report is longer than anybody is going to read.
    #[error("the machine's report is longer than its bound of {limit} bytes")]
    ReportTooLarge {
        /// The bound in bytes.
        limit: u64,
    },
    /// The guest ended, but what the plugin should have written cannot be read.
    #[error("cannot read {}, which the plugin should have written", path.display())]
    Output {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl EngineError {
    /// Whether a program that is no QEMU, or too old a one, may end like this.
    pub(super) fn may_be_of_another_program(&self) -> bool {
        matches!(
            self,
            EngineError::QemuCrashed { .. }
                | EngineError::PluginRejected { .. }
                | EngineError::PluginsUnsupported { .. }
                | EngineError::NoPowerOff { .. }
                | EngineError::Protocol(_)
        )
    }

    /// What the user can do about it.
    pub fn help(&self) -> &'static str {
        match self {
            EngineError::QemuMissing { .. } | EngineError::QemuUnknown { .. } => {
                "install QEMU for arm64 (Debian: apt install qemu-system-arm), or name it in \
                 STALELINE_QEMU"
            }
            EngineError::QemuTooOld { .. } => {
                "install a newer one (Debian 12: qemu-system-arm from bookworm-backports), or \
                 name it in STALELINE_QEMU"
            }
            EngineError::PluginsUnsupported { .. } => {
                "use a QEMU configured with --enable-plugins, as Debian's is, and name it in \
                 STALELINE_QEMU"
            }
            EngineError::PluginMissing { help, .. } | EngineError::PluginRejected { help, .. } => {
                help
            }
            EngineError::Boot(error) => error.help(),
            EngineError::BadJob(_) => "check the scenario's board settings",
            EngineError::Os { .. } => "check memory, file descriptor limits and free space",
            EngineError::QemuCrashed { .. } => {
                "if memory is short, give the guest less; else please report this with the \
                 stderr above"
            }
            EngineError::Misunderstood(_) => {
                "please report this with the kernel and the run's directory"
            }
            EngineError::PluginFailed { .. } => "please report this with the run's directory",
            EngineError::Timeout { .. } => {
                "look at console.log for where the guest hangs; if it is only slow, raise the \
                 timeout"
            }
            EngineError::Interrupted => "run it again",
            EngineError::NoPowerOff { .. } => {
                "was QEMU stopped from outside? Otherwise look at console.log"
            }
            EngineError::Protocol(_) => {
                "is STALELINE_QEMU a real qemu-system-aarch64? If so, please report this"
            }
            EngineError::ReportTooLarge { .. } => {
                "move less data, or the same in fewer and larger frames"
            }
            EngineError::Output { .. } => "check free space and permissions of the run's directory",
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    paths.join(", ")
}

fn stopped(reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("stopped for {reason:?}"),
        None => "ended by itself, without a word on its control socket".into(),
    }
}

fn tail(name: &str, text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("; the end of {name}:\n{text}")
    }
}
