// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The one place where runs meet kernel builder, initramfs, board and engine.

use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use staleline_devices::soc::report::SocReport;
use staleline_initramfs::{Initramfs, InitramfsError, disk, initramfs};
use staleline_packages::Package;
use staleline_support::cache::CacheDir;
use staleline_support::digest::{self, FieldHasher};
use staleline_support::lock::Lock;
use staleline_support::progress::Progress;

use super::backend::{Attempt, Backend};
use super::choice::Choice;
use super::debugger;
use super::given;
use super::kernels;
use super::modules;
use super::overlay;
use super::provided::{self, Provided};
use crate::board::config::{DiskImage, MachineConfig};
use crate::board::settings::BoardSettings;
use crate::board::{Board, fdt};
use crate::boot::{Expected, Images, RAM_BASE};
use crate::engine::attend::Console;
use crate::engine::{
    Attendance, Engine, EngineError, EngineKind, GuestKind, Job, Observations, Snapshot,
};
use crate::evidence::{Artifacts, Execution, GuestFile, OVERLAY, Sites};
use crate::exit::Error;
use crate::interrupt::Interrupt;
use crate::scenario::usb;
use crate::spec::RunSpec;
use crate::symbols;
use crate::terminal::Raw;
use staleline_machine::engine::wire::HostDevices;
use staleline_machine::snapshot::{begins_like_one, may_be_one};
use staleline_results::{Attended, GuestEnd, Input, KernelId};

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
    /// Save the guest right before its first step, or go on from there.
    pub snapshot: Option<Snapshot>,
    /// What people do with the guest.
    pub attendance: Attendance,
    /// Whether it may take as long as it likes, whatever the scenario says.
    pub no_time_limit: bool,
}

/// Parts of the cache that are in use as long as this lives.
#[derive(Debug, Clone, Default)]
pub struct Used(Arc<Mutex<Vec<(PathBuf, Lock)>>>);

impl Used {
    /// Holds what of these artifacts lies in the cache.
    fn hold(&self, artifacts: &Artifacts, made: &[PathBuf], cache: &CacheDir) -> Result<(), Error> {
        let disk = artifacts.disk.as_ref().map(|file| &file.path);
        let files = artifacts.initrd.iter().map(|file| file.path.clone());
        let files = files.chain(artifacts.overlays.iter().map(|file| file.path.clone()));
        let files = files.chain(disk.into_iter().flat_map(|path| {
            // Its hash is beside it.
            [path.clone(), path.with_extension("sha256")]
        }));
        let kernel = artifacts.image.parent();
        let agent = artifacts.agent_elf.as_deref().and_then(Path::parent);
        let directories = [kernel, agent].into_iter().flatten().map(Path::to_owned);
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let made = made.iter().cloned();
        for path in files.chain(directories).chain(made) {
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
    overlays: Vec<GuestFile>,
    inputs: Vec<Input>,
    packages: Vec<Package>,
    /// Other parts of the cache that they were made of.
    made: Vec<PathBuf>,
}

impl GuestFiles {
    /// A disk if the board has one; an initramfs unless the guest boots from that.
    fn make(spec: &RunSpec, cache: &CacheDir, progress: &dyn Progress) -> Result<Self, Error> {
        let scenario = &spec.scenario;
        let mut files = GuestFiles {
            initrd: None,
            disk: None,
            agent_elf: PathBuf::new(),
            overlays: Vec::new(),
            inputs: Vec::new(),
            packages: Vec::new(),
            made: Vec::new(),
        };
        for (n, host) in scenario.guest.dtb_overlay.iter().enumerate() {
            let overlay = overlay::compile(Path::new(host), cache)?;
            files.inputs.push(Input {
                guest: format!("{OVERLAY}{}", n + 1),
                host: host.clone(),
                hash: overlay.hash.clone(),
            });
            files.overlays.push(overlay);
        }
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
            let guest = &scenario.guest;
            let (path, hash) = match guest.has_program() || !guest.modules.is_empty() {
                false => (initramfs.path, initramfs.hash),
                true => {
                    let provided = provided::provide(spec, cache, progress)?;
                    files.add_program(provided, &scenario.board, &initramfs, cache)?
                }
            };
            files.initrd = Some(GuestFile { path, hash });
        }
        Ok(files)
    }

    /// An initramfs with the user's program and what it needs, and modules.
    fn add_program(
        &mut self,
        provided: Provided,
        board: &BoardSettings,
        agent: &Initramfs,
        cache: &CacheDir,
    ) -> Result<(PathBuf, String), Error> {
        let read = given::inputs(&provided.guest, board)?;
        given::can_start(&provided.guest, &read)?;
        self.packages = provided.packages;
        self.made = provided.used;
        let record = |(input, hash): &(staleline_initramfs::Input, String)| Input {
            guest: input.guest.clone(),
            host: input.host.display().to_string(),
            hash: hash.clone(),
        };
        self.inputs.extend(read.hashed().iter().map(record));
        let packed = read.pack(agent, cache);
        packed.map_err(|e: InitramfsError| Error::Program(e.into()))
    }
}

/// The first engine that can do that, by name.
fn who_can(does: fn(EngineKind) -> bool) -> &'static str {
    let mut kinds = EngineKind::ALL.into_iter().filter(|kind| does(*kind));
    kinds.next().map_or("none", EngineKind::name)
}

