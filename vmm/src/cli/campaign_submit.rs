// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline campaign --submit`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use staleline_support::files;

use super::campaign_sample::SampleArgs;
use super::common::{print, say};
use crate::campaign::file::Campaign;
use crate::campaign::submit::{Submission, Written};
use crate::engine::EngineKind;
use crate::exit::{self, Error};
use crate::spec::quote;

/// What a guest's process takes beside the guest's memory, in MiB.
const BESIDE: u64 = 256;

/// Who runs shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scheduler {
    /// A job array.
    Slurm,
    /// An indexed job.
    Kubernetes,
}

/// Options for clusters.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// Write files for a cluster into --out, a task for each share, and run nothing here.
    #[arg(long, value_enum, value_name = "SCHEDULER", requires_all = ["file", "shards", "out"], conflicts_with = "shard")]
    pub submit: Option<Scheduler>,
    /// Shares for --submit.
    #[arg(long, value_name = "N", requires = "submit", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub shards: Option<u32>,
    /// Container image for --submit kubernetes, with staleline in its PATH.
    #[arg(long, value_name = "IMAGE", requires = "submit")]
    pub image: Option<String>,
}

/// How the campaign was asked for.
pub(super) struct Asked<'a> {
    pub file: &'a Path,
    pub out: &'a Path,
    pub jobs: Option<u16>,
    pub engine: EngineKind,
    pub sample: &'a SampleArgs,
    pub boot: bool,
}

fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| Error::Option {
        option: format!("--submit, {}", path.display()),
        why: "a path that is no text cannot be written into a script".into(),
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|e| Error::host("no working directory", e))
}

/// Writes the files; gives the exit code.
pub(super) fn run(scheduler: Scheduler, args: &SubmitArgs, asked: &Asked<'_>) -> Result<u8, Error> {
    let kubernetes = scheduler == Scheduler::Kubernetes;
    let image = match (kubernetes, &args.image) {
        (true, None) => {
            return Err(Error::Option {
                option: "--submit kubernetes".into(),
                why: "which container? --image says so".into(),
            });
        }
        (false, Some(_)) => {
            return Err(Error::Option {
                option: "--image".into(),
                why: "it is for --submit kubernetes".into(),
            });
        }
        (_, image) => image.as_deref().unwrap_or_default(),
    };
    let (file, dir) = (absolute(asked.file)?, absolute(asked.out)?);
    let (mut campaign, campaign_text) = Campaign::load(&file)?;
    asked.sample.apply(&mut campaign)?;
    // What is wrong with it is told here, and not by each task.
    let specs = campaign.targets(asked.engine)?;
    let ram = specs
        .iter()
        .map(|spec| u64::from(spec.scenario.board.ram_mib));
    let jobs = asked.jobs.unwrap_or(1);
    let program =
        std::env::current_exe().map_err(|e| Error::host("cannot find this program", e))?;
    let flag = |name: &str, is: bool| {
        if is {
            format!(" {name}")
        } else {
            String::new()
        }
    };
    let submission = Submission {
        program: text(&program)?,
        file: text(&file)?,
        text: &campaign_text,
        dir: text(&dir)?,
        shards: args.shards.unwrap_or(1),
        jobs,
        mib: u64::from(jobs) * (ram.max().unwrap_or(0) + BESIDE),
        chosen: format!(
            " --engine {}{}",
            quote(asked.engine.name()),
            asked.sample.options()
        ),
        options: format!(" --jobs {jobs}{}", flag("--boot", asked.boot)),
    };
    let written = match kubernetes {
        true => submission.kubernetes(image),
        false => submission.slurm(),
    };
    let written = written.map_err(|e| Error::host("cannot write the files for the cluster", e))?;
    let output = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Output { path, source }
    };
    // Shares that were begun go on as they were begun, whatever is asked for now.
    let is_another = |(name, text): &Written| {
        std::fs::read(dir.join(name)).is_ok_and(|there| there != text.as_bytes())
    };
    let shares = std::fs::read_dir(dir.join("shares"));
    let has_begun = shares.is_ok_and(|mut shares| shares.next().is_some());
    if has_begun && written.iter().any(is_another) {
        return Err(Error::CampaignExists { path: dir });
    }
    let directories = if kubernetes {
        &[][..]
    } else {
        &["logs", "shares"][..]
    };
    for directory in directories
        .iter()
        .map(|name| dir.join(name))
        .chain([dir.clone()])
    {
        std::fs::create_dir_all(&directory).map_err(output(&directory))?;
    }
    for (name, text) in written {
        let path = dir.join(name);
        files::write_whole(&path, text.as_bytes(), files::READABLE).map_err(output(&path))?;
        say(&format!("wrote {}", path.display()));
    }
    print(&match kubernetes {
        true => submission.hand_in_kubernetes(),
        false => submission.hand_in_slurm(),
    })?;
    Ok(exit::PASS)
}
