// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A guest that stands still, as a file: what an engine and the machine hold, and memory.
//!
//! The file begins with its engine's mark and, as little-endian numbers, a version (32 bits) and the length of
//! what comes next (64 bits): all but the memory, as the engine's state, sealed. Then come runs of pages of memory
//! that are not what they were at power-on, each as the number of its first page and the number of pages (64 bits
//! each) with their bytes, and a run of no pages. The last 8 bytes are a sum of everything between the sealed state and them (XXH3).
//! Whoever reads takes the file for hostile.

use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use staleline_devices::state::{RestoreError, SaveError, Saved, State};
use staleline_support::digest::FieldHasher;
use twox_hash::XxHash3_64;

use crate::board::config::without_faults;
use crate::engine::GuestKind;
use crate::engine::memory::MEMORY_LIMIT;

/// What the marks of all engines begin with.
const OURS: &[u8; 5] = b"stale";

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Most bytes of all but the memory: states are of megabytes.
const STATE_LIMIT: u64 = 256 << 20;

/// Bytes of a run at most.
const RUN: usize = 256 * PAGE;

/// The files of one engine.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// The engine's name.
    pub engine: &'static str,
    /// What they begin with.
    pub mark: &'static [u8; 8],
    /// Version of all that is in no [`Saved`].
    pub version: u32,
}

/// Those of the KVM engine, of which both halves look at them.
pub const KVM: Format = Format {
    engine: "kvm",
    mark: b"stalekvm",
    version: 2,
};

/// Bytes before the sealed state: mark, version, length.
const HEAD: u64 = 20;

/// Bytes before each run.
const RUN_HEAD: u64 = 16;

/// Bytes of the sum.
const SUM: u64 = 8;

/// Most bytes of a snapshot whose state has `sealed` bytes, of a guest of `pages` pages: each a run by itself.
fn most(sealed: u64, pages: u64) -> u64 {
    let memory = pages.saturating_mul(RUN_HEAD + PAGE as u64);
    let rest = HEAD + sealed + RUN_HEAD + SUM;
    memory.saturating_add(rest)
}

/// Whether a file may be a snapshot of any engine's: it begins like one, and is no longer than any. One that cannot be
/// read is none.
#[must_use]
pub fn may_be_one(path: &Path) -> bool {
    let longest = most(STATE_LIMIT, MEMORY_LIMIT / PAGE as u64);
    let is_short = path.metadata().is_ok_and(|file| file.len() <= longest);
    is_short && begins_like_one(path)
}

/// Whether a file begins as snapshots of any engine and version do. One that cannot be read does not.
#[must_use]
pub fn begins_like_one(path: &Path) -> bool {
    let mut head = [0; OURS.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head == *OURS
}

/// Why there is no going on from a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be read or written.
    #[error("the snapshot cannot be {0}")]
    File(&'static str, #[source] io::Error),
    /// It is a directory, a FIFO or the like.
    #[error("the snapshot is no regular file")]
    NoFile,
    /// It is something else.
    #[error("it is no snapshot of the {0} engine's: it does not begin like one")]
    Other(&'static str),
    /// Of another program.
    #[error("the snapshot has version {found}, and this program knows version {known}")]
    Version {
        /// The file's.
        found: u32,
        /// This program's.
        known: u32,
    },
    /// It is cut short, or was changed.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// Of another run.
    #[error(
        "the snapshot is of another guest: its kernel, initramfs, device tree, memory, CPUs or settings are not \
         those of this run"
    )]
    Guest,
    /// A part of it is not to be had here.
    #[error(transparent)]
    State(#[from] RestoreError),
    /// A part cannot be saved.
    #[error(transparent)]
    Save(#[from] SaveError),
}

impl SnapshotError {
    /// What the user can do about it.
    pub const HELP: &str =
        "make it anew: the same command with --save-snapshot in place of --from-snapshot";
}

/// What a guest is made of: one that is made of anything else cannot go on from its snapshot. How long it may
/// take, and what is kept of what it does, is none of that.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Hash of the kernel.
    pub kernel: &'a str,
    /// Hash of the initial root file system.
    pub initrd: Option<&'a str>,
    /// Hash of the device tree.
    pub fdt: &'a str,
    /// Hash of the disk's image.
    pub disk: Option<&'a str>,
    /// Bytes of RAM.
    pub ram_bytes: u64,
    /// Bytes of the device windows.
    pub window_bytes: u64,
    /// CPUs.
    pub cpus: u8,
    /// Which machine the engine hosts.
    pub guest: GuestKind,
    /// The machine's configuration.
    pub machine: &'a serde_json::Value,
    /// Arguments that only the engine understands.
    pub arguments: &'a [String],
}

impl Parts<'_> {
    /// Hash of all of it.
    #[must_use]
    pub fn hash(&self) -> String {
        let Parts {
            kernel,
            initrd,
            fdt,
            disk,
            ram_bytes,
            window_bytes,
            cpus,
            guest,
            machine,
            arguments,
        } = self;
        let mut hasher = FieldHasher::default();
        hasher.named("kernel", kernel);
        hasher.named("initrd", initrd.unwrap_or_default());
        hasher.named("fdt", fdt);
        hasher.named("disk", disk.unwrap_or_default());
        hasher.named("ram", ram_bytes.to_string());
        hasher.named("windows", window_bytes.to_string());
        hasher.named("cpus", cpus.to_string());
        hasher.named("guest", format!("{guest:?}"));
        // Keys are in the order of their names.
        hasher.named("machine", without_faults(machine).to_string());
        for argument in *arguments {
            hasher.named("argument", argument);
        }
        hasher.finish()
    }
}

