// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline campaign`: faults by the thousand, and what came of them.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use staleline_support::{files, lock, text};

use super::campaign_sample::{GONE_ON_WITH, SampleArgs};
use super::campaign_submit::{self, SubmitArgs};
use super::common::{at_a_time, code, or_interrupted, page, print, say, shown, watched};
use super::one_of;
use crate::campaign::file::Campaign;
use crate::campaign::plan::{self, Planned};
use crate::campaign::report::Report;
use crate::campaign::store::{self, Head, Store, TargetHead};
use crate::campaign::submit::RESULTS;
use crate::campaign::tally;
use crate::campaign::target::{Runs, Target};
use crate::campaign::times::{Times, busy, growth};
use crate::campaign::{compare, html, merge, runner};
use crate::engine::EngineKind;
use crate::exit::{self, Error};
use crate::interrupt::Interrupt;
use crate::matrix::partition::Partition;
use crate::run::backend::Backend as _;
use crate::run::directory::{self, DEFAULT_ROOT};
use crate::run::once::{Once, Scratch};
use crate::run::wiring::Production;
use crate::spec::quote;

/// What runs nothing.
const RUNS_NOTHING: [&str; 3] = ["report", "merge", "compare"];

/// Options of `staleline campaign`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["file", "resume", "report", "merge", "compare"])))]
pub struct CampaignArgs {
    /// TOML file that says where what is to go wrong.
    pub file: Option<PathBuf>,
    /// Go on with the campaign in DIR that was interrupted. Refused if its file, a kernel or staleline is not
    /// what it was. Runs that said nothing (infra-error) are made again.
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Report the campaign in DIR once more; run nothing.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Put shares (--shard) of one campaign together in --out.
    #[arg(long, value_name = "DIR", num_args = 1.., requires = "out")]
    merge: Vec<PathBuf>,
    /// Compare two campaigns, before and after a patch: what is found, missed and silent now.
    #[arg(long, value_names = ["BEFORE", "AFTER"], num_args = 2)]
    compare: Vec<PathBuf>,
    /// Directory for the campaign's file, results.jsonl and junit.xml [default: the next free
    /// runs/campaign/NNNN].
    #[arg(long, value_name = "DIR", conflicts_with_all = ["resume", "report", "compare"])]
    out: Option<PathBuf>,
    /// Run a share of the faults: the Mth of N. --merge puts shares together.
    #[arg(long, value_name = "M/N", value_parser = shard, conflicts_with_all = GONE_ON_WITH)]
    shard: Option<Partition>,
    /// Guests run at a time [default: one for each processor].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=256), conflicts_with_all = RUNS_NOTHING)]
    jobs: Option<u16>,
    /// What runs the guests.
    #[arg(long, default_value_t, value_parser = one_of(&EngineKind::ALL), conflicts_with_all = GONE_ON_WITH)]
    engine: EngineKind,
    #[command(flatten)]
    sample: SampleArgs,
    /// Boot each run, even where the engine can go on from a guest that was saved once: slower, and the same.
    #[arg(long, conflicts_with_all = RUNS_NOTHING)]
    boot: bool,
    /// Print the plan, and run nothing but what it takes to make it.
    #[arg(long, conflicts_with_all = GONE_ON_WITH, conflicts_with = "submit")]
    list: bool,
    /// Write a page for browsers, too.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["compare", "list", "submit"])]
    html: Option<PathBuf>,
    /// Say what N runs would cost, by the times of those that were made.
    #[arg(long, value_name = "N", conflicts_with_all = ["compare", "list", "submit"])]
    cost: Option<u64>,
    #[command(flatten)]
    cluster: SubmitArgs,
}

/// Why faults cannot be planned for an engine that is not exact.
const NOT_EXACT: &str = "a fault has the number of an operation, a barrier, an interrupt or an access, by a run \
                         without faults, and in the next run of this engine that is another one; nor does it \
                         judge all rules, so that harm without a finding would say nothing of the sanitizer: \
                         choose an exact engine";

fn shard(text: &str) -> Result<Partition, String> {
    let share = format!("hash:{text}").parse();
    share.map_err(|_| format!("`{text}` is no share: M/N is the Mth of N, from 1/N on"))
}

