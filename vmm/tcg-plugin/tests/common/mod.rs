// SPDX-License-Identifier: GPL-2.0-or-later
//! A minimal board for guests under test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a part of tests")]
#![allow(dead_code, reason = "every test program uses its own part")]

pub mod asm;

use std::path::{Path, PathBuf};
use std::time::Duration;

use staleline::boot::{Images, Layout, RAM_BASE};
use staleline::engine::GuestKind;
use staleline::engine::tcg::TcgEngine;
use staleline::engine::tcg::abi::TcgStats;
use staleline::engine::{Engine, EngineError, Job, Outcome};
use vm_fdt::{FdtWriter, FdtWriterResult};

pub const RAM: u64 = 128 << 20;
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
    Job {
        kernel: kernel.to_owned(),
        initrd: initrd.map(PathBuf::from),
        expected: Default::default(),
        fdt: fdt(&layout).unwrap(),
        ram_bytes: RAM,
        window_bytes: WINDOW,
        cpus: 1,
        guest: GuestKind::Probe,
        machine: serde_json::Value::Null,
        timeout: Duration::from_secs(120),
        interrupt: Default::default(),
        run_dir: run_dir.to_owned(),
        selfcheck: false,
        save_restore: None,
        events: None,
        trace: Vec::new(),
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

/// CPU, memory, PSCI, GICv3, timer and UART, as QEMU's virt board has them.
pub fn fdt(layout: &Layout) -> FdtWriterResult<Vec<u8>> {
    const GIC: u32 = 1;
    const CLOCK: u32 = 2;
    const SPI: u32 = 0;
    const PPI: u32 = 1;
    const LEVEL_HIGH: u32 = 4;
    let mut f = FdtWriter::new()?;
    let root = f.begin_node("")?;
    f.property_string("compatible", "staleline,engine-test")?;
    f.property_u32("#address-cells", 2)?;
    f.property_u32("#size-cells", 2)?;
    f.property_u32("interrupt-parent", GIC)?;

    let node = f.begin_node("chosen")?;
    f.property_string("bootargs", "earlycon console=ttyAMA0 panic=-1")?;
    f.property_string("stdout-path", "/uart@9000000")?;
    if let Some(initrd) = &layout.initrd {
        f.property_u64("linux,initrd-start", initrd.start)?;
        f.property_u64("linux,initrd-end", initrd.end)?;
    }
    f.end_node(node)?;

    let node = f.begin_node("memory@40000000")?;
    f.property_string("device_type", "memory")?;
    f.property_array_u64("reg", &[RAM_BASE, RAM])?;
    f.end_node(node)?;

    let cpus = f.begin_node("cpus")?;
    f.property_u32("#address-cells", 1)?;
    f.property_u32("#size-cells", 0)?;
    let node = f.begin_node("cpu@0")?;
    f.property_string("device_type", "cpu")?;
    f.property_string("compatible", "arm,cortex-a53")?;
    f.property_string("enable-method", "psci")?;
    f.property_u32("reg", 0)?;
    f.end_node(node)?;
    f.end_node(cpus)?;

    let node = f.begin_node("psci")?;
    f.property_string_list(
        "compatible",
        vec!["arm,psci-1.0".into(), "arm,psci-0.2".into()],
    )?;
    f.property_string("method", "hvc")?;
    f.end_node(node)?;

    let node = f.begin_node("interrupt-controller@8000000")?;
    f.property_string("compatible", "arm,gic-v3")?;
    f.property_array_u64("reg", &[0x0800_0000, 0x1_0000, 0x080a_0000, 0xf6_0000])?;
    f.property_null("interrupt-controller")?;
    f.property_u32("#interrupt-cells", 3)?;
    f.property_u32("#redistributor-regions", 1)?;
    f.property_phandle(GIC)?;
    f.end_node(node)?;

    let node = f.begin_node("timer")?;
    f.property_string("compatible", "arm,armv8-timer")?;
    let ppis = [13, 14, 11, 10].map(|n| [PPI, n, LEVEL_HIGH]);
    f.property_array_u32("interrupts", ppis.as_flattened())?;
    f.end_node(node)?;

    let node = f.begin_node("clock")?;
    f.property_string("compatible", "fixed-clock")?;
    f.property_u32("#clock-cells", 0)?;
    f.property_u32("clock-frequency", 24_000_000)?;
    f.property_phandle(CLOCK)?;
    f.end_node(node)?;

    let node = f.begin_node("uart@9000000")?;
    f.property_string_list(
        "compatible",
        vec!["arm,pl011".into(), "arm,primecell".into()],
    )?;
    f.property_array_u64("reg", &[0x0900_0000, 0x1000])?;
    f.property_array_u32("interrupts", &[SPI, 1, LEVEL_HIGH])?;
    f.property_string_list("clock-names", vec!["uartclk".into(), "apb_pclk".into()])?;
    f.property_array_u32("clocks", &[CLOCK, CLOCK])?;
    f.end_node(node)?;

    f.end_node(root)?;
    f.finish()
}