impl Production {
    /// Devices of the host's are handed over by some engines, and are in no snapshot.
    fn check_devices(&self, spec: &RunSpec) -> Result<(), Error> {
        if spec.scenario.board.pci.is_none() {
            return Ok(());
        }
        let refused = |why: String| {
            Err(Error::Setting {
                setting: "board.pci".into(),
                why,
            })
        };
        if !spec.engine.hands_over() {
            let other = who_can(EngineKind::hands_over);
            return refused(format!(
                "the {} engine hands over no devices of the host: --engine {other} does",
                spec.engine
            ));
        }
        match self.snapshot {
            Some(_) => refused("devices of the host are in no snapshot".into()),
            None => Ok(()),
        }
    }

    /// What only an engine can do under which a guest stands still when it is to.
    fn check_exact(&self, spec: &RunSpec) -> Result<(), Error> {
        let asked_for = [
            ("--self-check", self.self_check),
            ("--save-restore", self.save_restore.is_some()),
            ("--gdb", self.attendance.debugger.is_some()),
            ("shell", self.attendance.console == Console::Terminal),
        ];
        let mut asked_for = asked_for.into_iter().filter(|(_, asked)| *asked);
        let Some((option, _)) = asked_for.next().filter(|_| !spec.engine.is_exact()) else {
            return Ok(());
        };
        let other = who_can(EngineKind::is_exact);
        Err(Error::Option {
            option: option.into(),
            why: format!(
                "the {} engine cannot do that: --engine {other} can",
                spec.engine
            ),
        })
    }

    fn check_snapshot(&self, spec: &RunSpec) -> Result<(), Error> {
        let Some(snapshot) = &self.snapshot else {
            return Ok(());
        };
        let (option, file) = match snapshot {
            Snapshot::Save { file, .. } => ("--save-snapshot", file),
            Snapshot::From(file) => ("--from-snapshot", file),
        };
        let refused = |why: String| {
            Err(Error::Option {
                option: option.into(),
                why,
            })
        };
        if !spec.engine.saves() {
            let other = who_can(EngineKind::saves);
            return refused(format!(
                "the {} engine has no snapshots: --engine {other} has",
                spec.engine
            ));
        }
        if spec.scenario.disk.is_some() {
            return refused(
                "a guest that boots from its disk has nobody to say that it has".into(),
            );
        }
        match snapshot {
            Snapshot::From(_) if !file.exists() => {
                refused(format!("there is no file {}", file.display()))
            }
            // What is saved takes the place of what was there.
            _ if file.exists() && !file.is_file() => {
                refused(format!("{} is no regular file", file.display()))
            }
            Snapshot::Save { file, .. }
                if file.metadata().is_ok_and(|file| file.len() != 0) && !begins_like_one(file) =>
            {
                refused(format!(
                    "{} is there, and is no snapshot: it is not replaced by one",
                    file.display()
                ))
            }
            _ => Ok(()),
        }
    }

    /// A snapshot is part of what a run is made of.
    fn note(&self, artifacts: &mut Artifacts) -> Result<(), Error> {
        if let Some(Snapshot::From(file)) = &self.snapshot {
            // The engine refuses what can be none, without reading it.
            if !may_be_one(file) {
                return Ok(());
            }
            let hash = digest::file(file)
                .map_err(|e| Error::host(format!("cannot read {}", file.display()), e))?;
            artifacts.notes.push(format!(
                "to go on from the snapshot {} (sha256 {hash}), in place of booting",
                file.display()
            ));
        }
        Ok(())
    }
}

