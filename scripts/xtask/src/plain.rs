// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A boot without plugin and models, as the peer of runs: same QEMU, CPU, clock, kernel and
//! initramfs. Without a plan in the device tree the agent says hello and powers off.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::measure::{self, Time};
use crate::tool::Tool;

/// How QEMU is called for a plain boot.
pub struct Plain {
    qemu: String,
    arguments: Vec<String>,
    console: PathBuf,
}

impl Plain {
    /// Learns it from a run of a scenario.
    ///
    /// # Errors
    /// If the run fails.
    pub fn like(tool: &Tool, scenario: &str) -> Result<Self> {
        let qemu = std::env::var("STALELINE_QEMU");
        let qemu = qemu.unwrap_or_else(|_| "qemu-system-aarch64".into());
        let (listener, told) = (tool.work().join("qemu"), tool.work().join("arguments"));
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] || printf '%s\\n' \"$@\" >'{}'\nexec '{qemu}' \"$@\"\n",
            told.display()
        );
        fs::write(&listener, script)?;
        fs::set_permissions(&listener, fs::Permissions::from_mode(0o755))?;
        let mut run = tool.run(&[scenario]);
        measure::quietly(run.env("STALELINE_QEMU", &listener))?;
        let told = fs::read_to_string(&told).context("the run did not start QEMU")?;
        let mut arguments = kept(&told.lines().collect::<Vec<_>>());
        let (image, initramfs) = tool.images()?;
        let console = tool.work().join("plain.log");
        let serial = format!("file:{}", console.display());
        let text = |path: &Path| path.display().to_string();
        let rest = [
            ("-display", "none".to_owned()),
            ("-monitor", "none".to_owned()),
            ("-m", "128M".to_owned()),
            ("-kernel", text(&image)),
            ("-initrd", text(&initramfs)),
            ("-append", "console=ttyAMA0 loglevel=5 panic=-1".to_owned()),
            ("-serial", serial),
        ];
        arguments.extend(
            rest.into_iter()
                .flat_map(|(name, value)| [name.to_owned(), value]),
        );
        Ok(Plain {
            qemu,
            arguments,
            console,
        })
    }

    /// Its QEMU's version.
    ///
    /// # Errors
    /// If it does not tell.
    pub fn version(&self) -> Result<String> {
        let output = measure::quietly(Command::new(&self.qemu).arg("--version"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// One boot to power-off, with a plugin if there is one.
    ///
    /// # Errors
    /// If it does not come to its end.
    pub fn boot(&self, plugin: Option<&Path>) -> Result<Time> {
        let mut command = Command::new(&self.qemu);
        command.args(&self.arguments);
        if let Some(plugin) = plugin {
            command.arg("-plugin").arg(plugin);
        }
        let time = measure::timed(&mut command)?;
        let said = fs::read_to_string(&self.console)?;
        let whole = said.contains("ok 1 boot") && said.contains("Power down");
        ensure!(whole, "the plain boot did not come to its end: {said}");
        Ok(time)
    }
}

/// The arguments that say what the CPU is and how time runs; not those that attach the plugin.
fn kept(all: &[&str]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut rest = all.iter();
    while let Some(argument) = rest.next() {
        match *argument {
            "-nodefaults" | "-no-user-config" | "-no-reboot" => kept.push((*argument).to_owned()),
            "-machine" | "-cpu" | "-smp" | "-icount" | "-seed" | "-rtc" => {
                let value = rest.next().copied().unwrap_or_default();
                kept.push((*argument).to_owned());
                kept.push(value.replace(",memory-backend=ram", ""));
            }
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_attaches_the_plugin_is_left_out() {
        let all = [
            "-nodefaults",
            "-machine",
            "virt,memory-backend=ram,gic-version=3",
            "-plugin",
            "x.so",
            "-icount",
            "shift=0",
        ];
        let same = [
            "-nodefaults",
            "-machine",
            "virt,gic-version=3",
            "-icount",
            "shift=0",
        ];
        assert_eq!(kept(&all), same);
    }
}
