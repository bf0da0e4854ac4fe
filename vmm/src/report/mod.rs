// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! One stream of events, and what can be made of it: text for people, JSON, KTAP, JUnit, SARIF.

pub mod cases;
mod finding;
mod fold;
mod headline;
pub mod html;
pub mod human;
pub mod json;
pub mod junit;
mod kernel_report;
pub mod ktap;
mod layout;
pub mod output;
mod phrases;
pub mod sarif;
pub mod sheet;
pub mod steps;
mod uri;

pub use layout::Layout;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use staleline_protocol::plan::Exporter;
use staleline_protocol::report::{Report, Stream};

use crate::board::settings::CachePolicy;
use crate::engine::EngineKind;
use crate::evidence::{Artifacts, Execution};
use crate::exit::Error;
use crate::spec::RunSpec;
use staleline_results::{
    Buffer, Data, Diagnostic, GuestEnd, HazardEntry, Hex, Input, KernelId, KernelReport, RunResult,
    Verdict,
};

/// What happens in a run, in order: one `RunStarted`, one `GuestPrepared`, any number of `Step`s, at most one
/// `GuestEnded`, one `Output` for each piece of what the user's program wrote, one `Hazard` for each
/// diagnostic that stands for its cause, one `KernelReport` for each report of the guest's kernel that is
/// not allowed, one `Data`, one `Finished`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RunEvent {
    /// The run begins.
    RunStarted {
        /// Scenario name.
        scenario: String,
        /// Its description.
        description: String,
        /// Kernel asked for.
        kernel: String,
        /// Engine.
        engine: EngineKind,
        /// Replacement policy.
        cache: CachePolicy,
        /// Exporter, if data is moved.
        exporter: Option<Exporter>,
        /// Seed.
        seed: u64,
        /// A command that does the same run.
        replay: String,
    },
    /// The guest is there.
    GuestPrepared {
        /// Its kernel.
        kernel: KernelId,
        /// Where the names of its code are, as far as they are kept.
        code: CodeFiles,
    },
    /// Something that may take time begins.
    Step {
        /// In words.
        what: String,
    },
    /// The guest ended.
    GuestEnded {
        /// How.
        end: GuestEnd,
        /// Physical address of the kernel's first byte, if it was loaded.
        kernel_at: Option<Hex>,
        /// Host time it took.
        wall_ms: u64,
    },
    /// The user's program has written something.
    Output {
        /// Where to.
        stream: Stream,
        /// The bytes, each as the character of that number.
        text: String,
    },
    /// A group of findings.
    Hazard {
        /// The group.
        #[serde(flatten)]
        explained: Box<Explained>,
        /// Others of the same cause.
        consequences: Vec<Explained>,
    },
    /// The guest's kernel reports an error of its own.
    KernelReport {
        /// What it says.
        report: KernelReport,
        /// Incoherency was found too, which may be why.
        may_follow: bool,
    },
    /// What became of the data.
    Data {
        /// All ends.
        data: Data,
    },
    /// The run is over.
    Finished {
        /// What is told of it in the stream.
        #[serde(flatten)]
        summary: Summary,
        /// All there is to know: for `result.json`, and not again in the stream.
        #[serde(skip)]
        result: Box<RunResult>,
    },
}

/// Files that tell about the guest's code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeFiles {
    /// The kernel's ELF file.
    pub vmlinux: Option<PathBuf>,
    /// Its list of symbols.
    pub system_map: Option<PathBuf>,
    /// Top of its sources.
    pub source_root: Option<PathBuf>,
    /// The agent's ELF file.
    pub agent_elf: Option<PathBuf>,
    /// What else the guest was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
}

/// A group of findings, with what it is about.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// The group.
    pub diagnostic: Diagnostic,
    /// The finding that stands for it.
    pub finding: HazardEntry,
    /// DMABUFs concerned.
    pub buffers: Vec<Buffer>,
}

impl Explained {
    /// One of the result's diagnostics; none if its finding is not there.
    fn of(result: &RunResult, diagnostic: &Diagnostic) -> Option<Self> {
        let buffers = diagnostic.buffers.iter();
        Some(Explained {
            diagnostic: diagnostic.clone(),
            finding: result.hazards.get(diagnostic.shown)?.clone(),
            buffers: buffers
                .filter_map(|i| result.buffers.get(*i))
                .cloned()
                .collect(),
        })
    }

    /// Those of the same cause as the one of this index.
    fn consequences(result: &RunResult, cause: usize) -> Vec<Self> {
        let consequences = result.consequences(cause);
        consequences
            .filter_map(|d| Explained::of(result, d))
            .collect()
    }
}