impl Backend for Production {
    fn check(&self, spec: &RunSpec) -> Result<(), Error> {
        spec.check_arguments()?;
        self.check_devices(spec)?;
        self.check_exact(spec)?;
        self.check_snapshot(spec)?;
        // What has yet to be made is looked at then.
        let guest = &spec.scenario.guest;
        let given = given::inputs(guest, &spec.scenario.board)?;
        given::can_start(guest, &given)?;
        modules::check(&spec.scenario, &spec.kernel)?;
        let kernel = Choice::find(&spec.kernel)?;
        let suits = kernel.suits(&spec.kernel.0, &spec.scenario, spec.engine);
        suits.map(drop)
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
        let choice = Choice::find(&spec.kernel)?;
        let cache = CacheDir::from_environment().map_err(|e| Error::Initramfs(e.into()))?;
        let files = GuestFiles::make(spec, &cache, progress)?;
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
            overlays: files.overlays,
            agent_elf: Some(files.agent_elf),
            inputs: files.inputs,
            packages: files.packages.into_iter().map(told).collect(),
            notes: Vec::new(),
        };
        let made = files.made;
        let mut source_root = None;
        let kernel = match &choice {
            Choice::Prebuilt(prebuilt) => {
                let prebuilt = prebuilt.clone();
                let mut artifacts = Artifacts {
                    kernel: prebuilt.identify(&spec.kernel.0)?,
                    notes: choice
                        .suits(&spec.kernel.0, &spec.scenario, spec.engine)?
                        .into_iter()
                        .collect(),
                    image: prebuilt.image,
                    vmlinux: prebuilt.vmlinux,
                    system_map: prebuilt.system_map,
                    source_root: prebuilt.source,
                    ..artifacts
                };
                self.used.hold(&artifacts, &made, &cache)?;
                self.note(&mut artifacts)?;
                return Ok(artifacts);
            }
            Choice::Built { kernel, source } => {
                source_root = source.clone();
                (**kernel).clone()
            }
            Choice::Stack(request) => {
                let kernel = kernels::build(request, progress)?;
                // It was not there to be looked at before.
                let built = Choice::built(kernel.clone());
                built.suits(&spec.kernel.0, &spec.scenario, spec.engine)?;
                modules::suit(&spec.scenario, &spec.kernel, &built)?;
                kernel
            }
        };
        let id = kernels::id(&kernel);
        let mut artifacts = Artifacts {
            kernel: KernelId {
                // What a user calls it, which may not be what it is made of.
                name: spec.kernel.0.clone(),
                ..id
            },
            image: kernel.image,
            vmlinux: Some(kernel.vmlinux),
            system_map: Some(kernel.system_map),
            source_root,
            ..artifacts
        };
        self.used.hold(&artifacts, &made, &cache)?;
        self.note(&mut artifacts)?;
        Ok(artifacts)
    }

    fn execute(&self, attempt: Attempt<'_>) -> Result<Execution, Error> {
        let engine = engine(attempt.spec.engine)?;
        let mut job = job(&attempt)?;
        let attendance = attempt.attended.map(|_| self.attendance);
        let attendance = attendance.unwrap_or_default();
        let terminal = attendance.console == Console::Terminal;
        if self.no_time_limit && attempt.attended.is_some() {
            job.timeout = None;
        }
        job.attendance = attendance;
        job.interrupt = self.interrupt.clone();
        job.selfcheck = self.self_check;
        job.save_restore = self.save_restore;
        job.snapshot = match attempt.snapshot.or(self.snapshot.as_ref()) {
            // Once is enough.
            Some(Snapshot::Save { .. })
                if attempt.attended.is_none() && attempt.snapshot.is_none() =>
            {
                None
            }
            snapshot => snapshot.cloned(),
        };
        if let (Some(dir), Some(port)) = (attempt.attended, attendance.debugger) {
            debugger::invite(&attempt, dir, port)?;
        }
        let raw = terminal.then(Raw::begin).transpose();
        let raw = raw.map_err(|e| Error::host("cannot have the terminal", e))?;
        let begun = Instant::now();
        let attended = |typed| Attended {
            typed,
            debugger: attendance.debugger.is_some(),
        };
        // One that had to be killed, and has left nothing.
        let killed = |end, wall| Execution {
            end,
            console: job.run_dir.join("console.log"),
            wall,
            loaded: None,
            sites: Sites::new(),
            seen: Observations::default(),
            report: None,
            host: None,
            self_check: None,
            restored: None,
            attended: attended(terminal.then_some(0)),
            stats: serde_json::Value::Null,
        };
        let outcome = engine.run(&job);
        drop(raw);
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(EngineError::Timeout { timeout, .. }) => {
                return Ok(killed(GuestEnd::TimedOut, timeout));
            }
            Err(EngineError::Interrupted) => {
                return Ok(killed(GuestEnd::Interrupted, begun.elapsed()));
            }
            Err(EngineError::Left) => return Ok(killed(GuestEnd::Left, begun.elapsed())),
            Err(e) => return Err(refused(attempt.spec, e)),
        };
        let mut report: SocReport = outcome
            .report
            .read()
            .map_err(|e| failed(attempt.spec.engine, e.into()))?;
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
            host: outcome.host,
            self_check: outcome.checked,
            restored: outcome.restored,
            attended: attended(outcome.typed),
            stats: outcome.stats,
        })
    }
}

