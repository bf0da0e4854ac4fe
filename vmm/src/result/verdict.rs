// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a run proves.
//!
//! Evidence of incoherency, or a report of the guest's kernel on itself that the scenario does not
//! allow, makes it a failure, whatever else happened: a kernel that crashes under test has failed
//! it. Without evidence, anything that kept the run from checking what it set out to check makes it
//! an infrastructure error, never a failure and never a pass.

use staleline_devices::usb::report::UsbHostReport;
use staleline_protocol::report::Report;
use staleline_support::text;

use super::{Class, Diagnostic, RunResult, Verdict, ends, program};
use crate::evidence::OVERLAY;
use crate::evidence::console::Console;
use staleline_results::{GuestEnd, Module, Program, Refusal};
use staleline_results::{KERNEL_REPORT, KernelReport};

/// Judges a result whose other fields are complete; sentences say why.
pub fn judge(
    result: &RunResult,
    console: &Console,
    trouble: Option<&str>,
) -> (Verdict, Vec<String>) {
    let missing = missing(result);
    let broken = obstacles(result, console, trouble, &missing);
    let mut reasons = evidence(result);
    let modules = result.guest.modules.iter();
    reasons.extend(modules.filter_map(Module::failure));
    reasons.extend(result.guest.refused.as_ref().map(Refusal::sentence));
    // A program that has failed may have stopped in the middle.
    let stopped = result.guest.program.is_some() && broken.len() == missing.len();
    if reasons.is_empty() && (broken.is_empty() || stopped) {
        // Only a guest that ran to its end is trusted to call its own tests failed; one that saw
        // the corrupt data that was found anyway tells nothing new.
        reasons.extend(match &result.guest.program {
            // Who switches the machine off from a terminal, or leaves it, has come to the end.
            Some(program) if program.is_open() && result.attended.typed.is_some() => None,
            Some(program) => program::failure(program),
            None => None,
        });
        // What is wrong with a module was said before.
        let cases = console.failures().filter(|case| case.name != EXEC);
        reasons
            .extend(cases.map(|case| format!("guest test {} failed: {}", case.number, case.name)));
    }
    let verdict = match (reasons.is_empty(), broken.is_empty()) {
        (true, true) => Verdict::Pass,
        (true, false) => Verdict::InfraError,
        (false, _) => Verdict::Fail,
    };
    reasons.extend(broken);
    (verdict, reasons)
}

/// The agent's test of that name is the user's program.
pub const EXEC: &str = "exec";

/// What proves that the software under test is wrong, a sentence each; the first of a failure's
/// reasons.
pub fn evidence(result: &RunResult) -> Vec<String> {
    let mut found = Vec::new();
    let errors = result.causes().filter_map(|cause| {
        let d = result.diagnostics.get(cause)?;
        let also = result.consequences(cause).map(in_short);
        let also: Vec<String> = also.collect();
        let also = match &also[..] {
            [] => String::new(),
            some => format!(", and by the same cause {}", some.join(", ")),
        };
        (d.class == Class::Error).then(|| in_short(d) + &also)
    });
    found.extend(errors);
    for end in result.data.corrupt_ends() {
        found.push(format!(
            "{} of {} bytes are corrupt at {}",
            end.corrupt, end.checked, end.name
        ));
    }
    let reports: Vec<_> = result.guest.complaints().collect();
    found.extend(reports.iter().take(NAMED).map(|report| complaint(report)));
    let unnamed = reports.len().saturating_sub(NAMED) as u64 + result.guest.reports_dropped;
    if unnamed > 0 {
        found.push(format!("{KERNEL_REPORT}: and {unnamed} more"));
    }
    found
}

fn in_short(d: &Diagnostic) -> String {
    format!(
        "{}: {} lines, {} wrong bytes{}",
        d.topic(),
        d.lines,
        d.wrong_bytes,
        if d.manifested { "" } else { " (latent)" }
    )
}

fn complaint(report: &KernelReport) -> String {
    let place = match report.function() {
        "" => String::new(),
        function => format!(" (in {function})"),
    };
    let stopped = if report.fatal {
        ", and the guest's kernel did not go on"
    } else {
        ""
    };
    format!("{KERNEL_REPORT}: {}{place}{stopped}", report.headline)
}

