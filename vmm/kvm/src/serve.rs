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

use crate::blobs::Blobs;
use crate::error::KvmError;
use crate::guest::{self, Sink, micros};
use crate::sandbox::SandboxError;
use crate::unpacked::Unpacked;

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
    fs::create_dir(&files)?;
    let blobs = Blobs::new(&files);
    let mut unpacked = Unpacked::default();
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
                    let help = "check the machine's memory: files are kept there".into();
                    let message = format!("cannot take a file: {e}");
                    send(&mut to.0, &FromVmm::Failed { message, help }, &[])?;
                    // What is left of it would be taken for the next message.
                    return Err(e);
                }
            }
            ToVmm::Run(run) => {
                let scratch = dir.join("run");
                fs::create_dir(&scratch)?;
                let answer = match one(&run, (&blobs, &mut unpacked), &scratch, &mut to) {
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

/// Runs the guest that a request describes.
///
/// # Errors
/// [`KvmError`].
pub fn one(
    run: &Run,
    (blobs, unpacked): (&Blobs, &mut Unpacked),
    scratch: &Path,
    sink: &mut dyn Sink,
) -> Result<guest::Outcome, KvmError> {
    match run.guest {
        GuestKind::Board => guest::run::<Soc>(run, blobs, unpacked, scratch, sink),
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
