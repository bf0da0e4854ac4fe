// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A process that starts another, and the machine's own network.
#![allow(unsafe_code)]

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, Pid};

/// What a program is to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Stopped at its first instruction, and traced, with all that it starts.
    Traced,
    /// The leader of a session of its own, whose terminal is its standard input.
    AtTerminal,
}

/// A program to be started by [`start`].
pub struct Start<'a> {
    /// Its file.
    pub file: &'a CStr,
    /// Its arguments, the first of which is its name.
    pub argv: &'a [CString],
    /// All of its environment.
    pub env: &'a [CString],
    /// Its working directory.
    pub dir: &'a CStr,
    /// Its standard input, output and error, each above 2.
    pub stdio: [BorrowedFd<'a>; 3],
    /// What it is to be.
    pub role: Role,
}

/// Starts a program; this process must have no other thread. (`std` cannot on a kernel without sockets: it
/// has the child tell of trouble by one.)
pub fn start(start: &Start<'_>) -> io::Result<Pid> {
    let (mut trouble, tell) = io::pipe()?;
    let (held, release) = io::pipe()?;
    // SAFETY: there is no other thread, so that the child may do what it likes.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            drop(release);
            let e = become_it(start, held)
                .err()
                .unwrap_or(nix::errno::Errno::UnknownErrno);
            let _ = (&tell).write_all(&(e as i32).to_le_bytes());
            // SAFETY: it ends the child at once, which has nothing to tidy up.
            unsafe { libc::_exit(127) }
        }
        ForkResult::Parent { child } => {
            drop(tell);
            drop(held);
            if start.role == Role::Traced
                && let Err(e) = nix::sys::ptrace::seize(child, follow())
            {
                let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
                return Err(e.into());
            }
            drop(release);
            let mut code = [0; 4];
            // Nothing comes if all is well: the child's end is closed when the program starts.
            match trouble.read_exact(&mut code) {
                Ok(()) => {
                    // A traced one stops once more on its way out.
                    while let Ok((_, change)) = wait_for(child) {
                        match change {
                            Change::Exited(_) | Change::Killed(_) => break,
                            _ => go_on(child, 0),
                        }
                    }
                    Err(io::Error::from_raw_os_error(i32::from_le_bytes(code)))
                }
                Err(_) => Ok(child),
            }
        }
    }
}

/// Switches the loopback interface on, as every init does: programs expect 127.0.0.1 to be there. A
/// kernel without a network has none, and that is all right.
pub fn loopback_up() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let none = SockFlag::SOCK_CLOEXEC;
    let any = match socket(AddressFamily::Inet, SockType::Datagram, none, None) {
        Err(nix::errno::Errno::EAFNOSUPPORT | nix::errno::Errno::ENOSYS) => return Ok(()),
        other => other?,
    };
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(*b"lo") {
        #[allow(clippy::cast_possible_wrap, reason = "ASCII")]
        let from = from as libc::c_char;
        *to = from;
    }
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short,
        },
    };
    // SAFETY: SIOCSIFFLAGS reads name and flags of an ifreq, and this is one.
    let done = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    nix::errno::Errno::result(done)?;
    Ok(())
}

/// What has become of a traced process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It ended with that exit code.
    Exited(i32),
    /// That signal ended it.
    Killed(i32),
    /// It is stopped, and that signal is due.
    Stopped(i32),
    /// It is stopped at that event (`PTRACE_EVENT_*`).
    Event(i32),
    /// It is stopped as its tracer found it: by a signal that stops all of a process.
    Halted,
    /// None of these.
    Other,
}

impl Change {
    /// What a status of wait(2) says. Signals are numbers: those for real time have no names of their own.
    fn of(status: i32) -> Self {
        if libc::WIFEXITED(status) {
            Change::Exited(libc::WEXITSTATUS(status))
        } else if libc::WIFSIGNALED(status) {
            Change::Killed(libc::WTERMSIG(status))
        } else if libc::WIFSTOPPED(status) {
            match status >> 16 {
                0 => Change::Stopped(libc::WSTOPSIG(status)),
                // A new process or thread, or one that goes on, stops with SIGTRAP.
                libc::PTRACE_EVENT_STOP if libc::WSTOPSIG(status) != libc::SIGTRAP => {
                    Change::Halted
                }
                event => Change::Event(event),
            }
        } else {
            Change::Other
        }
    }
}

