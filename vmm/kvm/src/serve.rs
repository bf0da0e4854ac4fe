// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The conversation with the command that the user has started.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use staleline_devices::soc::Soc;
use staleline_machine::engine::GuestKind;
use staleline_machine::engine::wire::{ABI_VERSION, FromVmm, Output, Run, ToVmm, receive, send};
use staleline_support::text;
use staleline_support::time::micros;

use crate::blobs::Blobs;
use crate::error::KvmError;
use crate::guest::{self, Kept};
use crate::sandbox::SandboxError;
use crate::sink::Sink;
use crate::vfio;

struct ToOther<W>(W);

impl<W: Write> Sink for ToOther<W> {
    fn output(&mut self, output: Output, bytes: &[u8]) -> io::Result<()> {
        match bytes {
            [] => Ok(()),
            bytes => send(&mut self.0, &FromVmm::Output { output }, bytes),
        }
    }
}

/// Does what comes from `from` and answers to `to`, until the other end is gone. `dir` is a directory for
/// what it needs meanwhile, which exists and is empty; `confined` is what there is to say of the sandbox:
/// without one, it does nothing.
///
/// # Errors
/// Those of the connection: then nobody is there to be told.
pub fn serve(
    dir: &Path,
    confined: Result<String, SandboxError>,
    mut from: impl Read,
    to: impl Write,
) -> io::Result<()> {
    let mut to = ToOther(to);
    let lacks = match confined {
        Ok(lacks) => lacks,
        Err(e) => {
            let help = e.help().into();
            let message = text::chain(&e);
            return send(&mut to.0, &FromVmm::Failed { message, help }, &[]);
        }
    };
    let files = dir.join("files");
    fs::create_dir_all(&files)?;
    let blobs = Blobs::new(&files);
    let mut kept = Kept::default();
    let mut held = Vec::new();
    let ready = FromVmm::Ready {
        abi: ABI_VERSION,
        host: host(),
        lacks,
    };
    send(&mut to.0, &ready, &[])?;
    while let Some((message, payload)) = receive::<ToVmm>(&mut from)? {
        match message {
            ToVmm::File { hash } => {
                let taken = blobs.take(&hash, &mut from, payload);
                if let Err(e) = taken {
                    let help = match e.kind() {
                        io::ErrorKind::StorageFull => {
                            "an emulated host keeps files in its memory, which grows with the guest's: raise \
                             board.ram-mib, or make the kernel, initramfs, disk or snapshot smaller"
                        }
                        _ => "check the machine's memory: files are kept there",
                    };
                    let message = format!("cannot take a file of {payload} bytes: {e}");
                    let help = help.into();
                    send(&mut to.0, &FromVmm::Failed { message, help }, &[])?;
                    if ends(&e) {
                        return Err(e);
                    }
                }
            }
            ToVmm::Forget { hash } => blobs.forget(&hash)?,
            ToVmm::Run(run) => {
                let scratch = dir.join("run");
                fs::create_dir(&scratch)?;
                let answer = match one(&run, (&blobs, &mut kept), &scratch, &mut to) {
                    Ok(outcome) => FromVmm::Ended {
                        end: outcome.end,
                        loaded: outcome.loaded,
                        wall_us: micros(outcome.wall),
                        stats: outcome.stats,
                    },
                    Err(e) => FromVmm::Failed {
                        message: text::chain(&e),
                        help: e.help().into(),
                    },
                };
                fs::remove_dir_all(&scratch)?;
                send(&mut to.0, &answer, &[])?;
            }
            ToVmm::Hold { device } => match vfio::hold(&device) {
                Ok(group) => held.push(group),
                Err(e) => {
                    let message = format!("cannot hold {device}: {e}");
                    let help = "please report this".into();
                    send(&mut to.0, &FromVmm::Failed { message, help }, &[])?;
                }
            },
            ToVmm::Crash => crash(),
            ToVmm::Trespass => {
                let answer = FromVmm::Failed {
                    message: format!("the sandbox has let it: {:?}", UnixStream::pair().is_ok()),
                    help: "please report this".into(),
                };
                send(&mut to.0, &answer, &[])?;
            }
        }
    }
    Ok(())
}

