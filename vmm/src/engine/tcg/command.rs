// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! QEMU's command line.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::PipeReader;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use command_fds::CommandFdExt;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Guest time is a function of the instructions executed, and of nothing else: what waits for a timer finds
/// it has come.
const GUEST_TIME: &str = "shift=2,sleep=off";
/// But people who wait for something want it to take its time, and no processor kept busy by a guest that waits
/// for them.
const REAL_TIME: &str = "shift=2,sleep=on";

/// GNU's allocator, for a process that takes much memory at its start and is gone soon: in large pages, from one
/// place, and what was given back is used again. It is a sixth of the time of a guest that goes on from a snapshot.
const ALLOCATOR: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:glibc.malloc.top_pad=33554432:\
     glibc.malloc.mmap_threshold=67108864:glibc.malloc.trim_threshold=268435456",
);

/// Why QEMU is not to be given that argument, if it is not.
pub(super) fn refuses(argument: &str) -> Option<&'static str> {
    // It has its options with one dash or with two.
    let name = argument.strip_prefix('-')?;
    match name.strip_prefix('-').unwrap_or(name) {
        "daemonize" => Some("a QEMU in the background would stay behind"),
        _ => None,
    }
}

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
    /// Where what people type comes from, if they do.
    pub input: Option<PipeReader>,
    /// Where a debugger is waited for.
    pub debugger: Option<u16>,
    /// The user's, at the end.
    pub arguments: &'a [String],
    /// Whether it goes on from a snapshot: memory is a copy of its own of the file, and what was on the console
    /// stays there.
    pub resumes: bool,
    pub ram: File,
    pub config: File,
    pub qmp: UnixStream,
    pub qtest: UnixStream,
    pub plugin_qtest: UnixStream,
    pub plugin_control: UnixStream,
    /// What a snapshot is made of.
    pub parts: Vec<OwnedFd>,
}

impl Qemu<'_> {
    /// The command, ready to be spawned once.
    pub(super) fn build(self) -> Command {
        let time = match &self.input {
            None => GUEST_TIME,
            Some(_) => REAL_TIME,
        };
        let (share, append) = match self.resumes {
            true => ("off", ",append=on"),
            false => ("on", ""),
        };
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
            // One thread for all CPUs, which take turns.
            .args(["-accel", "tcg,thread=single"])
            .args(["-icount", time])
            .args(["-seed", "1"])
            .args(["-rtc", "base=2026-01-01,clock=vm"])
            .arg("-m")
            .arg(format!("{}M", self.memory_bytes >> 20))
            .arg("-object")
            .arg(format!(
                "memory-backend-file,id=ram,size={},mem-path=/proc/self/fd/{},share={share}",
                self.memory_bytes,
                self.ram.as_raw_fd()
            ))
            .arg("-device")
            .arg(format!("loader,addr={:#x},cpu-num=0", self.entry))
            .arg("-chardev")
            .arg({
                let mut console = option("file,id=console,path=", self.console.as_os_str());
                console.push(append);
                if let Some(input) = &self.input {
                    console.push(format!(",input-path=/proc/self/fd/{}", input.as_raw_fd()));
                }
                console
            })
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
            .args(self.debugger.iter().flat_map(|port| {
                // Whoever is debugged obeys: nobody but this host's own users may do that.
                ["-gdb".to_owned(), format!("tcp:127.0.0.1:{port}")]
            }))
            .args(
                self.resumes
                    .then_some(["-incoming", "defer"])
                    .iter()
                    .flatten(),
            )
            .args(self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A terminal's Ctrl-C is for the parent, which then takes QEMU along.
            .process_group(0)
            .preserved_fds({
                let mut kept: Vec<OwnedFd> = vec![
                    self.ram.into(),
                    self.config.into(),
                    self.qmp.into(),
                    self.qtest.into(),
                    self.plugin_qtest.into(),
                    self.plugin_control.into(),
                ];
                kept.extend(self.input.map(OwnedFd::from));
                kept.extend(self.parts);
                kept
            });
        let (variable, value) = ALLOCATOR;
        if self.resumes && std::env::var_os(variable).is_none() {
            command.env(variable, value);
        }
        die_with_parent(&mut command);
        command
    }
}

/// The process dies with the thread that starts it.
pub(in crate::engine) fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let before_exec = move || {
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
    unsafe { command.pre_exec(before_exec) };
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
    fn nothing_is_sent_to_the_background() {
        assert!(refuses("-daemonize").is_some() && refuses("--daemonize").is_some());
        for fine in ["daemonize", "-d", "int", ""] {
            assert_eq!(refuses(fine), None, "{fine}");
        }
    }

    #[test]
    fn commas_in_paths_are_doubled() {
        let path = OsStr::from_bytes(b"/run,1/\xff.log");
        assert_eq!(
            option("path=", path).into_vec(),
            b"path=/run,,1/\xff.log".to_vec()
        );
    }
}
