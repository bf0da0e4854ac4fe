// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a snapshot saves on the KVM engine: runs that go on from one beside runs that boot, by one VMM, which is
//! started once, as in a matrix.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use comfy_table::{Table, presets};
use staleline::engine::{EngineKind, Snapshot};
use staleline::evidence::Artifacts;
use staleline::run::backend::{Attempt, Backend as _};
use staleline::run::wiring::Production;
use staleline::spec::RunSpec;
use staleline_machine::engine::wire::KvmStats;
use staleline_protocol::report::BOOTED;
use staleline_results::GuestEnd;
use staleline_support::progress::Stderr;
use tempfile::TempDir;

use crate::measure::{self, median};
use crate::tool::step;

/// The kernel that scenarios run with if no other is named.
const KERNEL: &str = "base";
/// How many times as fast a run is to be that goes on from a snapshot.
const LEAST: f64 = 5.0;

/// What one run has taken, in milliseconds where it is a time.
struct Taken {
    wall: f64,
    guest: f64,
    /// Of all processes that it takes, for the whole of it.
    processor: f64,
    stats: KvmStats,
}

/// Prints a table; whether a run that goes on from a snapshot is as many times as fast as it is to be.
///
/// # Errors
/// If something cannot be measured.
pub fn run(scenario: &str, pairs: u32) -> Result<bool> {
    let bench = Bench::new(scenario)?;
    let snapshot = bench.files.path().join("snapshot");
    step("A run that is saved, and one from there");
    bench.once(Some(Snapshot::Save {
        after: BOOTED,
        file: snapshot.clone(),
    }))?;
    let restored = || bench.once(Some(Snapshot::From(snapshot.clone())));
    // It is unpacked.
    restored()?;
    step(&format!("{pairs} pairs of runs"));
    let (mut boots, mut restores) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        boots.push(bench.once(None)?);
        restores.push(restored()?);
        eprint!(".");
    }
    eprintln!();
    println!(
        "\nMeasured by `cargo xtask snapshots {pairs} --scenario {scenario}` on {}.\n",
        measure::host()?
    );
    let (table, ratio) = table(&boots, &restores)?;
    println!("{table}");
    let processor: Vec<f64> = restores.iter().map(|taken| taken.processor).collect();
    let processor = median(&processor).context("nothing was measured")?;
    println!("\nRuns per second and processor: {:.1}", 1e3 / processor);
    Ok(ratio >= LEAST)
}

/// One line of the table: what it is, and how it is read of a run.
type Line = (&'static str, fn(&Taken) -> f64);

const LINES: [Line; 12] = [
    ("a run, ms", |t| t.wall),
    ("- before the guest: its memory, ms", |t| {
        ms(t.stats.memory_us)
    }),
    ("- before the guest: the chip, ms", |t| ms(t.stats.chip_us)),
    ("- before the guest: all of it, ms", |t| {
        ms(t.stats.setup_us)
    }),
    ("- the guest, ms", |t| t.guest),
    ("- its CPUs, ms", |t| ms(t.stats.cpu_us)),
    ("exits to the VMM", |t| t.stats.exits as f64),
    ("- reads of the chip's registers", |t| {
        t.stats.register_reads as f64
    }),
    ("- for the console", |t| {
        (t.stats.uart_reads + t.stats.uart_writes) as f64
    }),
    ("- reports of maintenance", |t| t.stats.reports as f64),
    ("console accesses without an exit", |t| t.stats.kept as f64),
    ("processor time, ms", |t| t.processor),
];

fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

/// Medians, and how many times as fast the latter are.
fn table(boots: &[Taken], restores: &[Taken]) -> Result<(Table, f64)> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["median of", "boots", "goes on", "ratio", "limit"]);
    let mut ratio = None;
    for (what, read) in LINES {
        let middle = |all: &[Taken]| {
            let all: Vec<f64> = all.iter().map(read).collect();
            median(&all).context("nothing was measured")
        };
        let (boot, restore) = (middle(boots)?, middle(restores)?);
        let times = boot / restore;
        let is_first = ratio.is_none();
        ratio.get_or_insert(times);
        let number = |n: f64| {
            if n < 10.0 {
                format!("{n:.1}")
            } else {
                format!("{n:.0}")
            }
        };
        table.add_row([
            what.to_owned(),
            number(boot),
            number(restore),
            if times.is_finite() {
                format!("{times:.1}")
            } else {
                String::new()
            },
            if is_first {
                format!("at least {LEAST}")
            } else {
                String::new()
            },
        ]);
    }
    Ok((table, ratio.context("nothing was measured")?))
}

