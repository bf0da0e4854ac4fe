// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Long runs: bytes per second, memory, size of the results, and where the time goes.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use walkdir::WalkDir;

use crate::measure;
use crate::tool::{Tool, step};

/// Bytes of a frame, when speed is measured.
const FRAME: u64 = 262_144;
/// Frames of a short run and of a long one: boot and set-up do not count.
const SHORT: u64 = 17;
const LONG: u64 = 2065;
/// Bytes in a MiB.
const MIB: u64 = 1 << 20;
/// Most memory for staleline and QEMU together, and most bytes of results, in MiB.
const MEMORY_MIB: u64 = 2048;
const RESULTS_MIB: u64 = 64;

fn stream(tool: &Tool, frames: u64, bytes: u64) -> Command {
    let mut command = tool.run(&["iio-to-usb", "--kernel", "begin-end-access"]);
    let settings = [
        ("buffers", 4),
        ("buffer-bytes", bytes),
        ("frame-bytes", bytes),
        ("last-frame-bytes", bytes),
        ("frames", frames),
    ];
    for (name, value) in settings {
        command.arg("--set").arg(format!("{name}={value}"));
    }
    command
}

/// Prints what a long run moves per second that it takes longer than a short one.
///
/// # Errors
/// If a run fails.
pub fn rate(pairs: u32) -> Result<bool> {
    let tool = Tool::build()?;
    step(&format!(
        "{pairs} pairs of runs with {SHORT} and {LONG} frames of {FRAME} bytes"
    ));
    let wall_ms = |frames| -> Result<f64> {
        measure::quietly(&mut stream(&tool, frames, FRAME))?;
        Ok(tool.result()?.wall_ms as f64)
    };
    let mut rates = Vec::new();
    for _ in 0..pairs {
        let (short, long) = (wall_ms(SHORT)?, wall_ms(LONG)?);
        ensure!(
            long > short,
            "a long run took {long} ms, a short one {short}: measure more pairs"
        );
        let bytes = (FRAME * (LONG - SHORT)) as f64;
        rates.push(bytes / MIB as f64 / ((long - short) / 1e3));
        eprint!(".");
    }
    eprintln!();
    let rate = measure::median(&rates).context("nothing was measured")?;
    println!(
        "iio-to-usb, begin-end-access: {rate:.1} MiB/s (median of {pairs}; each byte is written by \
         the DMA engine, invalidated line by line, read by the USB controller, and checked; {})",
        measure::host()?
    );
    Ok(true)
}

/// Prints time, memory and results of 1 GiB in 65536 frames, the most that a scenario may have, with
/// each exporter; whether it stays below what it may take.
///
/// # Errors
/// If a run fails.
pub fn memory() -> Result<bool> {
    let tool = Tool::build()?;
    step("1 GiB in 65536 frames of 16 KiB, with each exporter");
    let mut holds = true;
    for exporter in ["system", "udmabuf", "cma"] {
        let mut command = stream(&tool, 65_536, 16_384);
        command.args(["--exporter", exporter, "--timeout", "600"]);
        let peak = measure::peak_kib(&mut command)? / 1024;
        let results = size(&tool.run_dir())? / MIB;
        let result = tool.result()?;
        println!(
            "{exporter}: {} in {} ms; at most {peak} MiB of {MEMORY_MIB} for staleline and QEMU; \
             results of {results} MiB of {RESULTS_MIB}",
            result.verdict.name(),
            result.wall_ms
        );
        holds &= peak < MEMORY_MIB && results < RESULTS_MIB;
    }
    Ok(holds)
}

fn size(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in WalkDir::new(dir) {
        let metadata = entry?.metadata()?;
        bytes += if metadata.is_file() {
            metadata.len()
        } else {
            0
        };
    }
    Ok(bytes)
}

/// Prints where the time of a long run goes.
///
/// # Errors
/// If there is no perf(1), or the run fails.
pub fn profile() -> Result<bool> {
    let perf = || Command::new("perf");
    let known = perf().arg("--version").output();
    known.context("this needs perf: apt-get install linux-perf")?;
    let tool = Tool::build()?;
    step(&format!(
        "A run with {LONG} frames of {FRAME} bytes, sampled"
    ));
    let data = tool.work().join("perf.data");
    let run = stream(&tool, LONG, FRAME);
    // Of the processor's clock: cycle counters are not to be had in most virtual machines.
    let mut record = perf();
    record
        .args(["record", "-e", "cpu-clock", "-F", "2000", "-o"])
        .arg(&data)
        .arg("--");
    record
        .arg(run.get_program())
        .args(run.get_args())
        .current_dir(tool.root());
    measure::quietly(&mut record)?;
    for by in ["dso", "symbol"] {
        let mut report = perf();
        report.args(["report", "--stdio", "--percent-limit", "1", "--fields"]);
        report.arg(format!("overhead,{by}")).arg("-i").arg(&data);
        let output = measure::quietly(&mut report)?;
        println!("\nShare of the time by {by}");
        let text = String::from_utf8_lossy(&output.stdout);
        for line in text
            .lines()
            .filter(|l| !l.trim().is_empty() && !l.starts_with('#'))
        {
            println!("{}", line.trim_end());
        }
    }
    Ok(true)
}
