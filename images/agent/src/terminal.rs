// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A shell for people: the console is its terminal, with job control there, and what it starts is its own
//! business. Nothing is traced, so that debuggers and `strace` work, and nothing is told meanwhile, so that
//! the console is theirs.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use rustix::termios::{Winsize, tcsetwinsize};
use staleline_guest::{Context, Error};
use staleline_protocol::plan::{Exec, Terminal};

use crate::program::{self, End};
use crate::sys::{self, Change, Role};

/// The terminals behind /dev/console, the one that the kernel reads from last.
const CONSOLES: &str = "/sys/class/tty/console/active";

/// What busybox's and other programs of the name send to the first process: `poweroff`, `halt`, `reboot`.
const OFF: [Signal; 4] = [
    Signal::SIGUSR2,
    Signal::SIGUSR1,
    Signal::SIGTERM,
    Signal::SIGINT,
];

/// Runs the program until it has ended, or somebody wants the machine off. Once it is started, so is what
/// `begin` begins.
pub fn run(
    exec: &Exec,
    size: Terminal,
    begin: impl FnOnce() -> Result<(), Error>,
) -> Result<End, Error> {
    let path = format!("/dev/{}", name()?);
    let open = File::options().read(true).write(true).open(&path);
    let terminal = open.file("open", &path)?;
    // One that does not know its size will do as well.
    let _ = tcsetwinsize(&terminal, winsize(size));
    // Signals that come before anybody waits for them wait themselves.
    let signals: SigSet = OFF.into_iter().chain([Signal::SIGCHLD]).collect();
    let failed = |e: Errno| io::Error::from(e);
    signals
        .thread_block()
        .map_err(failed)
        .call("sigprocmask", "the agent")?;
    let shell = program::start(exec, [terminal.as_fd(); 3], Role::AtTerminal)?;
    begin()?;
    let ended = loop {
        if let Some(end) = reap(shell) {
            break end;
        }
        let signal = signals.wait().map_err(failed);
        if signal.call("sigwait", "the agent")? != Signal::SIGCHLD {
            break End::Off;
        }
    };
    // All that is left.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    Ok(ended)
}

/// Takes all processes that have ended; how that one did, if it is among them.
fn reap(main: Pid) -> Option<End> {
    loop {
        match sys::reap()? {
            (pid, Change::Exited(code)) if pid == main => return Some(End::Exited(code)),
            (pid, Change::Killed(signal)) if pid == main => return Some(End::Killed(signal)),
            _ => {}
        }
    }
}

/// The name of the console's terminal.
fn name() -> Result<String, Error> {
    let text = fs::read_to_string(CONSOLES).file("read", CONSOLES)?;
    last(&text).ok_or_else(|| Error::Missing {
        what: format!("terminal in {CONSOLES}"),
        hint: "is there a console= on the kernel's command line?",
    })
}

fn last(consoles: &str) -> Option<String> {
    consoles.split_whitespace().next_back().map(str::to_owned)
}

fn winsize(size: Terminal) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_the_last_of_them() {
        assert_eq!(last("tty0 ttyAMA0\n").unwrap(), "ttyAMA0");
        assert_eq!(last("\n"), None);
    }
}