/// Looks for a line among what a guest writes on its console.
#[derive(Debug)]
pub struct Until {
    line: String,
    written: Vec<u8>,
}

impl Until {
    /// For that line, without white space at its end.
    #[must_use]
    pub fn new(line: String) -> Self {
        Until {
            line,
            written: Vec::new(),
        }
    }

    /// Whether this byte, which was written now, ends it.
    pub fn is_over(&mut self, byte: u8) -> bool {
        if byte == b'\n' {
            let found = self.written.trim_ascii_end() == self.line.as_bytes();
            self.written.clear();
            return found;
        }
        // A line that is longer than that is another, but for white space.
        if self.written.len() < self.line.len() + 2 {
            self.written.push(byte);
        }
        false
    }
}

/// Adds up what goes through.
struct Summed<T> {
    inner: T,
    sum: XxHash3_64,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Self {
        Summed {
            inner,
            sum: XxHash3_64::new(),
        }
    }
}

impl<T: Write> Summed<T> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.write(bytes);
        self.inner.write_all(bytes)
    }
}

impl<T: Read> Summed<T> {
    fn take(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        fill(&mut self.inner, bytes)?;
        self.sum.write(bytes);
        Ok(())
    }

    fn number(&mut self) -> Result<u64, SnapshotError> {
        let mut bytes = [0; 8];
        self.take(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

fn fill(from: &mut impl Read, bytes: &mut [u8]) -> Result<(), SnapshotError> {
    from.read_exact(bytes).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => SnapshotError::Damaged("it is cut short"),
        _ => SnapshotError::File("read", e),
    })
}

impl Format {
    /// Writes a snapshot. `memory` gives the bytes of a page by its number, of which there are `pages`, and whether they
    /// are to be kept.
    ///
    /// # Errors
    /// [`SnapshotError::File`] and [`SnapshotError::Save`].
    pub fn write<S: State>(
        &self,
        to: &mut impl Write,
        state: &S,
        pages: u64,
        mut memory: impl FnMut(u64, &mut [u8; PAGE]) -> bool,
    ) -> Result<(), SnapshotError> {
        let failed = |e| SnapshotError::File("written", e);
        let sealed = Saved::new(state)?.seal()?;
        let head = [
            &self.mark[..],
            &self.version.to_le_bytes(),
            &(sealed.len() as u64).to_le_bytes(),
            &sealed,
        ];
        head.iter()
            .try_for_each(|part| to.write_all(part))
            .map_err(failed)?;
        let mut out = Summed::new(BufWriter::with_capacity(1 << 16, to));
        let mut bytes = [0; PAGE];
        // A page at a time: a run is as long as what it is made of is known at once.
        let mut run: Vec<u8> = Vec::new();
        let end = |out: &mut Summed<_>, run: &mut Vec<u8>, next: u64| {
            let count = (run.len() / PAGE) as u64;
            out.put(&(next - count).to_le_bytes())?;
            out.put(&count.to_le_bytes())?;
            out.put(run)?;
            run.clear();
            Ok(())
        };
        for page in 0..pages {
            let is_kept = memory(page, &mut bytes);
            if is_kept {
                run.extend(bytes);
            }
            if !run.is_empty() && (!is_kept || run.len() == RUN) {
                let next = if is_kept { page + 1 } else { page };
                end(&mut out, &mut run, next).map_err(failed)?;
            }
        }
        if !run.is_empty() {
            end(&mut out, &mut run, pages).map_err(failed)?;
        }
        end(&mut out, &mut run, pages).map_err(failed)?;
        let sum = out.sum.finish().to_le_bytes();
        out.inner.write_all(&sum).map_err(failed)?;
        out.inner.flush().map_err(failed)
    }

