// SPDX-License-Identifier: GPL-2.0-or-later
//! The machine's log messages, on QEMU's stderr, which the parent process passes on.

use log::{LevelFilter, Log, Metadata, Record};
use staleline_machine::engine::abi::LOG_PREFIX;

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        eprintln!("{LOG_PREFIX}{}: {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

/// Lets warnings and errors out: they tell of bugs and limits of the models. What the guest does
/// wrong belongs into the machine's events.
pub fn install() {
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}
