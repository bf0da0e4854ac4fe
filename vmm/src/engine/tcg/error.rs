// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What can go wrong with QEMU and its plugin.

use std::path::PathBuf;

use staleline_machine::snapshot::SnapshotError;
use staleline_support::text;

use crate::engine::EngineError;
use crate::engine::error::{Fault, tail};

/// Why QEMU did not do what an engine should.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// There is no QEMU.
    #[error("cannot run {}", program.display())]
    Missing {
        /// What was tried.
        program: PathBuf,
        /// Why it does not run.
        source: std::io::Error,
    },
    /// `--version` printed something else.
    #[error("{} does not look like QEMU: {output:?}", program.display())]
    Unknown {
        /// What was run.
        program: PathBuf,
        /// The start of what it printed.
        output: String,
    },
    /// QEMU lacks version 4 of the plugin interface.
    #[error("QEMU {found} is too old: {needed} or newer is needed")]
    TooOld {
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
    #[error("the QEMU plugin was not found: looked for {}", text::paths(searched))]
    PluginMissing {
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// The plugin library could not be made of the sources.
    #[error("cannot build the QEMU plugin from {}: {why}", workspace.display())]
    PluginBuild {
        /// The sources.
        workspace: PathBuf,
        /// What failed.
        why: String,
    },
    /// The sources that the plugin would be made of are not those of this program.
    #[error(
        "cannot build the QEMU plugin: {} is newer than {}, and a plugin of it may be another machine",
        source_file.display(), program.display()
    )]
    PluginStale {
        /// A file that has changed.
        source_file: PathBuf,
        /// This program.
        program: PathBuf,
    },
    /// QEMU refused the plugin library.
    #[error("QEMU cannot load {}: {stderr}", plugin.display())]
    PluginRejected {
        /// Which library.
        plugin: PathBuf,
        /// What QEMU said.
        stderr: String,
    },
    /// QEMU ended before the guest did, by itself or by a signal.
    #[error("QEMU ended unexpectedly ({status}){}", tail("its stderr", stderr))]
    Crashed {
        /// Exit status or signal.
        status: std::process::ExitStatus,
        /// The last lines of its stderr.
        stderr: String,
    },
    /// There is no going on from a snapshot, or it cannot be made.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// QEMU or the plugin does not take its part of one.
    #[error("the snapshot is not taken: {0}")]
    NotTaken(String),
    /// QEMU's control socket does not talk as expected.
    #[error("QEMU's control protocol failed: {0}")]
    Protocol(String),
}

impl QemuError {
    /// What the user can do about it.
    pub fn help(&self) -> &'static str {
        match self {
            QemuError::Missing { .. } | QemuError::Unknown { .. } => {
                "install QEMU for arm64 (Debian: apt install qemu-system-arm), or name it in \
                 STALELINE_QEMU"
            }
            QemuError::TooOld { .. } => {
                "install a newer one (Debian 12: qemu-system-arm from bookworm-backports), or \
                 name it in STALELINE_QEMU"
            }
            QemuError::PluginsUnsupported { .. } => {
                "use a QEMU configured with --enable-plugins, as Debian's is, and name it in \
                 STALELINE_QEMU"
            }
            QemuError::PluginMissing { .. } => {
                "build it with `cargo build --release -p staleline-tcg` (without --release for a \
                 debug build of staleline), or name it in STALELINE_TCG_PLUGIN"
            }
            QemuError::PluginBuild { .. } => {
                "see above; or build it with `cargo build --release -p staleline-tcg` and name it \
                 in STALELINE_TCG_PLUGIN"
            }
            QemuError::PluginStale { .. } => {
                "install staleline again (`cargo install --path vmm`), or name a plugin of the same \
                 sources in STALELINE_TCG_PLUGIN"
            }
            QemuError::PluginRejected { .. } => {
                "rebuild the plugin with the staleline that runs it: `cargo build --release -p \
                 staleline-tcg`"
            }
            QemuError::Crashed { .. } => {
                "if memory is short, give the guest less; else please report this with the \
                 stderr above"
            }
            QemuError::Snapshot(_) | QemuError::NotTaken(_) => SnapshotError::HELP,
            QemuError::Protocol(_) => {
                "is STALELINE_QEMU a real qemu-system-aarch64? If so, please report this"
            }
        }
    }
}

impl From<QemuError> for EngineError {
    fn from(error: QemuError) -> Self {
        let help = error.help();
        Fault::new(error, help).into()
    }
}

/// Whether a program that is no QEMU, or too old a one, may end like this.
pub(super) fn may_be_of_another_program(error: &EngineError) -> bool {
    match error {
        EngineError::NoPowerOff { .. } | EngineError::Arguments { .. } => true,
        EngineError::Own(fault) => matches!(
            fault.of(),
            Some(
                QemuError::Crashed { .. }
                    | QemuError::PluginRejected { .. }
                    | QemuError::PluginsUnsupported { .. }
                    | QemuError::Protocol(_)
            )
        ),
        _ => false,
    }
}
