// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The one place where runs meet kernel builder, initramfs, board and engine.

use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use staleline_devices::soc::report::SocReport;
use staleline_initramfs::{Extra, Initramfs, InitramfsError, closure, disk, initramfs, with_files};
use staleline_support::cache::CacheDir;
use staleline_support::digest::{self, FieldHasher};
use staleline_support::lock::Lock;
use staleline_support::progress::Progress;

use super::backend::{Attempt, Backend};
use super::kernels;
use super::prebuilt::Prebuilt;
use crate::board::config::{DiskImage, MachineConfig};
use crate::board::{Board, fdt};
use crate::boot::{Expected, Images, RAM_BASE};
use crate::engine::{Engine, EngineError, EngineKind, GuestKind, Job, Observations};
use crate::evidence::{Artifacts, Execution, GuestFile, Sites};
use crate::exit::Error;
use crate::interrupt::Interrupt;
use crate::scenario::exec::Supplied;
use crate::scenario::{Scenario, usb};
use crate::spec::RunSpec;
use staleline_results::{GuestEnd, Input, KernelId};

/// The kernel source that is used if no other is named.
pub fn kernel_source() -> &'static Path {
    Path::new("/usr/src/linux-source-6.12.tar.xz")
}

/// Runs guests for real.
#[derive(Debug, Clone, Default)]
pub struct Production {
    /// Whether the user wants no more of a guest that runs.
    pub interrupt: Interrupt,
    /// What of the cache the guests are made of, which nobody is to take away.
    pub used: Used,
    /// Compare each of the engine's address translations with QEMU's own.
    pub self_check: bool,
    /// After so many register accesses and device events, and so on: save the machine, and go on with
    /// another one made from that.
    pub save_restore: Option<NonZeroU64>,
}

/// Parts of the cache that are in use as long as this lives.
#[derive(Debug, Clone, Default)]
pub struct Used(Arc<Mutex<Vec<(PathBuf, Lock)>>>);

