// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Patterns written to a disk as it is, and read back, both past the page cache: what comes is what the device has
//! brought.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use staleline_guest::{Context, Error, Mount, wait_for};
use staleline_protocol::pattern::Pattern;
use staleline_protocol::plan::RawDisk;
use staleline_protocol::report::Report;

use crate::ktap::{Ktap, Outcome, Subtests};
use crate::pages::Pages;

/// What its test is called.
pub const NAME: &str = "raw-disk";
const PHASES: [&str; 3] = ["disk", "write", "read"];

/// Seconds for a driver to find the disk.
const SECONDS: u64 = 15;

/// Bytes moved at once: less than a page of a device's, a page, several, and more than a list of them has room for
/// in one page. Whole sectors each.
const WRITES: [usize; 4] = [4096, 512, 65536, 1024];
const READS: [usize; 3] = [8192, 131_072, 512];

/// Carries out the test as the next one of `ktap`.
pub fn run<W: Write>(ktap: &mut Ktap<W>, seed: u64, test: &RawDisk) -> Result<(), Error> {
    let mut phases = ktap.subtests(&PHASES);
    let result = Mount::Dev
        .mount()
        .and_then(|()| carry_out(seed, test, &mut phases));
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
    test: &RawDisk,
    phases: &mut Subtests<'_, W>,
) -> Result<Outcome, Error> {
    let path = Path::new("/dev").join(&test.device);
    let len = test.bytes as usize;
    let pattern = Pattern::new(seed);
    let disk = phases.phase(|_| {
        let found = || Ok(is_disk(&path).then_some(()));
        wait_for(SECONDS, found)?.ok_or_else(|| Error::Missing {
            what: format!("disk {}", path.display()),
            hint: "is its device on the board, and did its driver probe? The kernel log tells",
        })?;
        File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path)
            .file("open", &path)
    })?;
    let mut buffer = Pages::new(len).call("mmap", "pages")?;
    phases.phase(|_| {
        for round in 0..test.rounds {
            let at = u64::from(round) * len as u64;
            pattern.fill(at, &mut buffer);
            for (from, n) in pieces(len, &WRITES) {
                disk.write_all_at(&buffer[from..from + n], at + from as u64)
                    .file("write", &path)?;
            }
        }
        disk.sync_all().file("sync", &path)
    })?;
    let mut wrong = 0;
    phases.phase(|p| {
        for round in 0..test.rounds {
            let at = u64::from(round) * len as u64;
            // What is read has to come from somewhere else.
            buffer.fill(0);
            for (from, n) in pieces(len, &READS) {
                disk.read_exact_at(&mut buffer[from..from + n], at + from as u64)
                    .file("read", &path)?;
            }
            let found = pattern.check(at, &buffer);
            wrong += found.corrupt;
            p.report(&Report::Data {
                frame: round,
                buffer: 0,
                bytes: found.bytes,
                corrupt: found.corrupt,
                first_corrupt: found.first,
            });
        }
        Ok(())
    })?;
    Ok(match wrong {
        0 => Outcome::Pass,
        bytes => Outcome::Fail(format!("{bytes} bytes were wrong")),
    })
}

/// Whether there is a disk of that name that has room: a driver may still be at it.
fn is_disk(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let size = PathBuf::from("/sys/class/block").join(name).join("size");
    let size = fs::read_to_string(size).unwrap_or_default();
    path.exists() && !matches!(size.trim(), "" | "0")
}

/// `len` bytes in pieces of these sizes in turn: where each begins, and its length.
fn pieces(len: usize, sizes: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        let n = (*sizes.next()?).min(len - at);
        let piece = (at, n);
        at += n;
        (n > 0).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_once() {
        for sizes in [&WRITES[..], &READS] {
            let all: Vec<_> = pieces(262_144, sizes).collect();
            let ends = all.iter().map(|(at, n)| at + n);
            assert!(
                all.iter()
                    .skip(1)
                    .map(|(at, _)| *at)
                    .eq(ends.take(all.len() - 1))
            );
            assert!(all.iter().all(|(at, n)| at % 512 == 0 && n % 512 == 0));
            assert_eq!(all.iter().map(|(_, n)| n).sum::<usize>(), 262_144);
        }
    }
}
