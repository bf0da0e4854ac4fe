// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a command takes, and what to make of many such figures.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use staleline_support::kib;

/// Time of one command.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// Wall clock, in milliseconds.
    pub wall: f64,
    /// Processor time of it and its children, in milliseconds.
    pub cpu: f64,
}

fn children_ms() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(us as f64 / 1e3)
}

/// Runs a command to its end; an error with what it said if it fails.
///
/// # Errors
/// If it cannot be started, or fails.
pub fn quietly(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = format!("{}{said}", String::from_utf8_lossy(&output.stdout));
        bail!("{command:?}: {}: {said}", output.status);
    }
    Ok(output)
}

/// Runs a command to its end, and takes its time. Nothing else may be running as a child.
///
/// # Errors
/// As [`quietly`].
pub fn timed(command: &mut Command) -> Result<Time> {
    let (before, start) = (children_ms()?, Instant::now());
    quietly(command)?;
    let wall = start.elapsed().as_secs_f64() * 1e3;
    Ok(Time {
        wall,
        cpu: children_ms()? - before,
    })
}

/// Peak of resident memory of a process and its children, in KiB: the sum of the peaks of each, and
/// so no less than what they needed together at any time.
///
/// # Errors
/// As [`quietly`].
pub fn peak_kib(command: &mut Command) -> Result<u64> {
    let mut file = tempfile::tempfile()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file.try_clone()?)
        .spawn()
        .with_context(|| format!("{command:?}"))?;
    let mut peaks = BTreeMap::new();
    let status = loop {
        watch(&child, &mut peaks);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if !status.success() {
        let mut said = String::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_string(&mut said)?;
        bail!("{command:?}: {status}: {said}");
    }
    Ok(peaks.values().sum())
}

fn watch(child: &Child, peaks: &mut BTreeMap<u32, u64>) {
    let mut all = vec![child.id()];
    // A process may have ended meanwhile.
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id()));
    for task in tasks.into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(
            children
                .split_whitespace()
                .filter_map(|id| id.parse::<u32>().ok()),
        );
    }
    for id in all {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        if let Some(peak) = kib::told(&status, "VmHWM") {
            peaks.insert(id, peak);
        }
    }
}

/// The middle one of an odd number of figures, the lower middle one of an even number; none of none.
pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// What the figures are measured on.
///
/// # Errors
/// If the host does not tell.
pub fn host() -> Result<String> {
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    let processors = std::thread::available_parallelism()?;
    Ok(format!("{processors} processors, load {load}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.0));
    }

    #[test]
    fn a_command_that_fails_says_what_it_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo because; exit 4"]);
        let said = timed(&mut command).unwrap_err().to_string();
        assert!(said.contains("because") && said.contains('4'), "{said}");
    }

    #[test]
    fn processor_time_is_that_of_the_command() {
        let mut busy = Command::new("sh");
        busy.args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]);
        let busy = timed(&mut busy).unwrap();
        assert!(busy.cpu > 1.0, "{busy:?}");
    }

    #[test]
    fn the_memory_of_children_counts() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 0.2; true"]);
        assert!(peak_kib(&mut command).unwrap() > 500);
    }
}
