// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The guest's /init. Reads the plan that the VMM left in the device tree, carries it out with the
//! interfaces of an unmodified kernel, writes KTAP and report lines to the console, and powers
//! off, whatever happens.
#![deny(unsafe_code)]

mod boot;
mod disk;
mod dmatest;
mod error;
mod exec;
mod kmsg;
mod ktap;
mod modules;
mod pages;
mod paths;
mod program;
mod raw_disk;
mod sys;
mod terminal;

use std::io::Write;
use std::panic::PanicHookInfo;
use std::process::ExitCode;

use staleline_guest::{Error, Mount};
use staleline_protocol::plan::{DiskTest, DmaTest, Exec, Plan, RawDisk, Transfer};
use staleline_protocol::report::Report;

use crate::boot::Console;
use crate::error::Trouble;
use crate::ktap::{Ktap, Outcome};

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!(
            "staleline-agent is the /init of a Staleline guest: it ends by switching the machine \
             off, so it runs as process 1 only"
        );
        return ExitCode::from(2);
    }
    std::panic::set_hook(Box::new(panicked));
    if let Err((mut ktap, e)) = run() {
        ktap.bail_out(&e.to_string());
    }
    boot::power_off();
}

fn panicked(info: &PanicHookInfo<'_>) {
    let report = Report::Broken {
        what: format!("the agent panicked, which is a bug: {info}"),
    };
    let _ = writeln!(Console, "\n{}\nBail out! panic", report.to_line());
    boot::power_off();
}

fn run() -> Result<(), (Ktap<Console>, Trouble)> {
    let plan = Mount::Sys
        .mount()
        .map_err(Trouble::from)
        .and_then(|()| boot::plan());
    let work = match &plan {
        Ok(Some(plan)) => Work::of(plan),
        _ => None,
    };
    let mut ktap = Ktap::new(Console, tests(&plan, work.as_ref()));
    let plan = match &plan {
        Ok(Some(plan)) if work.is_some() || !plan.modules.is_empty() => plan,
        Ok(_) => {
            ktap.test("boot", &Outcome::Pass);
            return Ok(());
        }
        Err(e) => {
            ktap.test("boot", &Outcome::Error(e.to_string()));
            return plan.map(drop).map_err(|e| (ktap, e));
        }
    };
    // From here on there is time to look around.
    let pinned = plan.cpu.map_or(Ok(()), boot::stay_on);
    let process = pinned
        .and_then(|()| Mount::Proc.mount())
        .and_then(|()| boot::process());
    match process {
        Ok(report) => ktap.report(&report),
        Err(e) => {
            ktap.test("boot", &Outcome::Error(e.to_string()));
            return Err((ktap, e.into()));
        }
    }
    ktap.test("boot", &Outcome::Pass);
    let done = match (modules::insert(&mut ktap, &plan.modules), work) {
        (Err(e), _) => Err(e),
        (Ok(_), None) => Ok(()),
        // What is wrong with a module has been said.
        (Ok(false), Some(work)) => {
            ktap.test(work.name(), &Outcome::Skip);
            Ok(())
        }
        (Ok(true), Some(work)) => {
            let is_program = matches!(work, Work::Exec(_));
            let done = work.carry_out(&mut ktap, plan.seed).map_err(Trouble::from);
            if is_program {
                modules::tell_others(&mut ktap, &plan.modules);
            }
            done
        }
    };
    done.map_err(|e| (ktap, e))
}

/// How many tests there will be.
fn tests(plan: &Result<Option<Plan>, Trouble>, work: Option<&Work<'_>>) -> u32 {
    let modules = match plan {
        Ok(Some(plan)) => u32::try_from(plan.modules.len()).unwrap_or(u32::MAX),
        _ => 0,
    };
    modules.saturating_add(if work.is_some() { 2 } else { 1 })
}

/// What there is to do once the guest has booted.
enum Work<'a> {
    Transfer(&'a Transfer),
    DmaTest(&'a DmaTest),
    Disk(&'a DiskTest),
    RawDisk(&'a RawDisk),
    Exec(&'a Exec),
}

impl<'a> Work<'a> {
    fn of(plan: &'a Plan) -> Option<Self> {
        let transfer = plan.transfer.as_ref().map(Work::Transfer);
        let disk = plan.disk.as_ref().map(Work::Disk);
        transfer
            .or(plan.dmatest.as_ref().map(Work::DmaTest))
            .or(disk)
            .or(plan.raw_disk.as_ref().map(Work::RawDisk))
            .or(plan.exec.as_ref().map(Work::Exec))
    }

    /// What its test is called.
    fn name(&self) -> &'static str {
        match self {
            Work::Transfer(transfer) => paths::name(transfer),
            Work::DmaTest(_) => dmatest::NAME,
            Work::Disk(_) => disk::NAME,
            Work::RawDisk(_) => raw_disk::NAME,
            Work::Exec(_) => exec::NAME,
        }
    }

    fn carry_out<W: Write>(self, ktap: &mut Ktap<W>, seed: u64) -> Result<(), Error> {
        match self {
            Work::Transfer(transfer) => paths::run(ktap, seed, transfer),
            Work::DmaTest(test) => dmatest::run(ktap, test),
            Work::Disk(test) => disk::run(ktap, seed, test),
            Work::RawDisk(test) => raw_disk::run(ktap, seed, test),
            Work::Exec(program) => exec::run(ktap, seed, program),
        }
    }
}