/// Whether nothing that comes next can be made sense of: a file was damaged, or was not all.
fn ends(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

/// Gets what a mistake with memory gets.
fn crash() {
    // SAFETY: no pointer; the signal is this process's own.
    unsafe { libc::raise(libc::SIGSEGV) };
}

/// Runs the guest that a request describes.
///
/// # Errors
/// [`KvmError`].
pub fn one(
    run: &Run,
    (blobs, kept): (&Blobs, &mut Kept),
    scratch: &Path,
    sink: &mut dyn Sink,
) -> Result<guest::Outcome, KvmError> {
    match run.guest {
        GuestKind::Board => guest::run::<Soc>(run, blobs, kept, scratch, sink),
        GuestKind::Probe => Err(KvmError::BadRequest("only the exact engine has a probe")),
    }
}

/// The kernel that KVM is of, in words.
fn host() -> String {
    let name = rustix::system::uname();
    format!(
        "{} {}",
        name.sysname().to_string_lossy(),
        name.release().to_string_lossy()
    )
}

#[cfg(test)]
mod tests {
    use staleline_machine::engine::wire::Blob;
    use staleline_support::digest;

    use super::*;

    /// What is answered to these messages.
    fn answers(confined: Result<String, SandboxError>, said: &[u8]) -> Vec<FromVmm> {
        answers_in(confined, said, |_| {})
    }

    /// The same in a directory that is made ready.
    fn answers_in(
        confined: Result<String, SandboxError>,
        said: &[u8],
        prepare: impl FnOnce(&Path),
    ) -> Vec<FromVmm> {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let mut answers = Vec::new();
        // That the other end is gone in the middle is no matter here.
        let _ = serve(dir.path(), confined, said, &mut answers);
        let mut rest = &*answers;
        let mut all = Vec::new();
        while let Some((message, payload)) = receive(&mut rest).unwrap() {
            rest = &rest[usize::try_from(payload).unwrap()..];
            all.push(message);
        }
        all
    }

    fn file(content: &[u8]) -> (ToVmm, Blob) {
        let hash = Blob(digest::bytes(content));
        (ToVmm::File { hash: hash.clone() }, hash)
    }

    /// A run of something that is no kernel.
    fn run(cpus: u8, kernel: Blob) -> ToVmm {
        ToVmm::Run(Box::new(Run {
            fdt: kernel.clone(),
            kernel,
            kernel_hash: None,
            initrd: None,
            disk: None,
            ram_bytes: 128 << 20,
            poison: Default::default(),
            window_bytes: 1 << 20,
            cpus,
            lines: 64,
            guest: GuestKind::Board,
            machine: serde_json::Value::Null,
            timeout_ms: Some(1000),
            events: None,
            devices: None,
            save: None,
            from: None,
        }))
    }

    fn failure(message: &FromVmm) -> (&str, &str) {
        match message {
            FromVmm::Failed { message, help } => (message, help),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_run_is_told_and_the_conversation_goes_on() {
        let mut said = Vec::new();
        let (message, hash) = file(b"no kernel");
        send(&mut said, &message, b"no kernel").unwrap();
        send(&mut said, &run(9, hash.clone()), b"").unwrap();
        send(&mut said, &run(1, hash), b"").unwrap();
        let answers = answers(Ok("a part".into()), &said);
        let [FromVmm::Ready { abi, lacks, .. }, cpus, other] = &answers[..] else {
            panic!("{answers:?}");
        };
        assert_eq!((*abi, &**lacks), (ABI_VERSION, "a part"));
        let (message, help) = failure(cpus);
        assert!(message.contains("from 1 to 4 CPUs"), "{message}");
        assert!(!help.is_empty());
        let (message, help) = failure(other);
        // Where there is a KVM, it may be another machine's.
        if !Path::new("/dev/kvm").exists() {
            let told = "cannot open /dev/kvm: No such file or directory";
            assert!(message.starts_with(told), "{message}");
            assert!(help.contains("kernel"), "{help}");
        }
        assert!(!message.is_empty() && !help.is_empty());
    }

    #[test]
    fn a_file_that_is_damaged_on_its_way_ends_the_conversation() {
        let mut said = Vec::new();
        let (message, hash) = file(b"content");
        send(&mut said, &message, b"contend").unwrap();
        send(&mut said, &run(1, hash), b"").unwrap();
        let answers = answers(Ok(String::new()), &said);
        assert_eq!(answers.len(), 2, "{answers:?}");
        let (message, _) = failure(&answers[1]);
        assert!(message.contains("was damaged on its way"), "{message}");
    }

    #[test]
    fn a_file_that_there_is_no_room_for_is_told_and_the_conversation_goes_on() {
        let mut said = Vec::new();
        let (message, _) = file(b"content");
        // Where it would be, a directory is in the way.
        let in_the_way = |dir: &Path| {
            let hash = digest::bytes(b"content");
            fs::create_dir_all(dir.join("files").join(hash)).unwrap();
        };
        send(&mut said, &message, b"content").unwrap();
        let (message, hash) = file(b"no kernel");
        send(&mut said, &message, b"no kernel").unwrap();
        send(&mut said, &run(9, hash.clone()), b"").unwrap();
        send(&mut said, &ToVmm::Forget { hash: hash.clone() }, b"").unwrap();
        send(&mut said, &run(1, hash), b"").unwrap();
        let answers = answers_in(Ok(String::new()), &said, in_the_way);
        let [_, file, cpus, gone] = &answers[..] else {
            panic!("{answers:?}");
        };
        let (message, help) = failure(file);
        assert!(
            message.contains("cannot take a file of 7 bytes"),
            "{message}"
        );
        assert!(help.contains("memory"), "{help}");
        assert!(failure(cpus).0.contains("CPUs"));
        let (message, _) = failure(gone);
        assert!(message.contains("has been sent"), "{message}");
    }

    #[test]
    fn without_a_sandbox_nothing_is_run() {
        // An emulator of programs has no filters, and may leave out the rest.
        let dir = Path::new("/nonexistent");
        let confined = crate::sandbox::enter(dir, false, false);
        let answers = answers(confined, b"");
        let [answer] = &answers[..] else {
            panic!("{answers:?}");
        };
        let (message, help) = failure(answer);
        assert!(message.starts_with("cannot "), "{message}");
        assert!(help.contains("CONFIG_SECCOMP_FILTER"), "{help}");
    }

    #[test]
    fn rubbish_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let said = &b"0123456789abcdef"[..];
        let error = serve(dir.path(), Ok(String::new()), said, Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
