// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A campaign file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::engine::EngineKind;
use crate::exit::Error;
use crate::scenario::read_config;
use crate::spec::{RunSpec, anchor};

/// Version of the format.
pub const SCHEMA: u32 = 1;

/// Targets in all.
const MAX_TARGETS: usize = 100;

/// Seconds of the host that a run may take, at most; what hangs, hangs.
const TIMEOUT: u32 = 60;

/// A campaign file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Campaign {
    /// Version of the format: [`SCHEMA`].
    pub schema: u32,
    /// What is to go wrong.
    #[serde(default)]
    pub faults: Faults,
    /// How many of the faults are run.
    #[serde(default)]
    pub sample: Sample,
    /// Where they go wrong.
    pub target: Vec<TargetGroup>,
    /// From where files are named; none for the working directory.
    #[serde(skip)]
    base: Option<PathBuf>,
}

/// Every scenario on every kernel is a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TargetGroup {
    /// Names or files.
    pub scenarios: Vec<String>,
    /// Stacks or paths.
    pub kernels: Vec<String>,
    /// Settings, as on the command line.
    #[serde(default)]
    pub set: Vec<String>,
}

/// The `[faults]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Faults {
    /// Only those of these classes, or of all that begin like that (`delay`, `beat:late`); all if empty.
    pub classes: Vec<String>,
    /// Ticks by which interrupts and writes are late.
    pub late_ticks: u32,
    /// Combinations of two faults, for each target, by chance.
    pub pairs: u32,
    /// Which faults these are of.
    pub pairs_of: PairsOf,
}

/// Faults that are combined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairsOf {
    /// Those of software, which the sanitizer has to find.
    #[default]
    Software,
    /// Any.
    All,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            classes: Vec::new(),
            late_ticks: 5000,
            pairs: 0,
            pairs_of: PairsOf::default(),
        }
    }
}

/// The `[sample]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Sample {
    /// How runs are chosen.
    pub mode: Mode,
    /// Share of those that are predicted, by the first of their group, that is run to test the prediction.
    pub check: f64,
    /// How sure an estimate is to be: 0.9, 0.95 or 0.99.
    pub confidence: f64,
    /// By how much it may be off.
    pub margin: f64,
    /// Of all choices.
    pub seed: u64,
    /// Share of runs that is done twice, to see that they come to the same.
    pub repeat: f64,
}

impl Default for Sample {
    fn default() -> Self {
        Sample {
            mode: Mode::Pruned,
            check: 0.05,
            confidence: 0.95,
            margin: 0.05,
            seed: 1,
            repeat: 0.02,
        }
    }
}

/// How runs are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One of each group, and of the others a share.
    #[default]
    Pruned,
    /// All.
    Exhaustive,
    /// As many as `confidence` and `margin` ask for, by chance.
    Sampled,
}

impl Campaign {
    /// Reads a file; also its text. Files that it names are named from where it is.
    ///
    /// # Errors
    /// If it is wrong.
    pub fn load(path: &Path) -> Result<(Self, String), Error> {
        let text = read_config(path)?;
        let mut campaign = Campaign::parse(&text, &path.display().to_string())?;
        let file = std::path::absolute(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        let base = file.parent().unwrap_or(Path::new("/"));
        for group in &mut campaign.target {
            anchor(&mut group.scenarios, &mut group.kernels, base);
        }
        campaign.base = Some(base.to_owned());
        Ok((campaign, text))
    }

    /// Parses and checks one.
    ///
    /// # Errors
    /// [`Error::Syntax`] or [`Error::Limit`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let campaign: Campaign = toml::from_str(text).map_err(|e| Error::Syntax {
            origin: origin.to_owned(),
            detail: e.to_string().trim_end().to_owned(),
        })?;
        campaign.check(origin)?;
        Ok(campaign)
    }

    /// Whether what it asks for is within its limits; `origin` is who asks.
    ///
    /// # Errors
    /// [`Error::Limit`].
    pub fn check(&self, origin: &str) -> Result<(), Error> {
        match self.wrong() {
            None => Ok(()),
            Some(what) => Err(Error::Limit {
                origin: origin.to_owned(),
                what,
            }),
        }
    }

    fn wrong(&self) -> Option<String> {
        if self.schema != SCHEMA {
            return Some(format!(
                "schema = {} is not known; this program reads schema = {SCHEMA}",
                self.schema
            ));
        }
        let targets = self
            .target
            .iter()
            .map(|g| g.scenarios.len() * g.kernels.len());
        match targets.sum() {
            0 => {
                return Some(
                    "it has no targets: a campaign that runs nothing proves nothing".into(),
                );
            }
            n if n > MAX_TARGETS => {
                return Some(format!("it has {n} targets, at most {MAX_TARGETS} are run"));
            }
            _ => {}
        }
        let sample = &self.sample;
        let shares = [("check", sample.check), ("repeat", sample.repeat)];
        if let Some((key, _)) = shares
            .iter()
            .find(|(_, share)| !(0.0..=1.0).contains(share))
        {
            return Some(format!("sample.{key} is a share, from 0 to 1"));
        }
        if ![0.9, 0.95, 0.99].contains(&sample.confidence) {
            return Some("sample.confidence is 0.9, 0.95 or 0.99".into());
        }
        if !(0.001..=0.5).contains(&sample.margin) {
            return Some("sample.margin goes from 0.001 to 0.5".into());
        }
        if !(1..=1 << 20).contains(&self.faults.late_ticks) {
            return Some(format!("faults.late-ticks goes from 1 to {}", 1 << 20));
        }
        if self.faults.pairs > 1 << 20 {
            return Some(format!("faults.pairs is at most {}", 1 << 20));
        }
        let unknown = |asked: &&String| {
            !super::points::CLASSES
                .iter()
                .any(|class| class.starts_with(&***asked))
        };
        let unknown = self.faults.classes.iter().find(unknown)?;
        Some(format!(
            "faults.classes names `{unknown}`, and there are these: {}",
            super::points::CLASSES.join(", ")
        ))
    }

    /// The runs without a fault.
    ///
    /// # Errors
    /// The first that cannot be resolved, or has faults of its own.
    pub fn targets(&self, engine: EngineKind) -> Result<Vec<RunSpec>, Error> {
        let mut targets = Vec::new();
        for group in &self.target {
            for scenario in &group.scenarios {
                for kernel in &group.kernels {
                    let names = (&**scenario, &**kernel);
                    let base = self.base.as_deref();
                    let mut spec = RunSpec::resolve_from(base, names, engine, &group.set)?;
                    let faults = &spec.scenario.faults;
                    if faults.drop_maintenance.is_some() || !faults.inject.is_empty() {
                        return Err(Error::Limit {
                            origin: scenario.clone(),
                            what: "it has faults of its own, and a target is to pass without any"
                                .into(),
                        });
                    }
                    let seconds = spec.scenario.timeout_seconds.min(TIMEOUT);
                    spec.scenario.timeout_seconds = seconds;
                    targets.push(spec);
                }
            }
        }
        Ok(targets)
    }

    /// Whether faults of a class are wanted.
    pub fn wants(&self, class: &str) -> bool {
        let classes = &self.faults.classes;
        classes.is_empty() || classes.iter().any(|asked| class.starts_with(&**asked))
    }
}