    /// Reads a snapshot; what memory holds goes to `memory`, a file of `pages` pages that is empty so far.
    ///
    /// # Errors
    /// [`SnapshotError`]; the file is then of no more use.
    pub fn read<S: State>(
        &self,
        path: &Path,
        pages: u64,
        mut memory: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<S, SnapshotError> {
        let failed = |e| SnapshotError::File("read", e);
        let (mut from, sealed) = self.open(path, pages)?;
        let mut bytes = vec![0; usize::try_from(sealed).unwrap_or_default()];
        fill(&mut from, &mut bytes)?;
        let state: S = Saved::unseal(&bytes)?.open()?;
        drop(bytes);

        let mut from = Summed::new(from);
        let mut run = vec![0; RUN];
        loop {
            let (first, count) = (from.number()?, from.number()?);
            if count == 0 {
                break;
            }
            let bytes = usize::try_from(count)
                .ok()
                .and_then(|n| n.checked_mul(PAGE));
            let run = bytes.and_then(|bytes| run.get_mut(..bytes));
            let fits = first.checked_add(count).is_some_and(|end| end <= pages);
            let Some(run) = run.filter(|_| fits) else {
                return Err(SnapshotError::Damaged("a part of it is outside RAM"));
            };
            from.take(run)?;
            memory(first, run).map_err(|e| SnapshotError::File("unpacked", e))?;
        }
        let sum = from.sum.finish();
        let mut told = [0; 8];
        fill(&mut from.inner, &mut told)?;
        let mut more = [0];
        let end = from.inner.read(&mut more).map_err(failed)?;
        match sum == u64::from_le_bytes(told) && end == 0 {
            true => Ok(state),
            false => Err(SnapshotError::Damaged("its sum is wrong")),
        }
    }

    /// Looks whether a file may be a snapshot of a guest of `pages` pages, by how it begins and how long it is: before
    /// any more of it is read.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn check(&self, path: &Path, pages: u64) -> Result<(), SnapshotError> {
        self.open(path, pages).map(drop)
    }

