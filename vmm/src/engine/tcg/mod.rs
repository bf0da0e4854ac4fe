// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The exact engine: stock QEMU, deterministic (`-icount`), with the machine in a TCG plugin.
//!
//! Nothing of a run can be left behind, however it ends: guest RAM and configuration are
//! memfds, all sockets are pairs, and QEMU dies with the thread that started it.

mod command;
mod error;
mod host;
mod lines;
mod live;
mod needs;
mod plugin;
mod session;
mod snapshot;
mod supervise;

use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use staleline_devices::fidelity::Sight;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use super::attend::Console;
use super::description::Description;
use super::error::os;
use super::{
    Engine, EngineError, Handover, HandoverError, Job, Outcome, SiteTable, Snapshot, TRACE_LIMIT,
    remove_earlier,
};
use crate::boot::{Images, Loaded, RAM_BASE};
use live::{Follow, Typing};
use snapshot::{Recent, Save, Unpacked, memfd};
use staleline_machine::engine::abi::{ABI_VERSION, SaveAt, TcgConfig};
use staleline_machine::engine::memory;

pub(super) use command::die_with_parent;
pub(super) use host::qemu_program;
pub(super) use lines::tail_of;

pub use error::QemuError;
pub use plugin::PLUGIN_FILE;

/// What is known of it before it is looked for.
pub const DESCRIPTION: Description = Description {
    name: "tcg",
    arguments: "qemu-arg",
    refuses: command::refuses,
    sees: &Sight::ALL,
    finds: &[],
    exact: true,
    hands_over: false,
    told_by: None,
    saves: true,
    discover: || Ok(Box::new(TcgEngine::discover()?)),
    make: plugin::make,
    kept: plugin::kept,
    places: needs::places,
    needs: needs::all,
    files: host::files,
};

/// A program is asked what it is however little is left of the time.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// The engine: which QEMU, which plugin.
#[derive(Debug, Clone)]
pub struct TcgEngine {
    qemu: PathBuf,
    plugin: PathBuf,
    snapshot: Recent,
}

impl TcgEngine {
    /// Finds QEMU (`STALELINE_QEMU`, else `qemu-system-aarch64` on the `PATH`) and the plugin
    /// (`STALELINE_TCG_PLUGIN`, else beside the running program, or made for it before).
    ///
    /// # Errors
    /// As [`TcgEngine::new`], and [`QemuError::PluginMissing`].
    pub fn discover() -> Result<Self, EngineError> {
        Self::new(&host::qemu_program(), &plugin::find()?)
    }

    /// Uses the given QEMU and the given plugin. Whether that is a QEMU, and a new enough one, is only
    /// asked if a run fails: it takes as long as starting it.
    ///
    /// # Errors
    /// [`QemuError::PluginMissing`].
    pub fn new(qemu: &Path, plugin: &Path) -> Result<Self, EngineError> {
        let plugin = plugin
            .canonicalize()
            .map_err(|_| QemuError::PluginMissing {
                searched: vec![plugin.to_owned()],
            })?;
        Ok(TcgEngine {
            qemu: qemu.to_owned(),
            plugin,
            snapshot: Recent::default(),
        })
    }
}

/// How a guest begins.
struct Start {
    /// Its memory.
    ram: File,
    /// Its first instruction, if it boots.
    entry: u64,
    loaded: Loaded,
    from: Option<Arc<Unpacked>>,
}

impl TcgEngine {
    /// Boots, or goes on from a snapshot; but boots if something is to be traced that came before that.
    fn start(&self, job: &Job) -> Result<Start, EngineError> {
        if let Some(Snapshot::From(file)) = &job.snapshot {
            let from = self.snapshot.get(file, job)?;
            let first = job.trace.first().copied().unwrap_or(u64::MAX);
            if first > from.state.accesses {
                return Ok(Start {
                    ram: from.memory.try_clone().map_err(os("map guest RAM"))?,
                    entry: RAM_BASE,
                    loaded: from.state.loaded.clone(),
                    from: Some(from),
                });
            }
        }
        let ram = memfd("guest-ram", "allocate guest RAM")?;
        ram.set_len(job.ram_bytes + job.window_bytes)
            .map_err(os("allocate guest RAM"))?;
        let (entry, loaded) = load(job, &ram)?;
        Ok(Start {
            ram,
            entry,
            loaded,
            from: None,
        })
    }
}