/// Does what is asked for.
pub(super) fn run(args: &CampaignArgs) -> Result<u8, Error> {
    if let [before, after] = &*args.compare {
        let comparison = compare::compare(before, after)?;
        print(&text::visible(comparison.text()))?;
        return Ok(comparison.exit_code());
    }
    if !args.engine.is_exact() {
        return Err(Error::Option {
            option: format!("--engine {}", args.engine.name()),
            why: NOT_EXACT.into(),
        });
    }
    if let (Some(scheduler), Some(file), Some(out)) = (args.cluster.submit, &args.file, &args.out) {
        let asked = campaign_submit::Asked {
            file,
            out,
            jobs: args.jobs,
            engine: args.engine,
            sample: &args.sample,
            boot: args.boot,
        };
        return campaign_submit::run(scheduler, &args.cluster, &asked);
    }
    let telling = Telling {
        page: page(args.html.as_deref())?,
        cost: args.cost,
    };
    if let Some(dir) = &args.report {
        return conclude(None, &Store::read(dir)?, telling);
    }
    if let (false, Some(out)) = (args.merge.is_empty(), &args.out) {
        let (store, _lock) = merge::merge(&args.merge, out)?;
        let code = conclude(Some(out), &store, telling)?;
        say(&format!("results in {}", out.display()));
        return Ok(code);
    }
    args.carry_out(telling)
}

/// All that runs need.
struct Prepared {
    head: Head,
    targets: Vec<Target>,
    plan: Vec<Planned>,
}

impl CampaignArgs {
    fn carry_out(&self, telling: Telling<'_>) -> Result<u8, Error> {
        let interrupt = watched()?;
        let backend = Production {
            interrupt: interrupt.clone(),
            ..Production::default()
        };
        let scratch = Scratch::new()?;
        let once = Once {
            backend: &backend,
            scratch: &scratch,
        };
        let runs = Runs {
            once,
            boot: self.boot,
        };
        let progress = shown(&interrupt);
        let earlier = match &self.resume {
            Some(dir) => {
                Store::is_in(dir)?;
                Some((dir, directory::lock(dir)?, Store::open(dir)?))
            }
            None => None,
        };
        // Before anything slow is done for it.
        if let Some(out) = self.out.as_ref().filter(|_| !self.list) {
            Store::is_not_in(out)?;
        }
        let earlier_head = earlier
            .as_ref()
            .map(|(.., store)| store.begun_with())
            .transpose()?
            .map(|(head, _)| head);
        let path = earlier_head
            .as_ref()
            .map(|head| &head.path)
            .or(self.file.as_ref());
        let Some(path) = path else {
            return Ok(exit::USAGE);
        };
        let prepared = self.prepare(path, (runs, &backend), earlier_head.as_ref(), &progress);
        progress.clear();
        let prepared = match or_interrupted(&interrupt, prepared)? {
            ControlFlow::Break(code) => return Ok(code),
            ControlFlow::Continue(prepared) => prepared,
        };
        if self.list {
            print(&listed(&prepared.plan))?;
            return Ok(exit::PASS);
        }
        let (out, _lock, store) = match (earlier, earlier_head) {
            (Some((dir, lock, store)), Some(then)) => {
                if let Some(what) = then.differs(&prepared.head) {
                    return Err(Error::CannotResume {
                        path: dir.clone(),
                        why: format!("{what} has changed"),
                    });
                }
                (dir.clone(), lock, store)
            }
            _ => self.begin(&prepared)?,
        };
        self.go(&prepared, (runs, &out, &store), (&interrupt, telling))
    }

