// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Two runs side by side: what they say, what was found, what maintenance cost.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use staleline_results::{
    Class, HazardEntry, KERNEL_REPORT, LineCost, MaintenanceCaller, RunResult, STALE_COPY, Verdict,
};

use super::divergence::{self, Divergence};
use super::numbers::{Both, Lines};
use crate::exit::Error;
use crate::run::{directory, ledger};

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// As it was given.
    pub path: String,
    /// What was run.
    pub scenario: String,
    /// The kernel's name and release.
    pub kernel: String,
    /// Who allocated the DMABUFs.
    pub exporter: Option<String>,
    /// Replacement policy.
    pub cache: String,
    /// Seed.
    pub seed: u64,
    /// What it says.
    pub verdict: Verdict,
    /// Why.
    pub reasons: Vec<String>,
    /// Its hash.
    pub run_hash: Option<String>,
    /// A command that does it again.
    pub replay: String,
}

/// Findings of one kind, place and missing operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// The rule, or `kernel-report`.
    pub kind: String,
    /// Who wrote, and who read or destroyed: masters and functions; of a report, its first line.
    pub place: String,
    /// What is missing.
    pub missing: String,
    /// Whether it fails a run.
    pub fails: bool,
    /// Findings, that is transfers.
    pub findings: Both,
    /// Lines.
    pub lines: Both,
    /// Bytes that were wrong.
    pub wrong_bytes: Both,
}

/// Maintenance by one function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// Its name.
    pub function: String,
    /// What it cost.
    #[serde(flatten)]
    pub lines: Lines,
}

/// Maintenance between two devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// See [`staleline_results::PairCost`].
    pub before: Option<String>,
    /// See [`staleline_results::PairCost`].
    pub after: Option<String>,
    /// What it cost.
    #[serde(flatten)]
    pub lines: Lines,
}

/// What maintenance cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Costs {
    /// All that is accounted.
    pub total: Lines,
    /// Of that, on memory that devices transfer.
    pub transferred: Lines,
    /// `dc` instructions and barriers that complete them.
    pub instructions: Both,
    /// Those on the data path.
    pub path_instructions: Both,
    /// Loads and stores there.
    pub path_accesses: Both,
    /// The instructions' share of both, in parts per million.
    pub path_share_ppm: Both,
    /// By caller.
    pub callers: Vec<Caller>,
    /// By devices.
    pub pairs: Vec<Pair>,
}

/// Two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Runs {
    /// Whether anything differs that counts: verdict, findings that fail, data, or what maintenance cost.
    pub differs: bool,
    /// The one.
    pub a: Side,
    /// The other.
    pub b: Side,
    /// Bytes checked.
    pub bytes: Both,
    /// Bytes that were wrong.
    pub corrupt_bytes: Both,
    /// What was found.
    pub findings: Vec<Findings>,
    /// What maintenance cost.
    pub costs: Costs,
    /// Where the logs part; none if one of the runs has none.
    pub log: Option<Divergence>,
}

impl Runs {
    /// Whether one of them says nothing.
    pub fn says_nothing(&self) -> bool {
        [&self.a, &self.b]
            .map(|s| s.verdict)
            .contains(&Verdict::InfraError)
    }
}

/// Compares two runs, by directory or log.
///
/// # Errors
/// [`Error::NotARun`] and [`Error::Log`].
pub fn compare(a: &Path, b: &Path) -> Result<Runs, Error> {
    let (ra, rb) = (result(a)?, result(b)?);
    let logs = directory::log_of(a).is_ok() && directory::log_of(b).is_ok();
    let log = match logs {
        true => Some(divergence::find(a, b)?),
        false => None,
    };
    Ok(of((a, &ra), (b, &rb), log))
}

/// A run's result: from its log, or where there is no log, as it was written down.
fn result(run: &Path) -> Result<RunResult, Error> {
    let bare = run.is_dir() && !run.join(directory::LOG).exists();
    match bare && run.join(directory::RESULT).is_file() {
        true => directory::read_json(run, directory::RESULT),
        false => Ok(ledger::of(run)?.result()),
    }
}

fn of((pa, a): (&Path, &RunResult), (pb, b): (&Path, &RunResult), log: Option<Divergence>) -> Runs {
    let both = |get: &dyn Fn(&RunResult) -> u64| Both {
        a: get(a),
        b: get(b),
    };
    let findings = findings(a, b);
    let costs = costs(a, b);
    let (bytes, corrupt_bytes) = (both(&|r| r.data.bytes), both(&|r| r.data.corrupt_bytes));
    let found = |f: &Findings| f.fails && (f.findings.differs() || f.lines.differs());
    let differs = a.verdict != b.verdict
        || bytes.differs()
        || corrupt_bytes.differs()
        || findings.iter().any(found)
        || costs.total.differ()
        || costs.transferred.differ();
    Runs {
        differs,
        a: side(pa, a),
        b: side(pb, b),
        bytes,
        corrupt_bytes,
        findings,
        costs,
        log,
    }
}