impl Engine for TcgEngine {
    fn run(&self, job: &Job) -> Result<Outcome, EngineError> {
        check(job)?;
        let run_dir = job.run_dir.canonicalize().map_err(|e| {
            EngineError::BadJob(format!("run directory {}: {e}", job.run_dir.display()))
        })?;
        let console = run_dir.join("console.log");
        let sites = Handover::at(run_dir.join("sites.bin"));
        let seen = Handover::at(run_dir.join("seen.json"));
        let report = Handover::at(run_dir.join("report.json"));

        remove_earlier(&[&console, sites.path(), seen.path(), report.path()])?;

        let Start {
            ram,
            entry,
            loaded,
            from,
        } = self.start(job)?;
        let save = match &job.snapshot {
            Some(Snapshot::Save { after, file }) => {
                let save = Save::begin(file, job, (&ram, &loaded), &console)?;
                Some((*after, save))
            }
            _ => None,
        };
        let (after, save) = save.unzip();
        let share = |file: &File| file.try_clone().map_err(os("share a file with QEMU"));
        let parts = match (&save, &from) {
            (Some(save), _) => vec![share(&save.migration)?, share(&save.machine)?],
            (None, Some(from)) => vec![share(&from.migration)?, share(&from.machine)?],
            (None, None) => Vec::new(),
        };
        let part = |n: usize| parts.get(n).map(AsRawFd::as_raw_fd);

        let pair = || UnixStream::pair().map_err(os("create a socket pair"));
        let (qmp, qemu_qmp) = pair()?;
        let (control, plugin_control) = pair()?;
        let (plugin_qtest, qemu_qtest) = pair()?;
        let config = TcgConfig {
            abi: ABI_VERSION,
            ram_fd: ram.as_raw_fd(),
            control_fd: plugin_control.as_raw_fd(),
            qtest_fd: plugin_qtest.as_raw_fd(),
            ram_base: RAM_BASE,
            ram_bytes: job.ram_bytes,
            window_bytes: job.window_bytes,
            sites: sites.path().to_owned(),
            seen: seen.path().to_owned(),
            report: report.path().to_owned(),
            selfcheck: job.selfcheck,
            save_restore: job.save_restore,
            trace: job.trace.clone(),
            calls: job.calls.clone(),
            events: job.events.clone(),
            save: after.zip(part(1)).map(|(after, fd)| SaveAt {
                after: after.to_owned(),
                fd,
            }),
            from: from.as_ref().and(part(1)),
            guest: job.guest,
            machine: job.machine.clone(),
        };
        let config_file = write_config(&config)?;

        if let Some(port) = job.attendance.debugger {
            free(port)?;
        }
        let pipe = match job.attendance.console {
            Console::Terminal => Some(std::io::pipe().map_err(os("create a pipe"))?),
            Console::Kept | Console::Shown => None,
        };
        let (input, typing) = pipe.unzip();
        let typing = typing.map(Typing::begin).transpose();
        let typing = typing.map_err(os("pass on what is typed"))?;
        let follows = job.attendance.console != Console::Kept;
        let follow = follows.then(|| Follow::begin(&console)).transpose();
        let follow = follow.map_err(os("follow the guest's console"))?;
        if let Some(from) = &from {
            std::fs::write(&console, &from.state.console).map_err(os("write the console"))?;
        }
        let migration = part(0);

        let command = command::Qemu {
            program: &self.qemu,
            plugin: &self.plugin,
            cpus: job.cpus,
            memory_bytes: job.ram_bytes + job.window_bytes,
            entry,
            console: &console,
            input,
            debugger: job.attendance.debugger,
            arguments: &job.arguments,
            resumes: from.is_some(),
            ram,
            config: config_file,
            qmp: qemu_qmp,
            qtest: qemu_qtest,
            plugin_qtest,
            plugin_control,
            parts: parts.into_iter().map(OwnedFd::from).collect(),
        }
        .build();
        let begun = Instant::now();
        let ended = supervise::Supervision {
            command,
            program: &self.qemu,
            plugin: &self.plugin,
            console: &console,
            timeout: job.timeout,
            interrupt: &job.interrupt,
            follow,
            typing,
            debugger: job.attendance.debugger.is_some(),
            arguments: !job.arguments.is_empty(),
            migration,
            save,
            from: from.map(|from| from.state.qemu.clone()),
        }
        .run(qmp, control)
        .map_err(|e| match error::may_be_of_another_program(&e) {
            // What it is explains the rest.
            true => {
                let left = job
                    .timeout
                    .map(|limit| limit.saturating_sub(begun.elapsed()));
                let left = left.unwrap_or(host::PATIENCE);
                let patience = left.clamp(LEAST_PATIENCE, host::PATIENCE);
                let other = host::check_qemu(&self.qemu, patience).err();
                other.map_or(e, Into::into)
            }
            false => e,
        })?;

        let sites = SiteTable::read(sites.path()).map_err(|source| HandoverError::Unreadable {
            path: sites.path().to_owned(),
            source,
        })?;
        if let Some(trouble) = ended.stats.misunderstood(&sites) {
            return Err(EngineError::Misunderstood(trouble));
        }
        let stats = serde_json::to_value(&ended.stats)
            .map_err(|e| QemuError::Protocol(format!("the plugin's counters: {e}")))?;
        Ok(Outcome {
            end: ended.end,
            loaded,
            console,
            wall_time: ended.wall_time,
            sites,
            seen: seen.read()?,
            report,
            typed: ended.typed,
            checked: job.selfcheck.then_some(ended.stats.checked),
            host: None,
            restored: job.save_restore.map(|_| ended.restored),
            stats,
        })
    }
}