struct Bench {
    spec: RunSpec,
    artifacts: Artifacts,
    files: TempDir,
    production: Production,
}

impl Bench {
    fn new(scenario: &str) -> Result<Self> {
        step("Building the VMM, its host's kernel, and a guest's");
        let mut engines = EngineKind::ALL.into_iter();
        let engine = engines.find(|engine| engine.name() == "kvm");
        let engine = engine.context("there is no such engine")?;
        let spec = RunSpec::resolve(scenario, KERNEL, engine, &[])?;
        let production = Production::default();
        production.check(&spec)?;
        let artifacts = production.prepare(&spec, &Stderr::new())?;
        Ok(Bench {
            spec,
            artifacts,
            files: tempfile::tempdir()?,
            production,
        })
    }

    /// A run from its request to all that it leaves.
    fn once(&self, snapshot: Option<Snapshot>) -> Result<Taken> {
        let dir = tempfile::tempdir_in(self.files.path())?;
        let production = Production {
            snapshot,
            ..self.production.clone()
        };
        let attempt = Attempt {
            spec: &self.spec,
            artifacts: &self.artifacts,
            drop_operation: None,
            census: false,
            snapshot: None,
            trace: &[],
            events: None,
            attended: Some(dir.path()),
            dir: dir.path(),
        };
        let (before, begun) = (processor()?, Instant::now());
        let execution = production.execute(attempt)?;
        let wall = begun.elapsed().as_secs_f64() * 1e3;
        let after = processor()?;
        if execution.end != GuestEnd::PoweredOff {
            bail!("the guest has not come to its end: {:?}", execution.end);
        }
        let said = fs::read_to_string(&execution.console)?;
        let last = said.trim_end().lines().last().unwrap_or_default();
        ensure!(!last.contains("Bail out"), "the guest has failed: {last}");
        Ok(Taken {
            wall,
            guest: execution.wall.as_secs_f64() * 1e3,
            processor: after - before,
            stats: serde_json::from_value(execution.stats)?,
        })
    }
}

/// Processor time so far of this process and the children that it has, in milliseconds.
fn processor() -> Result<f64> {
    let me = Path::new("/proc/self");
    let mut all = vec![me.to_owned()];
    for task in fs::read_dir(me.join("task"))? {
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        let children = children.split_whitespace();
        all.extend(children.map(|id| PathBuf::from("/proc").join(id)));
    }
    let second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    let second = second.context("the kernel does not say how long a tick is")? as f64;
    // proc_pid_stat(5): utime and stime, the 14th and 15th field; the 2nd is a name in parentheses.
    let ticks = all.iter().map(|process| -> Result<f64> {
        let stat = fs::read_to_string(process.join("stat"))?;
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let [user, system] = [11, 12].map(|n| fields.get(n).and_then(|f| f.parse::<f64>().ok()));
        Ok(user.context("utime")? + system.context("stime")?)
    });
    let ticks: f64 = ticks.collect::<Result<Vec<_>>>()?.iter().sum();
    Ok(ticks * 1e3 / second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(wall: f64) -> Taken {
        Taken {
            wall,
            guest: wall / 2.0,
            processor: wall,
            stats: KvmStats::default(),
        }
    }

    #[test]
    fn the_ratio_is_that_of_the_middle_runs() {
        let runs = |times: [f64; 3]| times.map(taken);
        let (table, ratio) = table(&runs([60.0, 50.0, 900.0]), &runs([9.0, 10.0, 12.0])).unwrap();
        assert!((ratio - 6.0).abs() < 1e-9, "{ratio}");
        let text = table.to_string();
        assert!(
            text.contains("at least 5") && !text.contains("NaN"),
            "{text}"
        );
    }

    #[test]
    fn processor_time_goes_on() {
        let before = processor().unwrap();
        let begun = Instant::now();
        while begun.elapsed().as_millis() < 60 {
            std::hint::black_box(before);
        }
        assert!(processor().unwrap() > before);
    }
}
