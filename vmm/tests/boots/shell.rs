// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A shell in the guest: at a terminal, and with its commands from a pipe. Needs a busybox for the guest
//! (`scripts/get-busybox`).

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use staleline_results::{GuestEnd, RunResult, Verdict};

use crate::support::{self, Run};

const KERNEL: &str = "begin-end-access";
/// Busybox's.
const PROMPT: &str = "/root # ";

/// `staleline shell` with that on its standard input.
fn piped(commands: &str, arguments: &[&str]) -> Run {
    support::need_kernel(KERNEL);
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("input");
    std::fs::write(&input, commands).unwrap();
    let mut command = support::staleline();
    command.args(["shell", "--kernel", KERNEL, "--out"]);
    command.arg(dir.path().join("out"));
    command.stdin(File::open(&input).unwrap());
    support::finish_with(command, arguments, &[commands], dir)
}

#[test]
fn commands_come_from_a_pipe_and_again_in_a_replay() {
    let run = piped(
        "uname -m; dmesg | head -n 3; sh -c 'echo $((6 * 7))'; ls /\n",
        &[],
    );
    let result = run.ends(0, Verdict::Pass);
    for line in ["aarch64\n", "Linux version", "42\n", "tmp\n"] {
        assert!(run.stdout.contains(line), "{line}: {}", run.stdout);
    }
    assert_eq!(result.scenario, "shell");
    assert_eq!(result.attended.typed, None);
    let (code, told) = run.replay(&[]);
    assert_eq!(code, 0, "{told}");
    let run = piped("echo to stderr >&2; exit 3\n", &[]);
    let result = run.ends(1, Verdict::Fail);
    assert_eq!(result.reasons, ["/bin/busybox ended with exit code 3"]);
    assert!(run.stderr.contains("to stderr\n"), "{}", run.stderr);
    // Nothing to do is no error.
    piped("", &[]).ends(0, Verdict::Pass);
}

#[test]
fn what_is_no_shell_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |arguments: &[&str], says: &str| {
        let mut command = support::staleline();
        command.arg("shell").args(arguments).stdin(Stdio::null());
        let output = command.current_dir(&dir).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(says), "{told}");
    };
    let here = dir.path().to_str().unwrap();
    fails(&["--root", here], "there is no shell in it");
    fails(&["--busybox", "/bin/ls"], "is no busybox for the guest");
    fails(&["--busybox", "nothing"], "cannot read nothing");
}

/// A session at a terminal.
struct Session {
    keys: File,
    screen: OwnedFd,
    before: Termios,
    child: Child,
    said: Receiver<Vec<u8>>,
    text: String,
    dir: tempfile::TempDir,
}

impl Session {
    fn begin(arguments: &[&str]) -> Self {
        support::need_kernel(KERNEL);
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keys).unwrap();
        unlockpt(&keys).unwrap();
        let name = ptsname(&keys, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let screen = open(&name, flags, Mode::empty()).unwrap();
        let size = Winsize {
            ws_row: 33,
            ws_col: 99,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&screen, size).unwrap();
        let before = tcgetattr(&screen).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut command = support::staleline();
        command.args(["shell", "--kernel", KERNEL]).args(arguments);
        command.arg("--out").arg(dir.path().join("out"));
        command.stdin(screen.try_clone().unwrap());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.env("TERM", "vt100").spawn().unwrap();
        let said = listen(child.stderr.take().unwrap());
        Session {
            keys: keys.into(),
            screen,
            before,
            child,
            said,
            text: String::new(),
            dir,
        }
    }

    /// Waits until that was said, which is forgotten then.
    fn hears(&mut self, what: &str) {
        let begun = Instant::now();
        loop {
            if let Some(at) = self.text.find(what) {
                self.text.drain(..at + what.len());
                return;
            }
            let left = Duration::from_secs(60).saturating_sub(begun.elapsed());
            match self.said.recv_timeout(left) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(e) => panic!("no {what:?} ({e}) in {:?}", self.text),
            }
        }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn modes(&self) -> LocalModes {
        tcgetattr(&self.screen).unwrap().local_modes
    }

    fn ends(mut self, code: i32) -> (RunResult, String) {
        let mut out = String::new();
        let mut stdout = self.child.stdout.take().unwrap();
        stdout.read_to_string(&mut out).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{out}{}", self.text);
        let after = tcgetattr(&self.screen).unwrap();
        assert_eq!(after.local_modes, self.before.local_modes);
        assert_eq!(after.input_modes, self.before.input_modes);
        assert_eq!(after.output_modes, self.before.output_modes);
        let left = support::processes_in(self.dir.path());
        assert!(left.is_empty(), "{left:?}");
        let text = std::fs::read_to_string(self.dir.path().join("out/result.json")).unwrap();
        (serde_json::from_str(&text).unwrap(), out)
    }
}

