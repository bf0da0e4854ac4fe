// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The KVM engine: a VMM of our own (`vmm/kvm`), which hosts the machine beside an arm64 guest on KVM. It runs
//! on this machine if that is arm64 and has KVM, and in an arm64 machine that QEMU emulates elsewhere; never in
//! one because it failed in the other.

mod error;
mod needs;
mod place;
mod session;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use staleline_devices::fidelity::Sight;
use staleline_machine::engine::wire::{DISK, Ended, FromVmm, KvmStats, Output, Record, Run, ToVmm};
use staleline_machine::snapshot;
use staleline_results::GuestEnd;
use staleline_support::cache::CacheDir;
use staleline_support::lock::Lock;

use super::attend::Console;
use super::description::{Description, Told};
use super::error::os;
use super::snapshot::Saving;
use super::{
    Engine, EngineError, GuestKind, Handover, Job, Observations, Outcome, SiteTable, Snapshot,
    remove_earlier,
};
use place::Place;
use session::{Session, odd};

pub use error::KvmError;

/// What is known of it before it is looked for.
pub const DESCRIPTION: Description = Description {
    name: "kvm",
    arguments: "qemu-arg",
    refuses: |_| Some("the kvm engine takes no arguments of QEMU's"),
    sees: &[Sight::Maintenance, Sight::Tables],
    finds: &[Sight::Stores],
    exact: false,
    hands_over: true,
    told_by: Some(Told {
        config: "instrumented",
        option: "CONFIG_ARM64_COHERENCY_PORT",
    }),
    saves: true,
    discover: || Ok(Box::new(KvmEngine::discover()?)),
    make: place::make,
    // With what kernels and guests' file systems are made of: it is made by the same builders.
    kept: |_: &CacheDir| Vec::new(),
    places: needs::places,
    needs: needs::all,
    files: needs::files,
};

/// How much longer than the guest's time limit the VMM may take to say that it is reached.
const GRACE: Duration = Duration::from_secs(20);

/// Bytes of a guest's console that are kept: more than anybody reads (`evidence/console.rs`), so that it shows
/// that there was more.
const CONSOLE_LIMIT: usize = 24 << 20;

/// VMMs that are kept for the next run.
const KEPT: usize = 4;

/// The engine.
pub struct KvmEngine {
    place: Place,
    /// What of it lies in the cache is not removed meanwhile.
    _used: Vec<Lock>,
    /// Those that have nothing to do.
    idle: Mutex<Vec<Session>>,
}

impl KvmEngine {
    /// Finds what it needs.
    ///
    /// # Errors
    /// [`KvmError`].
    pub fn discover() -> Result<Self, EngineError> {
        let (place, used) = Place::find()?;
        Ok(KvmEngine {
            place,
            _used: used,
            idle: Mutex::default(),
        })
    }

    fn session(&self, job: &Job) -> Result<Session, EngineError> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain_mut(Session::is_alive);
        let devices = job.devices.is_some();
        // It dies with the thread that has started it, which may end before another's run does.
        let own = thread::current().id();
        let fits =
            |s: &Session| s.owner == own && s.ram_bytes >= job.ram_bytes && s.devices == devices;
        if let Some(at) = idle.iter().position(fits) {
            return Ok(idle.swap_remove(at));
        }
        drop(idle);
        Session::start(&self.place, (job.ram_bytes, devices), &job.interrupt)
    }

    fn keep(&self, session: Session) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(session);
        }
    }
}

impl Engine for KvmEngine {
    fn rest(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.clear();
    }

    fn run(&self, job: &Job) -> Result<Outcome, EngineError> {
        check(job)?;
        let dir = job.run_dir.canonicalize().map_err(|e| {
            EngineError::BadJob(format!("run directory {}: {e}", job.run_dir.display()))
        })?;
        let mut session = self.session(job)?;
        let outcome = converse(job, &mut session, &dir);
        if outcome.is_ok() {
            self.keep(session);
        }
        outcome
    }
}

/// That it is nothing only the exact engine can do.
fn check(job: &Job) -> Result<(), EngineError> {
    let cannot = |what: &str| {
        Err(EngineError::BadJob(format!(
            "the kvm engine cannot {what}: only the exact one can"
        )))
    };
    if job.attendance.debugger.is_some() {
        return cannot("be debugged");
    }
    if job.attendance.console == Console::Terminal {
        return cannot("take what is typed");
    }
    if job.selfcheck || job.save_restore.is_some() {
        return cannot("check itself");
    }
    match &job.snapshot {
        Some(Snapshot::From(file)) => Ok(check_snapshot(file, job.ram_bytes)?),
        _ => Ok(()),
    }
}