fn side(path: &Path, r: &RunResult) -> Side {
    let kernel = r.kernel.as_ref();
    Side {
        path: path.display().to_string(),
        scenario: r.scenario.clone(),
        kernel: kernel.map_or("none".into(), |k| format!("{} ({})", k.name, k.version)),
        exporter: r.exporter.clone(),
        cache: r.cache.clone(),
        seed: r.seed,
        verdict: r.verdict,
        reasons: r.reasons.clone(),
        run_hash: r.run_hash.clone(),
        replay: r.replay.clone(),
    }
}

/// Kind, place, missing operation, and whether it fails the run.
type Key = (String, String, String, bool);

/// Findings, lines, wrong bytes.
type Found = [u64; 3];

fn findings(a: &RunResult, b: &RunResult) -> Vec<Findings> {
    let mut all: BTreeMap<Key, [Found; 2]> = BTreeMap::new();
    for (n, r) in [a, b].into_iter().enumerate() {
        for (key, found) in found(r) {
            let sums = &mut all.entry(key).or_default()[n];
            for (sum, n) in sums.iter_mut().zip(found) {
                *sum = sum.saturating_add(n);
            }
        }
    }
    let row = |((kind, place, missing, fails), [a, b]): (Key, [Found; 2])| {
        let both = |n: usize| Both { a: a[n], b: b[n] };
        Findings {
            kind,
            place,
            missing,
            fails,
            findings: both(0),
            lines: both(1),
            wrong_bytes: both(2),
        }
    };
    all.into_iter().map(row).collect()
}

fn found(r: &RunResult) -> impl Iterator<Item = (Key, Found)> {
    let diagnostics = r.diagnostics.iter().map(|d| {
        let shown = r.hazards.get(d.shown);
        let place = shown.map_or_else(String::new, HazardEntry::between);
        let missing = shown.map_or_else(String::new, |h| h.missing.clone());
        let (kind, fails) = match d.class {
            Class::Error => (d.kind.name(), true),
            Class::StaleCopy => (STALE_COPY, false),
        };
        let key = (kind.to_owned(), place, missing, fails);
        (key, [d.findings, d.lines, d.wrong_bytes])
    });
    let reports = r.guest.reports.iter().map(|report| {
        let key = (
            KERNEL_REPORT.to_owned(),
            report.headline.clone(),
            String::new(),
            !report.allowed,
        );
        (key, [report.count, 0, 0])
    });
    diagnostics.chain(reports)
}

fn caller(caller: Option<&MaintenanceCaller>) -> LineCost {
    caller.map_or_else(LineCost::default, MaintenanceCaller::cost)
}

fn costs(a: &RunResult, b: &RunResult) -> Costs {
    let (ma, mb) = (&a.maintenance, &b.maintenance);
    let (ca, cb) = (&ma.cost, &mb.cost);
    let path = |c: &staleline_results::Cost| c.path.unwrap_or_default();
    let (pa, pb) = (path(ca), path(cb));
    let both = |a, b| Both { a, b };
    // In the order of A, and behind that of B.
    let mut functions: Vec<&str> = Vec::new();
    for c in ma.callers.iter().chain(&mb.callers) {
        if !functions.contains(&&*c.function) {
            functions.push(&c.function);
        }
    }
    let named =
        |all: &[MaintenanceCaller], name: &str| caller(all.iter().find(|c| c.function == name));
    let mut pairs = Vec::new();
    for p in ca.pairs.iter().chain(&cb.pairs) {
        let key = (&p.before, &p.after);
        if !pairs.contains(&key) {
            pairs.push(key);
        }
    }
    let between = |all: &[staleline_results::PairCost], key: (&Option<String>, &Option<String>)| {
        let found = all.iter().find(|p| (&p.before, &p.after) == key);
        found.map_or_else(LineCost::default, |p| p.cost)
    };
    Costs {
        total: Lines::of(&ca.total, &cb.total),
        transferred: Lines::of(&ca.transferred(), &cb.transferred()),
        instructions: both(ca.instructions.all(), cb.instructions.all()),
        path_instructions: both(pa.instructions.all(), pb.instructions.all()),
        path_accesses: both(pa.accesses, pb.accesses),
        path_share_ppm: both(pa.share_ppm, pb.share_ppm),
        callers: functions
            .into_iter()
            .map(|name| Caller {
                function: name.to_owned(),
                lines: Lines::of(&named(&ma.callers, name), &named(&mb.callers, name)),
            })
            .collect(),
        pairs: pairs
            .into_iter()
            .map(|key| Pair {
                before: key.0.clone(),
                after: key.1.clone(),
                lines: Lines::of(&between(&ca.pairs, key), &between(&cb.pairs, key)),
            })
            .collect(),
    }
}
