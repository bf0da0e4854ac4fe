// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Modules of the user's, built for a kernel of ours by the kernel's own rules
//! (Documentation/kbuild/modules.rst).
//!
//! What that takes of the kernel is: its configuration, which is in the cache, and the symbols that it
//! exports ([`SYMBOLS`]), which are beside it; and its headers and kbuild's programs, which are made
//! anew in the work directory, where they belong to whichever kernel was built there last ([`STAMP`]).
//! The kernel's own objects are not needed, and not compiled again.

use std::fs;
use std::path::{Path, PathBuf};

use staleline_support::files;
use staleline_support::progress::Progress;
use walkdir::WalkDir;

use super::compile::{Job, Log, STAMP, make_steps, unprepare};
use super::error::{ErrorKind, KernelError};
use super::fragment::Fragment;
use super::kconfig;
use super::kernel::Kernel;
use super::named::Named;
use super::worktree::WorkTree;
use super::{KernelBuilder, KernelRequest};

/// The symbols that the kernel exports, as kbuild has them, and under which name the build of the kernel
/// leaves them.
pub(super) const SYMBOLS: &str = "Module.symvers";
pub(super) const SYMBOLS_OF_BUILD: &str = "vmlinux.symvers";

/// The option without which there are no modules.
const MODULES: &str = "CONFIG_MODULES=y";

/// What a build directory has that modules can be built for.
const NEEDED: [&str; 3] = ["Makefile", ".config", "Module.symvers"];

const STEP: &str = "make M=... modules";

/// Files that kbuild takes for a description of what to build, in its order.
const DESCRIPTIONS: [&str; 2] = ["Kbuild", "Makefile"];

/// What a build of modules has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modules {
    /// The kernel that they are for.
    pub kernel: Kernel,
    /// The `.ko` files, in order of their names.
    pub files: Vec<PathBuf>,
}

impl KernelBuilder {
    /// Whether the kernel of a request can load modules, by its configuration, the user's fragments
    /// included; quick.
    ///
    /// # Errors
    /// If there is no such configuration, or a fragment cannot be read.
    pub fn has_modules(&self, request: &KernelRequest) -> Result<bool, KernelError> {
        let mut config = self.load_config(request)?;
        for fragment in &request.fragments {
            kconfig::override_with(&mut config, &Fragment::read(fragment)?.text);
        }
        Ok(config.lines().any(|line| line.trim() == MODULES))
    }

    /// Builds the modules in `dir` for a build that has a name: for the kernel that is run under it, and so
    /// not if its source, or what goes on top, is not any more what it was built of.
    ///
    /// # Errors
    /// As [`build_modules`](Self::build_modules), and [`KernelError::BuildChanged`].
    pub fn build_modules_of(
        &self,
        named: &Named,
        dir: &Path,
        progress: &dyn Progress,
    ) -> Result<Modules, KernelError> {
        self.build_for(&named.request(), Some(named), dir, progress)
    }

    /// Builds the modules whose sources are in `dir` for the kernel of `request`, in `dir`, as kbuild
    /// does. Builds the kernel first if need be.
    ///
    /// # Errors
    /// See [`KernelError`].
    pub fn build_modules(
        &self,
        request: &KernelRequest,
        dir: &Path,
        progress: &dyn Progress,
    ) -> Result<Modules, KernelError> {
        self.build_for(request, None, dir, progress)
    }

    fn build_for(
        &self,
        request: &KernelRequest,
        named: Option<&Named>,
        dir: &Path,
        progress: &dyn Progress,
    ) -> Result<Modules, KernelError> {
        let dir = described(dir)?;
        if !self.has_modules(request)? {
            return Err(KernelError::NoModules {
                kernel: named.map_or_else(|| request.name(), |named| named.name.clone()),
            });
        }
        let plan = self.plan(request, progress)?;
        if let Some(named) = named.filter(|named| named.hash != plan.hash) {
            return Err(KernelError::BuildChanged {
                name: named.name.clone(),
                of: named.source.clone(),
                tree: named.digest != plan.source.digest(),
            });
        }
        let kernel = self.build_plan(&plan, request, progress)?;
        self.tools.require_for_build(&plan.source)?;
        let tree = WorkTree::lock(&self.cache, &plan.source, progress)?;
        let src = tree.prepare(&plan.source, &plan.stack, &self.tools, progress)?;
        let job = Job::of(
            &plan,
            (&tree, &src),
            request.jobs,
            ErrorKind::Infrastructure,
        );
        let build_dir = tree.build_dir(&plan.config);
        let symbols = kernel.image.with_file_name(SYMBOLS);
        if !symbols.is_file() {
            // A kernel from before they were kept.
            job.run(&self.tools, progress)?;
            let from = build_dir.join(SYMBOLS_OF_BUILD);
            copy(&from, &symbols)?;
        }
        let stamp = build_dir.join(STAMP);
        if fs::read_to_string(&stamp).ok().as_ref() != Some(&plan.hash) {
            unprepare(&build_dir)?;
            fs::create_dir_all(&build_dir).map_err(KernelError::io("create", &build_dir))?;
            let mut log = Log::create(build_dir.join("modules.log"))?;
            progress.begin(
                "preparing the kernel's headers for modules",
                make_steps(None),
            );
            job.configure(&build_dir, &self.tools, &mut log, progress, &mut |_| {})?;
            let mut command = job.make(&build_dir, &self.tools);
            command.arg(job.parallel()).arg("modules_prepare");
            job.follow("make modules_prepare", command, &mut log, progress)?;
            copy(&symbols, &build_dir.join(SYMBOLS))?;
            files::write_atomically(&stamp, plan.hash.as_bytes(), files::READABLE)
                .map_err(KernelError::io("write", &stamp))?;
        }
        let job = Job {
            blame: ErrorKind::User,
            ..job
        };
        progress.begin("compiling modules", make_steps(None));
        let mut log = Log::create(build_dir.join("module.log"))?;
        let mut command = job.make_with(&build_dir, &self.tools, Some(&dir));
        command
            .arg(job.parallel())
            .arg(format!("M={}", dir.display()))
            .arg("modules");
        job.follow(STEP, command, &mut log, progress)?;
        let files = made(dir)?;
        Ok(Modules { kernel, files })
    }

