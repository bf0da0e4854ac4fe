// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What can go wrong on the way to a kernel, and whose fault it is.

use std::io;
use std::path::{Path, PathBuf};

use staleline_support::cache::NoCacheDirectory;
use staleline_support::home;

use super::tool::Tool;

/// Who has to act on a [`KernelError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request, a patch, a configuration or a given source is wrong.
    User,
    /// The machine lacks something or failed.
    Infrastructure,
}

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The `guest-kernel` directory is missing.
    #[error(
        "no guest-kernel directory (with config/ and stacks/) at {path}; \
         set STALELINE_GUEST_KERNEL to where it is"
    )]
    NoGuestKernel {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It is nowhere that Staleline's own files may be.
    #[error(
        "{0}; set {home} to where Staleline's own files are, or STALELINE_GUEST_KERNEL to another \
         guest-kernel directory",
        home = home::HOME_ENV
    )]
    Nowhere(#[from] home::NotFound),
    /// A stack or configuration name that cannot be a plain directory or file name.
    #[error(
        "`{name}` is no {what} name: letters, digits, `-`, `_` and `.`, \
         at most 40, starting with a letter or digit"
    )]
    BadName {
        /// `stack`, `mutant` or `configuration`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// There is no such patch stack.
    #[error("no patch stack `{name}` in {dir}; there are: {known}")]
    UnknownStack {
        /// The name asked for.
        name: String,
        /// Where stacks are.
        dir: PathBuf,
        /// Those that exist, comma-separated.
        known: String,
    },
    /// There is no such mutant.
    #[error("no mutant `{name}` in {dir}; there are: {known}")]
    UnknownMutant {
        /// The name asked for.
        name: String,
        /// Where mutants are.
        dir: PathBuf,
        /// Those that exist, comma-separated.
        known: String,
    },
    /// A mutant that is asked for on top of another stack than its own.
    #[error("mutant `{mutant}` is for stack `{base}`, not for `{stack}`: name it {base}~{mutant}")]
    OtherBase {
        /// Its name.
        mutant: String,
        /// The stack asked for.
        stack: String,
        /// Its own.
        base: String,
    },
    /// There is no such configuration fragment.
    #[error("no configuration `{name}` in {dir}; there are: {known}")]
    UnknownConfig {
        /// The name asked for.
        name: String,
        /// Where fragments are.
        dir: PathBuf,
        /// Those that can be added, comma-separated.
        known: String,
    },
    /// A configuration that is asked for twice.
    #[error("configuration `{name}` is named twice")]
    RepeatedConfig {
        /// Its name.
        name: String,
    },
    /// A stack without patches, of which there is nothing to check.
    #[error("patch stack `{stack}` has no patches: there is nothing to check")]
    NoPatches {
        /// Its name.
        stack: String,
    },
    /// Modules for a kernel that can load none.
    #[error("kernel `{kernel}` has no CONFIG_MODULES and cannot load modules")]
    NoModules {
        /// Its name.
        kernel: String,
    },
    /// Modules for a build with a name whose ingredients are not what they were.
    #[error(
        "{}, so that modules for what it is now would not be for the kernel that is run as `{name}`",
        changed(.of, *.tree)
    )]
    BuildChanged {
        /// Its name.
        name: String,
        /// Its source.
        of: PathBuf,
        /// Whether that is what has changed.
        tree: bool,
    },
    /// A directory in which no module can be built.
    #[error("no module can be built there: {reason}")]
    BadModule {
        /// The directory.
        dir: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A directory whose path Kbuild cannot take.
    #[error(
        "Kbuild cannot build there: to make, spaces and : $ # % \\ ' \" in a path are its own syntax"
    )]
    ModulePath {
        /// The directory, without links.
        dir: PathBuf,
    },
    /// A build of modules that has made none.
    #[error("the build has made no .ko file: the Kbuild or Makefile there lists none with obj-m")]
    NoModule {
        /// The directory.
        dir: PathBuf,
    },
    /// A kernel's build directory that is not fit to build modules for it.
    #[error(
        "{path} is no build directory of a kernel that modules can be built for: it has no {file}"
    )]
    NotPrepared {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        file: &'static str,
    },
    /// No such test among the kernel's own.
    #[error("no selftest {name}: {why}")]
    NoSelftest {
        /// What was asked for.
        name: String,
        /// What there is.
        why: String,
    },
    /// A configuration fragment cannot be read.
    #[error("configuration `{name}`: cannot read {path}")]
    Config {
        /// Its name.
        name: String,
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A fragment of the user's cannot be read.
    #[error("cannot read the fragment {path}")]
    Fragment {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel's configuration is not what fragments of the user's ask for.
    #[error("the configuration did not take all that was asked for:{told}")]
    UnmetFragment {
        /// File, option and what it is instead, a line for each.
        told: String,
    },
    /// What cannot be the name of a build.
    #[error(
        "`{name}` cannot be the name of a build: letters, digits, `-`, `_`, `.`, `+` and `~`, at most \
         100, starting with a letter or digit"
    )]
    BadBuildName {
        /// The name.
        name: String,
    },
    /// A name that stands for something else.
    #[error("`{name}` cannot be the name of this build: {by}")]
    NameTaken {
        /// The name.
        name: String,
        /// For what.
        by: String,
    },
    /// A `series` file, a fragment or a patch is malformed.
    #[error("{path}:{line}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A patch does not apply.
    #[error("{patch} of stack `{stack}` does not apply to {source_name}:\n{output}")]
    PatchRejected {
        /// The stack's name.
        stack: String,
        /// The patch's file name.
        patch: String,
        /// What it was applied to.
        source_name: String,
        /// What patch(1) said.
        output: String,
    },
    /// The kernel's own build cannot be done in the cache.
    #[error(
        "kernels cannot be built in {path}: make takes no path with spaces or with one of : $ # % \\ ' \""
    )]
    BadCache {
        /// Where it would be.
        path: PathBuf,
    },
    /// The given source is no kernel source.
    #[error("{path} is no kernel source: {reason}")]
    BadSource {
        /// The path given.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The default source is not installed.
    #[error("the kernel source {path} is not installed: apt-get install {package}")]
    NoDefaultSource {
        /// Where it should be.
        path: PathBuf,
        /// The package that brings it.
        package: &'static str,
    },
    /// Programs are not installed.
    #[error("{}", missing_tools(tools))]
    MissingTools {
        /// All that are missing.
        tools: Vec<Tool>,
    },
    /// A step of the build failed.
    #[error("{step} failed ({status}){}", said(errors.as_deref(), tail, log))]
    BuildFailed {
        /// Which step.
        step: &'static str,
        /// How the program ended.
        status: String,
        /// The complete log.
        log: PathBuf,
        /// The first errors in it, if there is anything that looks like one.
        errors: Option<String>,
        /// Its last lines.
        tail: String,
        /// Whether the user's patches or source may be to blame.
        blame: ErrorKind,
    },
    /// A program could not be run or failed for no reason the user controls.
    #[error("{program} failed: {reason}")]
    Program {
        /// The program.
        program: String,
        /// What it said.
        reason: String,
    },
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried, e.g. `write`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The user does not want it any more.
    #[error("interrupted")]
    Cancelled,
    /// No directory for the cache is known.
    #[error(transparent)]
    NoCacheDirectory(#[from] NoCacheDirectory),
}

impl KernelError {
    /// Whether the user's input is at fault or the machine.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoGuestKernel { .. }
            | Self::Nowhere(_)
            | Self::BadName { .. }
            | Self::UnknownStack { .. }
            | Self::UnknownMutant { .. }
            | Self::OtherBase { .. }
            | Self::UnknownConfig { .. }
            | Self::RepeatedConfig { .. }
            | Self::NoPatches { .. }
            | Self::NoModules { .. }
            | Self::BuildChanged { .. }
            | Self::BadModule { .. }
            | Self::ModulePath { .. }
            | Self::NoModule { .. }
            | Self::NotPrepared { .. }
            | Self::NoSelftest { .. }
            | Self::Config { .. }
            | Self::Fragment { .. }
            | Self::UnmetFragment { .. }
            | Self::BadBuildName { .. }
            | Self::NameTaken { .. }
            | Self::Malformed { .. }
            | Self::PatchRejected { .. }
            | Self::BadCache { .. }
            | Self::BadSource { .. } => ErrorKind::User,
            Self::BuildFailed { blame, .. } => *blame,
            Self::NoDefaultSource { .. }
            | Self::MissingTools { .. }
            | Self::Program { .. }
            | Self::Io { .. }
            | Self::Cancelled
            | Self::NoCacheDirectory(_) => ErrorKind::Infrastructure,
        }
    }

    /// For `map_err` on file operations.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// For `map_err` on a fragment of the user's.
    pub(super) fn fragment(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Fragment { path, source }
    }
}

fn missing_tools(tools: &[Tool]) -> String {
    let names: Vec<_> = tools.iter().map(|tool| tool.program.as_str()).collect();
    let mut packages: Vec<_> = tools.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    format!(
        "building a kernel needs {}: apt-get install {} (or run scripts/setup)",
        names.join(", "),
        packages.join(" ")
    )
}

/// What was said in a build that failed: errors before all, as what comes last follows from them.
fn said(errors: Option<&str>, tail: &str, log: &Path) -> String {
    let log = log.display();
    match errors {
        Some(errors) => format!(":\n{errors}  the whole log is {log}"),
        None => format!("; the whole log is {log}, its end:\n{tail}"),
    }
}

/// What is not what it was when a kernel was built.
fn changed(of: &Path, tree: bool) -> String {
    match tree {
        true => format!("{} has changed since it was built", of.display()),
        false => {
            "patches, configuration, fragments or compiler have changed since it was built".into()
        }
    }
}