/// A package, as results have it.
fn told(package: Package) -> staleline_results::Package {
    let Package {
        name,
        version,
        hash,
    } = package;
    staleline_results::Package {
        name,
        version,
        hash,
    }
}

/// Engines that were looked for.
static FOUND: Mutex<Vec<(EngineKind, Arc<dyn Engine>)>> = Mutex::new(Vec::new());

/// There are no more runs: engines let go of what they keep for them.
pub fn rest() {
    let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    found.iter().for_each(|(_, engine)| engine.rest());
}

/// The engine, looked for once.
fn engine(kind: EngineKind) -> Result<Arc<dyn Engine>, Error> {
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

/// What an engine says of a run; that it does not take what the user wants it to have is the user's to mend.
fn refused(spec: &RunSpec, e: EngineError) -> Error {
    match e {
        EngineError::Arguments { why } => {
            let option = spec.engine.arguments_option();
            let words = spec.engine_arguments.iter();
            let words: Vec<String> = words.map(|word| format!("--{option}={word}")).collect();
            Error::Option {
                option: words.join(" "),
                why: format!(
                    "the {} engine does not start with that:\n{why}",
                    spec.engine
                ),
            }
        }
        EngineError::DebuggerPort { port, source } => Error::Option {
            option: format!("--gdb={port}"),
            why: format!("that port of 127.0.0.1 cannot be had ({source}): name another one"),
        },
        other => failed(spec.engine, other),
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
    if !scenario.guest.append.is_empty() {
        bootargs = format!("{bootargs} {}", scenario.guest.append);
    }
    let layout = Images::open(&artifacts.image, initrd.map(|file| file.path.as_path()))
        .and_then(|images| images.layout(u64::from(scenario.board.ram_mib) << 20))
        .map_err(boot)?;
    let plan = serde_json::to_string(&attempt.spec.plan())
        .map_err(|e| Error::host("cannot write the guest's plan", e))?;
    let chosen = fdt::Chosen {
        bootargs: &bootargs,
        plan: &plan,
        seed: scenario.seed,
        port: attempt.spec.engine.told_by().is_some(),
        layout: &layout,
    };
    let fdt =
        fdt::write(&board, &chosen).map_err(|e| Error::host("cannot write the device tree", e))?;
    let overlays = scenario.guest.dtb_overlay.iter().map(String::as_str);
    let overlays: Vec<_> = overlays.zip(&artifacts.overlays).collect();
    let fdt = overlay::apply(&board, &fdt, &overlays)?;
    let end = layout.initrd.as_ref().unwrap_or(&layout.fdt).end;
    let machine = MachineConfig {
        board: scenario.board.clone(),
        seed: scenario.seed,
        usb_host: usb::host_plan(scenario),
        faults: attempt.faults(),
        census: attempt.census,
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
        ram_bytes: board.memory_bytes(),
        poison: board.poison(end),
        cpus: scenario.board.cpus,
        lines: board.lines(),
        window_bytes: board.window_bytes(),
        guest: GuestKind::Board,
        machine: serde_json::to_value(&machine)
            .map_err(|e| Error::host("cannot write the machine's configuration", e))?,
        devices: scenario.board.pci.as_ref().map(|pci| HostDevices {
            addresses: pci.devices.clone(),
            snoop: pci.port.is_coherent(),
            ram: board
                .ram()
                .iter()
                .map(|r| (r.start, r.end - r.start))
                .collect(),
        }),
        timeout: Some(Duration::from_secs(scenario.timeout_seconds.into())),
        attendance: Attendance::default(),
        arguments: attempt.spec.engine_arguments.clone(),
        interrupt: Interrupt::default(),
        run_dir: attempt.dir.to_owned(),
        selfcheck: false,
        save_restore: None,
        trace: attempt.trace.to_vec(),
        calls: symbols::buffer_code(artifacts),
        events: attempt.events.cloned(),
        snapshot: None,
    })
}
