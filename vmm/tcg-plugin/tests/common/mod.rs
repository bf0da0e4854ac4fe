// SPDX-License-Identifier: GPL-2.0-or-later
//! A minimal board for guests under test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a part of tests")]
#![allow(dead_code, reason = "every test program uses its own part")]

pub mod asm;

use std::path::{Path, PathBuf};
use std::time::Duration;

use staleline::board::Board;
use staleline::board::fdt::{self, Chosen};
use staleline::board::settings::BoardSettings;
use staleline::boot::Images;
use staleline::engine::GuestKind;
use staleline::engine::tcg::TcgEngine;
use staleline::engine::{Engine, EngineError, Job, Outcome};
use staleline_machine::engine::abi::TcgStats;

const RAM_MIB: u32 = 128;
pub const RAM: u64 = (RAM_MIB as u64) << 20;
pub const WINDOW: u64 = 1 << 20;

/// The engine under test: the plugin that Cargo has just built, and the QEMU of this machine.
pub fn engine() -> TcgEngine {
    // Cargo leaves the library beside this test, in deps/.
    let deps = std::env::current_exe().unwrap();
    let plugin = deps.with_file_name("libstaleline_tcg.so");
    let qemu = std::env::var_os("STALELINE_QEMU").unwrap_or("qemu-system-aarch64".into());
    TcgEngine::new(Path::new(&qemu), &plugin).unwrap_or_else(|e| panic!("{e}\nhelp: {}", e.help()))
}

pub fn job(kernel: &Path, initrd: Option<&Path>, run_dir: &Path) -> Job {
    let layout = Images::open(kernel, initrd).unwrap().layout(RAM).unwrap();
    let board = Board::bare(&BoardSettings {
        ram_mib: RAM_MIB,
        ..BoardSettings::default()
    });
    let chosen = Chosen {
        bootargs: "earlycon console=ttyAMA0 panic=-1",
        plan: "",
        seed: 0,
        port: false,
        layout: &layout,
    };
    Job {
        kernel: kernel.to_owned(),
        initrd: initrd.map(PathBuf::from),
        expected: Default::default(),
        fdt: fdt::write(&board, &chosen).unwrap(),
        ram_bytes: RAM,
        poison: Default::default(),
        window_bytes: WINDOW,
        cpus: 1,
        lines: board.lines(),
        guest: GuestKind::Probe,
        machine: serde_json::Value::Null,
        devices: None,
        timeout: Some(Duration::from_secs(120)),
        attendance: Default::default(),
        arguments: Vec::new(),
        interrupt: Default::default(),
        run_dir: run_dir.to_owned(),
        selfcheck: false,
        save_restore: None,
        events: None,
        snapshot: None,
        trace: Vec::new(),
        calls: None,
    }
}

/// What the engine counted.
pub fn stats(outcome: &Outcome) -> TcgStats {
    serde_json::from_value(outcome.stats.clone()).unwrap()
}

pub fn run(job: &Job) -> Outcome {
    try_run(job).unwrap_or_else(|e| panic!("{e}\nhelp: {}", e.help()))
}

pub fn try_run(job: &Job) -> Result<Outcome, EngineError> {
    engine().run(job)
}
