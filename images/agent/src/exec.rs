// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A program of the user's: started with what it may expect of a small system, its output passed on,
//! its exit code told. It and all that it starts are traced, for one thing: at the end of each process,
//! what it had mapped, so that the host can name its code. Its own calls go through untouched.
//! What it writes to standard output may be data, to be compared with the pattern instead.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{PipeReader, Read, Write};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use staleline_guest::{Context, Ep0, Error, Mismatch, Mount, Pattern, mount};
use staleline_protocol::places;
use staleline_protocol::plan::Exec;
use staleline_protocol::report::{Report, Stream, text_of};

use crate::boot::Console;
use crate::ktap::{Ktap, Outcome};
use crate::program::{self, End};
use crate::sys::{self, Change, Role};
use crate::terminal;

/// What its test is called.
pub const NAME: &str = "exec";
/// Bytes of output in one report: as a line, still well within what a terminal takes at once.
const PIECE: usize = 512;

/// Mapped files told of a process.
const MAPPED: usize = 256;

/// Runs it as the next test of `ktap`.
pub fn run<W: Write>(ktap: &mut Ktap<W>, seed: u64, exec: &Exec) -> Result<(), Error> {
    let ended = carry_out(ktap, seed, exec);
    let outcome = match &ended {
        Ok((End::Exited(0) | End::Off, _)) => Outcome::Pass,
        Ok((End::Exited(code), _)) => Outcome::Fail(format!("exit code {code}")),
        Ok((End::Killed(signal), _)) => Outcome::Fail(format!("killed by {}", name_of(*signal))),
        Err(e) => Outcome::Error(e.to_string()),
    };
    let report = |(end, left): &(End, u32)| end.report(*left);
    if let Some(report) = ended.as_ref().ok().and_then(report) {
        ktap.report(&report);
    }
    ktap.test(NAME, &outcome);
    ended.map(drop)
}

/// A signal as people call it, if it has a name.
fn name_of(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(signal) => signal.to_string(),
        Err(_) => format!("signal {signal}"),
    }
}

/// How it ended, and how many processes it has left behind.
fn carry_out<W: Write>(ktap: &mut Ktap<W>, seed: u64, exec: &Exec) -> Result<(End, u32), Error> {
    prepare()?;
    let gadget = match exec.gadget {
        true => Some(configured()?),
        false => None,
    };
    // Until the program is started there may be no thread.
    let begin = || gadget.map_or(Ok(()), serve);
    if let Some(size) = exec.terminal {
        // Whoever leaves a terminal leaves it to nobody.
        return terminal::run(exec, size, begin).map(|end| (end, 0));
    }
    let (main, [out, err]) = start(exec)?;
    begin()?;
    let out = match exec.check_output {
        true => compare(out, Pattern::new(seed)),
        false => pass_on(out, Stream::Stdout),
    };
    let outputs = [out, pass_on(err, Stream::Stderr)];
    let ended = attend(ktap, main);
    if ended.is_err() {
        // Whoever is left holds the other ends.
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    }
    // Nobody has the other ends of its pipes any more.
    for output in outputs {
        let _ = output.join();
    }
    ended
}

/// What a program may expect to find.
fn prepare() -> Result<(), Error> {
    Mount::Dev.mount()?;
    // A kernel may lack it.
    let _ = Mount::Config.mount();
    for place in places::EMPTY {
        mount("tmpfs", "tmpfs", Path::new(place))?;
    }
    sys::loopback_up().call("ioctl", "the network's loopback")?;
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        let made = std::os::unix::fs::symlink(target, link);
        match made {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(e).file("create", link);
            }
            _ => {}
        }
    }
    Ok(())
}

/// A gadget that the host has configured.
fn configured() -> Result<Ep0, Error> {
    let gadget = Ep0::bring_up()?;
    gadget.wait_until_enabled()?;
    Ok(gadget)
}

/// Answers what the host asks of the gadget, for as long as the machine is on. Nobody waits for the thread.
fn serve(gadget: Ep0) -> Result<(), Error> {
    thread::Builder::new()
        .spawn(move || gadget.serve())
        .call("clone", "a thread for FunctionFS")
        .map(drop)
}