impl Used {
    /// Holds what of these artifacts lies in the cache.
    fn hold(&self, artifacts: &Artifacts, cache: &CacheDir) -> Result<(), Error> {
        let disk = artifacts.disk.as_ref().map(|file| &file.path);
        let files = artifacts.initrd.iter().map(|file| file.path.clone());
        let files = files.chain(disk.into_iter().flat_map(|path| {
            // Its hash is beside it.
            [path.clone(), path.with_extension("sha256")]
        }));
        let kernel = artifacts.image.parent();
        let agent = artifacts.agent_elf.as_deref().and_then(Path::parent);
        let directories = [kernel, agent].into_iter().flatten().map(Path::to_owned);
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for path in files.chain(directories) {
            if !path.starts_with(cache.path()) || used.iter().any(|(known, _)| *known == path) {
                continue;
            }
            let gone = |e| Error::host(format!("cannot use {}", path.display()), e);
            match Lock::using(&path).map_err(gone)? {
                Some(lock) => used.push((path, lock)),
                None => {
                    return Err(gone(io::Error::other(
                        "it is about to be removed: run again",
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Kernel command line of every guest. An oops is a panic, and a panic ends the run at once: a
/// kernel that limps on would only cost the time limit. The console stays quiet for the agent's
/// KTAP, but warnings come through.
const BOOTARGS: &str = "console=ttyAMA0 loglevel=5 oops=panic panic=-1";

/// And of one that has a disk. The first to read from it is the driver's probe, whose wait does not count
/// as hung; but that of the kernel's own first thread for the probe does.
const DISK: &str = "driver_async_probe=virtio_blk";

/// And of one that boots from it. There is no agent to say that it cannot be read, so a kernel that waits
/// for it in vain ends the run.
const DISK_ROOT: &str = "root=/dev/vda rw rootfstype=ext2 init=/init";

/// What a guest's file systems are made of.
struct GuestFiles {
    initrd: Option<GuestFile>,
    disk: Option<GuestFile>,
    agent_elf: PathBuf,
    inputs: Vec<Input>,
}

impl GuestFiles {
    /// A disk if the board has one; an initramfs unless the guest boots from that.
    fn make(scenario: &Scenario, cache: &CacheDir, progress: &dyn Progress) -> Result<Self, Error> {
        let mut files = GuestFiles {
            initrd: None,
            disk: None,
            agent_elf: PathBuf::new(),
            inputs: Vec::new(),
        };
        if scenario.board.blk.is_some() {
            let disk = disk(cache, progress).map_err(|e| Error::Initramfs(e.into()))?;
            files.agent_elf = disk.agent_elf;
            files.disk = Some(GuestFile {
                path: disk.path,
                hash: disk.hash,
            });
        }
        if scenario.disk.is_none() {
            let initramfs = initramfs(cache, progress).map_err(|e| Error::Initramfs(e.into()))?;
            files.agent_elf.clone_from(&initramfs.agent_elf);
            let (path, hash) = match scenario.guest.exec.is_empty() {
                true => (initramfs.path, initramfs.hash),
                false => files.add_program(scenario, &initramfs, cache)?,
            };
            files.initrd = Some(GuestFile { path, hash });
        }
        Ok(files)
    }

    /// An initramfs with the user's program and what it needs.
    fn add_program(
        &mut self,
        scenario: &Scenario,
        agent: &Initramfs,
        cache: &CacheDir,
    ) -> Result<(PathBuf, String), Error> {
        let failed = |e: InitramfsError| Error::Program(e.into());
        let extras = extras(scenario)?;
        for extra in &extras {
            self.inputs.push(Input {
                guest: extra.to.clone(),
                host: extra.from.display().to_string(),
                hash: extra.hash().map_err(failed)?,
            });
        }
        // The kernel holds archive and files at once.
        let most = Board::new(&scenario.board).ram_bytes() / 4;
        with_files(agent, &extras, most, cache).map_err(failed)
    }
}

/// What the guest gets for the user's program.
fn extras(scenario: &Scenario) -> Result<Vec<Extra>, Error> {
    let guest = &scenario.guest;
    let failed = |e: InitramfsError| Error::Program(e.into());
    let supplied = guest.supplied().into_iter();
    let supplied = supplied.map(|Supplied { host, guest }| Extra {
        from: host,
        to: guest,
    });
    let supplied: Vec<Extra> = supplied.collect();
    for extra in &supplied {
        std::fs::metadata(&extra.from)
            .map_err(|e| failed(InitramfsError::io("read", &extra.from)(e)))?;
    }
    let mut extras = match guest.program() {
        Some(program) => closure(&program.host, &program.guest, &supplied).map_err(failed)?,
        None => Vec::new(),
    };
    extras.extend(supplied);
    Ok(extras)
}

impl Backend for Production {
    fn check(&self, spec: &RunSpec) -> Result<(), Error> {
        extras(&spec.scenario)?;
        if let Some(path) = spec.kernel.path() {
            return Prebuilt::find(path).map(|_| ());
        }
        kernels::request(&spec.kernel.0, &[], None).map(drop)
    }

    fn identity(&self) -> Result<String, Error> {
        let failed = |e| Error::host("cannot read the running program", e);
        let mut program = FieldHasher::default();
        let mut add = |path: &Path| digest::file(path).map(|hash| program.field(hash.as_bytes()));
        std::env::current_exe()
            .and_then(|exe| add(&exe))
            .map_err(failed)?;
        for path in EngineKind::ALL.iter().flat_map(|kind| kind.files()) {
            add(&path).map_err(failed)?;
        }
        Ok(program.finish())
    }

    fn prepare(&self, spec: &RunSpec, progress: &dyn Progress) -> Result<Artifacts, Error> {
        // Quick checks first: nobody should wait for a kernel to learn that QEMU is missing.
        spec.engine
            .make(progress)
            .map_err(|e| failed(spec.engine, e))?;
        engine(spec.engine)?;
        let cache = CacheDir::from_environment().map_err(|e| Error::Initramfs(e.into()))?;
        let files = GuestFiles::make(&spec.scenario, &cache, progress)?;
        let artifacts = Artifacts {
            kernel: KernelId {
                name: String::new(),
                version: String::new(),
                stack: Vec::new(),
                hash: String::new(),
                image_hash: None,
            },
            image: PathBuf::new(),
            vmlinux: None,
            system_map: None,
            source_root: None,
            initrd: files.initrd,
            disk: files.disk,
            agent_elf: Some(files.agent_elf),
            inputs: files.inputs,
        };
        if let Some(path) = spec.kernel.path() {
            let prebuilt = Prebuilt::find(path)?;
            let artifacts = Artifacts {
                kernel: prebuilt.identify(&spec.kernel.0)?,
                image: prebuilt.image,
                vmlinux: prebuilt.vmlinux,
                system_map: prebuilt.system_map,
                ..artifacts
            };
            self.used.hold(&artifacts, &cache)?;
            return Ok(artifacts);
        }
        let request = kernels::request(&spec.kernel.0, &[], None)?;
        let kernel = kernels::build(&request, progress)?;
        let artifacts = Artifacts {
            kernel: kernels::id(&kernel),
            image: kernel.image,
            vmlinux: Some(kernel.vmlinux),
            system_map: Some(kernel.system_map),
            ..artifacts
        };
        self.used.hold(&artifacts, &cache)?;
        Ok(artifacts)
    }

    fn execute(&self, attempt: Attempt<'_>) -> Result<Execution, Error> {
        let engine = engine(attempt.spec.engine)?;
        let mut job = job(&attempt)?;
        job.interrupt = self.interrupt.clone();
        job.selfcheck = self.self_check;
        job.save_restore = self.save_restore;
        let begun = Instant::now();
        // One that had to be killed, and has left nothing.
        let killed = |end, wall| Execution {
            end,
            console: job.run_dir.join("console.log"),
            wall,
            loaded: None,
            sites: Sites::new(),
            seen: Observations::default(),
            report: None,
            self_check: None,
            restored: None,
        };
        let outcome = match engine.run(&job) {
            Ok(outcome) => outcome,
            Err(EngineError::Timeout { timeout, .. }) => {
                return Ok(killed(GuestEnd::TimedOut, timeout));
            }
            Err(EngineError::Interrupted) => {
                return Ok(killed(GuestEnd::Interrupted, begun.elapsed()));
            }
            Err(e) => return Err(failed(attempt.spec.engine, e)),
        };
        let mut report: SocReport = outcome
            .report
            .read()
            .map_err(|e| failed(attempt.spec.engine, e))?;
        // To the machine, a place in guest code is a number.
        report.domain.run_hash = outcome.sites.mix_into(report.domain.run_hash);
        Ok(Execution {
            end: outcome.end,
            console: outcome.console,
            wall: outcome.wall_time,
            loaded: Some(outcome.loaded),
            sites: outcome.sites.iter().collect(),
            seen: outcome.seen,
            report: Some(report),
            self_check: outcome.checked,
            restored: outcome.restored,
        })
    }
}

/// The engine, looked for once.
fn engine(kind: EngineKind) -> Result<Arc<dyn Engine>, Error> {
    static FOUND: Mutex<Vec<(EngineKind, Arc<dyn Engine>)>> = Mutex::new(Vec::new());
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, engine)) = found.iter().find(|(known, _)| *known == kind) {
        return Ok(Arc::clone(engine));
    }
    let engine: Arc<dyn Engine> = kind.discover().map_err(|e| failed(kind, e))?.into();
    found.push((kind, Arc::clone(&engine)));
    Ok(engine)
}

fn failed(engine: EngineKind, e: EngineError) -> Error {
    Error::Engine {
        engine: engine.name().into(),
        source: e.into(),
    }
}

/// The engine's job for an attempt.
fn job(attempt: &Attempt<'_>) -> Result<Job, Error> {
    let scenario = &attempt.spec.scenario;
    let artifacts = attempt.artifacts;
    let board = Board::new(&scenario.board);
    let boot = |e: crate::boot::BootError| failed(attempt.spec.engine, e.into());
    let initrd = artifacts.initrd.as_ref();
    let mut bootargs = BOOTARGS.to_owned();
    if scenario.board.blk.is_some() {
        bootargs = format!("{bootargs} {DISK}");
    }
    if scenario.disk.is_some() {
        bootargs = format!("{bootargs} {DISK_ROOT}");
    }
    let layout = Images::open(&artifacts.image, initrd.map(|file| file.path.as_path()))
        .and_then(|images| images.layout(board.ram_bytes()))
        .map_err(boot)?;
    let plan = serde_json::to_string(&scenario.plan())
        .map_err(|e| Error::host("cannot write the guest's plan", e))?;
    let chosen = fdt::Chosen {
        bootargs: &bootargs,
        plan: &plan,
        layout: &layout,
    };
    let fdt =
        fdt::write(&board, &chosen).map_err(|e| Error::host("cannot write the device tree", e))?;
    let end = layout.initrd.as_ref().unwrap_or(&layout.fdt).end;
    let machine = MachineConfig {
        board: scenario.board.clone(),
        seed: scenario.seed,
        usb_host: usb::host_plan(&scenario.usb, scenario.transfer.as_ref(), scenario.seed),
        drop_operation: attempt.drop_operation,
        // From the start of RAM: at reset QEMU puts a device tree of its own there.
        loaded: vec![(RAM_BASE, end - RAM_BASE)],
        disk: artifacts.disk.as_ref().map(|file| DiskImage {
            path: file.path.clone(),
            hash: file.hash.clone(),
        }),
    };
    Ok(Job {
        kernel: artifacts.image.clone(),
        initrd: initrd.map(|file| file.path.clone()),
        expected: Expected {
            kernel: artifacts.kernel.image_hash.clone(),
            initrd: initrd.map(|file| file.hash.clone()),
        },
        fdt,
        ram_bytes: board.ram_bytes(),
        cpus: scenario.board.cpus,
        window_bytes: board.window_bytes(),
        guest: GuestKind::Board,
        machine: serde_json::to_value(&machine)
            .map_err(|e| Error::host("cannot write the machine's configuration", e))?,
        timeout: Duration::from_secs(scenario.timeout_seconds.into()),
        interrupt: Interrupt::default(),
        run_dir: attempt.dir.to_owned(),
        selfcheck: false,
        save_restore: None,
        trace: attempt.trace.to_vec(),
        events: attempt.events.cloned(),
    })
}
