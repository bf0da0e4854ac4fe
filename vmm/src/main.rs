// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The `staleline` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    staleline::cli::main()
}