/// Starts it, stopped at its first instruction; what it writes to output and error comes out of the pipes.
fn start(exec: &Exec) -> Result<(Pid, [PipeReader; 2]), Error> {
    let program = exec.argv.first().map_or("", String::as_str);
    let pipes = || std::io::pipe().call("pipe", program);
    let ((out, stdout), (err, stderr)) = (pipes()?, pipes()?);
    let stdin = exec.stdin.as_deref().unwrap_or("/dev/null");
    let stdin = File::open(stdin).file("open", stdin)?;
    let stdio = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let started = program::start(exec, stdio, Role::Traced)?;
    Ok((started, [out, err]))
}

/// Follows all traced processes until there are none. When the main one has ended, so do the others.
fn attend<W: Write>(ktap: &mut Ktap<W>, main: Pid) -> Result<(End, u32), Error> {
    let (mut ended, mut left) = (None, None);
    loop {
        let (pid, change) = match (sys::wait_for_any(), ended) {
            (Err(e), _) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            (Err(e), Some(end)) if e.raw_os_error() == Some(Errno::ECHILD as i32) => {
                return Ok((end, left.unwrap_or_default()));
            }
            (other, _) => other.call("waitpid", "the program")?,
        };
        match change {
            Change::Exited(code) if pid == main => ended = Some(End::Exited(code)),
            Change::Killed(signal) if pid == main => ended = Some(End::Killed(signal)),
            Change::Event(event) => {
                // An exec leaves nothing of what was mapped before.
                if event == ptrace::Event::PTRACE_EVENT_EXIT as i32 {
                    for report in mapped(pid) {
                        ktap.report(&report);
                    }
                }
                sys::go_on(pid, 0);
            }
            Change::Stopped(signal) => sys::go_on(pid, signal),
            Change::Halted => sys::leave_halted(pid),
            Change::Exited(_) | Change::Killed(_) | Change::Other => {}
        }
        if ended.is_some() {
            left.get_or_insert_with(alive);
            // All that is left. Whoever is stopped on its way out is let go above.
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        }
    }
}

/// Processes of programs, beside this one.
fn alive() -> u32 {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = std::process::id();
    let is_one = |name: &str| {
        let pid = name.parse::<u32>().ok().filter(|pid| *pid != own);
        pid.is_some() && fs::read_to_string(format!("/proc/{name}/stat")).is_ok_and(|s| lives(&s))
    };
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let count = names.filter(|name| is_one(name)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Whether a process is a program's, and not over, by the text of its /proc/PID/stat. The kernel's own are
/// children of its thread 2, and that of nobody.
fn lives(stat: &str) -> bool {
    // The name before it may have anything in it.
    let mut fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split(' ')
        .skip(1);
    let (state, parent) = (fields.next(), fields.next());
    !matches!(state, Some("Z" | "X") | None) && !matches!(parent, Some("0" | "2") | None)
}

/// What a process has mapped of files, to be executed.
fn mapped(pid: Pid) -> Vec<Report> {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else {
        return Vec::new();
    };
    let task = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let task = task.trim_end();
    let pid = pid.as_raw().unsigned_abs();
    let files = executable(&maps).into_iter().take(MAPPED);
    let report = |(file, parts)| Report::Mapped {
        pid,
        task: task.to_owned(),
        file,
        parts,
    };
    files.map(report).collect()
}

/// Executable parts of each file in the text of /proc/PID/maps.
fn executable(maps: &str) -> BTreeMap<String, Vec<(u64, u64, u64)>> {
    let mut files: BTreeMap<String, Vec<(u64, u64, u64)>> = BTreeMap::new();
    for line in maps.lines() {
        let mut fields = line.splitn(6, ' ');
        let mut next = || fields.next().unwrap_or_default();
        let (range, mode, offset) = (next(), next(), next());
        let file = fields.nth(2).unwrap_or_default().trim_start();
        let hex = |digits| u64::from_str_radix(digits, 16).ok();
        let place = range.split_once('-').and_then(|(from, to)| {
            let (from, to) = (hex(from)?, hex(to)?);
            Some((from, to, hex(offset)?))
        });
        if let Some(place) = place
            && mode.contains('x')
            && file.starts_with('/')
        {
            files.entry(file.to_owned()).or_default().push(place);
        }
    }
    files
}

/// Passes on what comes out of a pipe, in lines where there are any.
fn pass_on(mut pipe: PipeReader, stream: Stream) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut held = Vec::new();
        let mut buf = [0; PIECE];
        loop {
            let count = match pipe.read(&mut buf) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            held.extend_from_slice(buf.get(..count).unwrap_or_default());
            while let Some(piece) = piece(&held) {
                tell(stream, &held[..piece]);
                held.drain(..piece);
            }
        }
        if !held.is_empty() {
            tell(stream, &held);
        }
    })
}

