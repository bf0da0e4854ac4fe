// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A VMM that runs, and the conversation with it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant, SystemTime};

use signal_hook::consts::{SIGABRT, SIGBUS, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
use staleline_machine::engine::wire::{
    ABI_VERSION, Blob, CRASH, FromVmm, PAYLOAD_LIMIT, TRESPASS, ToVmm, receive, send,
};
use staleline_support::digest;
use tempfile::TempDir;

use super::KvmError;
use super::place::Place;
use crate::engine::EngineError;
use crate::engine::error::os;
use crate::engine::handover::LIMIT;
use crate::engine::tcg::tail_of;
use crate::interrupt::Interrupt;

/// How long it may take until it is ready: an emulated machine boots meanwhile.
const READY: Duration = Duration::from_secs(60);

/// How long it may take nothing of what it is sent.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often to look whether the user wants no more.
const LOOK: Duration = Duration::from_millis(20);

/// Bytes of its console that are looked at when it is gone.
const CONSOLE_LIMIT: u64 = 1 << 20;

/// Messages that may wait to be looked at.
const WAITING: usize = 4;

/// Bytes of files that it keeps beside those of its next guest, besides as many as a guest's memory has. An emulated
/// host has them in its own ([`super::place`]).
const FILES_BYTES: u64 = 192 << 20;

/// What it has said: a message with its payload, or why there is none.
type Said = io::Result<(FromVmm, Vec<u8>)>;

/// A file, its length and when it was last changed: one that has the same of these is taken to be the same.
type Seen = (PathBuf, u64, SystemTime);

fn seen(path: &Path) -> io::Result<Seen> {
    let about = std::fs::metadata(path)?;
    Ok((path.to_owned(), about.len(), about.modified()?))
}

/// A file that it has.
#[derive(Debug)]
struct Sent {
    blob: Blob,
    bytes: u64,
    /// Of which of its guests it was last.
    guest: u64,
}

/// Files that a VMM has; the one that was used last comes last.
#[derive(Debug, Default)]
struct Files {
    all: Vec<Sent>,
    /// Number of the guest that is made ready.
    guest: u64,
}

impl Files {
    /// Whether it has that file, which the guest needs.
    fn uses(&mut self, blob: &Blob) -> bool {
        let Some(at) = self.all.iter().position(|sent| sent.blob == *blob) else {
            return false;
        };
        let mut sent = self.all.remove(at);
        sent.guest = self.guest;
        self.all.push(sent);
        true
    }

    /// Takes in one that the guest needs; those that have to go for it, so that there are no more than `most` bytes.
    /// What the guest needs stays.
    fn add(&mut self, blob: Blob, bytes: u64, most: u64) -> Vec<Blob> {
        let mut all: u64 = self.all.iter().map(|sent| sent.bytes).sum();
        let guest = self.guest;
        let gone = self.all.extract_if(.., |sent| {
            let goes = all.saturating_add(bytes) > most && sent.guest != guest;
            if goes {
                all -= sent.bytes;
            }
            goes
        });
        let gone = gone.map(|sent| sent.blob).collect();
        self.all.push(Sent { blob, bytes, guest });
        gone
    }
}

/// Its end of the connection may be full, but not for long: one that stands still must not make this program do so.
#[derive(Debug)]
struct Patient {
    connection: UnixStream,
    interrupt: Interrupt,
    patience: Duration,
}

impl Patient {
    fn new(connection: UnixStream, interrupt: &Interrupt) -> io::Result<Self> {
        connection.set_write_timeout(Some(LOOK))?;
        Ok(Patient {
            connection,
            interrupt: interrupt.clone(),
            patience: PATIENCE,
        })
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let begun = Instant::now();
        loop {
            match self.connection.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if self.interrupt.came() || begun.elapsed() > self.patience {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A VMM that runs. It is gone when this is.
pub(super) struct Session {
    child: Child,
    to: BufWriter<Patient>,
    said: Receiver<Said>,
    sent: Files,
    known: HashMap<Seen, Blob>,
    console: File,
    /// What it keeps on this machine; it is killed before it could remove that.
    _files: Option<TempDir>,
    what: &'static str,
    program: String,
    /// The thread with which it dies.
    pub owner: ThreadId,
    /// For guests of up to that much memory.
    pub ram_bytes: u64,
    /// For those with devices of the host's.
    pub devices: bool,
    /// Where it runs, in its words.
    pub host: String,
}

impl Session {
    /// Starts one, and waits until it is ready.
    pub(super) fn start(
        place: &Place,
        (ram_bytes, devices): (u64, bool),
        interrupt: &Interrupt,
    ) -> Result<Self, EngineError> {
        let console = tempfile::tempfile().map_err(os("make a temporary file"))?;
        let (child, connection, files) = place.start((ram_bytes, devices), &console)?;
        let from = connection.try_clone();
        let from = from.map_err(os("copy a connection"))?;
        let to = Patient::new(connection, interrupt).map_err(os("set up a connection"))?;
        let (tell, said) = mpsc::sync_channel(WAITING);
        // It ends when the connection does, which is before this session.
        thread::spawn(move || listen(from, &tell));
        let mut session = Session {
            child,
            to: BufWriter::new(to),
            said,
            sent: Files::default(),
            known: HashMap::new(),
            console,
            _files: files,
            what: place.what(),
            program: place.program(),
            owner: thread::current().id(),
            ram_bytes,
            devices,
            host: String::new(),
        };
        match session.next(Some(Instant::now() + READY), interrupt)? {
            None => Err(KvmError::Silent {
                what: session.what,
                seconds: READY.as_secs(),
                console: tail_of(session.console.try_clone()),
            }
            .into()),
            Some((FromVmm::Ready { abi, host, lacks }, _)) if abi == ABI_VERSION => {
                if !lacks.is_empty() {
                    log::warn!("the VMM's sandbox: {lacks}");
                }
                session.host = place.told(&host);
                Ok(session)
            }
            Some((other, _)) => Err(odd(&other)),
        }
    }

    /// Whether it can still be talked to.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The number of its process.
    #[cfg(test)]
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What is sent from now on is for another guest, until `interrupt`.
    pub(super) fn begin(&mut self, interrupt: &Interrupt) {
        self.sent.guest += 1;
        self.to.get_mut().interrupt = interrupt.clone();
    }

    /// Sends a file, unless it has it.
    pub(super) fn give(&mut self, path: &Path) -> Result<Blob, EngineError> {
        let read = os("read the guest's images");
        let seen = seen(path).map_err(&read)?;
        if let Some(blob) = self.known.get(&seen)
            && self.sent.uses(blob)
        {
            return Ok(blob.clone());
        }
        let (_, bytes, _) = &seen;
        if *bytes > PAYLOAD_LIMIT {
            return Err(KvmError::TooLong {
                path: path.to_owned(),
                bytes: *bytes,
                limit: PAYLOAD_LIMIT,
            }
            .into());
        }
        let bytes = std::fs::read(path).map_err(&read)?;
        let blob = self.give_bytes(&bytes)?;
        self.known.insert(seen, blob.clone());
        Ok(blob)
    }

    /// As [`Session::give`], of what is in memory.
    pub(super) fn give_bytes(&mut self, bytes: &[u8]) -> Result<Blob, EngineError> {
        let hash = Blob(digest::bytes(bytes));
        if !self.sent.uses(&hash) {
            let most = FILES_BYTES.saturating_add(self.ram_bytes);
            for hash in self.sent.add(hash.clone(), bytes.len() as u64, most) {
                self.tell(&ToVmm::Forget { hash }, &[])?;
            }
            self.tell(&ToVmm::File { hash: hash.clone() }, bytes)?;
        }
        Ok(hash)
    }

    /// Says something.
    pub(super) fn tell(&mut self, message: &ToVmm, payload: &[u8]) -> Result<(), EngineError> {
        send(&mut self.to, message, payload).map_err(|e| match e.kind() {
            io::ErrorKind::TimedOut if self.to.get_ref().interrupt.came() => {
                EngineError::Interrupted
            }
            io::ErrorKind::TimedOut => KvmError::Deaf {
                what: self.what,
                seconds: self.to.get_ref().patience.as_secs(),
                console: tail_of(self.console.try_clone()),
            }
            .into(),
            _ => self.gone(&e),
        })
    }

    /// What it says next while a guest runs that has so much time, until `grace` after that.
    pub(super) fn answer(
        &mut self,
        (deadline, limit, grace): (Option<Instant>, Duration, Duration),
        interrupt: &Interrupt,
    ) -> Result<(FromVmm, Vec<u8>), EngineError> {
        let said = self.next(deadline.map(|deadline| deadline + grace), interrupt)?;
        said.ok_or_else(|| {
            KvmError::Stalled {
                what: self.what,
                limit: limit.as_secs(),
                grace: grace.as_secs(),
                console: tail_of(self.console.try_clone()),
            }
            .into()
        })
    }

    /// What it says next; none if it has not until `deadline`.
    pub(super) fn next(
        &mut self,
        deadline: Option<Instant>,
        interrupt: &Interrupt,
    ) -> Result<Option<(FromVmm, Vec<u8>)>, EngineError> {
        loop {
            // First: one that never falls silent is interrupted, too.
            if interrupt.came() {
                return Err(EngineError::Interrupted);
            }
            match self.said.recv_timeout(LOOK) {
                Ok(Ok(said)) => return Ok(Some(said)),
                Ok(Err(e)) => return Err(self.gone(&e)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.gone(&io::ErrorKind::UnexpectedEof.into()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return Ok(None);
            }
        }
    }

    fn gone(&mut self, e: &io::Error) -> EngineError {
        match e.kind() {
            io::ErrorKind::InvalidData => KvmError::Protocol(e.to_string()).into(),
            _ => {
                // What it wrote last may be on its way.
                let _ = self.child.kill();
                let status = self.child.wait();
                // It may have said why before it went. Whoever listens ends with the connection, when that is told.
                let _ = self.to.get_ref().connection.shutdown(Shutdown::Both);
                let why = self.said.iter().flatten().find_map(|(said, _)| match said {
                    FromVmm::Failed { message, help } => Some(KvmError::Failed { message, help }),
                    _ => None,
                });
                let last_words = self.console.try_clone().ok().and_then(last_words);
                // With signals blocked, it could not tell which.
                let silent = || match status.as_ref().ok()?.signal()? {
                    SIGSYS => Some(KvmError::Trespass {
                        call: "that it has had no time to name".into(),
                    }),
                    signal @ (SIGSEGV | SIGBUS | SIGILL | SIGABRT | SIGTRAP) => {
                        Some(KvmError::Crashed {
                            what: format!(
                                "signal {signal}, of which it has had no time to say more"
                            ),
                        })
                    }
                    _ => None,
                };
                last_words
                    .or_else(silent)
                    .or(why)
                    .unwrap_or_else(|| KvmError::Gone {
                        what: self.what,
                        program: self.program.clone(),
                        status: status.map_or_else(|e| e.to_string(), |s| s.to_string()),
                        console: tail_of(self.console.try_clone()),
                    })
                    .into()
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Nobody has a use for anything in it any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// That its sandbox or a signal has stopped it, if its console says so.
fn last_words(mut console: File) -> Option<KvmError> {
    let mut text = Vec::new();
    console.seek(SeekFrom::Start(0)).ok()?;
    console.take(CONSOLE_LIMIT).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(|line| {
        let trespass = line.split_once(TRESPASS);
        let trespass = trespass.map(|(_, call)| KvmError::Trespass { call: call.into() });
        let crash = || line.split_once(CRASH);
        trespass.or_else(|| crash().map(|(_, what)| KvmError::Crashed { what: what.into() }))
    })
}

/// What was said makes no sense here.
pub(super) fn odd(message: &FromVmm) -> EngineError {
    match message {
        FromVmm::Failed { message, help } => KvmError::Failed {
            message: message.clone(),
            help: help.clone(),
        }
        .into(),
        FromVmm::Ready { abi, .. } => {
            KvmError::Protocol(format!("it is of version {abi}, not {ABI_VERSION}")).into()
        }
        other => KvmError::Protocol(format!("{other:?}")).into(),
    }
}

fn listen(from: UnixStream, tell: &SyncSender<Said>) {
    let mut from = BufReader::with_capacity(1 << 16, from);
    loop {
        let said = match hear(&mut from) {
            Ok(Some(said)) => Ok(said),
            Ok(None) => return,
            Err(e) => Err(e),
        };
        let last = said.is_err();
        if tell.send(said).is_err() || last {
            return;
        }
    }
}

fn hear(from: &mut impl Read) -> io::Result<Option<(FromVmm, Vec<u8>)>> {
    let Some((message, len)) = receive::<FromVmm>(from)? else {
        return Ok(None);
    };
    if len > LIMIT {
        let what = format!("it is longer than its bound of {LIMIT} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut payload = Vec::new();
    if from.take(len).read_to_end(&mut payload)? as u64 != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((message, payload)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    const RAM: u64 = 128 << 20;

    /// What comes of a VMM that is this script.
    fn told(script: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let vmm = dir.path().join("vmm");
        std::fs::write(&vmm, format!("#!/bin/sh\n{script}\n")).unwrap();
        let executable = PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&vmm, executable).unwrap();
        let place = Place::Native { vmm };
        let error = Session::start(&place, (RAM, false), &Interrupt::default()).err();
        let error = error.unwrap();
        format!("{error}; {}", error.help())
    }

    #[test]
    fn a_vmm_that_ends_is_told_with_its_last_words() {
        for (script, parts) in [
            ("echo no luck >&2; exit 1", ["the VMM has ended", "no luck"]),
            (
                "kill -KILL $$",
                ["the VMM has ended", "stopped from outside"],
            ),
            (
                "echo; echo 'staleline-kvm: the sandbox has stopped it: it made the system call \
                 openat (56) in its thread `CPU`' >&2",
                [
                    "for the system call openat (56) in its thread `CPU`",
                    "report",
                ],
            ),
            (
                "echo 'staleline-kvm: it has crashed: SIGSEGV at address 0x8 in its thread `CPU`' >&2; exit 139",
                ["has crashed: SIGSEGV at address 0x8", "report"],
            ),
            ("kill -SEGV $$", ["has crashed: signal 11", "report"]),
            (
                "kill -SYS $$",
                ["stopped by its own sandbox", "no time to name"],
            ),
            (
                "echo nothing of ours, but rubbish >&0; sleep 5",
                ["makes no sense", "report"],
            ),
        ] {
            let told = told(script);
            for part in parts {
                assert!(told.contains(part), "{script}: {told}");
            }
        }
    }

    #[test]
    fn a_vmm_has_a_directory_of_its_own_that_goes_with_it() {
        let told = told("echo in $1 >&2; touch $1/left; exit 1");
        let dir = told.lines().find_map(|line| line.split("in /").nth(1));
        let dir = PathBuf::from(format!("/{}", dir.unwrap().split(';').next().unwrap()));
        assert!(dir.is_absolute() && !dir.exists(), "{told}");
    }

    /// A VMM that is this script, and has said that it is ready; `$1` is a directory with more to say.
    fn ready(script: &str, more: &[(&str, &FromVmm)]) -> (Session, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let ready = FromVmm::Ready {
            abi: ABI_VERSION,
            host: "here".into(),
            lacks: String::new(),
        };
        for (name, message) in more.iter().copied().chain([("ready", &ready)]) {
            let mut bytes = Vec::new();
            send(&mut bytes, message, b"").unwrap();
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        let vmm = dir.path().join("vmm");
        let path = dir.path().display();
        let script = format!("#!/bin/sh\ncd {path}\ncat ready >&0\n{script}\n");
        std::fs::write(&vmm, script).unwrap();
        let executable = PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&vmm, executable).unwrap();
        let place = Place::Native { vmm };
        let session = Session::start(&place, (RAM, false), &Interrupt::default());
        (session.unwrap(), dir)
    }

    #[test]
    fn what_it_said_before_it_went_arrives() {
        let failed = FromVmm::Failed {
            message: "no room".into(),
            help: "make some".into(),
        };
        let (mut session, _dir) = ready("cat failed >&0; exit 1", &[("failed", &failed)]);
        let _ = session.child.wait();
        // It is not there to take that.
        let error = session.give_bytes(&[1; 1 << 20]).unwrap_err();
        let told = format!("{error}; {}", error.help());
        assert!(
            told.contains("no room") && told.contains("make some"),
            "{told}"
        );
    }

    #[test]
    fn one_that_says_nothing_when_time_is_up_is_told_as_such() {
        let (mut session, _dir) = ready("exec sleep 60", &[]);
        let (limit, grace) = (Duration::from_secs(3), Duration::from_millis(10));
        let deadline = Some(Instant::now());
        let error = session.answer((deadline, limit, grace), &Interrupt::default());
        let error = error.unwrap_err();
        let told = format!("{error}; {}", error.help());
        for part in ["time limit of 3 s", "SIGSTOP"] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("Image"), "{told}");
    }

    #[test]
    fn one_that_reads_nothing_does_not_make_us_wait_for_ever() {
        // More than a connection holds.
        let much = vec![1; 16 << 20];
        let (mut session, _dir) = ready("exec sleep 60", &[]);
        session.to.get_mut().patience = Duration::from_millis(10);
        let error = session.give_bytes(&much).unwrap_err();
        let told = format!("{error}; {}", error.help());
        for part in ["the VMM has taken nothing", "SIGSTOP"] {
            assert!(told.contains(part), "{told}");
        }
        let (mut session, _dir) = ready("exec sleep 60", &[]);
        let (interrupt, _wake) = Interrupt::for_tests(2);
        session.begin(&interrupt);
        let error = session.give_bytes(&much).unwrap_err();
        assert!(matches!(error, EngineError::Interrupted), "{error}");
    }

    #[test]
    fn files_that_guests_no_longer_use_are_dropped() {
        let (mut session, dir) = ready("exec cat <&0 >said", &[]);
        let large = |n: u8| vec![n; 100 << 20];
        let all: Vec<Blob> = (0..4)
            .map(|n| {
                session.begin(&Interrupt::default());
                session.give_bytes(b"for all").unwrap();
                session.give_bytes(&large(n)).unwrap()
            })
            .collect();
        // A guest keeps what it needs, however much that is.
        session.begin(&Interrupt::default());
        for n in [3, 4, 5, 6] {
            session.give_bytes(&large(n)).unwrap();
        }
        let connection = &session.to.get_ref().connection;
        connection.shutdown(Shutdown::Write).unwrap();
        session.child.wait().unwrap();
        let said = std::fs::read(dir.path().join("said")).unwrap();
        let mut rest = &said[..];
        let (mut files, mut gone) = (0, Vec::new());
        while let Ok(Some((message, payload))) = receive::<ToVmm>(&mut rest) {
            rest = rest.get(payload as usize..).unwrap_or_default();
            match message {
                ToVmm::File { .. } => files += 1,
                ToVmm::Forget { hash } => gone.push(hash),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(files, 1 + 4 + 3);
        let small = Blob(digest::bytes(b"for all"));
        assert_eq!(gone[..3], all[..3]);
        assert_eq!(gone[3..], [small]);
    }

    #[test]
    #[ignore = "takes a VMM and the kernel of a host, as any run with the engine leaves them"]
    fn one_that_crashes_is_told_as_such() {
        let (place, _used) = Place::find().unwrap();
        let mut session = Session::start(&place, (RAM, false), &Interrupt::default()).unwrap();
        session.tell(&ToVmm::Crash, &[]).unwrap();
        let deadline = Instant::now() + READY;
        let error = session.next(Some(deadline), &Interrupt::default());
        let told = error.unwrap_err().to_string();
        assert_eq!(told, "the VMM has crashed: SIGSEGV in its thread `main`");
    }

    #[test]
    #[ignore = "takes a VMM and the kernel of a host, as any run with the engine leaves them"]
    fn a_vmm_that_does_what_it_may_not_is_stopped() {
        let (place, _used) = Place::find().unwrap();
        let mut session = Session::start(&place, (RAM, false), &Interrupt::default()).unwrap();
        session.tell(&ToVmm::Trespass, &[]).unwrap();
        let deadline = Instant::now() + READY;
        let error = session.next(Some(deadline), &Interrupt::default());
        let error = error.unwrap_err();
        let told = error.to_string();
        for part in [
            "stopped by its own sandbox",
            "socketpair (199)",
            "thread `main`",
        ] {
            assert!(told.contains(part), "{told}");
        }
    }
}