    /// Builds the modules in `dir` for a kernel that somebody built in `kernel`.
    ///
    /// # Errors
    /// See [`KernelError`].
    pub fn build_modules_in(
        &self,
        kernel: &Path,
        dir: &Path,
        progress: &dyn Progress,
    ) -> Result<Vec<PathBuf>, KernelError> {
        let dir = described(dir)?;
        for file in NEEDED {
            if !kernel.join(file).is_file() {
                return Err(KernelError::NotPrepared {
                    path: kernel.to_owned(),
                    file,
                });
            }
        }
        let log = self.cache.work_dir("module.log");
        let top = log.parent().unwrap_or(&log);
        fs::create_dir_all(top).map_err(KernelError::io("create", top))?;
        let mut log = Log::create(log)?;
        progress.begin("compiling modules", make_steps(None));
        let output = self
            .tools
            .command("make")
            .arg("-C")
            .arg(kernel)
            .arg(format!("M={}", dir.display()))
            .arg("ARCH=arm64")
            .arg(format!("CROSS_COMPILE={}", self.tools.prefix()))
            .arg("modules")
            .output()
            .map_err(|e| KernelError::Program {
                program: "make".to_owned(),
                reason: e.to_string(),
            })?;
        for said in [&output.stdout, &output.stderr] {
            for line in String::from_utf8_lossy(said).lines() {
                log.line(line)?;
            }
        }
        log.expect(STEP, output.status, ErrorKind::User)?;
        made(dir)
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), KernelError> {
    let content = fs::read(from).map_err(KernelError::io("read", from))?;
    files::write_atomically(to, &content, files::READABLE).map_err(KernelError::io("write", to))
}

/// The absolute path of a directory that says what to build.
fn described(dir: &Path) -> Result<PathBuf, KernelError> {
    let bad = |reason: &str| KernelError::BadModule {
        dir: dir.to_owned(),
        reason: reason.to_owned(),
    };
    let found = fs::canonicalize(dir).map_err(|e| bad(&e.to_string()))?;
    if !found.is_dir() {
        return Err(bad("it is no directory"));
    }
    if !super::worktree::is_for_make(&found) {
        return Err(KernelError::ModulePath { dir: found });
    }
    let text = DESCRIPTIONS
        .iter()
        .find_map(|name| fs::read_to_string(found.join(name)).ok())
        .ok_or_else(|| bad("there is no Kbuild or Makefile in it, with `obj-m += NAME.o`"))?;
    match text.contains("obj-") {
        true => Ok(found),
        false => Err(bad(
            "its Kbuild or Makefile has no `obj-m += NAME.o`, so that there is nothing to build",
        )),
    }
}

/// The modules that a build has left, by the list that kbuild makes of them.
fn made(dir: PathBuf) -> Result<Vec<PathBuf>, KernelError> {
    let order = dir.join("modules.order");
    let mut files: Vec<PathBuf> = match fs::read_to_string(&order) {
        Ok(text) => {
            let names = text
                .lines()
                .map(|line| Path::new(line).with_extension("ko"));
            names.map(|name| dir.join(name)).collect()
        }
        // A kernel that makes no such list: all there are.
        Err(_) => WalkDir::new(&dir)
            .into_iter()
            .filter_map(Result::ok)
            .map(walkdir::DirEntry::into_path)
            .filter(|path| path.extension().is_some_and(|e| e == "ko"))
            .collect(),
    };
    files.retain(|file| file.is_file());
    files.sort();
    match files.is_empty() {
        true => Err(KernelError::NoModule { dir }),
        false => Ok(files),
    }
}

#[cfg(test)]
#[path = "module_tests.rs"]
mod tests;