fn listen(mut stderr: ChildStderr) -> Receiver<Vec<u8>> {
    let (to, said) = channel();
    std::thread::spawn(move || {
        let mut buf = [0; 4096];
        while let Ok(len @ 1..) = stderr.read(&mut buf) {
            if to.send(buf[..len].to_vec()).is_err() {
                break;
            }
        }
    });
    said
}

#[test]
fn a_terminal_has_a_prompt_with_all_that_belongs_to_it() {
    let mut session = Session::begin(&[]);
    session.hears(PROMPT);
    let raw = session.modes();
    assert!(!raw.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
    session.types("echo $((40 + 2)) $TERM; stty size; tty\r");
    session.hears("42 vt100");
    session.hears("33 99");
    session.hears("/dev/ttyAMA0");
    // Ctrl-C is the guest's, and job control is there.
    session.types("sleep 1000\r");
    session.hears("sleep 1000");
    std::thread::sleep(Duration::from_millis(500));
    session.types("\x03");
    session.hears(PROMPT);
    session.types("sleep 1000\r");
    session.hears("sleep 1000");
    std::thread::sleep(Duration::from_millis(500));
    session.types("\x1a");
    session.hears("Stopped");
    session.types("fg\r");
    session.hears("sleep 1000");
    std::thread::sleep(Duration::from_millis(500));
    session.types("\x03");
    session.hears(PROMPT);
    session.types("exit 0\r");
    let dir = session.dir.path().join("out");
    session.hears("results in");
    // The directory must live on.
    let mut replay = support::staleline();
    let replay = replay.arg("replay").arg(&dir).output().unwrap();
    let told = String::from_utf8(replay.stderr).unwrap();
    assert_eq!(replay.status.code(), Some(2), "{told}");
    assert!(told.contains("cannot be done again"), "{told}");
    let (result, out) = session.ends(0);
    assert_eq!(result.verdict, Verdict::Pass, "{:?}", result.reasons);
    assert!(result.attended.typed.unwrap() > 20);
    assert_eq!(result.run_hash, None);
    assert_eq!(result.guest.program.unwrap().code, Some(0));
    assert!(
        result.replay.starts_with("staleline shell "),
        "{}",
        result.replay
    );
    assert!(out.contains("cannot be done again"), "{out}");
}

#[test]
fn there_is_more_than_one_way_out() {
    for (keys, end) in [
        ("\x01x", GuestEnd::Left),
        ("poweroff\r", GuestEnd::PoweredOff),
        ("poweroff -f\r", GuestEnd::PoweredOff),
    ] {
        let mut session = Session::begin(&[]);
        session.hears(PROMPT);
        session.types(keys);
        let (result, _) = session.ends(0);
        assert_eq!(result.guest.end, Some(end), "{keys:?}");
        assert_eq!(result.verdict, Verdict::Pass, "{:?}", result.reasons);
    }
    let mut session = Session::begin(&[]);
    session.hears(PROMPT);
    session.types("false\rexit\r");
    let (result, _) = session.ends(1);
    assert_eq!(result.reasons, ["/bin/busybox ended with exit code 1"]);
}

#[test]
fn a_time_limit_is_one_that_was_asked_for() {
    let mut session = Session::begin(&["--timeout", "20"]);
    session.hears(PROMPT);
    let (result, _) = session.ends(3);
    assert_eq!(result.guest.end, Some(GuestEnd::TimedOut));
}

#[test]
fn the_terminal_is_given_back_whatever_ends_it() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let mut session = Session::begin(&[]);
        session.hears(PROMPT);
        let child = Pid::from_child(&session.child);
        kill_process(child, signal).unwrap();
        // Its default comes at once.
        let orderly = [Signal::TERM, Signal::INT].contains(&signal);
        if orderly {
            let _ = kill_process(child, Signal::TERM);
        }
        let status = session.child.wait().unwrap();
        assert!(!status.success(), "{status}");
        assert_eq!(session.modes(), session.before.local_modes, "{signal:?}");
    }
}

#[test]
fn commands_may_end_with_the_machine_switched_off() {
    let run = piped("echo first; sleep 1; poweroff -f\n", &[]);
    let result = run.ends(0, Verdict::Pass);
    assert_eq!(result.guest.end, Some(GuestEnd::PoweredOff));
    assert!(result.guest.program.unwrap().powered_off);
    assert!(run.stdout.starts_with("first\n"), "{}", run.stdout);
    assert!(
        run.stdout.contains("switched the machine off"),
        "{}",
        run.stdout
    );
    let (code, told) = run.replay(&[]);
    assert_eq!(code, 0, "{told}");
}
