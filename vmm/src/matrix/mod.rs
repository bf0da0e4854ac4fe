// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Matrices: scenarios x kernels x caches x exporters x seeds x engines, each with what is expected.

pub mod baseline;
pub mod came_to;
pub mod columns;
pub mod cost;
pub mod html;
pub mod merge;
pub mod outcome;
pub mod partition;
pub mod record;
pub mod report;
pub mod rows;
pub mod runner;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use staleline_protocol::plan::Exporter;
use staleline_protocol::report::REFUSALS;
use staleline_results::HazardKind;

use crate::board::settings::CachePolicy;
use crate::engine::EngineKind;
use crate::exit::Error;
use crate::names;
use crate::scenario::seed::Seed;
use crate::scenario::{Scenario, append, read_config};
use crate::spec::{DEFAULT_KERNEL, RunSpec, anchor};
use rows::Row;
use staleline_results::KERNEL_REPORT;
use staleline_results::{ReportClass, RunResult, Verdict};
use staleline_support::digest;

/// Version of the matrix format.
pub const SCHEMA: u32 = 1;

/// Cells in all.
pub const MAX_CELLS: usize = 10_000;

/// The matrix that runs if no file is given.
pub const DEFAULT: &str = include_str!("../../../ci/matrix/default.toml");

/// A matrix file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Matrix {
    /// Version of the format: [`SCHEMA`].
    pub schema: u32,
    /// What groups are about, in the order in which it is told.
    #[serde(default)]
    pub row: Vec<Row>,
    /// Groups of cells.
    pub group: Vec<Group>,
}

/// Every combination of the lists is a cell. An empty list means the scenario's own value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Group {
    /// The row that it is of.
    #[serde(default)]
    pub row: Option<String>,
    /// Whether some of its cells are run where time is short: `--brief` takes the first of each list but of
    /// scenarios.
    #[serde(default = "yes")]
    pub brief: bool,
    /// Names or files.
    pub scenarios: Vec<String>,
    /// Stacks or paths; `base` if empty.
    #[serde(default)]
    pub kernels: Vec<String>,
    /// Replacement policies.
    #[serde(default)]
    pub caches: Vec<CachePolicy>,
    /// Exporters; ignored by scenarios that move no data.
    #[serde(default)]
    pub exporters: Vec<Exporter>,
    /// Seeds.
    #[serde(default)]
    pub seeds: Vec<Seed>,
    /// Engines; the command line's if empty.
    #[serde(default)]
    pub engines: Vec<EngineKind>,
    /// Settings for all cells, as on the command line.
    #[serde(default)]
    pub set: Vec<String>,
    /// What each cell should come to.
    #[serde(default)]
    pub expect: Expect,
    /// Hazards of which each cell that is expected to fail must show every one.
    #[serde(default)]
    pub hazards: Vec<HazardKind>,
    /// With which error the kernel must refuse, if it is expected to: `EOPNOTSUPP`. Any if not given.
    #[serde(default)]
    pub errno: Option<String>,
    /// Reports of the kernel on itself of which each cell that is expected to fail must show one of each
    /// class, and no other.
    #[serde(default)]
    pub reports: Vec<ReportClass>,
    /// From where files in `set` are named; none for the working directory.
    #[serde(skip)]
    base: Option<PathBuf>,
}

/// What a cell should come to. An infrastructure error is never expected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// Nothing found.
    #[default]
    Pass,
    /// Something found.
    Fail,
    /// The kernel does not let the devices share a buffer: no data moved, and nothing found.
    Refused,
    /// Either; for surveys.
    Any,
}

/// Names of cells that are taken.
#[derive(Debug, Default)]
pub struct Names(HashSet<String>);

impl Names {
    /// Gives a cell a name of its own: it may be the same run from another group, or have settings that a name
    /// cannot hold.
    pub fn take(&mut self, cell: &mut Cell) {
        let (mut n, base) = (1, cell.name.clone());
        while !self.0.insert(cell.name.clone()) {
            n += 1;
            cell.name = format!("{base}.{n}");
        }
    }
}

/// Which cells of a matrix are meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Not all, but some of each group that is there for it.
    pub brief: bool,
}

fn yes() -> bool {
    true
}

