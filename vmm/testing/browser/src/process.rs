// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The browser's programs and processes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal, kill_process_group};
use staleline_support::needs::{self, Kind, Need};
use tempfile::TempDir;

/// Chromium's names, the smallest first.
const NAMES: [&str; 6] = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
    "chrome",
];

/// Where Debian's commands of these names, which are scripts, find the programs.
const PROGRAMS: &str = "/usr/lib/chromium";

/// The file for its stderr.
const LOG: &str = "log";

/// The browser on a search path.
///
/// # Errors
///
/// Says which package brings one.
pub fn find(path: &OsStr) -> Result<PathBuf, String> {
    for name in NAMES {
        let Ok(command) = which::which_in(name, Some(path), "/") else {
            continue;
        };
        // The script for the headless one starts it as a child, and may hand on other descriptors.
        let program = Path::new(PROGRAMS).join(name);
        let debian = command.starts_with("/usr/bin") && program.is_file();
        return Ok(if debian { program } else { command });
    }
    let need = needs::of(Kind::Test).find(|need| NAMES.contains(&need.name));
    let package = need.as_ref().map_or(NAMES[0], Need::package);
    Err(format!(
        "looking at pages takes a browser, and there is none of {}: apt-get install {package} \
         (or run scripts/setup --tests)",
        NAMES.join(", ")
    ))
}

/// A browser's processes and files, which are gone when this is dropped.
pub struct Process {
    child: Child,
    pub program: PathBuf,
    pub dir: TempDir,
}

impl Process {
    /// Starts one, and returns our end of the conversation with it.
    pub fn start(program: PathBuf) -> io::Result<(Self, UnixStream)> {
        let dir = tempfile::tempdir()?;
        // A pipe has no time limits.
        let (ours, theirs) = UnixStream::pair()?;
        let mut profile = OsStr::new("--user-data-dir=").to_owned();
        profile.push(dir.path().join("profile"));
        let mut command = Command::new(&program);
        command
            .args(["--headless", "--remote-debugging-pipe"])
            .arg(profile)
            .args(["--no-first-run", "--disable-background-networking"])
            .arg("--host-resolver-rules=MAP * ~NOTFOUND")
            // Root has no sandbox: pages are a test's own.
            .arg("--no-sandbox")
            // In containers it is small.
            .arg("--disable-dev-shm-usage")
            .arg("--force-color-profile=srgb")
            .env("TMPDIR", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.path().join(LOG))?)
            // For all its processes.
            .process_group(0)
            // It reads from one, and writes to the other.
            .fd_mappings(vec![
                FdMapping {
                    parent_fd: theirs.try_clone()?.into(),
                    child_fd: 3,
                },
                FdMapping {
                    parent_fd: theirs.into(),
                    child_fd: 4,
                },
            ])
            .map_err(io::Error::other)?;
        let child = command.spawn()?;
        // The command, which is dropped here, has held the browser's end.
        let process = Process {
            child,
            program,
            dir,
        };
        Ok((process, ours))
    }

    /// The last lines of what it said to its stderr.
    pub fn said(&self) -> String {
        let log = fs::read(self.dir.path().join(LOG)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Its processes that have not ended.
    pub fn group(&self) -> Vec<u32> {
        let processes = fs::read_dir("/proc").into_iter().flatten();
        processes
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|process| group_of(*process) == Some(self.child.id()))
            .collect()
    }

    /// Kills them, whatever they do.
    pub fn kill(&self) {
        // Until it is waited for, its number is not used again; it fails when all have ended.
        kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing that they would do at their end is wanted.
        self.kill();
        while !self.group().is_empty() {
            thread::sleep(Duration::from_millis(2));
        }
        self.child.wait().ok();
    }
}

/// The group of a process that has not ended.
pub fn group_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // "PID (NAME) STATE PARENT GROUP ...", and a name may hold anything.
    let mut rest = stat.rsplit_once(") ")?.1.split(' ');
    let ended = ["Z", "X"].contains(&rest.next()?);
    (!ended).then(|| rest.nth(1)?.parse().ok())?
}
