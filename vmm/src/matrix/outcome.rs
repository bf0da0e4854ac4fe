// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is kept of a cell's result. A whole result has up to 64 MiB and stays in the cell's directory;
//! a matrix has thousands of cells.

use serde::{Deserialize, Serialize};
use staleline_results::{
    Diagnostic, HazardEntry, Input, KERNEL_REPORT, KernelId, LineCost, Party, RunResult, Verdict,
};
use staleline_support::{digest, text};

use super::Cell;
use crate::evidence::{Artifacts, GuestFile};

/// Reasons kept of a result, and bytes of each.
const REASONS: usize = 8;
const REASON: usize = 500;

/// In place of a master's name.
pub const CPU: &str = "cpu";

/// What came of a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    /// The cell's name.
    pub cell: String,
    /// What its run says.
    pub verdict: Verdict,
    /// Why; the first few.
    pub reasons: Vec<String>,
    /// Kinds of findings that fail it, in order, each once.
    pub findings: Vec<String>,
    /// These findings, by kind and place, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
    /// Why that is not as expected; none if it is.
    pub unexpected: Option<String>,
    /// Why an earlier attempt said nothing, if this is the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_attempt: Option<String>,
    /// What the guest was made of.
    pub guest: MadeOf,
    /// Bytes that were wrong at an end.
    pub corrupt_bytes: u64,
    /// Maintenance, in lines.
    pub maintenance: Lines,
    /// What that cost the data path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<PathLines>,
    /// Hash over everything that happened.
    pub run_hash: Option<String>,
    /// Host time.
    pub wall_ms: u64,
    /// A command that does the same run.
    pub replay: String,
}

/// Findings that fail a cell, of one kind, place and missing operation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Found {
    /// The kind.
    pub kind: String,
    /// Between whom, in words that stay the same from kernel to kernel; of a report of the kernel, what it is and
    /// in which function.
    pub place: String,
    /// What is missing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub missing: String,
    /// Lines that it is on; of a report of the kernel, how many times it came.
    pub lines: u64,
    /// Bytes were wrong.
    pub manifested: bool,
    /// Who reads or destroys: a master by its name, or [`CPU`]; none if nobody knows, or an older program has
    /// written this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<String>,
}

impl Found {
    /// Those of a result, each once.
    fn all_of(result: &RunResult) -> Vec<Self> {
        let shown = |d: &Diagnostic| result.hazards.get(d.shown);
        let findings = result.errors().map(|d| Found {
            kind: d.kind.name().to_owned(),
            place: shown(d).map_or_else(String::new, HazardEntry::between),
            missing: shown(d).map_or_else(String::new, |h| text::elide(&h.missing, REASON)),
            lines: d.lines,
            manifested: d.manifested,
            reader: shown(d).and_then(|h| match &h.reader {
                Party::Unknown => None,
                Party::Cpu { .. } => Some(CPU.to_owned()),
                Party::Device { master, .. } => Some(master.clone()),
            }),
        });
        let reports = result.guest.complaints().map(|report| Found {
            kind: KERNEL_REPORT.to_owned(),
            place: text::elide(
                &format!("{} in {}", report.class.what(), report.function()),
                REASON,
            ),
            missing: String::new(),
            lines: report.count,
            manifested: false,
            reader: None,
        });
        let mut all: Vec<Found> = Vec::new();
        for one in findings.chain(reports) {
            match all.iter_mut().find(|other| other.is_where(&one)) {
                Some(other) => {
                    other.lines = other.lines.saturating_add(one.lines);
                    other.manifested |= one.manifested;
                }
                None => all.push(one),
            }
        }
        all.sort_unstable();
        all
    }

    fn is_where(&self, other: &Self) -> bool {
        (&self.kind, &self.place, &self.missing) == (&other.kind, &other.place, &other.missing)
    }

    /// Whether another is this, or less of it.
    pub fn covers(&self, other: &Self) -> bool {
        self.is_where(other) && other.lines <= self.lines && (self.manifested || !other.manifested)
    }
}

