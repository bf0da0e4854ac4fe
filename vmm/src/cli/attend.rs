// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Options by which people look at a guest while it runs, or take part.

use std::num::NonZeroU16;

use clap::Args;
use staleline_support::progress::Stderr;

use crate::engine::Attendance;
use crate::engine::attend::Console;
use crate::exit::Error;
use crate::interrupt::Interrupt;
use crate::run::wiring::Production;
use crate::scenario::DropMaintenance;
use crate::spec::RunSpec;

/// Where debuggers look for QEMU if nothing else is said.
const GDB_PORT: &str = "1234";

/// What people do with a guest.
#[derive(Debug, Args)]
pub struct AttendOptions {
    /// Show the guest's console on standard error while it runs. Changes nothing else.
    #[arg(long)]
    pub console: bool,
    /// Have the guest wait for gdb before its first instruction, at that port of 127.0.0.1, and print the
    /// command that connects it. There is no time limit then. In the init of a module of --module: `hbreak
    /// do_init_module`, `continue`, `staleline-modules` (which gives its symbols), then `hbreak`.
    #[arg(
        long,
        value_name = "PORT",
        value_parser = port,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = GDB_PORT
    )]
    pub gdb: Option<NonZeroU16>,
    /// Give QEMU this argument, too, after all others; may be repeated. For those who know what they do: what
    /// it does to the run, and whether that is the same each time, is up to it.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub qemu_arg: Vec<String>,
}

impl AttendOptions {
    /// What they come to.
    pub fn attendance(&self) -> Attendance {
        Attendance {
            debugger: self.gdb.map(NonZeroU16::get),
            ..looked_at(self.console)
        }
    }
}

/// A number of a port.
fn port(text: &str) -> Result<NonZeroU16, String> {
    let port = text.parse::<NonZeroU16>();
    port.map_err(|_| format!("it is no port: write a number from 1 to {}", u16::MAX))
}

/// That of a guest whose console is shown, or not even that.
pub fn looked_at(console: bool) -> Attendance {
    Attendance {
        console: match console {
            true => Console::Shown,
            false => Console::Kept,
        },
        debugger: None,
    }
}

/// What runs the guest, attended so.
///
/// # Errors
/// If that cannot be done with such a run.
pub fn production(
    spec: &RunSpec,
    attendance: Attendance,
    interrupt: &Interrupt,
) -> Result<Production, Error> {
    let terminal = attendance.console == Console::Terminal;
    let drop = spec.scenario.faults.drop_maintenance;
    if let Some(DropMaintenance::Nth(nth)) = drop
        && terminal
    {
        return Err(Error::Setting {
            setting: format!("drop-maintenance={nth}"),
            why: "it takes the same run twice to find that operation, and nobody types the same twice: \
                  name it by its number, =@N"
                .into(),
        });
    }
    Ok(Production {
        attendance,
        no_time_limit: attendance.debugger.is_some(),
        interrupt: interrupt.clone(),
        ..Production::default()
    })
}

/// Progress beside that, of what ends when the user wants no more.
pub fn shown(attendance: Attendance, interrupt: &Interrupt) -> Stderr {
    let interrupt = interrupt.clone();
    let stderr = match attendance == Attendance::default() {
        true => Stderr::new(),
        // A spinner would be drawn over what the guest says.
        false => Stderr::in_lines(),
    };
    stderr.until(move || interrupt.came())
}
