// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the engine needs of a machine.

use std::process::Command;

use staleline_support::{child, text};

use super::{QemuError, host, plugin};
use crate::engine::description::{Places, Requirement};

/// QEMU, that it can load plugins, and ours.
pub(super) fn all() -> Vec<Requirement> {
    let version = host::check_qemu(&host::qemu_program(), host::PATIENCE);
    let plugin = plugin::find();
    vec![
        Requirement {
            name: "QEMU for arm64",
            found: version.map(|v| v.to_string()).map_err(|e| told(&e)),
        },
        Requirement {
            name: "QEMU with plugins",
            found: plugins(),
        },
        Requirement {
            name: "our QEMU plugin",
            found: plugin.map(|_| "found".to_owned()).map_err(|e| told(&e)),
        },
    ]
}

/// QEMU and the plugin.
pub(super) fn places() -> Places {
    let qemu = host::qemu_program();
    let qemu = which::which(&qemu).unwrap_or(qemu);
    let plugin = match plugin::find() {
        Ok(path) => path.display().to_string(),
        Err(e) => e.to_string(),
    };
    vec![
        ("QEMU", qemu.display().to_string(), Some(host::QEMU_ENV)),
        ("QEMU plugin", plugin, Some(plugin::PLUGIN_ENV)),
    ]
}

fn plugins() -> Result<String, (String, String)> {
    let fix = || "use a QEMU configured with --enable-plugins (Debian's is)".to_owned();
    let mut qemu = Command::new(host::qemu_program());
    let help = child::output_within(qemu.arg("-help"), host::PATIENCE);
    match help {
        Err(e) => Err((e.to_string(), fix())),
        Ok(o) if String::from_utf8_lossy(&o.stdout).contains("-plugin ") => {
            Ok("-plugin is known".to_owned())
        }
        Ok(_) => Err(("-plugin is not known".to_owned(), fix())),
    }
}

/// An error with its causes, and what to do.
fn told(error: &QemuError) -> (String, String) {
    (text::chain(error), error.help().to_owned())
}