    fn prepare(
        &self,
        path: &Path,
        (runs, backend): (Runs<'_>, &Production),
        earlier: Option<&Head>,
        progress: &dyn staleline_support::progress::Progress,
    ) -> Result<Prepared, Error> {
        let (mut campaign, text) = Campaign::load(path)?;
        match earlier {
            Some(head) => campaign.sample = head.sample.clone(),
            None => self.sample.apply(&mut campaign)?,
        }
        let engine = earlier.map_or(self.engine, |head| head.engine);
        let specs = campaign.targets(engine)?;
        for spec in &specs {
            backend.check(spec)?;
        }
        let targets = specs
            .into_iter()
            .map(|spec| runs.target(spec, &campaign, progress));
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        let points: Vec<_> = targets.iter().map(|target| target.points.clone()).collect();
        let mut plan = plan::plan(&campaign, &points);
        for planned in &mut plan {
            if let Some(target) = targets.get(planned.target as usize) {
                planned.site = target.sites.of_all(&planned.faults);
            }
        }
        if plan.is_empty() {
            return Err(Error::Campaign {
                what: path.display().to_string(),
                why: "nothing of what it names can go wrong in its targets".into(),
            });
        }
        runner::check(runs, (&targets, &plan), progress)?;
        let share = match earlier {
            Some(head) => head.share.clone(),
            None => self.shard.map(|share| share.to_string()),
        };
        let head = Head {
            schema: store::SCHEMA,
            campaign: text,
            path: std::path::absolute(path).map_err(|e| Error::host("no working directory", e))?,
            program: backend.identity()?,
            engine,
            sample: campaign.sample,
            targets: targets.iter().map(TargetHead::of).collect(),
            plan: plan::hash(&plan),
            share,
        };
        Ok(Prepared {
            head,
            targets,
            plan,
        })
    }

    fn begin(&self, prepared: &Prepared) -> Result<(PathBuf, lock::Lock, Store), Error> {
        let out = match &self.out {
            Some(path) => path.clone(),
            None => directory::create_next(Path::new(DEFAULT_ROOT), "campaign")?,
        };
        let lock = directory::lock(&out)?;
        Store::is_not_in(&out)?;
        let store = Store::create(&out, &prepared.head, &prepared.plan)?;
        Ok((out, lock, store))
    }

    fn go(
        &self,
        prepared: &Prepared,
        (runs, out, store): (Runs<'_>, &Path, &Store),
        (interrupt, telling): (&Interrupt, Telling<'_>),
    ) -> Result<u8, Error> {
        let here = here(&prepared.plan, &prepared.head)?;
        let jobs = at_a_time(self.jobs);
        let progress = shown(interrupt);
        let left = runner::run(runs, &prepared.targets, &here, (store, jobs), &progress);
        progress.clear();
        let left = left?;
        let otherwise = conclude(Some(out), store, telling)?;
        if left > 0 {
            say(&format!(
                "interrupted: `staleline campaign --resume {}` goes on",
                quote(&out.display().to_string())
            ));
        }
        say(&format!("results in {}", out.display()));
        Ok(code(interrupt, otherwise))
    }
}

/// Those of the plan that are run here.
fn here<'a>(plan: &'a [Planned], head: &Head) -> Result<Vec<&'a Planned>, Error> {
    let share: Option<Partition> = match &head.share {
        Some(text) => Some(text.parse().map_err(|why| Error::Setting {
            setting: format!("--shard {text}"),
            why,
        })?),
        None => None,
    };
    let in_share = |planned: &&Planned| {
        share.is_none_or(|share| share.has(&format!("{} {}", planned.target, planned.setting())))
    };
    Ok(plan.iter().filter(in_share).collect())
}

/// A plan in short.
fn listed(plan: &[Planned]) -> String {
    let lines = plan.iter().map(|planned| {
        let run = match (planned.pilot, planned.run) {
            (true, true) => "pilot",
            (_, true) => "run",
            (_, false) => "-",
        };
        format!(
            "{} {run} {} {}\n",
            planned.target,
            planned.setting(),
            planned.group
        )
    });
    lines.collect()
}

/// What else is told of a campaign.
#[derive(Clone, Copy)]
struct Telling<'a> {
    /// On a page.
    page: Option<&'a Path>,
    /// What so many runs would cost.
    cost: Option<u64>,
}