/// That a file may be a snapshot of a guest with so much memory, before all of it is read and sent.
fn check_snapshot(file: &Path, ram_bytes: u64) -> Result<(), KvmError> {
    let pages = ram_bytes / snapshot::PAGE as u64;
    Ok(snapshot::KVM.check(file, pages)?)
}

fn converse(job: &Job, session: &mut Session, dir: &Path) -> Result<Outcome, EngineError> {
    session.begin(&job.interrupt);
    let from = match &job.snapshot {
        Some(Snapshot::From(file)) => Some(session.give(file)?),
        _ => None,
    };
    // One that does not boot needs them, too: DRAM still holds what nobody has changed of them.
    let kernel = session.give(&job.kernel)?;
    let initrd = job.initrd.as_deref().map(|path| session.give(path));
    let initrd = initrd.transpose()?;
    let disk = job.machine.pointer(DISK).and_then(|path| path.as_str());
    let disk = disk.map(|disk| session.give(Path::new(disk)));
    let disk = disk.transpose()?;
    let fdt = session.give_bytes(&job.fdt)?;
    let timeout_ms = job.timeout.map(|limit| limit.as_millis().try_into());
    let run = Run {
        kernel,
        kernel_hash: job.expected.kernel.clone(),
        initrd,
        disk,
        fdt,
        ram_bytes: job.ram_bytes,
        poison: job.poison.clone(),
        window_bytes: job.window_bytes,
        cpus: job.cpus,
        lines: job.lines,
        guest: job.guest,
        machine: job.machine.clone(),
        devices: job.devices.clone(),
        timeout_ms: timeout_ms.transpose().unwrap_or(None),
        events: job.events.as_ref().map(|events| Record {
            filter: events.filter,
            limit: events.limit,
        }),
        save: match &job.snapshot {
            Some(Snapshot::Save { after, .. }) => Some((*after).to_owned()),
            _ => None,
        },
        from,
    };
    session.tell(&ToVmm::Run(Box::new(run)), &[])?;

    let console = dir.join("console.log");
    let report = Handover::at(dir.join("report.json"));
    remove_earlier(&[report.path()])?;
    let mut written = File::create(&console).map_err(os("write the console"))?;
    let mut saving = match &job.snapshot {
        Some(Snapshot::Save { file, .. }) => Some(Saving::begin(file)?),
        _ => None,
    };
    let mut kept = 0;
    let shown = job.attendance.console == Console::Shown;
    let deadline = job.timeout.map(|limit| Instant::now() + limit);
    let limit = job.timeout.unwrap_or_default();
    // Its time begins when its memory is there.
    let grace = GRACE + Duration::from_secs(job.ram_bytes >> 26);
    loop {
        let (message, payload) = session.answer((deadline, limit, grace), &job.interrupt)?;
        match message {
            FromVmm::Output { output } => match output {
                Output::Console => {
                    let room = CONSOLE_LIMIT - kept;
                    let part = payload.get(..room).unwrap_or(&payload);
                    kept += part.len();
                    written.write_all(part).map_err(os("write the console"))?;
                    if shown {
                        // Nobody may be there to see it.
                        let _ = std::io::stderr().write_all(&payload);
                    }
                }
                Output::Snapshot => {
                    if let Some(saving) = &mut saving {
                        saving
                            .write_all(&payload)
                            .map_err(os("write the snapshot"))?;
                    }
                }
                Output::Report => std::fs::write(report.path(), &payload)
                    .map_err(os("keep the machine's report"))?,
                Output::Events => {
                    if let Some(events) = &job.events {
                        let log = File::options().append(true).open(&events.path);
                        log.and_then(|mut log| log.write_all(&payload))
                            .map_err(os("write the log"))?;
                    }
                }
            },
            FromVmm::Ended {
                end,
                loaded,
                wall_us,
                stats,
            } => {
                if let Some(saving) = saving {
                    saving.end()?;
                }
                log::debug!("kvm: {wall_us} us, {stats:?}");
                if is_untold(job.guest, &end, &stats) {
                    return Err(KvmError::Untold.into());
                }
                let stats = serde_json::to_value(&stats)
                    .map_err(|e| KvmError::Protocol(format!("its counters: {e}")))?;
                return Ok(Outcome {
                    end: told(end),
                    loaded,
                    console,
                    wall_time: Duration::from_micros(wall_us),
                    // It does not know where accesses come from.
                    sites: SiteTable::default(),
                    seen: Observations::default(),
                    report,
                    host: Some(session.host.clone()),
                    checked: None,
                    restored: None,
                    typed: None,
                    stats,
                });
            }
            other => return Err(odd(&other)),
        }
    }
}

