// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline clean`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use staleline_support::cache::CacheDir;

use crate::clean::{self, Done, Policy};
use crate::exit::Error;
use crate::run::directory::DEFAULT_ROOT;

/// `staleline clean`.
#[derive(Debug, Args)]
#[command(
    after_help = "Removes only what Staleline has made, and nothing that another staleline uses. Without --keep \
    and --older-than, that is all of it. What is in the cache is made again when it is needed.",
    group = ArgGroup::new("what").required(true).multiple(true).args(["runs", "cache"])
)]
pub struct CleanArgs {
    /// Results of runs and matrices, below --dir.
    #[arg(long)]
    pub runs: bool,
    /// What the cache keeps: kernels and the trees they are built in, agents, guests' file systems.
    #[arg(long)]
    pub cache: bool,
    /// Keep the latest N of each name, and of each kind in the cache.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep: usize,
    /// Only what is older: not made, and in the cache not used, for that long: 90m, 12h, 30d, 2w.
    #[arg(long, value_name = "AGE", value_parser = clean::age)]
    pub older_than: Option<Duration>,
    /// Only say what would go.
    #[arg(long)]
    pub dry_run: bool,
    /// Where results are.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_ROOT)]
    pub dir: PathBuf,
}

impl CleanArgs {
    /// Does it.
    ///
    /// # Errors
    /// That there is no cache.
    pub fn carry_out(&self) -> Result<Done, Error> {
        let policy = Policy {
            keep: self.keep,
            older_than: self.older_than,
            dry_run: self.dry_run,
        };
        let mut done = Done {
            dry_run: self.dry_run,
            lines: Vec::new(),
        };
        if self.runs {
            done.lines.extend(clean::results(&self.dir, &policy).lines);
        }
        if self.cache {
            let cache = CacheDir::from_environment();
            let cache = cache.map_err(|e| Error::host("nothing can be removed", e))?;
            done.lines.extend(clean::in_cache(&cache, &policy).lines);
        }
        Ok(done)
    }
}