fn obstacles(
    result: &RunResult,
    console: &Console,
    trouble: Option<&str>,
    missing: &[String],
) -> Vec<String> {
    let mut found: Vec<String> = trouble.map(str::to_owned).into_iter().collect();
    match &result.guest.end {
        None | Some(GuestEnd::PoweredOff) => {}
        // A guest that has not said a word is not slow.
        Some(GuestEnd::TimedOut) if silent(console) => found.push(
            match result.inputs.iter().any(|input| input.guest.starts_with(OVERLAY)) {
                true => "nothing at all reached the console within the time limit: see whether the guest \
                         boots without the device tree overlay"
                    .into(),
                false => "nothing at all reached the console within the time limit: the kernel's Image may \
                          be cut short, or not be for this board; see whether another kernel boots"
                    .to_owned(),
            },
        ),
        Some(GuestEnd::TimedOut) => found.push(format!(
            "{} within the time limit{}",
            unfinished(result, console),
            match result.has_errors() {
                true => ", which may follow from what was found",
                false => "; raise it with --timeout, or see console.log",
            }
        )),
        Some(GuestEnd::Left) if result.attended.typed.is_some() => {}
        Some(GuestEnd::Left) => found.push("it was stopped before the guest had ended".into()),
        Some(GuestEnd::Interrupted) => found.push("interrupted before the guest had ended".into()),
        Some(GuestEnd::Died { what }) => found.push(format!("the guest died: {what}")),
    }
    if let Some(line) = &console.crash {
        found.push(format!("the guest kernel crashed: {line}"));
    }
    let mut told = false;
    for report in &console.reports {
        if let Report::Broken { what } = report {
            let what = text::plain(what);
            // It gives up with the same words.
            told |= console.bail.as_ref() == Some(&what);
            found.push(format!("the agent could not carry out its plan: {what}"));
        }
    }
    if let Some(reason) = console.bail.as_ref().filter(|_| !told) {
        found.push(format!("the agent gave up: {reason}"));
    }
    // What has failed for good leaves the rest untold, and has been told itself.
    let explained = !found.is_empty() || result.guest.complaints().any(|report| report.fatal);
    for bound in &result.saturated {
        found.push(format!(
            "checked less than planned: the model has room for {} {}, and there were more",
            bound.limit, bound.bound
        ));
    }
    let data = &result.data;
    let ends = data.ends.iter().filter(|e| !data.was_moved(e));
    found.extend(ends.map(|end| {
        format!(
            "{} checked {} bytes, of which the converter had moved only {} into memory: data that \
             was not moved is not judged",
            end.name,
            end.covered(),
            data.moved.unwrap_or(0)
        )
    }));
    // Without an end of the guest it was never started, and the trouble says why.
    if result.guest.end.is_none() {
        return found;
    }
    if !console.started {
        found.push("the guest did not boot: the agent never started; see console.log".into());
    } else if has_no_chance(result) {
        // Nothing else was begun.
        return found;
    } else if result.attended.typed.is_some() && result.guest.end.as_ref().is_some_and(is_over) {
        // All that was begun there is over, wherever it was.
    } else if result.guest.program.as_ref().is_some_and(|p| p.powered_off) {
        // So is what the program began.
    } else if result.guest.program.as_ref().is_some_and(Program::is_open)
        && result.guest.end == Some(GuestEnd::PoweredOff)
        && console.bail.is_none()
    {
        found.push(
            "the program switched the machine off before it had ended: where it may, say so with --set \
             guest.may-power-off=true"
                .into(),
        );
    } else if !console.complete() && !explained {
        found.push(format!(
            "the agent's KTAP output is incomplete: {} results of {} announced",
            console.cases.len(),
            console.planned.map_or("none".into(), |n| n.to_string()),
        ));
    }
    // Who stops a guest may cut a line.
    let stopped = matches!(
        result.guest.end,
        Some(GuestEnd::TimedOut | GuestEnd::Left | GuestEnd::Interrupted)
    );
    if console.damaged > u64::from(stopped) {
        found.push(format!(
            "reports of the agent's that were unreadable: {}",
            console.damaged
        ));
    }
    if console.truncated {
        found.push("the console log is too large to be read to its end".into());
    }
    found.extend_from_slice(missing);
    let host = host(result);
    for step in host.iter().flat_map(|host| &host.steps) {
        if step.missed > 0 {
            found.push(format!(
                "{} of the scenario's usb.incidents did not happen, as the stream was over before",
                step.missed
            ));
        }
    }
    match &result.machine {
        None => found.push("the engine left no report of the machine".into()),
        Some(machine) => found.extend(
            machine
                .device_errors
                .iter()
                .take(NAMED)
                .map(|e| format!("{}: {}", e.device, e.what)),
        ),
    }
    if let Some(dropped) = &result.drop_maintenance
        && !dropped.happened
    {
        found.push(format!(
            "maintenance operation @{} was to be suppressed, but no such operation on DMA memory \
             took place",
            dropped.number
        ));
    }
    let never = result.injected.iter().filter(|one| one.at.is_none());
    found
        .extend(never.map(|one| format!("{} did not happen: the run never came to it", one.fault)));
    found
}

