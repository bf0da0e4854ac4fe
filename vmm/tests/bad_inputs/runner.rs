// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Runs the command and looks at what it did.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a command may take that starts no guest.
const LIMIT: Duration = Duration::from_secs(20);
/// Bytes that it may say of what is wrong.
const STDERR: usize = 4096;
/// And of everything else.
const STDOUT: usize = 1 << 20;

/// How it should end.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    pub code: i32,
    pub says: &'a str,
}

/// A directory for one command.
pub struct Bench {
    dir: TempDir,
    /// For where a test wants the output.
    pub stdout: Option<File>,
}

/// What it did.
struct Did {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Bench {
    pub fn new() -> Self {
        Bench {
            dir: tempfile::tempdir().unwrap(),
            stdout: None,
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn names(&self) -> Vec<std::ffi::OsString> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    /// What is wrong with how it ends.
    pub fn wrong(&self, args: &[impl AsRef<OsStr>], expected: Expected<'_>) -> Option<String> {
        let before = self.names();
        let did = match self.run(args) {
            Ok(did) => did,
            Err(why) => return Some(why),
        };
        let (stdout, stderr) = match (text(&did.stdout), text(&did.stderr)) {
            (Ok(stdout), Ok(stderr)) => (stdout, stderr),
            (Err(why), _) | (_, Err(why)) => return Some(why),
        };
        let trouble = if did.code != Some(expected.code) {
            "exit code"
        } else if !stderr.contains(expected.says) && !stdout.contains(expected.says) {
            "words"
        } else if stderr.len() >= STDERR || stdout.len() >= STDOUT {
            "length"
        } else if expected.code == 2 && self.names() != before {
            "files left"
        } else if stderr.contains("panicked at") {
            "panic"
        } else {
            return None;
        };
        let (code, len) = (did.code, stderr.len());
        let shown: String = stderr.chars().take(600).collect();
        Some(format!(
            "{trouble}: want {expected:?}, got {code:?}, {len} bytes of stderr:\n{shown}"
        ))
    }

    fn run(&self, args: &[impl AsRef<OsStr>]) -> Result<Did, String> {
        // Files, so that nothing waits for us to read.
        let outputs = tempfile::tempdir().unwrap();
        let [out, err] = ["out", "err"].map(|name| outputs.path().join(name));
        let stdout: Stdio = match &self.stdout {
            Some(file) => file.try_clone().unwrap().into(),
            None => File::create(&out).unwrap().into(),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_staleline"));
        command
            .args(args)
            .current_dir(self.path())
            .env_remove("STALELINE_LOG")
            .env("NO_COLOR", "1")
            .env("COLUMNS", "100")
            // What is taken for good ends before anything is built or run.
            .env("PATH", "/nonexistent")
            .env("STALELINE_QEMU", "/nonexistent/qemu")
            .env("XDG_CACHE_HOME", outputs.path().join("cache"))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(File::create(&err).unwrap());
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        let begun = Instant::now();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if begun.elapsed() > LIMIT => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    return Err(format!("it did not end within {LIMIT:?}"));
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        Ok(Did {
            code: status.code(),
            stdout: std::fs::read(&out).unwrap_or_default(),
            stderr: std::fs::read(&err).unwrap(),
        })
    }
}

/// Text that a terminal can show.
fn text(bytes: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("no UTF-8: {e}"))?;
    match text.chars().find(|c| c.is_control() && *c != '\n') {
        Some(c) => Err(format!("it prints {c:?}: {text:?}")),
        None => Ok(text),
    }
}