fn check(job: &Job) -> Result<(), EngineError> {
    let bad = |what: &str| Err(EngineError::BadJob(what.into()));
    if let Err(what) = memory::check(job.ram_bytes, job.window_bytes) {
        return bad(what);
    }
    if job.trace.len() > TRACE_LIMIT || !job.trace.is_sorted() {
        return bad("the accesses to be traced are too many or not in order");
    }
    if job.snapshot.is_some() {
        if job.cpus > 1 {
            return bad(
                "the tcg engine has snapshots of guests with one CPU only, as nobody knows whose turn it was: \
                 board.cpus=1",
            );
        }
        if job.attendance.console == Console::Terminal || job.attendance.debugger.is_some() {
            return bad("a guest that somebody types at or debugs is in no snapshot");
        }
    }
    if job.timeout.is_some_and(|limit| limit.is_zero()) {
        return bad("the timeout is zero");
    }
    Ok(())
}

/// That a debugger can come there. QEMU would say so too, but not in a way that can be told from other
/// trouble.
fn free(port: u16) -> Result<(), EngineError> {
    let tried = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let failed = |source| EngineError::DebuggerPort { port, source };
    tried.map(drop).map_err(failed)
}

/// Loads the images; returns where the CPU starts, and what they were.
fn load(job: &Job, ram: &File) -> Result<(u64, Loaded), EngineError> {
    let images = Images::open(&job.kernel, job.initrd.as_deref())?;
    let layout = images.layout(job.ram_bytes)?;
    let file = ram.try_clone().map_err(os("map guest RAM"))?;
    let bytes = usize::try_from(job.ram_bytes)
        .map_err(|_| EngineError::BadJob("RAM exceeds the host's address space".into()))?;
    let region = (
        GuestAddress(RAM_BASE),
        bytes,
        Some(FileOffset::new(file, 0)),
    );
    let memory = GuestMemoryMmap::from_ranges_with_files([region])
        .map_err(|e| os("map guest RAM")(std::io::Error::other(e)))?;
    let loaded = images.load(&memory, &layout, &job.fdt, &job.expected)?;
    Ok((layout.entry, loaded))
}

fn write_config(config: &TcgConfig) -> Result<File, EngineError> {
    let what = "write the plugin's configuration";
    let mut file = memfd("staleline-config", what)?;
    serde_json::to_vec(config)
        .map_err(std::io::Error::from)
        .and_then(|json| file.write_all(&json))
        .map_err(os(what))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