/// What a guest was at that was stopped, as far as its agent has told.
fn unfinished(result: &RunResult, console: &Console) -> String {
    let guest = &result.guest;
    // They go in one after the other, before all else.
    let module = guest.modules.iter().find(|module| !module.ended);
    let program = guest.program.as_ref().filter(|program| program.is_open());
    match (module, program, &console.last_step) {
        _ if !guest.booted => "the guest did not finish".into(),
        (Some(module), ..) => format!("the init of module {} had not ended", module.name),
        (None, Some(Program { argv, .. }), _) => format!(
            "{} had not ended",
            argv.first().map_or("the program", String::as_str)
        ),
        (None, None, Some(step)) => {
            format!("the guest came no further than to the end of `{step}`")
        }
        (None, None, None) => "the guest did not finish".into(),
    }
}

/// Whether a module has failed, for which the rest had to wait, or the kernel has refused a buffer before
/// any data moved.
fn has_no_chance(result: &RunResult) -> bool {
    let mut modules = result.guest.modules.iter();
    let refused = result.guest.refused.is_some() && !result.data.has_moved();
    (refused || modules.any(|module| module.error.is_some()))
        && result.guest.end == Some(GuestEnd::PoweredOff)
}

/// Whether a session at a terminal ends so.
fn is_over(end: &GuestEnd) -> bool {
    matches!(end, GuestEnd::PoweredOff | GuestEnd::Left)
}

/// Whether the guest has put nothing but white space on its console.
fn silent(console: &Console) -> bool {
    !console.truncated && console.tail.iter().all(|line| line.trim().is_empty())
}

/// Entries of each list that are told.
const NAMED: usize = 5;

/// What the USB host tells, if there was one.
fn host(result: &RunResult) -> Option<UsbHostReport> {
    ends::usb_host(&result.machine.as_ref()?.extra)
}

/// What was not checked, or did not even come. A guest that was never started has no part in it.
fn missing(result: &RunResult) -> Vec<String> {
    let mut found = Vec::new();
    if result.guest.end.is_none() {
        return found;
    }
    let data = &result.data;
    let short = data.ends.iter().filter(|e| e.covered() < data.due(e));
    found.extend(short.map(|end| {
        format!(
            "{} checked {} of {} bytes",
            end.name,
            end.covered(),
            data.due(end)
        )
    }));
    let short = data.sources.iter().filter(|s| s.moved < s.planned);
    found.extend(short.map(|source| {
        format!(
            "{} sent {} of {} bytes",
            source.name, source.moved, source.planned
        )
    }));
    // Unless it has failed: then it may have stopped in the middle, as any program.
    let program = result.guest.program.as_ref();
    found.extend(program.and_then(program::missing));
    // The host may know why.
    let Some(host) = host(result).filter(|_| !found.is_empty()) else {
        return found;
    };
    let steps = host.steps.iter().enumerate();
    for (n, step) in steps.filter(|(_, step)| step.cuts > 0).take(NAMED) {
        found.push(format!(
            "USB host: step {n}: {} bytes sent and {} received, of these {} and {} in frames that \
             {} of the scenario's halts, resets and disconnects cut off",
            step.sent, step.received.bytes, step.sent_cut, step.received_cut, step.cuts
        ));
    }
    let errors = host.errors.iter().take(NAMED);
    found.extend(errors.map(|e| format!("USB host: {e}")));
    found
}