/// One run of a matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Unique in the matrix, and usable as a file name.
    pub name: String,
    /// What to run.
    pub spec: RunSpec,
    /// Settings of its group, which are in `spec` too.
    pub set: Vec<String>,
    /// What should come of it.
    pub expect: Expect,
    /// Hazards it must show.
    pub hazards: Vec<HazardKind>,
    /// The error with which the kernel must refuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// The classes of the kernel's reports that it must show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<ReportClass>,
    /// The row that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
}

impl Cell {
    /// A run with settings that are in `spec` too, named by what tells it apart from others.
    pub fn new(spec: RunSpec, set: Vec<String>, expect: Expect, hazards: Vec<HazardKind>) -> Self {
        Cell {
            name: cell_name(&spec, &set),
            spec,
            set,
            expect,
            hazards,
            errno: None,
            reports: Vec::new(),
            row: None,
        }
    }

    /// Its exporter, as tables have it: `-` where no data is moved.
    pub fn exporter(&self) -> &'static str {
        let transfer = self.spec.scenario.transfer.as_ref();
        transfer.map_or("-", |transfer| transfer.exporter.name())
    }

    /// Settings as tables have them: `-` for none.
    pub fn settings<'a>(set: impl IntoIterator<Item = &'a String>) -> String {
        let set: Vec<&str> = set.into_iter().map(String::as_str).collect();
        match set.is_empty() {
            true => "-".into(),
            false => set.join(" "),
        }
    }

    /// Why the result is not as expected; none if it is.
    pub fn unexpected(&self, result: &RunResult) -> Option<String> {
        let want = match self.expect {
            Expect::Refused => return self.not_refused(result),
            Expect::Pass => Some(Verdict::Pass),
            Expect::Fail => Some(Verdict::Fail),
            Expect::Any => None,
        };
        // Who expects a failure does not expect that nothing was tried.
        if let Some(refused) = result.guest.refused.as_ref()
            && self.expect == Expect::Fail
        {
            return Some(format!("expected fail, and {}", refused.sentence()));
        }
        if result.verdict == Verdict::InfraError || want.is_some_and(|w| w != result.verdict) {
            let want = want.map_or("pass or fail", Verdict::name);
            let why = result.reasons.join("; ");
            let colon = if why.is_empty() { "" } else { ": " };
            return Some(format!(
                "expected {want}, got {}{colon}{why}",
                result.verdict.name()
            ));
        }
        // Who expects hazards does not expect the kernel to crash over them.
        let named = !self.hazards.is_empty() || !self.reports.is_empty();
        let mut complaints = result.guest.complaints();
        if let Some(report) = complaints.find(|c| !self.reports.contains(&c.class))
            && named
        {
            return Some(format!("unexpected {KERNEL_REPORT}: {}", report.headline));
        }
        let told = |class: &&ReportClass| result.guest.complaints().any(|c| c.class == **class);
        if let Some(absent) = self.reports.iter().find(|class| !told(class)) {
            return Some(format!(
                "expected the kernel to report a breach of {}, which it did not",
                absent.what()
            ));
        }
        let shown = |kind: &&HazardKind| result.errors().any(|d| d.kind == **kind);
        let absent: Vec<_> = self.hazards.iter().filter(|k| !shown(k)).collect();
        (!absent.is_empty() && result.verdict == Verdict::Fail).then(|| {
            let absent: Vec<_> = absent.iter().map(|k| k.name()).collect();
            format!("expected {} and did not see it", absent.join(", "))
        })
    }

    /// Why that is no refusal, or not the one that was expected.
    fn not_refused(&self, result: &RunResult) -> Option<String> {
        let Some(refused) = &result.guest.refused else {
            let (got, why) = (result.verdict.name(), result.reasons.join("; "));
            let colon = if why.is_empty() { "" } else { ": " };
            return Some(format!(
                "expected the kernel to refuse, got {got}{colon}{why}"
            ));
        };
        if let Some(errno) = self.errno.as_ref().filter(|e| **e != refused.error) {
            return Some(format!("expected {errno}, and {}", refused.sentence()));
        }
        // The refusal is the first of the reasons that are left then, and the only one.
        let others = result.reasons.iter().filter(|r| **r != refused.sentence());
        let others: Vec<&str> = others.map(String::as_str).collect();
        (result.verdict != Verdict::Fail || !others.is_empty()).then(|| {
            format!(
                "expected nothing but that {}, got {}: {}",
                refused.sentence(),
                result.verdict.name(),
                others.join("; ")
            )
        })
    }
}

