// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Patch after patch: apply, look, compare with what was there before.

use std::collections::BTreeSet;

use staleline_support::progress::Progress;

use super::super::compile::{Job, Log, make_steps};
use super::super::error::KernelError;
use super::super::source::Source;
use super::super::stack::{Patch, Stack};
use super::super::tools::Tools;
use super::diagnostics::{Diagnostic, Level, Scanner, beyond};
use super::objects::{Kind, Objects, State};
use super::{Checker, Complaint, PatchCheck, scripts};

/// A stack being checked.
pub(super) struct Steps<'a> {
    pub(super) source: &'a Source,
    pub(super) stack: &'a Stack,
    pub(super) job: &'a Job<'a>,
    pub(super) tools: &'a Tools,
    pub(super) objects: Objects<'a>,
}

impl Steps<'_> {
    /// All steps, starting at the unpatched tree.
    pub(super) fn run(
        &self,
        log: &mut Log,
        progress: &dyn Progress,
    ) -> Result<Vec<PatchCheck>, KernelError> {
        let patches = &self.stack.patches;
        progress.begin("compiling with W=1, unpatched", make_steps(None));
        log.line("== unpatched")?;
        let mut before = self.unpatched(log, progress)?;
        let mut checks = Vec::new();
        let mut configurable = true;
        for (index, patch) in patches.iter().enumerate() {
            let count = index + 1;
            let what = format!("checking {} ({count} of {})", patch.name, patches.len());
            progress.begin(&what, make_steps(None));
            log.line(&format!("== {}", patch.name))?;
            let stack = self.stack.first(count);
            let applied = self
                .job
                .tree
                .prepare(self.source, &stack, self.tools, progress);
            match applied {
                Ok(_) => {}
                Err(KernelError::PatchRejected { output, .. }) => {
                    checks.push(PatchCheck::rejected(patch, &output));
                    break;
                }
                Err(error) => return Err(error),
            }
            let mut check = PatchCheck::applied(patch);
            check.complaints = scripts::checkpatch(self.job, self.tools, patch, log)?;
            match self.objects.state(log, progress) {
                Ok(now) => {
                    check.compare(patch, &before, &now);
                    before = now;
                    configurable = true;
                }
                Err(KernelError::BuildFailed { step, tail, .. }) if configurable => {
                    let what = format!("{step} fails:\n{}", tail.trim_end());
                    check.complain(Checker::Kconfig, &patch.name, what);
                    configurable = false;
                }
                Err(KernelError::BuildFailed { step, .. }) => {
                    let note = format!("nothing compiled: {step} fails without this patch, too");
                    check.notes.push(note);
                }
                Err(error) => return Err(error),
            }
            checks.push(check);
        }
        self.look_at_links(&mut checks, &before, log, progress)?;
        let behind = patches.iter().skip(checks.len());
        checks.extend(behind.map(PatchCheck::behind));
        Ok(checks)
    }

    /// Says of which files the kernel has no use. `state` is that of the last patch that applies.
    fn look_at_links(
        &self,
        checks: &mut [PatchCheck],
        state: &State,
        log: &mut Log,
        progress: &dyn Progress,
    ) -> Result<(), KernelError> {
        if !checks.iter().any(|check| check.applies) {
            return Ok(());
        }
        progress.begin("compiling what is around", make_steps(None));
        log.line("== which objects are linked")?;
        let linked = self.objects.linked(state, log, progress)?;
        for (patch, check) in self.stack.patches.iter().zip(checks.iter_mut()) {
            if check.applies {
                let files = patch.files.intersection(&linked.without);
                check.notes.extend(files.map(|file| {
                    format!(
                        "{file}: compiled, but this configuration does not link it into the \
                         kernel, and may leave out parts of it"
                    )
                }));
            }
        }
        if let Some(last) = checks.iter_mut().rfind(|check| check.applies) {
            let errors = linked.errors.into_iter();
            last.complaints
                .extend(errors.map(|error| Complaint::of(Checker::Compiler, error)));
        }
        Ok(())
    }

    /// The state before the first patch. What fails here would fail after each patch alike, and
    /// look as if it had been so before: it is trouble, and no outcome.
    fn unpatched(&self, log: &mut Log, progress: &dyn Progress) -> Result<State, KernelError> {
        // kbuild runs it on each file that it compiles, and takes its failure for the file's.
        let any = BTreeSet::from(["Makefile".to_owned()]);
        let mut scanner = Scanner::new(&[]);
        scripts::kernel_doc(self.job, self.tools, &any, &mut scanner, log)?;
        let state = self.objects.state(log, progress)?;
        self.objects.prepare(log, progress)?;
        Ok(state)
    }
}

impl PatchCheck {
    fn applied(patch: &Patch) -> Self {
        let others = patch.files.iter().filter(|f| Kind::of(f) == Kind::Other);
        Self {
            patch: patch.name.clone(),
            applies: true,
            notes: others
                .map(|file| format!("{file}: only {} looked at it", scripts::CHECKPATCH))
                .collect(),
            ..Self::default()
        }
    }

    fn rejected(patch: &Patch, output: &str) -> Self {
        let mut check = Self::behind(patch);
        check.notes.clear();
        check.complain(
            Checker::Patch,
            &patch.name,
            format!("does not apply:\n{output}"),
        );
        check
    }

    fn behind(patch: &Patch) -> Self {
        Self {
            patch: patch.name.clone(),
            notes: vec!["not checked: it comes after one that does not apply".to_owned()],
            ..Self::default()
        }
    }

    fn complain(&mut self, by: Checker, file: &str, text: String) {
        self.complaints.push(Complaint {
            by,
            level: Level::Error,
            file: file.to_owned(),
            line: None,
            text,
            kind: None,
        });
    }

    /// Takes down what is new in `now`.
    fn compare(&mut self, patch: &Patch, before: &State, now: &State) {
        self.compiled = now.compiled.iter().cloned().collect();
        let headers = patch.files.iter().filter(|f| now.headers.contains(*f));
        self.documented = headers.cloned().collect();
        let mut told = false;
        for (by, before, now) in [
            (Checker::Kconfig, &before.kconfig, &now.kconfig),
            (Checker::Compiler, &before.compiler, &now.compiler),
            (Checker::KernelDoc, &before.docs, &now.docs),
        ] {
            for new in beyond(now, before) {
                told |= by == Checker::Compiler && new.level == Level::Error;
                let complaint = Complaint::of(by, new);
                // A header is compiled with each file that includes it.
                if !self.complaints.contains(&complaint) {
                    self.complaints.push(complaint);
                }
            }
        }
        for file in now.sources.difference(&now.compiled) {
            if before.sources.contains(file) && !before.compiled.contains(file) {
                self.notes.push(format!(
                    "{file}: not checked: it does not compile without this patch either"
                ));
            } else if !told {
                let text = "it does not compile; the log says more".to_owned();
                self.complain(Checker::Compiler, file, text);
            }
        }
    }
}

impl Complaint {
    fn of(by: Checker, diagnostic: Diagnostic) -> Self {
        Self {
            by,
            level: diagnostic.level,
            file: diagnostic.file,
            line: diagnostic.line,
            text: diagnostic.text,
            kind: None,
        }
    }
}
