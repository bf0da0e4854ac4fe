// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Judges a patch stack as a maintainer would: patch by patch, each on top of its
//! predecessors, so that every step of the stack can be bisected.
//!
//! A patch must apply; `scripts/checkpatch.pl --strict` of the tree that it is for must have
//! nothing to say; with it, all C files that the stack touches must compile with `W=1`
//! without a warning (among them kernel-doc's about these files), sparse must have nothing to say about
//! them, and `scripts/kernel-doc` must have nothing to say about the stack's headers.
//!
//! Messages that were there before a patch are not the patch's. The same files are compiled
//! before the first patch and after each one; a message is the same as an earlier one if
//! object, file, level and text are, whatever the line, which moves, and a patch may not make
//! it more frequent.
//!
//! kbuild compiles a file that it is asked for even if the configuration has no use for it,
//! then without the options that it depends on. So the kernel's archives are looked into: what
//! is not linked gets a note.

mod diagnostics;
mod objects;
mod scripts;
mod steps;
#[cfg(test)]
mod tests;
mod text;

use std::fs;
use std::path::PathBuf;

use serde::Serialize;

pub use self::diagnostics::Level;

use staleline_support::progress::Progress;

use self::objects::Objects;
use self::steps::Steps;
use super::compile::{Job, Log};
use super::error::{ErrorKind, KernelError};
use super::worktree::WorkTree;
use super::{KernelBuilder, KernelRequest};

/// What the user's environment would have the programs do differently.
const VARIABLES: [&str; 4] = ["GIT_DIR", "KCFLAGS", "KDOC_WERROR", "KBUILD_VERBOSE"];

/// What came of checking a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StackCheck {
    /// The kernel's name: the stack, and `+<config>` for each additional configuration.
    pub name: String,
    /// Identity of the source: its name and content hash.
    pub source: String,
    /// In order of application.
    pub patches: Vec<PatchCheck>,
    /// Everything that the programs said.
    pub log: PathBuf,
}

/// What came of one patch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PatchCheck {
    /// Its file name.
    pub patch: String,
    /// Whether it applies. If not, neither it nor what comes after it was looked at.
    pub applies: bool,
    /// C files that compile with it and its predecessors, of those that the whole stack
    /// touches.
    pub compiled: Vec<String>,
    /// Headers that it touches and kernel-doc has read.
    pub documented: Vec<String>,
    /// What is wrong with it.
    pub complaints: Vec<Complaint>,
    /// What was not looked at, or not in full, and why.
    pub notes: Vec<String>,
}

/// Who complains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checker {
    /// patch(1).
    Patch,
    /// checkpatch.pl.
    Checkpatch,
    /// Kconfig.
    Kconfig,
    /// The compiler; or sparse, or kernel-doc, on a C file, which kbuild runs along with it.
    Compiler,
    /// kernel-doc on a header.
    KernelDoc,
}

/// Something that is wrong with a patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Complaint {
    /// Who says so.
    pub by: Checker,
    /// How bad it is.
    pub level: Level,
    /// A source file as it is with the patch; the patch itself if that is what was looked at.
    pub file: String,
    /// Line of that file, from 1.
    pub line: Option<u32>,
    /// What is wrong.
    pub text: String,
    /// checkpatch.pl's name for it.
    pub kind: Option<String>,
}

impl StackCheck {
    /// Complaints about all patches together.
    #[must_use]
    pub fn complaints(&self) -> usize {
        self.patches.iter().map(|p| p.complaints.len()).sum()
    }
}

impl KernelBuilder {
    /// Checks the patches of the request's stack, one after the other.
    ///
    /// # Errors
    /// As [`KernelBuilder::build`], and if there are no patches. That something is wrong with
    /// a patch is no error: it is the outcome.
    pub fn check(
        &self,
        request: &KernelRequest,
        progress: &dyn Progress,
    ) -> Result<StackCheck, KernelError> {
        let mut whole = request.clone();
        let own = request.stack_dir.is_none() && !request.configs.contains(&request.stack);
        if own && self.configs()?.contains(&request.stack) {
            // Its patches are for what this switches on.
            whole.configs.push(request.stack.clone());
        }
        let plan = self.plan(&whole, progress)?;
        if plan.stack.patches.is_empty() {
            return Err(KernelError::NoPatches {
                stack: plan.stack.name,
            });
        }
        self.tools.require_for_check(&plan.source)?;
        let tree = WorkTree::lock(&self.cache, &plan.source, progress)?;
        let unpatched = plan.stack.first(0);
        let src = tree.prepare(&plan.source, &unpatched, &self.tools, progress)?;
        for needed in [scripts::CHECKPATCH, scripts::KERNEL_DOC] {
            if !src.join(needed).is_file() {
                return Err(KernelError::BadSource {
                    path: plan.source.path().to_owned(),
                    reason: format!("it has no {needed}"),
                });
            }
        }
        let build_dir = tree.check_dir(&plan.config);
        fs::create_dir_all(&build_dir).map_err(KernelError::io("create", &build_dir))?;
        let path = build_dir.join("check.log");
        let mut log = Log::create(path.clone())?;
        let blame = match request.source {
            Some(_) => ErrorKind::User,
            None => ErrorKind::Infrastructure,
        };
        let job = Job {
            // Nothing that is compiled here holds it, and stacks shall share what they can.
            local_version: String::new(),
            ..Job::of(&plan, (&tree, &src), request.jobs, blame)
        };
        let steps = Steps {
            source: &plan.source,
            stack: &plan.stack,
            job: &job,
            tools: &self.tools,
            objects: Objects::new(&plan.stack, &job, &build_dir, &self.tools),
        };
        let patches = steps.run(&mut log, progress)?;
        if patches.iter().all(|patch| patch.applies) {
            job.configured(&build_dir)?;
        }
        let check = StackCheck {
            patches,
            source: plan.source.id(),
            name: request.name(),
            log: path,
        };
        progress.note(&format!("{} is checked", check.name));
        Ok(check)
    }
}