/// Line operations: see [`staleline_results::Maintenance`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// Cleaned, on the whole machine.
    pub cleaned: u64,
    /// Invalidated, on the whole machine.
    pub invalidated: u64,
    /// On memory that DMA touched: their loss would have been a hazard.
    pub needed: u64,
    /// Their loss would not have mattered.
    pub redundant: u64,
    /// Of the DMA API, on lines that no DMA touched.
    pub untouched: u64,
}

/// What maintenance costs a path: see [`staleline_results::Cost`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathLines {
    /// On memory that devices transfer.
    pub transferred: LineCost,
    /// Bytes that came to the end of the path and were checked there.
    pub data_bytes: u64,
    /// Share of the path, in parts per million; none if there was none.
    pub share_ppm: Option<u64>,
}

impl Outcome {
    /// Of the cell's result.
    pub fn of(cell: &Cell, result: &RunResult) -> Self {
        let mut findings: Vec<String> = result.errors().map(|d| d.kind.name().to_owned()).collect();
        findings.extend(result.guest.complaints().map(|_| KERNEL_REPORT.to_owned()));
        findings.sort_unstable();
        findings.dedup();
        let m = &result.maintenance;
        let reasons = result.reasons.iter().take(REASONS);
        Outcome {
            cell: cell.name.clone(),
            verdict: result.verdict,
            reasons: reasons.map(|r| text::elide(r, REASON)).collect(),
            findings,
            found: Found::all_of(result),
            unexpected: cell
                .unexpected(result)
                .map(|why| text::elide(&why, 2 * REASON)),
            second_attempt: None,
            guest: MadeOf::of_result(result),
            corrupt_bytes: result.data.corrupt_bytes,
            maintenance: Lines {
                cleaned: m.cleaned,
                invalidated: m.invalidated,
                needed: m.needed,
                redundant: m.redundant,
                untouched: m.untouched,
            },
            cost: Some(PathLines {
                transferred: m.cost.transferred(),
                data_bytes: result.data.bytes,
                share_ppm: m.cost.path.map(|path| path.share_ppm),
            }),
            run_hash: result.run_hash.clone(),
            wall_ms: result.wall_ms,
            replay: result.replay.clone(),
        }
    }
}

/// Hashes of what a guest was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeOf {
    /// Of what the kernel was made of.
    pub kernel: Option<String>,
    /// Of its image.
    pub image: Option<String>,
    /// Of the initramfs.
    pub initramfs: Option<String>,
    /// Of the disk.
    pub disk: Option<String>,
    /// Of the list of all else.
    pub inputs: Option<String>,
}

impl MadeOf {
    fn new(kernel: Option<&KernelId>, files: [Option<String>; 2], inputs: &[Input]) -> Self {
        let [initramfs, disk] = files;
        MadeOf {
            kernel: kernel.map(|k| k.hash.clone()),
            image: kernel.and_then(|k| k.image_hash.clone()),
            initramfs,
            disk,
            inputs: (!inputs.is_empty()).then(|| {
                let mut hasher = digest::FieldHasher::default();
                for input in inputs {
                    hasher.named(&input.guest, &input.hash);
                }
                hasher.finish()
            }),
        }
    }

    fn of_result(result: &RunResult) -> Self {
        let files = [result.initrd_hash.clone(), result.disk_hash.clone()];
        MadeOf::new(result.kernel.as_ref(), files, &result.inputs)
    }

    /// Of what is there now.
    pub fn of_artifacts(now: &Artifacts) -> Self {
        let hash = |file: &Option<GuestFile>| file.as_ref().map(|file| file.hash.clone());
        let files = [hash(&now.initrd), hash(&now.disk)];
        MadeOf::new(Some(&now.kernel), files, &now.inputs)
    }

    /// What of a guest's making is not the same.
    pub fn differs(&self, now: &Self) -> Option<&'static str> {
        if self.kernel != now.kernel || (now.image.is_some() && self.image != now.image) {
            Some("the kernel")
        } else if self.initramfs != now.initramfs {
            Some("the guest's initramfs")
        } else if self.disk != now.disk {
            Some("the guest's disk")
        } else if self.inputs != now.inputs {
            Some("what the guest is given")
        } else {
            None
        }
    }
}
