// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The one place where runs meet kernel builder, initramfs, board and engine.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use super::backend::{Artifacts, Attempt, Backend, Execution, GuestEnd, KernelId, Progress, Sites};
use super::kernels;
use super::prebuilt::Prebuilt;
use super::spec::RunSpec;
use crate::board::machine::MachineConfig;
use crate::board::{Board, fdt};
use crate::boot::{Images, RAM_BASE};
use crate::engine::tcg::TcgEngine;
use crate::engine::tcg_abi::GuestKind;
use crate::engine::{Engine as _, EngineError, Job, Observations};
use crate::exit::Error;
use crate::initramfs::{CacheDir, initramfs};
use crate::scenario::usb;

/// Names another QEMU.
const QEMU_VARIABLE: &str = "STALELINE_QEMU";

/// The QEMU that runs guests.
pub fn qemu() -> PathBuf {
    std::env::var_os(QEMU_VARIABLE)
        .unwrap_or_else(|| "qemu-system-aarch64".into())
        .into()
}

/// The kernel source that is used if no other is named.
pub fn kernel_source() -> &'static Path {
    Path::new("/usr/src/linux-source-6.12.tar.xz")
}

/// Runs guests for real.
pub struct Production;

/// Kernel command line of every guest. An oops is a panic, and a panic ends the run at once: a
/// kernel that limps on would only cost the time limit. The console stays quiet for the agent's
/// KTAP, but warnings come through.
const BOOTARGS: &str = "console=ttyAMA0 loglevel=5 oops=panic panic=-1";

impl Backend for Production {
    fn check(&self, spec: &RunSpec) -> Result<(), Error> {
        if let Some(path) = spec.kernel.path() {
            return Prebuilt::find(path).map(|_| ());
        }
        kernels::request(&spec.kernel.0, &[], None).map(drop)
    }

    fn prepare(&self, spec: &RunSpec, progress: &dyn Progress) -> Result<Artifacts, Error> {
        // Quick checks first: nobody should wait for a kernel to learn that QEMU is missing.
        engine()?;
        let cache = CacheDir::from_environment().map_err(|e| Error::Initramfs(e.into()))?;
        let initramfs = initramfs(&cache, &mut |what| progress.detail(what))
            .map_err(|e| Error::Initramfs(e.into()))?;
        let artifacts = Artifacts {
            kernel: KernelId {
                name: String::new(),
                version: String::new(),
                stack: Vec::new(),
                hash: String::new(),
            },
            image: PathBuf::new(),
            vmlinux: None,
            system_map: None,
            source_root: None,
            initrd: initramfs.path,
            initrd_hash: initramfs.hash,
            agent_elf: Some(initramfs.agent_elf),
        };
        if let Some(path) = spec.kernel.path() {
            let prebuilt = Prebuilt::find(path)?;
            return Ok(Artifacts {
                kernel: prebuilt.identify(&spec.kernel.0)?,
                image: prebuilt.image,
                vmlinux: prebuilt.vmlinux,
                system_map: prebuilt.system_map,
                ..artifacts
            });
        }
        let request = kernels::request(&spec.kernel.0, &[], None)?;
        let kernel = kernels::build(&request, progress)?;
        Ok(Artifacts {
            kernel: kernels::id(&kernel),
            image: kernel.image,
            vmlinux: Some(kernel.vmlinux),
            system_map: Some(kernel.system_map),
            ..artifacts
        })
    }

    fn execute(&self, attempt: Attempt<'_>) -> Result<Execution, Error> {
        let engine = engine()?;
        let job = job(&attempt)?;
        let outcome = match engine.run(&job) {
            Ok(outcome) => outcome,
            Err(EngineError::Timeout { timeout, .. }) => {
                return Ok(Execution {
                    end: GuestEnd::TimedOut,
                    console: job.run_dir.join("console.log"),
                    wall: timeout,
                    sites: Sites::new(),
                    seen: Observations::default(),
                    report: None,
                });
            }
            Err(e) => return Err(engine_error(e)),
        };
        let end = match outcome.end {
            crate::engine::GuestEnd::PowerOff => GuestEnd::PoweredOff,
            crate::engine::GuestEnd::Reset => GuestEnd::Died {
                what: "it reset itself, as a kernel that panics does".into(),
            },
        };
        if outcome.stats.untranslated > 0 || outcome.stats.mismatches > 0 {
            return Err(engine_failed(format!(
                "the engine does not understand the guest's page tables: {} accesses not \
                 translated, {} translated differently from QEMU",
                outcome.stats.untranslated, outcome.stats.mismatches
            )));
        }
        let report = serde_json::from_value(outcome.report)
            .map_err(|e| engine_failed(format!("the machine's report: {e}")))?;
        Ok(Execution {
            end,
            console: outcome.console,
            wall: outcome.wall_time,
            sites: outcome.sites.iter().collect(),
            seen: outcome.seen,
            report: Some(report),
        })
    }
}

/// The engine, looked for once: asking QEMU for its version costs as much as it takes to start it.
fn engine() -> Result<TcgEngine, Error> {
    static FOUND: OnceLock<TcgEngine> = OnceLock::new();
    if let Some(engine) = FOUND.get() {
        return Ok(engine.clone());
    }
    let engine = TcgEngine::discover().map_err(engine_error)?;
    Ok(FOUND.get_or_init(|| engine).clone())
}

fn engine_error(e: EngineError) -> Error {
    Error::Engine {
        engine: "tcg".into(),
        source: e.into(),
    }
}

fn engine_failed(what: String) -> Error {
    Error::Engine {
        engine: "tcg".into(),
        source: what.into(),
    }
}

/// The engine's job for an attempt.
fn job(attempt: &Attempt<'_>) -> Result<Job, Error> {
    let scenario = &attempt.spec.scenario;
    let artifacts = attempt.artifacts;
    let board = Board::new(&scenario.board);
    let boot = |e: crate::boot::BootError| engine_error(e.into());
    let layout = Images::open(&artifacts.image, Some(&artifacts.initrd))
        .and_then(|images| images.layout(board.ram_bytes()))
        .map_err(boot)?;
    let plan = serde_json::to_string(&scenario.plan())
        .map_err(|e| Error::host("cannot write the guest's plan", e))?;
    let chosen = fdt::Chosen {
        bootargs: BOOTARGS,
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
    };
    Ok(Job {
        kernel: artifacts.image.clone(),
        initrd: Some(artifacts.initrd.clone()),
        fdt,
        ram_bytes: board.ram_bytes(),
        window_bytes: board.window_bytes(),
        guest: GuestKind::Board,
        machine: serde_json::to_value(&machine)
            .map_err(|e| Error::host("cannot write the machine's configuration", e))?,
        timeout: Duration::from_secs(scenario.timeout_seconds.into()),
        run_dir: attempt.dir.to_owned(),
        selfcheck: false,
        trace: attempt.trace.to_vec(),
    })
}
