// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline root`.

use clap::Args;

use super::TextFormat;

/// `staleline root`.
#[derive(Debug, Args)]
#[command(
    after_help = "apt finds and downloads them, from the sources of this machine or those that \
    STALELINE_APT_SOURCES names, without privileges and without changing the machine. Nothing is installed, \
    and no script of theirs is run. What Debian calls essential is not there unless it is named, as a shell \
    (dash). The file system is kept in the cache, and `staleline exec --package NAME` takes it from there: \
    the same packages until --update."
)]
pub struct RootArgs {
    /// Look for newer versions, in place of what was made before.
    #[arg(long)]
    pub update: bool,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = TextFormat::Human)]
    pub format: TextFormat,
    /// Packages.
    #[arg(required = true, value_name = "NAME[=VERSION]")]
    pub packages: Vec<String>,
}
