// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Other programs: what they say is read as they say it, from all pipes at once, so that none waits for us
//! with a pipe that is full; and kept within bounds.

use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Bytes kept of what a program says.
const KEPT: usize = 64 << 10;

/// Lines of a complaint that are told: the first names the cause, as a rule.
const LINES: usize = 8;
/// Characters of each.
const COLUMNS: usize = 200;

/// How often it is looked whether a program has ended.
const LOOK: Duration = Duration::from_millis(5);

/// How a program ended, and the beginning of what it said.
#[derive(Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// On standard output.
    pub stdout: Vec<u8>,
    /// On standard error.
    pub stderr: Vec<u8>,
}

/// Reads a stream to its end, on a thread of its own; gives the beginning.
pub fn collect(stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || beginning(stream))
}

fn beginning(mut stream: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return kept,
            Ok(len) => kept.extend(&chunk[..len.min(KEPT - kept.len())]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return kept,
        }
    }
}

/// Runs a program to its end, without input.
///
/// # Errors
/// That it cannot be run; or [`io::ErrorKind::TimedOut`], when it and all that it has started is ended.
pub fn output_within(command: &mut Command, limit: Duration) -> io::Result<Said> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let stdout = child.stdout.take().map(channel);
    let stderr = child.stderr.take().map(channel);
    let deadline = Instant::now() + limit;
    let status = wait_until(&mut child, deadline);
    // What it has left running must not keep our pipes open; and where it runs itself, it is ended.
    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    let Some(status) = status? else {
        child.wait()?;
        let what = format!("it did not end within {} s", limit.as_secs_f32());
        return Err(io::Error::new(io::ErrorKind::TimedOut, what));
    };
    // Something may have got away from its group.
    let said = |from: Option<mpsc::Receiver<Vec<u8>>>| {
        from.and_then(|bytes| bytes.recv_timeout(Duration::from_secs(1)).ok())
            .unwrap_or_default()
    };
    Ok(Said {
        status,
        stdout: said(stdout),
        stderr: said(stderr),
    })
}

fn channel(stream: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (to, from) = mpsc::channel();
    thread::spawn(move || to.send(beginning(stream)));
    from
}

fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(Some(status)),
            None if Instant::now() >= deadline => return Ok(None),
            None => thread::sleep(LOOK),
        }
    }
}

/// What a program has complained of, for an error: the first lines, and how many follow.
#[must_use]
pub fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let shown = lines.iter().take(LINES);
    let shown = shown.map(|line| line.chars().take(COLUMNS).collect());
    let mut told: Vec<String> = shown.collect();
    if lines.len() > LINES {
        told.push(format!("... and {} lines more", lines.len() - LINES));
    }
    told.join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_are_read_at_once() {
        let script = "head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero; exit 3";
        let said = output_within(&mut shell(script), Duration::from_secs(20)).unwrap();
        assert_eq!(said.status.code(), Some(3));
        assert_eq!((said.stdout.len(), said.stderr.len()), (KEPT, KEPT));
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_all_that_it_started() {
        let begun = Instant::now();
        let e = output_within(
            &mut shell("sleep 60 & sleep 60"),
            Duration::from_millis(100),
        );
        assert_eq!(e.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Nor does it matter what it leaves behind with our pipes in hand.
        let said = output_within(
            &mut shell("echo x; sleep 60 & exit"),
            Duration::from_secs(20),
        );
        assert_eq!(said.unwrap().stdout, b"x\n");
        assert!(begun.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn a_complaint_is_its_beginning() {
        let many = "tar: x: No space left\n\n".repeat(100);
        let told = complaint(many.as_bytes());
        assert_eq!(told.lines().count(), LINES + 1);
        assert!(told.ends_with("... and 92 lines more"), "{told}");
        assert_eq!(complaint(&[b'x'; 1000]).len(), COLUMNS);
    }
}
