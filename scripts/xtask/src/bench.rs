// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What exactness costs, each figure beside a peer in the same run.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Context as _, Result, ensure};
use comfy_table::{Table, presets};

use crate::measure::{self, Time, median};
use crate::model;
use crate::plain::Plain;
use crate::tool::{Tool, step};

/// The run that is measured.
const SCENARIO: &str = "iio-capture";
/// Most that it may take, in plain boots.
const MOST_BOOTS: f64 = 2.0;
/// Most that all accesses of a boot may cost, beside what they cost with QEMU's cache plugin.
const MOST_OF_PLUGIN: f64 = 0.2;
/// Least speed of DMA through the domain, as a share of memcpy's.
const LEAST_OF_MEMCPY: f64 = 0.2;
/// Rounds of the model's benchmarks: an odd number.
const ROUNDS: u32 = 3;
/// The matrix that is measured.
const MATRIX: &str = "ci/matrix/exporters.toml";
/// Least use that it makes of all processors.
const LEAST_OF_CORES: f64 = 0.9;

/// A figure with its limit.
struct Line {
    what: String,
    figure: f64,
    limit: Limit,
}

enum Limit {
    Most(f64),
    Least(f64),
    None,
}

impl Line {
    fn new(what: impl Into<String>, figure: f64, limit: Limit) -> Self {
        let what = what.into();
        Line {
            what,
            figure,
            limit,
        }
    }

    fn holds(&self) -> bool {
        match self.limit {
            Limit::Most(most) => self.figure <= most,
            Limit::Least(least) => self.figure >= least,
            Limit::None => true,
        }
    }

    fn limit(&self) -> String {
        match self.limit {
            Limit::Most(most) => format!("at most {most}"),
            Limit::Least(least) => format!("at least {least}"),
            Limit::None => String::new(),
        }
    }
}

/// Measures, and prints a table; whether all limits hold.
///
/// # Errors
/// If something cannot be measured.
pub fn run(pairs: u32, cache_plugin: Option<&Path>, runs_only: bool) -> Result<bool> {
    let tool = Tool::build()?;
    measure::quietly(&mut tool.command(&["kernel", "build", "--stack", "base"]))?;
    let mut lines = beside_plain_boots(&tool, pairs, cache_plugin)?;
    if !runs_only {
        lines.extend(the_model(&tool)?);
        lines.push(the_matrix(&tool)?);
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["measured", "figure", "limit", ""]);
    for line in &lines {
        let holds = if line.holds() { "" } else { "beyond it" };
        let figure = format!("{:.3}", line.figure);
        table.add_row([&line.what, &figure, &line.limit(), holds]);
    }
    println!(
        "\nMeasured by `cargo xtask bench {pairs}` on {}.\n\n{table}",
        measure::host()?
    );
    Ok(lines.iter().all(Line::holds))
}