/// What is followed of a traced process: all that it starts, its programs, its end.
fn follow() -> nix::sys::ptrace::Options {
    use nix::sys::ptrace::Options;
    Options::PTRACE_O_TRACEEXIT
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_EXITKILL
}

/// Waits for any child, thread or traced process.
pub fn wait_for_any() -> io::Result<(Pid, Change)> {
    wait(-1, libc::__WALL)
}

fn wait_for(child: Pid) -> io::Result<(Pid, Change)> {
    wait(child.as_raw(), libc::__WALL)
}

/// The next child that has ended; none if there is no such child now.
pub fn reap() -> Option<(Pid, Change)> {
    // Without one, the process 0 is said to have changed.
    wait(-1, libc::WNOHANG)
        .ok()
        .filter(|(pid, _)| pid.as_raw() > 0)
}

fn wait(whom: libc::pid_t, options: libc::c_int) -> io::Result<(Pid, Change)> {
    let mut status = 0;
    // SAFETY: the kernel writes an int, to one that is ours.
    let pid = unsafe { libc::waitpid(whom, &raw mut status, options) };
    let pid = nix::errno::Errno::result(pid)?;
    Ok((Pid::from_raw(pid), Change::of(status)))
}

/// Lets a traced process that is stopped go on, with the signal that it is due; 0 for none. One that has been
/// killed meanwhile needs no more.
pub fn go_on(pid: Pid, signal: i32) {
    request(libc::PTRACE_CONT, pid, signal);
}

/// Leaves a process that is [`Change::Halted`] as it is, until something else happens to it.
pub fn leave_halted(pid: Pid) {
    request(libc::PTRACE_LISTEN, pid, 0);
}

#[cfg(target_env = "musl")]
type Request = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;

fn request(request: Request, pid: Pid, data: i32) {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: neither request takes an address, and for data a number or nothing; they change nothing of
    // this process.
    let _ = unsafe { libc::ptrace(request, pid.as_raw(), none, libc::c_long::from(data)) };
}

fn become_it(start: &Start<'_>, held: io::PipeReader) -> nix::Result<Infallible> {
    let [stdin, stdout, stderr] = start.stdio;
    nix::unistd::dup2_stdin(stdin)?;
    nix::unistd::dup2_stdout(stdout)?;
    nix::unistd::dup2_stderr(stderr)?;
    nix::unistd::chdir(start.dir)?;
    match start.role {
        // Until it is traced: the other end is closed then.
        Role::Traced => {
            let _ = (&held).read(&mut [0]);
        }
        Role::AtTerminal => {
            nix::unistd::setsid()?;
            rustix::process::ioctl_tiocsctty(stdin)
                .map_err(|e| nix::errno::Errno::from_raw(e.raw_os_error()))?;
            // This process waits for signals that nobody else is to miss.
            SigSet::empty().thread_set_mask()?;
        }
    }
    nix::unistd::execve(start.file, start.argv, start.env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_whatever_the_signal() {
        // As wait(2) has them: an exit code, a signal for real time that ends, one that is due, and the end of
        // a process.
        assert_eq!(Change::of(7 << 8), Change::Exited(7));
        assert_eq!(Change::of(36), Change::Killed(36));
        assert_eq!(Change::of((34 << 8) | 0x7f), Change::Stopped(34));
        let exit = (libc::PTRACE_EVENT_EXIT << 16) | (libc::SIGTRAP << 8) | 0x7f;
        assert_eq!(Change::of(exit), Change::Event(libc::PTRACE_EVENT_EXIT));
        assert_eq!(Change::of(0xffff), Change::Other);
        let stop = |signal| (libc::PTRACE_EVENT_STOP << 16) | (signal << 8) | 0x7f;
        assert_eq!(Change::of(stop(libc::SIGSTOP)), Change::Halted);
        let new = Change::Event(libc::PTRACE_EVENT_STOP);
        assert_eq!(Change::of(stop(libc::SIGTRAP)), new);
    }
}
