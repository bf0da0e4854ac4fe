// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline compare`.

use std::path::PathBuf;

use clap::Args;
use staleline_support::text;

use super::TextFormat;
use super::common::{print, print_json};
use crate::compare::{self, By};
use crate::exit::Error;
use crate::report::Layout;

/// Options of `staleline compare`.
#[derive(Debug, Args)]
#[command(
    after_help = "What counts: the verdict; what was found, by kind, place and missing operation; \
                  corrupt bytes; lines of maintenance; and that a cell is there. What does not: hashes, \
                  times, and where the logs part. Of one cell by two engines (--by engine=tcg,kvm): the \
                  verdict, kinds of findings, and whether data is wrong, unless one engine does not judge what the \
                  other has found, or what was found explains the data.\nExit codes: 0 nothing differs that counts; 1 it does; 2 \
                  no run or matrix, damaged, or cells that do not pair; 3 one side says nothing (infra-error, \
                  or not run)."
)]
pub struct CompareArgs {
    /// Directory of a run, its events.bin, or directory of a matrix.
    pub a: PathBuf,
    /// Another of the same sort.
    pub b: PathBuf,
    /// For matrices: pair cells that differ in AXIS and in nothing else: scenario, kernel, exporter, cache,
    /// seed, engine or set; with values, those with the first in A and those with the second in B, which may be the
    /// same matrix.
    #[arg(long, value_name = "AXIS[=A,B]")]
    pub by: Option<By>,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = TextFormat::Human)]
    pub format: TextFormat,
}

/// Compares; gives the exit code.
pub(super) fn run(args: &CompareArgs) -> Result<u8, Error> {
    let comparison = compare::compare(&args.a, &args.b, args.by.as_ref())?;
    match args.format {
        TextFormat::Human => print(&text::visible(&comparison.text(Layout::of_stdout())))?,
        TextFormat::Json => print_json(&comparison)?,
    }
    Ok(comparison.exit_code())
}