impl Matrix {
    /// Reads a file, or the built-in matrix. Files that it names are named from where it is.
    ///
    /// # Errors
    /// If it is wrong.
    pub fn load(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else {
            return Matrix::parse(DEFAULT, "built-in matrix");
        };
        let mut matrix = Matrix::parse(&read_config(path)?, &path.display().to_string())?;
        // From wherever it is gone on with, its cells are the same.
        let file = std::path::absolute(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        for group in &mut matrix.group {
            group.anchor(file.parent().unwrap_or(Path::new("/")));
        }
        Ok(matrix)
    }

    /// Parses and checks a matrix.
    ///
    /// # Errors
    /// [`Error::Syntax`] or [`Error::Limit`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let matrix: Matrix = toml::from_str(text).map_err(|e| Error::Syntax {
            origin: origin.to_owned(),
            detail: e.to_string().trim_end().to_owned(),
        })?;
        let limit = |what: String| {
            Err(Error::Limit {
                origin: origin.to_owned(),
                what,
            })
        };
        if matrix.schema != SCHEMA {
            return limit(format!(
                "schema = {} is not known; this program reads schema = {SCHEMA}",
                matrix.schema
            ));
        }
        if let Err(what) = rows::check(&matrix.row, &matrix.group) {
            return limit(what);
        }
        for group in &matrix.group {
            let named = [
                ("hazards", group.hazards.is_empty()),
                ("reports", group.reports.is_empty()),
            ];
            if let Some((key, _)) = named.iter().find(|(_, empty)| !empty)
                && group.expect != Expect::Fail
            {
                return limit(format!("`{key}` needs expect = \"fail\""));
            }
            let Some(errno) = &group.errno else { continue };
            if group.expect != Expect::Refused {
                return limit("`errno` needs expect = \"refused\"".into());
            }
            if !REFUSALS.iter().any(|(_, name)| name == errno) {
                let known: Vec<&str> = REFUSALS.iter().map(|(_, name)| *name).collect();
                return limit(format!(
                    "errno = {errno:?} is no error by which a refusal is known; these are: {}",
                    known.join(", ")
                ));
            }
        }
        match matrix.size() {
            0 => return limit("it has no cells: a matrix that runs nothing proves nothing".into()),
            n if n > MAX_CELLS => {
                return limit(format!("it has {n} cells, at most {MAX_CELLS} are run"));
            }
            _ => {}
        }
        for group in &matrix.group {
            if let Some(twice) = group.named_twice() {
                return limit(format!(
                    "{twice} twice in one group, and is the same run: leave one out"
                ));
            }
        }
        Ok(matrix)
    }

    /// Cells at most: scenarios without transfer have fewer.
    fn size(&self) -> usize {
        let cells = |g: &Group| {
            [
                g.kernels.len(),
                g.caches.len(),
                g.exporters.len(),
                g.seeds.len(),
                g.engines.len(),
            ]
            .iter()
            .fold(g.scenarios.len(), |n, len| n.saturating_mul((*len).max(1)))
        };
        self.group
            .iter()
            .map(cells)
            .fold(0, |a: usize, b| a.saturating_add(b))
    }

    /// The part of it that is run where time is short.
    #[must_use]
    pub fn of_extent(mut self, extent: Extent) -> Self {
        if extent.brief {
            self.group.retain(|group| group.brief);
            for group in &mut self.group {
                group.kernels.truncate(1);
                group.caches.truncate(1);
                group.exporters.truncate(1);
                group.seeds.truncate(1);
                group.engines.truncate(1);
            }
        }
        self
    }

    /// All cells, in the order of the file, each with that much more of a kernel command line.
    ///
    /// # Errors
    /// The first that cannot be resolved, or two that are the same.
    pub fn cells(&self, engine: EngineKind, append: Option<&str>) -> Result<Vec<Cell>, Error> {
        let mut cells: Vec<Cell> = Vec::new();
        for group in &self.group {
            for scenario in &group.scenarios {
                group.expand(scenario, engine, append, &mut cells)?;
            }
        }
        let mut names = Names::default();
        for cell in &mut cells {
            names.take(cell);
        }
        Ok(cells)
    }
}