/// Compares what comes out of a pipe with the pattern, and tells the outcome when nothing more comes.
fn compare(mut pipe: PipeReader, pattern: Pattern) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let report = compared(&mut pipe, pattern);
        let _ = Console.write_all(format!("{}\n", report.to_line()).as_bytes());
    })
}

fn compared(from: &mut impl Read, pattern: Pattern) -> Report {
    let mut found = Mismatch::default();
    let mut buf = [0; 1 << 16];
    loop {
        match from.read(&mut buf) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(count) => {
                found.merge(pattern.check(found.bytes, buf.get(..count).unwrap_or_default()))
            }
        }
    }
    Report::Data {
        frame: 0,
        buffer: 0,
        bytes: found.bytes,
        corrupt: found.corrupt,
        first_corrupt: found.first,
    }
}

/// How much of it makes a report: whole lines if there are some that fit.
fn piece(held: &[u8]) -> Option<usize> {
    let head = held.get(..PIECE.min(held.len())).unwrap_or_default();
    let lines = head.iter().rposition(|b| *b == b'\n').map(|at| at + 1);
    lines.or((held.len() >= PIECE).then_some(PIECE))
}

/// In one write, so that nothing comes between.
fn tell(stream: Stream, bytes: &[u8]) {
    let text = text_of(bytes);
    let line = Report::Output { stream, text }.to_line();
    let _ = Console.write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_live_are_told_from_others() {
        assert!(lives("31 (a (b) c) S 1 31 31 0 -1\n"));
        assert!(lives("31 (x) T 30 31 31 0 -1\n"));
        assert!(!lives("31 (x) Z 1 31 31 0 -1\n"));
        assert!(!lives("2 (kthreadd) S 0 0 0 0 -1\n"));
        assert!(!lives("9 (kworker/0:0) I 2 0 0 0 -1\n"));
        assert!(!lives(""));
    }

    #[test]
    fn output_is_told_in_lines_that_are_not_too_long() {
        assert_eq!(piece(b""), None);
        assert_eq!(piece(b"abc"), None);
        assert_eq!(piece(b"abc\ndef\ngh"), Some(8));
        let long = [b'x'; 2 * PIECE];
        assert_eq!(piece(&long), Some(PIECE));
        assert_eq!(piece(&long[..PIECE - 1]), None);
    }

    #[test]
    fn output_that_is_data_is_compared_whatever_its_pieces() {
        /// Gives a few bytes at a time.
        struct Pieces<'a>(&'a [u8]);
        impl Read for Pieces<'_> {
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                let len = self.0.len().min(13);
                let (now, later) = self.0.split_at(len);
                buf[..len].copy_from_slice(now);
                self.0 = later;
                Ok(len)
            }
        }
        let mut data = [0; 1000];
        Pattern::new(7).fill(0, &mut data);
        let told = |data: &[u8]| match compared(&mut Pieces(data), Pattern::new(7)) {
            Report::Data {
                bytes,
                corrupt,
                first_corrupt,
                ..
            } => (bytes, corrupt, first_corrupt),
            other => panic!("{other:?}"),
        };
        assert_eq!(told(&data), (1000, 0, None));
        data[700] ^= 1;
        assert_eq!(told(&data), (1000, 1, Some(700)));
        assert_eq!(told(&[]), (0, 0, None));
    }

    #[test]
    fn what_is_executable_is_told_by_file() {
        let maps = "aaaaaaaa0000-aaaaaaaa1000 r-xp 00000000 00:02 27    /root/a b\n\
                    aaaaaaab0000-aaaaaaab1000 rw-p 00000000 00:02 27    /root/a b\n\
                    fffff7e00000-fffff7f80000 r-xp 00010000 00:02 9     /lib/libc.so.6\n\
                    fffff7ffb000-fffff7ffd000 r-xp 00000000 00:00 0     [vdso]\n\
                    fffff7f80000-fffff7f90000 r-xp 00200000 00:02 9     /lib/libc.so.6\n\
                    rubbish\n";
        let found = executable(maps);
        assert_eq!(found.len(), 2);
        assert_eq!(
            found["/root/a b"],
            [(0xaaaa_aaaa_0000, 0xaaaa_aaaa_1000, 0)]
        );
        assert_eq!(found["/lib/libc.so.6"].len(), 2);
        assert_eq!(found["/lib/libc.so.6"][0].2, 0x10000);
    }
}
