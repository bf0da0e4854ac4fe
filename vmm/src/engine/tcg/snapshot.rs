// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A guest of QEMU's that stands still, as a file ([`staleline_machine::snapshot`]): QEMU's devices and CPU in the
//! words of its own migration, the machine in the plugin's, and memory.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::{Deserialize, Serialize};
use staleline_devices::state;
use staleline_machine::snapshot::{Format, PAGE, Parts, SnapshotError};
use staleline_support::digest;

use super::QemuError;
use crate::boot::Loaded;
use crate::engine::error::os;
use crate::engine::snapshot::Saving;
use crate::engine::{EngineError, Job};

/// The files.
const FORMAT: Format = Format {
    engine: "tcg",
    mark: b"staletcg",
    version: 1,
};

/// All but memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    /// Hash of what the guest is made of: see [`made_of`].
    made_of: String,
    /// Which QEMU has saved it.
    pub qemu: String,
    /// What stood in RAM when it started.
    pub loaded: Loaded,
    /// Loads and stores so far.
    pub accesses: u64,
    /// What it has written on its console.
    #[serde(with = "serde_bytes")]
    pub console: Vec<u8>,
    /// QEMU's migration.
    #[serde(with = "serde_bytes")]
    migration: Vec<u8>,
    /// What the plugin has left, sealed.
    #[serde(with = "serde_bytes")]
    machine: Vec<u8>,
}

impl state::State for State {
    const COMPONENT: &'static str = "tcg-guest";
    const VERSION: u16 = 1;
}

/// Hash of what a guest is made of whose images have these hashes. What is not taken from the job makes no other
/// guest of it: how long it may take, who attends, and what is kept of what it does.
fn made_of(job: &Job, kernel: &str, initrd: Option<&str>) -> String {
    let Job {
        kernel: _,
        initrd: _,
        expected: _,
        fdt,
        ram_bytes,
        // Stores are seen here.
        poison: _,
        cpus,
        // They are the device tree's.
        lines: _,
        window_bytes,
        guest,
        machine,
        devices: _,
        timeout: _,
        attendance: _,
        arguments,
        interrupt: _,
        run_dir: _,
        selfcheck: _,
        save_restore: _,
        trace: _,
        // They follow from the kernel.
        calls: _,
        events: _,
        snapshot: _,
    } = job;
    Parts {
        kernel,
        initrd,
        fdt: &digest::bytes(fdt),
        // Its hash stands in the machine's configuration.
        disk: None,
        ram_bytes: *ram_bytes,
        window_bytes: *window_bytes,
        cpus: *cpus,
        guest: *guest,
        machine,
        arguments,
    }
    .hash()
}

fn pages(job: &Job) -> u64 {
    (job.ram_bytes + job.window_bytes) / PAGE as u64
}

/// A file in memory that a process may be given.
pub(super) fn memfd(name: &str, what: &'static str) -> Result<File, EngineError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    memfd_create(name, flags)
        .map(File::from)
        .map_err(|e| os(what)(e.into()))
}

/// A snapshot that is to be made.
pub(super) struct Save {
    saving: Saving,
    /// Where QEMU writes its part, and the plugin the machine.
    pub migration: File,
    pub machine: File,
    memory: File,
    pages: u64,
    console: PathBuf,
    made_of: String,
    loaded: Loaded,
}

impl Save {
    /// Of that job's guest, whose memory that is.
    pub(super) fn begin(
        file: &Path,
        job: &Job,
        (memory, loaded): (&File, &Loaded),
        console: &Path,
    ) -> Result<Self, EngineError> {
        let what = "write the snapshot";
        Ok(Save {
            saving: Saving::begin(file)?,
            migration: memfd("migration", what)?,
            machine: memfd("machine", what)?,
            memory: memory.try_clone().map_err(os(what))?,
            pages: pages(job),
            console: console.to_owned(),
            made_of: made_of(job, &loaded.kernel, loaded.initrd.as_deref()),
            loaded: loaded.clone(),
        })
    }

    /// Puts it together; the guest stands still.
    pub(super) fn write(mut self, qemu: String, accesses: u64) -> Result<(), EngineError> {
        let read = os("read what QEMU has saved");
        let state = State {
            made_of: self.made_of,
            qemu,
            loaded: self.loaded,
            accesses,
            console: std::fs::read(&self.console).map_err(&read)?,
            migration: whole(&self.migration).map_err(&read)?,
            machine: whole(&self.machine).map_err(&read)?,
        };
        let mut failed = Ok(());
        let memory = |page: u64, bytes: &mut [u8; PAGE]| {
            let read = self.memory.read_exact_at(bytes, page * PAGE as u64);
            if failed.is_ok() {
                failed = read;
            }
            bytes.iter().any(|byte| *byte != 0)
        };
        let written = FORMAT.write(&mut self.saving, &state, self.pages, memory);
        failed.map_err(&read)?;
        written.map_err(QemuError::from)?;
        self.saving.end()
    }