impl Group {
    /// What one of its lists names twice, if one does.
    fn named_twice(&self) -> Option<String> {
        fn twice<T: PartialEq>(list: &[T]) -> Option<&T> {
            let mut all = list.iter().enumerate();
            all.find(|(n, one)| list[..*n].contains(one))
                .map(|(_, one)| one)
        }
        twice(&self.scenarios)
            .map(|s| format!("scenario {s} stands"))
            .or_else(|| twice(&self.kernels).map(|k| format!("kernel {k} stands")))
            .or_else(|| twice(&self.caches).map(|c| format!("cache {} stands", names::name(c))))
            .or_else(|| twice(&self.exporters).map(|e| format!("exporter {} stands", e.name())))
            .or_else(|| twice(&self.seeds).map(|s| format!("seed {} stands", s.0)))
            .or_else(|| twice(&self.engines).map(|e| format!("engine {e} stands")))
    }

    /// Files are named from `base`, which is absolute.
    fn anchor(&mut self, base: &Path) {
        anchor(&mut self.scenarios, &mut self.kernels, base);
        self.base = Some(base.to_owned());
    }

    fn expand(
        &self,
        scenario: &str,
        engine: EngineKind,
        append: Option<&str>,
        cells: &mut Vec<Cell>,
    ) -> Result<(), Error> {
        let moves_data = Scenario::load(scenario)?.transfer.is_some();
        let exporters = if moves_data { &self.exporters[..] } else { &[] };
        let kernels = match &self.kernels[..] {
            [] => vec![DEFAULT_KERNEL.to_owned()],
            some => some.to_vec(),
        };
        for kernel in &kernels {
            for exporter in options(exporters) {
                for cache in options(&self.caches) {
                    for seed in options(&self.seeds) {
                        let mut settings = self.set.clone();
                        settings.extend(exporter.map(|e| format!("exporter={}", e.name())));
                        settings.extend(cache.map(|c| format!("cache={}", names::name(&c))));
                        settings.extend(seed.map(|s| format!("seed={}", s.0)));
                        settings.extend(append.map(append::setting));
                        for own in options(&self.engines) {
                            let engine = own.unwrap_or(engine);
                            cells.push(self.cell((scenario, kernel), engine, &settings)?);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn cell(
        &self,
        names: (&str, &str),
        engine: EngineKind,
        settings: &[String],
    ) -> Result<Cell, Error> {
        let spec = RunSpec::resolve_from(self.base.as_deref(), names, engine, settings)?;
        let (set, hazards) = (self.set.clone(), self.hazards.clone());
        let mut cell = Cell::new(spec, set, self.expect, hazards);
        cell.errno.clone_from(&self.errno);
        cell.reports.clone_from(&self.reports);
        cell.row.clone_from(&self.row);
        Ok(cell)
    }
}

/// Each of the list, or once nothing.
fn options<T: Copy>(list: &[T]) -> Vec<Option<T>> {
    match list {
        [] => vec![None],
        some => some.iter().copied().map(Some).collect(),
    }
}

/// Bytes of a cell's name for each of its settings at most: file names have limits.
const SETTING_IN_NAME: usize = 40;
/// Settings in it, at most.
const SETTINGS_IN_NAME: usize = 3;
/// Hexadecimal digits for what it does not hold.
const HASH_IN_NAME: usize = 8;

fn cell_name(spec: &RunSpec, set: &[String]) -> String {
    let s = &spec.scenario;
    let kernel = match spec.kernel.path() {
        Some(path) => path
            .file_name()
            .map_or("kernel".into(), |n| n.to_string_lossy().into_owned()),
        None => spec.engine.asked(&spec.kernel.0),
    };
    let mut parts = vec![s.name.clone(), kernel];
    parts.extend(s.transfer.as_ref().map(|t| t.exporter.name().to_owned()));
    parts.push(names::name(&s.board.cache));
    parts.push(format!("s{}", s.seed));
    let other = spec.engine != EngineKind::default();
    parts.extend(other.then(|| spec.engine.name().to_owned()));
    let plain = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '=' => c,
        _ => '_',
    };
    parts.extend(
        set.iter()
            .take(SETTINGS_IN_NAME)
            .map(|setting| setting.chars().take(SETTING_IN_NAME).map(plain).collect()),
    );
    // Two cells that differ in what is cut off have names of their own, and the same in any matrix.
    let is_cut = |setting: &String| setting.chars().count() > SETTING_IN_NAME;
    if set.len() > SETTINGS_IN_NAME || set.iter().any(is_cut) {
        let mut hasher = digest::FieldHasher::default();
        for setting in set {
            hasher.named("set", setting);
        }
        parts.push(hasher.finish().chars().take(HASH_IN_NAME).collect());
    }
    parts.join(".")
}

#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod tests;
