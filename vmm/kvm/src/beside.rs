// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Measurements of the VMM beside its peers: see [`staleline_machine::engine::beside`].

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use rustix::time::{ClockId, clock_gettime};
use staleline_machine::engine::beside::{
    Around, MEASURED, Measured, Plan, SAID, Said, Timed, Told, What,
};
use staleline_machine::engine::wire::{Ended, Output, Run};
use staleline_support::time::micros;
use staleline_support::{kib, text};

use crate::blobs::Blobs;
use crate::guest::Kept;
use crate::sandbox;
use crate::serve::one;
use crate::sink::Sink;

/// First argument of a VMM that runs guests for [`each`]; the second is its directory.
pub const EACH: &str = "--each";

/// How much of the memory that is free is written before each. All of it would leave none for who does that.
const SWEPT_PERCENT: usize = 95;

/// Bytes of what a command that failed wrote last.
const TAIL: usize = 400;

/// Times the commands of a plan, and prints what each took.
///
/// # Errors
/// If the plan cannot be read, or what came of it not be written.
pub fn measure(plan: &Path) -> io::Result<()> {
    let plan: Plan = serde_json::from_reader(BufReader::new(File::open(plan)?))?;
    let mut out = io::stdout();
    let mut resident = None;
    for group in &plan.groups {
        for _ in 0..plan.rounds {
            for timed in group {
                let measured = serde_json::to_string(&time(timed, &mut resident))?;
                writeln!(out, "{MEASURED}{measured}")?;
            }
        }
    }
    Ok(())
}

/// The VMM whose guests are timed.
struct Resident {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Resident {
    fn start(files: &Path) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(EACH)
            .arg(files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(asks), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let answers = BufReader::new(answers);
        Ok(Resident {
            child,
            asks,
            answers,
        })
    }

    fn ask(&mut self, request: &Path) -> io::Result<Said> {
        writeln!(self.asks, "{}", request.display())?;
        let mut line = Vec::new();
        while self.answers.read_until(b'\n', &mut line)? != 0 {
            // Between them is what the guest writes.
            if let Some(said) = line.strip_prefix(SAID.as_bytes()) {
                return Ok(serde_json::from_slice(said)?);
            }
            line.clear();
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn time(timed: &Timed, resident: &mut Option<Resident>) -> Measured {
    if let (What::Guest { files, .. }, None) = (&timed.what, &resident) {
        // Its start is not of the time.
        *resident = Resident::start(files).ok();
    }
    let swept = sweep().map_err(|e| format!("cannot write what memory is free: {e}"));
    let mut around = None;
    let (begun, begun_us) = (Instant::now(), now_us());
    let came = swept.and_then(|()| match &timed.what {
        What::Program { program, arguments } => ran(program, arguments).map(|()| None),
        What::Guest {
            fresh: true,
            request,
            files,
        } => {
            let asked = Resident::start(files).and_then(|mut vmm| {
                let said = vmm.ask(request)?;
                Ok((said, now_us()))
            });
            // Now it is gone.
            let (said, answered_us) = asked.map_err(|e| e.to_string())?;
            let told = told(said)?;
            around = told.as_ref().map(|told| Around {
                start_us: told.begun_us.saturating_sub(begun_us),
                sandbox_us: told.confined_us.saturating_sub(told.begun_us),
                gone_us: now_us().saturating_sub(answered_us),
            });
            Ok(told)
        }
        What::Guest { request, .. } => {
            let none = || io::Error::other("its VMM does not start");
            let vmm = resident.as_mut().ok_or_else(none);
            let said = vmm.and_then(|vmm| vmm.ask(request));
            said.map_err(|e| e.to_string()).and_then(told)
        }
    });
    let wall_us = micros(begun.elapsed());
    let (told, failed) = match came {
        Ok(told) => (told, None),
        Err(why) => (None, Some(why)),
    };
    Measured {
        name: timed.name.clone(),
        wall_us,
        told,
        around,
        failed,
    }
}

/// The time of the machine's monotonic clock.
fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    micros(now.try_into().unwrap_or_default())
}

/// Writes nearly all memory that is free. An emulated processor keeps what it has made of the code that was there,
/// until it is written: else that would take the time of whoever comes next, and not alike for all.
fn sweep() -> io::Result<()> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let free = kib::told(&info, "MemFree").and_then(|kib| usize::try_from(kib).ok());
    let free = free.ok_or(io::ErrorKind::InvalidData)?;
    let len = (free / 100 * SWEPT_PERCENT) << 10;
    let (prot, flags) = (
        ProtFlags::READ | ProtFlags::WRITE,
        MapFlags::PRIVATE | MapFlags::NORESERVE,
    );
    // SAFETY: a mapping of its own, of which nobody has a reference, and which is gone when this returns.
    unsafe {
        let start = mmap_anonymous(std::ptr::null_mut(), len, prot, flags)?;
        let written = madvise(start, len, Advice::LinuxPopulateWrite);
        munmap(start, len)?;
        written?;
    }
    Ok(())
}

fn told(said: Said) -> Result<Option<Told>, String> {
    match said {
        Said::PoweredOff(told) => Ok(Some(told)),
        Said::Failed(why) => Err(why),
    }
}

/// Runs a program to its end; else why it failed.
fn ran(program: &Path, arguments: &[String]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = [&*output.stdout, &output.stderr].concat();
    let said = said.get(said.len().saturating_sub(TAIL)..).unwrap_or(&said);
    let said = String::from_utf8_lossy(said);
    Err(format!("{}: {said}", output.status))
}

struct Shown;

impl Sink for Shown {
    fn output(&mut self, output: Output, bytes: &[u8]) -> io::Result<()> {
        match output {
            Output::Console => io::stdout().write_all(bytes),
            Output::Report | Output::Events | Output::Snapshot => Ok(()),
        }
    }
}

/// Runs the guests that files describe which standard input names, one to a line, with their consoles on standard
/// output; `files` is where what they are made of is.
///
/// # Errors
/// If a file cannot be read, or nobody reads what is written.
pub fn each(files: &Path) -> io::Result<()> {
    let begun_us = now_us();
    let scratch = files.join(format!("run-{}", std::process::id()));
    // As any other guests.
    sandbox::enter(files, false, false).map_err(io::Error::other)?;
    let confined_us = now_us();
    let blobs = Blobs::new(files);
    let mut kept = Kept::default();
    for request in io::stdin().lines() {
        let run: Run = serde_json::from_reader(BufReader::new(File::open(request?)?))?;
        fs::create_dir(&scratch)?;
        let outcome = one(&run, (&blobs, &mut kept), &scratch, &mut Shown);
        fs::remove_dir_all(&scratch)?;
        let said = match outcome {
            Ok(outcome) if outcome.end == Ended::PoweredOff => Said::PoweredOff(Told {
                begun_us,
                confined_us,
                wall_us: micros(outcome.wall),
                stats: outcome.stats,
            }),
            Ok(outcome) => Said::Failed(format!(
                "the guest has ended otherwise: {:?}; {:?}",
                outcome.end, outcome.stats
            )),
            Err(e) => Said::Failed(text::chain(&e)),
        };
        let said = serde_json::to_string(&said)?;
        writeln!(io::stdout(), "\n{SAID}{said}")?;
    }
    Ok(())
}
