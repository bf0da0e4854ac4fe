// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Measurements of the VMM beside its peers: see [`staleline_machine::engine::beside`].

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use staleline_machine::engine::beside::{MEASURED, Measured, Once, Plan, STATS, Timed};
use staleline_machine::engine::wire::{Ended, Output};
use staleline_support::text;

use crate::blobs::Blobs;
use crate::guest::micros;
use crate::sandbox;
use crate::serve::one;
use crate::sink::Sink;
use crate::unpacked::Unpacked;

/// Bytes of what a command that failed wrote last.
const TAIL: usize = 400;

/// Times the commands of a plan, and prints what each took.
///
/// # Errors
/// If the plan cannot be read, or what came of it not be written.
pub fn measure(plan: &Path) -> io::Result<()> {
    let plan: Plan = serde_json::from_reader(BufReader::new(File::open(plan)?))?;
    let mut out = io::stdout();
    for _ in 0..plan.rounds {
        for command in &plan.commands {
            let measured = serde_json::to_string(&time(command))?;
            writeln!(out, "{MEASURED}{measured}")?;
        }
    }
    Ok(())
}

fn time(timed: &Timed) -> Measured {
    let begun = Instant::now();
    let output = Command::new(&timed.program)
        .args(&timed.arguments)
        .stdin(Stdio::null())
        .output();
    let wall_us = micros(begun.elapsed());
    let said = output.as_ref().map(|output| &*output.stdout);
    let said = String::from_utf8_lossy(said.unwrap_or_default());
    let last = said.lines().next_back().unwrap_or_default();
    let stats = last.strip_prefix(STATS);
    let stats = stats.and_then(|stats| serde_json::from_str(stats).ok());
    let failed = match &output {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = [&*output.stdout, &output.stderr].concat();
            let said = said.get(said.len().saturating_sub(TAIL)..).unwrap_or(&said);
            Some(format!(
                "{}: {}",
                output.status,
                String::from_utf8_lossy(said)
            ))
        }
        Err(e) => Some(e.to_string()),
    };
    Measured {
        name: timed.name.clone(),
        wall_us,
        stats,
        failed,
    }
}

struct Shown;

impl Sink for Shown {
    fn output(&mut self, output: Output, bytes: &[u8]) -> io::Result<()> {
        match output {
            Output::Console => io::stdout().write_all(bytes),
            Output::Report | Output::Events | Output::Snapshot => Ok(()),
        }
    }
}

/// Runs the guest that a file describes, with its console on standard output, until it powers off.
///
/// # Errors
/// If the file cannot be read, the guest not be run, or that is not how it ends.
pub fn once(request: &Path) -> io::Result<()> {
    let once: Once = serde_json::from_reader(BufReader::new(File::open(request)?))?;
    let scratch = once.files.join(format!("run-{}", std::process::id()));
    fs::create_dir(&scratch)?;
    // As any other guest.
    sandbox::enter(&once.files, false).map_err(io::Error::other)?;
    let blobs = Blobs::new(&once.files);
    let outcome = one(
        &once.run,
        (&blobs, &mut Unpacked::default()),
        &scratch,
        &mut Shown,
    );
    fs::remove_dir_all(&scratch)?;
    let outcome = outcome.map_err(|e| io::Error::other(text::chain(&e)))?;
    match outcome.end {
        Ended::PoweredOff => {
            let stats = serde_json::to_string(&outcome.stats)?;
            writeln!(io::stdout(), "\n{STATS}{stats}")
        }
        other => Err(io::Error::other(format!(
            "the guest has ended otherwise: {other:?}; {:?}",
            outcome.stats
        ))),
    }
}