/// Prints what a campaign has come to, and writes it into its directory if that is given; gives the exit code.
/// Times go to where progress goes: what is printed is the same however it was run.
fn conclude(out: Option<&Path>, store: &Store, telling: Telling<'_>) -> Result<u8, Error> {
    let ((head, plan), entries) = (store.begun_with()?, store.entries()?);
    let here: Vec<Planned> = here(&plan, &head)?.into_iter().cloned().collect();
    let report = Report {
        head: &head,
        plan: &here,
        entries: &entries,
        confidence: head.sample.confidence,
    };
    if let Some(out) = out {
        write_results(out, &plan, &entries)?;
        let mut junit = Vec::new();
        report
            .write_junit(&mut junit)
            .and_then(|()| files::write_whole(&out.join(directory::JUNIT), &junit, files::READABLE))
            .map_err(|e| Error::host("cannot write junit.xml", e))?;
    }
    print(&text::visible(&report.text()))?;
    if let Some(left) = report.left() {
        say(&left);
    }
    let sessions = store.sessions()?;
    let times = Times::of(&entries, &sessions);
    if let Some(times) = times {
        say(&times.text());
        let growth = growth(&entries, &sessions);
        if !growth.is_empty() {
            say(&growth);
        }
    }
    if let Some(warning) = busy(&entries, &sessions) {
        say(&warning);
    }
    if let Some(runs) = telling.cost {
        let nothing = || "nothing was run that could tell what runs cost\n".into();
        print(&times.map_or_else(nothing, |times| times.cost(runs)))?;
    }
    if let Some(file) = telling.page {
        html::write(file, &report, times).map_err(|source| Error::Output {
            path: file.to_owned(),
            source,
        })?;
    }
    Ok(report.exit_code())
}

/// Writes what came of the runs, in order.
fn write_results(out: &Path, plan: &[Planned], entries: &[store::Entry]) -> Result<(), Error> {
    let path = out.join(RESULTS);
    let mut text = Vec::new();
    for entry in entries {
        let planned = plan.get(entry.id as usize);
        let line = serde_json::json!({
            "id": entry.id,
            "target": planned.map(|planned| planned.target),
            "faults": planned.map(Planned::setting),
            "outcome": entry.judged.outcome,
            "found": entry.judged.found,
            "corrupt_bytes": entry.judged.corrupt,
            "why": entry.judged.why,
            "place": planned.map(|planned| &planned.site.place),
            "function": planned.map(|planned| &planned.site.function),
            "diagnoses": entry.heard.diagnoses,
            "told": entry.heard.told,
            "silent": tally::is_silent(entry),
            "run_hash": entry.run_hash,
            "same_twice": entry.same,
        });
        text.extend(line.to_string().as_bytes());
        text.push(b'\n');
    }
    files::write_whole(&path, &text, files::READABLE)
        .map_err(|source| Error::Output { path, source })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    fn is_taken(arguments: &str) -> bool {
        let words = "staleline campaign ".to_owned() + arguments;
        Cli::try_parse_from(words.split(' ')).is_ok()
    }

    /// Before anything slow is started.
    #[test]
    fn options_that_would_mean_nothing_are_refused() {
        for taken in [
            "a.toml --exhaustive --list",
            "a.toml --confidence 0.99 --margin 0.01 --seed 3",
            "a.toml --exhaustive --seed 3",
            "a.toml --shard 1/2 --jobs 3 --boot",
            "--resume a --jobs 3 --boot --html b.html",
            "--report a --cost 5 --html b.html",
            "--merge a b --out c --html b.html",
            "--compare a b",
        ] {
            assert!(is_taken(taken), "{taken}");
        }
        let what = [
            "--resume a",
            "--report a",
            "--merge a b --out c",
            "--compare a b",
        ];
        for what in what {
            for option in [
                "--exhaustive",
                "--seed 2",
                "--list",
                "--shard 1/2",
                "--engine tcg",
            ] {
                assert!(!is_taken(&format!("{what} {option}")), "{what} {option}");
            }
        }
        for refused in [
            "a.toml --exhaustive --margin 0.1",
            "a.toml --submit slurm --shards 2 --out b --list",
        ] {
            assert!(!is_taken(refused), "{refused}");
        }
        for what in &what[1..] {
            for option in ["--jobs 3", "--boot"] {
                assert!(!is_taken(&format!("{what} {option}")), "{what} {option}");
            }
        }
    }
}
