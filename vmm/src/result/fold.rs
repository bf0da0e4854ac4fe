// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A result is a fold over the evidence in the log of its run.

use std::path::Path;

use staleline_events::LogError;
use staleline_protocol::report::Report;
use staleline_results::{Dropped, Log, RunResult, Tracing};

use super::build;
use crate::evidence::console::Console;
use crate::evidence::record::{self, Evidence, Traced};
use crate::evidence::{Artifacts, Execution};
use crate::scenario::DropMaintenance;
use crate::spec::RunSpec;

/// The evidence so far. As it has no other way in, what is not in the log is in no result.
#[derive(Debug)]
pub struct Fold {
    spec: Box<RunSpec>,
    guest: Option<Box<Artifacts>>,
    dropped: Option<Dropped>,
    console: Option<Console>,
    log: Option<Log>,
    execution: Option<Box<Execution>>,
    tracing: Option<Tracing>,
    trouble: Option<String>,
    interrupted: bool,
    /// Where the log is cut short, in words.
    cut: Option<String>,
}

impl Fold {
    /// Of a run that begins.
    pub fn new(spec: Box<RunSpec>) -> Self {
        Fold {
            spec,
            guest: None,
            dropped: None,
            console: None,
            log: None,
            execution: None,
            tracing: None,
            trouble: None,
            interrupted: false,
            cut: None,
        }
    }

    /// All the evidence in a log; none if its run is older than that.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn of(log: &Path) -> Result<Option<Self>, LogError> {
        let (fold, end) = Fold::so_far(log);
        end.map(|()| fold)
    }

    /// The same of a log that may be damaged: what comes before that, and what is wrong.
    pub fn so_far(log: &Path) -> (Option<Self>, Result<(), LogError>) {
        let mut fold = None;
        let end = record::read(log, |evidence| match (&mut fold, evidence) {
            (None, Evidence::Spec(spec)) => fold = Some(Fold::new(spec)),
            (None, _) => {}
            (Some(fold), evidence) => fold.take(evidence),
        });
        (fold, end)
    }

    /// Takes the next piece.
    pub fn take(&mut self, evidence: Evidence) {
        match evidence {
            Evidence::Spec(spec) => self.spec = spec,
            Evidence::Guest(artifacts) => self.guest = Some(artifacts),
            Evidence::Dropped(dropped) => self.dropped = Some(dropped),
            Evidence::Console(text) => self.console = Some(Console::of(&text)),
            Evidence::Log(log) => self.log = Some(log),
            Evidence::Ended(execution) => self.execution = Some(execution),
            Evidence::Traced(traced) => self.traced(traced),
            Evidence::Trouble(why) => self.trouble = Some(why),
            Evidence::Interrupted => self.interrupted = true,
        }
    }

    /// What came after this piece is lost.
    pub fn cut_short(&mut self, why: &LogError) {
        self.cut = Some(format!(
            "the log has no end: {why}; what is lost may be evidence"
        ));
    }

    fn traced(&mut self, traced: Traced) {
        let Traced {
            tracing,
            accesses,
            forgotten,
        } = traced;
        if let Some(execution) = &mut self.execution {
            execution.seen.forgotten.extend(forgotten);
            if tracing.same {
                execution.seen.accesses = accesses;
            }
        }
        self.tracing = Some(tracing);
    }

    /// What was to be run.
    pub fn spec(&self) -> &RunSpec {
        &self.spec
    }

    /// The same, so that it can be done again without a pilot run: which operation was suppressed is
    /// known once the guest has run.
    pub fn carried_out(&self) -> RunSpec {
        let mut spec = self.spec().clone();
        if let Some(dropped) = &self.dropped {
            let number = DropMaintenance::Number(dropped.number);
            spec.scenario.faults.drop_maintenance = Some(number);
        }
        spec
    }

    /// What the guest is made of, if it has got so far.
    pub fn guest(&self) -> Option<&Artifacts> {
        self.guest.as_deref()
    }

    /// What the agent has told, once the guest has ended.
    pub fn reports(&self) -> &[Report] {
        self.console.as_ref().map_or(&[], |c| &c.reports)
    }

    /// How the guest ended, once it has.
    pub fn execution(&self) -> Option<&Execution> {
        self.execution.as_deref()
    }

    /// The result.
    pub fn result(&self) -> RunResult {
        let mut result = self.of_evidence();
        result.interrupted = self.interrupted;
        result
    }

    fn of_evidence(&self) -> RunResult {
        let spec = &*self.spec;
        let guest = self.guest.as_deref();
        let trouble = match (&self.trouble, guest, &self.execution, &self.console) {
            (None, Some(guest), Some(execution), Some(console)) => match &self.cut {
                None => return self.whole(spec, guest, execution, console),
                Some(cut) => cut,
            },
            (Some(trouble), ..) => trouble,
            _ => "the run was stopped before its guest had ended",
        };
        build::infra(spec, guest, trouble)
    }

    fn whole(
        &self,
        spec: &RunSpec,
        guest: &Artifacts,
        execution: &Execution,
        console: &Console,
    ) -> RunResult {
        let mut result = build::build(spec, guest, execution, console, self.dropped.clone());
        result.tracing.clone_from(&self.tracing);
        result.notes.extend(self.log.as_ref().and_then(Log::lacks));
        result.log.clone_from(&self.log);
        result
    }
}