    /// The file, from behind its head on, and the length of its state.
    fn open(&self, path: &Path, pages: u64) -> Result<(BufReader<File>, u64), SnapshotError> {
        let failed = |e| SnapshotError::File("read", e);
        // Whatever else there is, to open it may take for ever.
        if !path.metadata().map_err(failed)?.is_file() {
            return Err(SnapshotError::NoFile);
        }
        let file = File::open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let mut from = BufReader::with_capacity(1 << 16, file);
        let mut head = [0; HEAD as usize];
        fill(&mut from, &mut head).map_err(|e| match e {
            SnapshotError::Damaged(_) => SnapshotError::Other(self.engine),
            e => e,
        })?;
        let [mark @ .., v0, v1, v2, v3, l0, l1, l2, l3, l4, l5, l6, l7] = head;
        if mark != *self.mark {
            return Err(SnapshotError::Other(self.engine));
        }
        let (found, known) = (u32::from_le_bytes([v0, v1, v2, v3]), self.version);
        if found != known {
            return Err(SnapshotError::Version { found, known });
        }
        let sealed = u64::from_le_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
        if sealed > STATE_LIMIT || sealed > len {
            return Err(SnapshotError::Damaged("its state is longer than it may be"));
        }
        if len > most(sealed, pages) {
            return Err(SnapshotError::Damaged(
                "it is longer than one of a guest with so much memory can be",
            ));
        }
        Ok((from, sealed))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use std::io::Seek as _;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    const PAGES: u64 = 700;

    const FORMAT: Format = Format {
        engine: "test",
        mark: b"staletst",
        version: 1,
    };

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Cpu(Vec<u64>);

    impl State for Cpu {
        const COMPONENT: &'static str = "cpu";
        const VERSION: u16 = 1;
    }

    fn state() -> Cpu {
        Cpu(vec![7; 40])
    }

    /// Some pages here and there, and one run that is longer than what is written at once.
    fn holds(page: u64) -> u8 {
        match page {
            3 | 5 | 6 | 699 => page as u8,
            100..=500 => 7,
            _ => 0,
        }
    }

    fn written() -> Vec<u8> {
        let mut bytes = Vec::new();
        let memory = |page, to: &mut [u8; PAGE]| {
            to.fill(holds(page));
            holds(page) != 0
        };
        FORMAT.write(&mut bytes, &state(), PAGES, memory).unwrap();
        bytes
    }

    fn read_back(bytes: &[u8]) -> Result<(Cpu, File), SnapshotError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot");
        std::fs::write(&path, bytes).unwrap();
        let ram = tempfile::tempfile().unwrap();
        ram.set_len(PAGES * PAGE as u64).unwrap();
        Ok((
            FORMAT.read(&path, PAGES, |first, run| {
                ram.write_all_at(run, first * PAGE as u64)
            })?,
            ram,
        ))
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = written();
        let (back, mut ram) = read_back(&bytes).unwrap();
        assert_eq!(back, state());
        ram.rewind().unwrap();
        let mut all = Vec::new();
        ram.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), PAGES as usize * PAGE);
        for (page, bytes) in (0..).zip(all.chunks(PAGE)) {
            assert!(bytes.iter().all(|byte| *byte == holds(page)), "{page}");
        }
        // Pages of nothing but zeros are not there.
        assert!(bytes.len() < 406 * PAGE + 4096, "{}", bytes.len());
    }

    #[test]
    fn what_is_cut_changed_or_something_else_is_told() {
        let good = written();
        let text = |bytes: &[u8]| read_back(bytes).unwrap_err().to_string();
        assert!(text(b"").contains("does not begin like one"));
        assert!(text(b"\x7fELF and what comes after that").contains("does not begin like one"));
        for cut in [19, 20, 40, good.len() / 2, good.len() - 1] {
            let why = text(&good[..cut]);
            let told = ["does not begin", "cut short", "longer than", "damaged"];
            assert!(told.iter().any(|t| why.contains(t)), "{cut}: {why}");
        }
        let mut newer = good.clone();
        newer[8] = 9;
        assert!(text(&newer).contains("has version 9, and this program knows version 1"));
        for at in [
            12,
            19,
            30,
            60,
            good.len() - 5000,
            good.len() - 9,
            good.len() - 1,
        ] {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(read_back(&bad).is_err(), "{at}");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(text(&longer).contains("sum is wrong"));
    }

    #[test]
    fn what_cannot_be_one_is_told_by_its_head_and_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot");
        let check = |bytes: &[u8], len: u64, pages: u64| {
            std::fs::write(&path, bytes).unwrap();
            // Of no more blocks than that.
            File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(len))
                .unwrap();
            let checked = FORMAT.check(&path, pages).map_err(|e| e.to_string());
            checked.err().unwrap_or_default()
        };
        let good = written();
        let len = good.len() as u64;
        assert_eq!(check(&good, len, PAGES), "");
        // Only the rest shows what is wrong with that.
        assert_eq!(check(&good, len - 1, PAGES), "");
        for (bytes, len, part) in [
            (&good[..], 1 << 40, "longer than one of a guest"),
            (&b"something else"[..], 1 << 40, "does not begin like one"),
            (&good[..8], 1 << 40, "has version 0"),
        ] {
            let why = check(bytes, len, PAGES);
            assert!(why.contains(part), "{part}: {why}");
        }
        // As long as one may be: a run for each page.
        let sealed = Saved::new(&state()).unwrap().seal().unwrap().len() as u64;
        let longest = most(sealed, PAGES);
        assert_eq!(check(&good, longest, PAGES), "");
        assert!(check(&good, longest + 1, PAGES).contains("longer than"));
        assert!(check(&good, longest, PAGES - 1).contains("longer than"));
    }

    #[test]
    fn no_page_is_put_outside_of_ram() {
        let mut bytes = Vec::new();
        let memory = |_, to: &mut [u8; PAGE]| {
            to.fill(1);
            true
        };
        FORMAT
            .write(&mut bytes, &state(), PAGES + 1, memory)
            .unwrap();
        let why = read_back(&bytes).unwrap_err().to_string();
        assert!(why.contains("outside RAM"), "{why}");
    }

    #[test]
    fn a_line_is_found_by_its_end_and_only_whole() {
        let mut until = Until::new("ok 1".into());
        let mut found = |text: &[u8]| text.iter().filter(|b| until.is_over(**b)).count();
        assert_eq!(found(b"ok 1"), 0);
        assert_eq!(found(b"\r\n"), 1);
        assert_eq!(found(b"ok 12\nnot ok 1\nok 1 and more\n\n"), 0);
        assert_eq!(found(b"ok 1\n"), 1);
    }

    #[test]
    fn a_guest_is_known_by_what_it_is_made_of() {
        let (one, other) = (serde_json::json!({"a": 1}), serde_json::json!({"a": 2}));
        let arguments = ["-d".to_owned()];
        let parts = || Parts {
            kernel: "k",
            initrd: None,
            fdt: "f",
            disk: None,
            ram_bytes: 1 << 20,
            window_bytes: 1 << 20,
            cpus: 1,
            guest: GuestKind::Board,
            machine: &one,
            arguments: &[],
        };
        let changed = |other: Parts<'_>| other.hash() != parts().hash();
        assert!(!changed(parts()));
        let more = || Some("x");
        assert!(changed(Parts {
            kernel: "l",
            ..parts()
        }));
        assert!(changed(Parts {
            initrd: more(),
            ..parts()
        }));
        assert!(changed(Parts {
            disk: more(),
            ..parts()
        }));
        assert!(changed(Parts { cpus: 2, ..parts() }));
        assert!(changed(Parts {
            machine: &other,
            ..parts()
        }));
        assert!(changed(Parts {
            arguments: &arguments,
            ..parts()
        }));
    }
}