/// A result in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// What the run says.
    pub verdict: Verdict,
    /// Hash over everything that happened; none if the run broke off.
    pub run_hash: Option<String>,
    /// Findings.
    pub hazards: u64,
    /// Groups of findings.
    pub diagnostics: u64,
    /// Causes of these, each of which had an event.
    #[serde(default)]
    pub causes: u64,
    /// Wrong bytes.
    pub corrupt_bytes: u64,
    /// Maintenance operations on DMA memory.
    pub operations: u64,
    /// Data transfers.
    pub transfers: u64,
    /// CPU accesses seen.
    pub accesses: u64,
}

impl Summary {
    /// Of a result.
    pub fn of(result: &RunResult) -> Self {
        Summary {
            verdict: result.verdict,
            run_hash: result.run_hash.clone(),
            hazards: result.hazards_total,
            diagnostics: result.diagnostics.len() as u64,
            causes: result.causes().count() as u64,
            corrupt_bytes: result.data.corrupt_bytes,
            operations: result.maintenance.operations_total,
            transfers: result.machine.as_ref().map_or(0, |m| m.transfers),
            accesses: result.accesses,
        }
    }
}

impl RunEvent {
    /// The first event of a run.
    pub fn started(spec: &RunSpec) -> Self {
        let scenario = &spec.scenario;
        RunEvent::RunStarted {
            scenario: scenario.name.clone(),
            description: scenario.description.clone(),
            kernel: spec.kernel.0.clone(),
            engine: spec.engine,
            cache: scenario.board.cache,
            exporter: scenario.transfer.as_ref().map(|t| t.exporter),
            seed: scenario.seed,
            replay: spec.invocation.clone(),
        }
    }

    /// What the guest is made of.
    pub fn prepared(artifacts: &Artifacts) -> Self {
        RunEvent::GuestPrepared {
            kernel: artifacts.kernel.clone(),
            code: CodeFiles {
                vmlinux: artifacts.vmlinux.clone(),
                system_map: artifacts.system_map.clone(),
                source_root: artifacts.source_root.clone(),
                agent_elf: artifacts.agent_elf.clone(),
                inputs: artifacts.inputs.clone(),
            },
        }
    }

    /// How it ended.
    pub fn ended(execution: &Execution) -> Self {
        RunEvent::GuestEnded {
            end: execution.end.clone(),
            kernel_at: execution.loaded.as_ref().map(|l| Hex(l.kernel_at)),
            wall_ms: u64::try_from(execution.wall.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// What the user's program has written, in order.
    pub fn outputs(reports: &[Report]) -> impl Iterator<Item = RunEvent> {
        reports.iter().filter_map(|report| match report {
            Report::Output { stream, text } => Some(RunEvent::Output {
                stream: *stream,
                text: text.clone(),
            }),
            _ => None,
        })
    }

    /// The events that tell a result.
    pub fn of_result(result: &RunResult) -> Vec<RunEvent> {
        let mut events = Vec::new();
        for cause in result.causes() {
            let diagnostic = result.diagnostics.get(cause);
            if let Some(explained) = diagnostic.and_then(|d| Explained::of(result, d)) {
                events.push(RunEvent::Hazard {
                    explained: Box::new(explained),
                    consequences: Explained::consequences(result, cause),
                });
            }
        }
        let reports = result.guest.complaints().cloned();
        let may_follow = result.has_errors();
        events.extend(reports.map(|report| RunEvent::KernelReport { report, may_follow }));
        events.push(RunEvent::Data {
            data: result.data.clone(),
        });
        events.push(RunEvent::Finished {
            summary: Summary::of(result),
            result: Box::new(result.clone()),
        });
        events
    }
}

/// Makes something of the events.
pub trait Reporter {
    /// Takes the next event.
    ///
    /// # Errors
    /// Those of its output.
    fn event(&mut self, event: &RunEvent) -> io::Result<()>;
}

/// All reporters of a run.
#[derive(Default)]
pub struct Reporters<'a>(Vec<(String, Box<dyn Reporter + 'a>)>);

impl<'a> Reporters<'a> {
    /// Adds one; `output` names where it writes, for messages.
    pub fn add(&mut self, output: impl Into<String>, reporter: impl Reporter + 'a) {
        self.0.push((output.into(), Box::new(reporter)));
    }

    /// Passes an event on to all.
    ///
    /// # Errors
    /// [`Error::Host`] for the first that fails. A closed pipe is no failure: who reads our
    /// output may stop to.
    pub fn event(&mut self, event: &RunEvent) -> Result<(), Error> {
        for (output, reporter) in &mut self.0 {
            match reporter.event(event) {
                Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                    return Err(Error::host(format!("cannot write to {output}"), e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
