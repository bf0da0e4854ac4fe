// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whatever the command is given: it ends soon and by itself, with the exit code that is documented, in few
//! words that a terminal can show. The tables beside this say what for which input; no guest is run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod logs;
mod places;
mod runner;
mod table;

use table::Table;

#[test]
fn scenario_files() {
    Table::read(include_str!("scenarios.toml")).check();
}

#[test]
fn matrix_files() {
    Table::read(include_str!("matrices.toml")).check();
}

#[test]
fn litmus_files() {
    Table::read(include_str!("litmus.toml")).check();
}

#[test]
fn settings() {
    Table::read(include_str!("settings.toml")).check();
}

#[test]
fn options() {
    Table::read(include_str!("options.toml")).check();
}
