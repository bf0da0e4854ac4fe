// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The checks that a kernel tree brings along. They need perl and nothing else: git, python
//! and codespell, which checkpatch.pl can make use of, only if told to or in a git tree,
//! which the work tree is not.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, ExitStatus};

use super::super::compile::{Job, Log};
use super::super::error::KernelError;
use super::super::stack::Patch;
use super::super::tools::Tools;
use super::diagnostics::{Scanner, of_checkpatch};
use super::{Checker, Complaint, VARIABLES};

/// The scripts.
pub(super) const CHECKPATCH: &str = "scripts/checkpatch.pl";
pub(super) const KERNEL_DOC: &str = "scripts/kernel-doc";

/// What checkpatch.pl has to say about a patch.
pub(super) fn checkpatch(
    job: &Job<'_>,
    tools: &Tools,
    patch: &Patch,
    log: &mut Log,
) -> Result<Vec<Complaint>, KernelError> {
    let scratch = tempfile::tempdir().map_err(KernelError::io(
        "create a directory in",
        &std::env::temp_dir(),
    ))?;
    let path = scratch.path().join(&patch.name);
    fs::write(&path, &patch.text).map_err(KernelError::io("write", &path))?;
    let mut command = tools.command("perl");
    command
        .arg(CHECKPATCH)
        .args(["--strict", "--terse", "--show-types", "--color=never"])
        .arg(&path)
        // .checkpatch.conf is looked for there too: the tree's counts, the user's does not.
        .env("HOME", job.src);
    let (output, status) = run(job, CHECKPATCH, command, log)?;
    let name = path.display().to_string();
    let complaints: Vec<Complaint> = output
        .lines()
        .filter_map(|line| of_checkpatch(line, &name))
        .map(|(line, level, kind, text)| Complaint {
            by: Checker::Checkpatch,
            level,
            file: patch.name.clone(),
            line: Some(line),
            text: text.to_owned(),
            kind: Some(kind.to_owned()),
        })
        .collect();
    match (status.code(), complaints.is_empty()) {
        (Some(0), true) | (Some(1), false) => Ok(complaints),
        _ => Err(broken(CHECKPATCH, format!("{status}: {}", output.trim()))),
    }
}

/// Has kernel-doc read `files`.
pub(super) fn kernel_doc(
    job: &Job<'_>,
    tools: &Tools,
    files: &BTreeSet<String>,
    scanner: &mut Scanner,
    log: &mut Log,
) -> Result<(), KernelError> {
    let mut command = tools.command(job.src.join(KERNEL_DOC));
    command.arg("-none").args(files);
    let (output, status) = run(job, KERNEL_DOC, command, log)?;
    output.lines().for_each(|line| scanner.line(line));
    // Its status counts errors, of which it tells.
    if status.success() || !scanner.found.is_empty() {
        Ok(())
    } else {
        Err(broken(KERNEL_DOC, format!("{status}: {}", output.trim())))
    }
}

/// Runs a script to its end: what it said, and how it ended.
fn run(
    job: &Job<'_>,
    name: &str,
    mut command: Command,
    log: &mut Log,
) -> Result<(String, ExitStatus), KernelError> {
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    let output = command
        .current_dir(job.src)
        .stdin(job.tree.lock_as_stdin()?)
        .output()
        .map_err(|error| broken(name, error.to_string()))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    for line in text.lines() {
        log.line(line)?;
    }
    Ok((text, output.status))
}

fn broken(name: &str, reason: String) -> KernelError {
    KernelError::Program {
        program: name.to_owned(),
        reason,
    }
}
