// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Cargo, called to build what a program of ours needs besides itself.

use std::io::{self, BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::progress::Progress;

/// Lines of the compiler's output that an error shows.
const TAIL: usize = 30;

/// Why there is nothing built.
#[derive(Debug)]
pub enum Failed {
    /// Cargo cannot be run.
    Run(io::Error),
    /// The user wants no more.
    Cancelled,
    /// It ended with this status, and these last words.
    Status {
        /// How it ended.
        status: String,
        /// The end of what it said.
        tail: String,
    },
}

/// The cargo that was called for this program, or the one on the path.
#[must_use]
pub fn command() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs it to its end, and shows what it compiles.
///
/// # Errors
/// [`Failed`].
pub fn build(cargo: &mut Command, progress: &dyn Progress) -> Result<(), Failed> {
    let mut child = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Failed::Run)?;
    let mut lines = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if line.trim_start().starts_with("Compiling ") {
                progress.detail(line.trim());
            }
            lines.push(line);
            if progress.cancelled() {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Failed::Cancelled);
            }
        }
    }
    let status = child.wait().map_err(Failed::Run)?;
    if status.success() {
        return Ok(());
    }
    Err(Failed::Status {
        status: status.to_string(),
        tail: lines[lines.len().saturating_sub(TAIL)..].join("\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Quiet;

    #[test]
    fn a_build_that_fails_tells_its_last_words() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            build(&mut command, &Quiet)
        };
        assert!(shell("echo Compiling x >&2").is_ok());
        match shell("seq 40 >&2; exit 3") {
            Err(Failed::Status { status, tail }) => {
                assert!(status.contains('3'), "{status}");
                assert!(tail.starts_with("11\n") && tail.ends_with("\n40"), "{tail}");
            }
            other => panic!("{other:?}"),
        }
        let none = build(&mut Command::new("/nonexistent/cargo"), &Quiet);
        assert!(matches!(none, Err(Failed::Run(_))), "{none:?}");
    }
}
