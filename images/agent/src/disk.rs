// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Work on the disk that the kernel has mounted as its root: files read and written by both ways, and
//! code that a device puts where other code has just been executed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Advice, fadvise, statfs, sync};
use rustix::mount::{MountFlags, mount_remount};
use staleline_guest::{Context, Error};
use staleline_protocol::disk;
use staleline_protocol::pattern::Pattern;
use staleline_protocol::plan::DiskTest;
use staleline_protocol::report::Report;

use crate::ktap::{Ktap, Outcome, Subtests};
use crate::pages::{Code, Pages};

/// What its test is called.
pub const NAME: &str = "blk-root";
const PHASES: [&str; 5] = ["disk", "data", "files", "code", "teardown"];

/// What statfs() says of ext2 (include/uapi/linux/magic.h, EXT2_SUPER_MAGIC).
const EXT2: i64 = 0xef53;

/// A way to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Through the page cache.
    Cached,
    /// Past it: `O_DIRECT`.
    Direct,
}

impl Way {
    fn options(self) -> OpenOptions {
        let mut options = File::options();
        if self == Way::Direct {
            options.custom_flags(libc::O_DIRECT);
        }
        options
    }
}

/// Carries out the test as the next one of `ktap`.
pub fn run<W: Write>(ktap: &mut Ktap<W>, seed: u64, test: &DiskTest) -> Result<(), Error> {
    let mut phases = ktap.subtests(&PHASES);
    let result = carry_out(seed, test, &mut phases);
    phases.finish();
    let outcome = match &result {
        Ok(outcome) => outcome.clone(),
        Err(e) => Outcome::Error(e.to_string()),
    };
    ktap.test(NAME, &outcome);
    result.map(drop)
}

fn carry_out<W: Write>(
    seed: u64,
    test: &DiskTest,
    phases: &mut Subtests<'_, W>,
) -> Result<Outcome, Error> {
    phases.phase(|_| on_disk())?;
    let whole = disk::DATA_BYTES.max(test.file_bytes as usize);
    let mut buffer =
        Pages::new(whole.next_multiple_of(disk::PROGRAM_BYTES)).call("mmap", "pages")?;
    let mut wrong = 0;
    phases.phase(|p| {
        for (frame, way) in [Way::Cached, Way::Direct].into_iter().enumerate() {
            let path = Path::new("/").join(disk::DATA);
            let read = read(&path, way, &mut buffer)?;
            let known = Stretch::new(disk::data(), 0, disk::DATA_BYTES);
            wrong += known.check(frame as u32, read, p);
        }
        Ok(())
    })?;
    phases.phase(|p| {
        for frame in 2..test.frames() {
            let len = test.file_bytes as usize;
            let at = u64::from(frame) * u64::from(test.file_bytes);
            let known = Stretch::new(Pattern::new(seed), at, len);
            let (there, back) = match frame % 2 {
                0 => (Way::Direct, Way::Cached),
                _ => (Way::Cached, Way::Direct),
            };
            let path = Path::new("/").join(format!("file-{frame}"));
            known.pattern.fill(at, &mut buffer[..len]);
            write(&path, there, &buffer[..len])?;
            // What is read has to come from somewhere else.
            buffer[..len].fill(0);
            let read = read(&path, back, &mut buffer)?;
            wrong += known.check(frame, read, p);
        }
        Ok(())
    })?;
    let mut outcome = match wrong {
        0 => Outcome::Pass,
        bytes => Outcome::Fail(format!("{bytes} bytes were wrong")),
    };
    let code = match execute() {
        Ok(outcome) => outcome,
        Err(e) => return phases.phase(|_| Err(e)),
    };
    phases.result(&code);
    if let Outcome::Fail(_) = code {
        outcome = code;
    }
    phases.phase(|_| {
        sync();
        mount_remount("/", MountFlags::RDONLY, c"").file("remount", "/")
    })?;
    Ok(outcome)
}

/// Whether the root is a disk's.
fn on_disk() -> Result<(), Error> {
    let found = statfs("/").file("look at", "/")?;
    match found.f_type {
        EXT2 => Ok(()),
        _ => Err(Error::Missing {
            what: "ext2 at /".into(),
            hint: "the guest has not booted from its disk",
        }),
    }
}

/// A part of a pattern, as it is in a file.
struct Stretch {
    pattern: Pattern,
    at: u64,
    len: usize,
}

impl Stretch {
    fn new(pattern: Pattern, at: u64, len: usize) -> Self {
        Stretch { pattern, at, len }
    }

    /// Compares, and reports that; how many bytes are wrong.
    fn check<W: Write>(&self, frame: u32, read: &[u8], phases: &mut Subtests<'_, W>) -> u64 {
        let found = self
            .pattern
            .check(self.at, &read[..read.len().min(self.len)]);
        phases.report(&Report::Data {
            frame,
            buffer: 0,
            bytes: found.bytes,
            corrupt: found.corrupt,
            first_corrupt: found.first,
        });
        found.corrupt
    }
}

/// Reads a file from the disk, as much as there is and fits.
fn read<'a>(path: &Path, way: Way, buffer: &'a mut [u8]) -> Result<&'a [u8], Error> {
    let mut file = way.options().read(true).open(path).file("open", path)?;
    // If it is in the page cache, it is clean.
    fadvise(&file, 0, None, Advice::DontNeed).file("forget", path)?;
    let mut done = 0;
    while done < buffer.len() {
        match file.read(&mut buffer[done..]).file("read", path)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(&buffer[..done])
}

/// Writes a new file to the disk.
fn write(path: &Path, way: Way, data: &[u8]) -> Result<(), Error> {
    let mut file = way
        .options()
        .write(true)
        .create_new(true)
        .open(path)
        .file("create", path)?;
    file.write_all(data).file("write", path)?;
    file.sync_all().file("sync", path)
}

/// Executes one program after the other, both read into the same page by the device itself.
fn execute() -> Result<Outcome, Error> {
    let mut page = Code::new(disk::PROGRAM_BYTES).call("mmap", "executable memory")?;
    for (number, name) in (1..).zip(disk::PROGRAMS) {
        let path = Path::new("/").join(name);
        let read = read(&path, Way::Direct, page.bytes())?;
        if read.len() < disk::PROGRAM_BYTES {
            return Err(Error::Missing {
                what: format!("whole program in {}", path.display()),
                hint: "was the disk made by another version?",
            });
        }
        #[expect(unsafe_code, reason = "the disk's programs are functions of this kind")]
        // SAFETY: see `staleline_protocol::disk`.
        let found = unsafe { page.call() };
        if found != number {
            return Ok(Outcome::Fail(format!(
                "program {number} was read from the disk, and program {found} executed"
            )));
        }
    }
    Ok(Outcome::Pass)
}