    /// The guest has not come so far.
    pub(super) fn give_up(self) -> Result<(), EngineError> {
        self.saving.end()
    }
}

/// All of a file, wherever its position is.
fn whole(file: &File) -> std::io::Result<Vec<u8>> {
    let len = file.metadata()?.len();
    let mut bytes = vec![0; usize::try_from(len).map_err(std::io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// A snapshot to go on from: files in memory that nobody can change, for as many guests as there may be.
#[derive(Debug)]
pub(super) struct Unpacked {
    file: Seen,
    pages: u64,
    pub state: State,
    pub memory: File,
    pub migration: File,
    pub machine: File,
}

/// A file, its length and when it was last changed: one that has the same of these is taken to be the same.
type Seen = (PathBuf, u64, SystemTime);

impl Unpacked {
    /// Of its file.
    fn bytes(&self) -> u64 {
        let (_, bytes, _) = self.file;
        bytes
    }

    fn read(file: Seen, pages: u64) -> Result<Self, EngineError> {
        let what = "unpack the snapshot";
        let memory = memfd("snapshot", what)?;
        memory.set_len(pages * PAGE as u64).map_err(os(what))?;
        let state: Result<State, _> = FORMAT.read(&file.0, pages, |first, run| {
            memory.write_all_at(run, first * PAGE as u64)
        });
        let mut state = state.map_err(QemuError::from)?;
        let keep = |name, bytes: Vec<u8>| {
            let mut file = memfd(name, what)?;
            file.write_all(&bytes).map_err(os(what))?;
            seal(&file)?;
            Ok::<_, EngineError>(file)
        };
        seal(&memory)?;
        Ok(Unpacked {
            file,
            pages,
            memory,
            migration: keep("migration", std::mem::take(&mut state.migration))?,
            machine: keep("machine", std::mem::take(&mut state.machine))?,
            state,
        })
    }
}

fn seal(file: &File) -> Result<(), EngineError> {
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
    fcntl_add_seals(file, seals).map_err(|e| os("unpack the snapshot")(e.into()))
}

/// Bytes of snapshots that are kept unpacked, by the lengths of their files.
const KEPT_BYTES: u64 = 512 << 20;

/// Lets go of those that were not used for longest, until one of `len` bytes fits, if it ever does.
fn make_room(recent: &mut Vec<Arc<Unpacked>>, len: u64) {
    let mut all: u64 = recent.iter().map(|one| one.bytes()).sum();
    while all.saturating_add(len) > KEPT_BYTES && !recent.is_empty() {
        all -= recent.remove(0).bytes();
    }
}

/// The snapshots that were used last, that of the last guest at the end: many guests go on from each, in turn.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent(Arc<Mutex<Vec<Arc<Unpacked>>>>);

impl Recent {
    /// The snapshot in that file, if it is of that job's guest.
    pub(super) fn get(&self, path: &Path, job: &Job) -> Result<Arc<Unpacked>, EngineError> {
        let unpacked = self.unpacked(path, job)?;
        let Job {
            kernel,
            initrd,
            expected,
            ..
        } = job;
        let hash = |known: &Option<String>, path: &Path| match known {
            Some(hash) => Ok(hash.clone()),
            None => digest::file(path).map_err(os("read the guest's images")),
        };
        let kernel = hash(&expected.kernel, kernel)?;
        let initrd = initrd.as_deref().map(|path| hash(&expected.initrd, path));
        let initrd = initrd.transpose()?;
        match unpacked.state.made_of == made_of(job, &kernel, initrd.as_deref()) {
            true => Ok(unpacked),
            false => Err(QemuError::from(SnapshotError::Guest).into()),
        }
    }

    fn unpacked(&self, path: &Path, job: &Job) -> Result<Arc<Unpacked>, EngineError> {
        let about = std::fs::metadata(path).and_then(|about| Ok((about.len(), about.modified()?)));
        let (len, changed) = about.map_err(os("read the snapshot"))?;
        let (file, pages) = ((path.to_owned(), len, changed), pages(job));
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = |one: &Arc<Unpacked>| one.file == file && one.pages == pages;
        let unpacked = match recent.iter().position(of_it) {
            Some(at) => recent.remove(at),
            None => {
                make_room(&mut recent, len);
                Arc::new(Unpacked::read(file, pages)?)
            }
        };
        recent.push(Arc::clone(&unpacked));
        Ok(unpacked)
    }
}