/// Whether a kernel has come to the chip without having found the port by which it tells what it does to caches: then
/// nothing that was found can be believed. One whose time is up is no verdict anyway.
fn is_untold(guest: GuestKind, end: &Ended, stats: &KvmStats) -> bool {
    let is_kernel = guest == GuestKind::Board && *end != Ended::TimedOut;
    is_kernel && stats.register_reads > 0 && !stats.is_told
}

fn told(end: Ended) -> GuestEnd {
    match end {
        Ended::PoweredOff => GuestEnd::PoweredOff,
        Ended::TimedOut => GuestEnd::TimedOut,
        Ended::Died { what } => GuestEnd::Died { what },
    }
}

#[cfg(test)]
mod tests {
    use staleline_devices::dma::Port;
    use staleline_machine::board::Board;
    use staleline_machine::board::config::MachineConfig;
    use staleline_machine::board::settings::{BoardSettings, PciSettings};
    use staleline_machine::engine::wire::HostDevices;
    use staleline_support::text;

    use super::*;

    /// A guest with that device, which need not come to run.
    fn job(dir: &Path, device: &str) -> Job {
        let mut image = vec![0; 4096];
        image[16..24].copy_from_slice(&4096u64.to_le_bytes());
        image[56..60].copy_from_slice(b"ARM\x64");
        let kernel = dir.join("Image");
        std::fs::write(&kernel, image).unwrap();
        let settings = BoardSettings {
            pci: Some(PciSettings {
                port: Port::Hp,
                dma_coherent: None,
                devices: vec![device.into()],
            }),
            ..BoardSettings::default()
        };
        let board = Board::new(&settings);
        let ram = board.ram();
        let machine = MachineConfig::new(settings.clone());
        Job {
            kernel,
            initrd: None,
            expected: Default::default(),
            fdt: vec![0; 64],
            ram_bytes: board.memory_bytes(),
            poison: Default::default(),
            window_bytes: board.window_bytes(),
            cpus: 1,
            lines: board.lines(),
            guest: GuestKind::Board,
            machine: serde_json::to_value(machine).unwrap(),
            devices: Some(HostDevices {
                addresses: vec![device.into()],
                snoop: false,
                ram: ram.iter().map(|r| (r.start, r.end - r.start)).collect(),
            }),
            timeout: Some(Duration::from_secs(30)),
            attendance: Default::default(),
            arguments: Vec::new(),
            interrupt: Default::default(),
            run_dir: dir.to_owned(),
            selfcheck: false,
            save_restore: None,
            trace: Vec::new(),
            calls: None,
            events: None,
            snapshot: None,
        }
    }

    #[test]
    #[ignore = "takes a VMM and the kernel of a host, as any run with the engine leaves them"]
    fn a_device_that_another_has_is_told_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let job = job(dir.path(), "0000:00:03.0");
        let engine = KvmEngine::discover().unwrap();
        let mut session = engine.session(&job).unwrap();
        let device = "0000:00:03.0".into();
        session.tell(&ToVmm::Hold { device }, &[]).unwrap();
        let pid = session.pid();
        engine.keep(session);
        let error = engine.run(&job).unwrap_err();
        let told = format!("{}; {}", text::chain(&error), error.help());
        for part in ["0000:00:03.0", "its VFIO group is in use", "fuser -v"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        // Nothing is left.
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_file_that_is_no_snapshot_is_not_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot");
        // As it begins, with a state of no bytes.
        let mut begins = b"stalekvm".to_vec();
        begins.extend(snapshot::KVM.version.to_le_bytes());
        begins.extend(0_u64.to_le_bytes());
        for (begins, part) in [
            (&begins[..], "longer than one of a guest"),
            (
                b"rubbish, and more of it",
                "no snapshot of the kvm engine's",
            ),
        ] {
            std::fs::write(&path, begins).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            // More than fits into memory, and no block of it.
            file.set_len(1 << 40).unwrap();
            let error = EngineError::from(check_snapshot(&path, 128 << 20).unwrap_err());
            let told = format!("{error}; {}", error.help());
            for part in [part, "--save-snapshot"] {
                assert!(told.contains(part), "{part}: {told}");
            }
        }
    }
}