/// Pairs alternate, so that other load hits both alike.
fn beside_plain_boots(tool: &Tool, pairs: u32, cache_plugin: Option<&Path>) -> Result<Vec<Line>> {
    let plain = Plain::like(tool, SCENARIO)?;
    step(&format!(
        "{pairs} pairs of {SCENARIO} and a plain boot on {}",
        plain.version()?
    ));
    plain.boot(None)?;
    let (mut boots, mut runs, mut plugin) = (Vec::new(), Vec::new(), Vec::new());
    let (mut engine, mut agent, mut watched) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pairs {
        boots.push(plain.boot(None)?);
        runs.push(measure::timed(&mut tool.run(&[SCENARIO]))?);
        engine.push(tool.result()?.wall_ms as f64);
        agent.push(measure::timed(&mut tool.run(&["boot"]))?);
        watched.push(tool.result()?.wall_ms as f64);
        if let Some(file) = cache_plugin {
            plugin.push(plain.boot(Some(file))?);
        }
        eprint!(".");
    }
    eprintln!();
    let wall = |times: &[Time]| median(&times.iter().map(|t| t.wall).collect::<Vec<_>>());
    let ratio = |times: &[Time], of: fn(&Time) -> f64| {
        let pairs = times.iter().zip(&boots);
        median(&pairs.map(|(t, boot)| of(t) / of(boot)).collect::<Vec<_>>())
    };
    let none = "nothing was measured";
    let mut lines = vec![
        Line::new(
            "plain boot, wall ms",
            wall(&boots).context(none)?,
            Limit::None,
        ),
        Line::new(
            "run boot, wall ms",
            wall(&agent).context(none)?,
            Limit::None,
        ),
        Line::new(
            format!("run {SCENARIO}, wall ms"),
            wall(&runs).context(none)?,
            Limit::None,
        ),
        Line::new(
            "  of these in QEMU",
            median(&engine).context(none)?,
            Limit::None,
        ),
        Line::new(
            format!("run {SCENARIO} / plain boot, wall"),
            ratio(&runs, |t| t.wall).context(none)?,
            Limit::Most(MOST_BOOTS),
        ),
        Line::new(
            format!("run {SCENARIO} / plain boot, CPU"),
            ratio(&runs, |t| t.cpu).context(none)?,
            Limit::None,
        ),
    ];
    if let (Some(boot), Some(peer)) = (ratio(&agent, |t| t.wall), ratio(&plugin, |t| t.wall)) {
        lines.push(Line::new(
            "QEMU's cache plugin / plain boot, wall",
            peer,
            Limit::None,
        ));
        // Accesses are made in QEMU; starting it, and a result, cost the same however many there are.
        let within = watched.iter().zip(&boots).map(|(t, boot)| t / boot.wall);
        let within = median(&within.collect::<Vec<_>>()).context(none)?;
        lines.push(Line::new(
            "what run boot adds in QEMU / what that adds",
            (within - 1.0) / (peer - 1.0),
            Limit::Most(MOST_OF_PLUGIN),
        ));
        lines.push(Line::new(
            "  the same with what is outside of QEMU",
            (boot - 1.0) / (peer - 1.0),
            Limit::None,
        ));
    }
    Ok(lines)
}

fn the_model(tool: &Tool) -> Result<Vec<Line>> {
    step("The coherency model alone: time per CPU access; DMA beside memcpy of the same size");
    // Two images are twice the memory of one, and so at the mercy of whoever shares the host's cache:
    // each figure is the middle one of some rounds.
    let mut figures = BTreeMap::<_, Vec<f64>>::new();
    for round in 0..ROUNDS {
        let all = model_alone(tool, round)?;
        let beside = model::beside_memcpy(&all);
        ensure!(beside.len() == 4, "four kinds of DMA are due: {beside:?}");
        let dma = beside.into_iter().map(|(name, share)| (name, true, share));
        let cpu = all.into_iter().filter(|e| e.name.starts_with("cpu/"));
        let cpu = cpu.map(|e| (e.name, false, e.ns));
        for (name, is_share, figure) in dma.chain(cpu) {
            figures.entry((!is_share, name)).or_default().push(figure);
        }
    }
    let lines = figures.into_iter().map(|((alone, name), figures)| {
        let figure = median(&figures).context("nothing was measured")?;
        let (what, limit) = match alone {
            true => (format!("{name}, ns"), Limit::None),
            false => {
                let what = format!("DMA {name} / memcpy, bytes/s");
                (what, Limit::Least(LEAST_OF_MEMCPY))
            }
        };
        Ok(Line::new(what, figure, limit))
    });
    lines.collect()
}

/// One round of the benchmarks of the model.
fn model_alone(tool: &Tool, round: u32) -> Result<Vec<model::Estimate>> {
    // Nothing of an earlier run is there.
    let left = tool.work().join(format!("criterion-{round}"));
    let mut bench = tool.cargo();
    let status = bench
        .args(["bench", "-p", "staleline-devices", "--bench", "domain"])
        .env("CRITERION_HOME", &left)
        .status()?;
    ensure!(status.success(), "the model cannot be measured: see above");
    model::estimates(&left)
}

/// How much of the processors a matrix uses.
fn the_matrix(tool: &Tool) -> Result<Line> {
    step(&format!("A matrix: {MATRIX}"));
    let out = tool.work().join("matrix");
    let mut matrix = tool.command(&["matrix", MATRIX, "--force", "--out"]);
    let time = measure::timed(matrix.arg(&out))?;
    let cores = available_parallelism()?.get() as f64;
    Ok(Line::new(
        "matrix: CPU time / (wall time * processors)",
        time.cpu / (time.wall * cores),
        Limit::Least(LEAST_OF_CORES),
    ))
}
