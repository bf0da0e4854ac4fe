// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! QEMU's command line.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use command_fds::CommandFdExt;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// All that QEMU is given. It keeps the descriptors under their numbers here.
pub(super) struct Qemu<'a> {
    pub program: &'a Path,
    pub plugin: &'a Path,
    /// RAM and windows, a multiple of 1 MiB.
    pub memory_bytes: u64,
    /// CPUs; those after the first wait for PSCI's CPU_ON.
    pub cpus: u8,
    /// First instruction.
    pub entry: u64,
    pub console: &'a Path,
    pub ram: File,
    pub config: File,
    pub qmp: UnixStream,
    pub qtest: UnixStream,
    pub plugin_qtest: UnixStream,
    pub plugin_control: UnixStream,
}

impl Qemu<'_> {
    /// The command, ready to be spawned once.
    pub(super) fn build(self) -> Command {
        let mut command = Command::new(self.program);
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            // -no-reboot: a reset ends the run and says so in its event.
            .args(["-S", "-no-reboot", "-monitor", "none"])
            .args([
                "-machine",
                "virt,gic-version=3,memory-backend=ram,dtb-randomness=off",
            ])
            .args(["-cpu", "cortex-a53", "-smp"])
            .arg(self.cpus.to_string())
            // One thread for all CPUs, which take turns; and guest time is a function of the
            // instructions executed, and of nothing else.
            .args(["-accel", "tcg,thread=single"])
            .args(["-icount", "shift=2,sleep=off", "-seed", "1"])
            .args(["-rtc", "base=2026-01-01,clock=vm"])
            .arg("-m")
            .arg(format!("{}M", self.memory_bytes >> 20))
            .arg("-object")
            .arg(format!(
                "memory-backend-file,id=ram,size={},mem-path=/proc/self/fd/{},share=on",
                self.memory_bytes,
                self.ram.as_raw_fd()
            ))
            .arg("-device")
            .arg(format!("loader,addr={:#x},cpu-num=0", self.entry))
            .arg("-chardev")
            .arg(option("file,id=console,path=", self.console.as_os_str()))
            .args(["-serial", "chardev:console"])
            .arg("-chardev")
            .arg(format!("socket,id=qmp,fd={}", self.qmp.as_raw_fd()))
            .args(["-mon", "chardev=qmp,mode=control"])
            .arg("-chardev")
            .arg(format!("socket,id=qtest,fd={}", self.qtest.as_raw_fd()))
            .args(["-qtest", "chardev:qtest", "-qtest-log", "none"])
            .arg("-plugin")
            .arg({
                let mut plugin = option("file=", self.plugin.as_os_str());
                plugin.push(format!(",config=/proc/self/fd/{}", self.config.as_raw_fd()));
                plugin
            })
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A terminal's Ctrl-C is for the parent, which then takes QEMU along.
            .process_group(0)
            .preserved_fds(vec![
                self.ram.into(),
                self.config.into(),
                self.qmp.into(),
                self.qtest.into(),
                self.plugin_qtest.into(),
                self.plugin_control.into(),
            ]);
        let parent = getpid();
        let die_with_parent = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the request: then nobody would send the signal.
            if getppid() == Some(parent) {
                Ok(())
            } else {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
        };
        // SAFETY: between fork and exec the closure makes two system calls; it neither allocates
        // nor takes a lock.
        unsafe { command.pre_exec(die_with_parent) };
        command
    }
}

/// An option that ends in a file name. QEMU wants commas in values doubled.
fn option(prefix: &str, path: &OsStr) -> OsString {
    let mut bytes = prefix.as_bytes().to_vec();
    for &byte in path.as_bytes() {
        bytes.push(byte);
        if byte == b',' {
            bytes.push(byte);
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_paths_are_doubled() {
        let path = OsStr::from_bytes(b"/run,1/\xff.log");
        assert_eq!(
            option("path=", path).into_vec(),
            b"path=/run,,1/\xff.log".to_vec()
        );
    }
}
