// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Configuring and compiling a prepared source tree.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use staleline_support::files;
use staleline_support::progress::{Counted, Progress};

use super::complaints::Complaints;
use super::error::{ErrorKind, KernelError};
use super::fragment::{self, Fragment};
use super::kconfig::{Kconfig, unmet};
use super::plan::Plan;
use super::tools::Tools;
use super::worktree::{WorkTree, remove_file};

/// Lines that make prints for a whole build of the base configuration, about.
const TYPICAL_STEPS: u64 = 1200;
const TAIL_LINES: usize = 25;

/// Holds the hash of the kernel for whose modules an object directory is prepared. Removed before
/// anything else is built there.
pub(super) const STAMP: &str = "staleline.kernel";

/// What make tells of while it compiles: so many lines, about, if that is known.
pub(super) fn make_steps(total: Option<u64>) -> Counted {
    Counted::of("steps of make", total)
}

/// One configuration of one prepared source tree.
pub(super) struct Job<'a> {
    pub(super) tree: &'a WorkTree,
    pub(super) src: &'a Path,
    pub(super) config: &'a str,
    /// What of it comes from the user.
    pub(super) fragments: &'a [Fragment],
    pub(super) local_version: String,
    pub(super) jobs: Option<usize>,
    pub(super) blame: ErrorKind,
}

impl<'a> Job<'a> {
    /// That of a plan, whose source and patches are in `src`.
    pub(super) fn of(
        plan: &'a Plan,
        (tree, src): (&'a WorkTree, &'a Path),
        jobs: Option<usize>,
        blame: ErrorKind,
    ) -> Self {
        Job {
            tree,
            src,
            config: &plan.config,
            fragments: &plan.fragments,
            local_version: plan.local_version(),
            jobs,
            blame,
        }
    }
}

/// A finished object directory.
pub(super) struct Built {
    pub(super) build_dir: PathBuf,
    pub(super) version: String,
    pub(super) unmet_options: Vec<String>,
}

impl Job<'_> {
    pub(super) fn run(&self, tools: &Tools, progress: &dyn Progress) -> Result<Built, KernelError> {
        let build_dir = self.tree.build_dir(self.config);
        fs::create_dir_all(&build_dir).map_err(KernelError::io("create", &build_dir))?;
        unprepare(&build_dir)?;
        let mut log = Log::create(build_dir.join("build.log"))?;

        progress.begin("configuring the kernel", make_steps(None));
        self.configure(&build_dir, tools, &mut log, progress, &mut |_| {})?;
        let unmet_options = self.configured(&build_dir)?;
        if !unmet_options.is_empty() {
            progress.note(&format!(
                "note: not available in this kernel: {}",
                unmet_options.join(", ")
            ));
        }

        let fresh = !build_dir.join("vmlinux.o").exists();
        let total = fresh.then_some(TYPICAL_STEPS);
        progress.begin("compiling the kernel", make_steps(total));
        let mut command = self.make(&build_dir, tools);
        command.arg(self.parallel()).arg("Image");
        self.follow("make Image", command, &mut log, progress)?;

        let release = build_dir.join("include/config/kernel.release");
        let version = fs::read_to_string(&release).map_err(KernelError::io("read", &release))?;
        Ok(Built {
            build_dir,
            version: version.trim().to_owned(),
            unmet_options,
        })
    }

    /// Writes `.config` in `build_dir`, or leaves it alone if it is right already; `each` sees
    /// every line that Kconfig says.
    pub(super) fn configure(
        &self,
        build_dir: &Path,
        tools: &Tools,
        log: &mut Log,
        progress: &dyn Progress,
        each: &mut dyn FnMut(&str),
    ) -> Result<(), KernelError> {
        const STEP: &str = "make allnoconfig";
        let fragment = build_dir.join("staleline.fragment");
        files::write_atomically(&fragment, self.config.as_bytes(), files::READABLE)
            .map_err(KernelError::io("write", &fragment))?;
        let mut command = self.make(build_dir, tools);
        command
            .env("KCONFIG_ALLCONFIG", &fragment)
            .arg("allnoconfig");
        let status = self.stream(STEP, command, log, progress, each)?;
        log.expect(STEP, status, self.blame)
    }

    /// What the configuration asks for and `.config` does not have, of which nothing may come from the
    /// user: that was asked for on purpose.
    pub(super) fn configured(&self, build_dir: &Path) -> Result<Vec<String>, KernelError> {
        let path = build_dir.join(".config");
        let actual = fs::read_to_string(&path).map_err(KernelError::io("read", &path))?;
        let actual = Kconfig::parse(&actual);
        fragment::require(self.fragments, &actual)?;
        let unmet = unmet(self.config, &actual);
        Ok(unmet
            .map(|(name, value)| format!("{name}={value}"))
            .collect())
    }

    /// make's option for parallel jobs.
    pub(super) fn parallel(&self) -> String {
        let jobs = self.jobs.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        });
        format!("-j{jobs}")
    }

    /// A make of this source tree into `build_dir`; targets are to be added.
    pub(super) fn make(&self, build_dir: &Path, tools: &Tools) -> Command {
        self.make_with(build_dir, tools, None)
    }

    /// The same; names of files in `own`, which is neither, are relative to that.
    pub(super) fn make_with(&self, build_dir: &Path, tools: &Tools, own: Option<&Path>) -> Command {
        // Names in the line tables are relative to the source tree, on every machine.
        let own = own.map_or_else(String::new, |dir| {
            format!(" -ffile-prefix-map={}/=", dir.display())
        });
        let prefixes = format!(
            "-ffile-prefix-map={}/= -ffile-prefix-map={}=.{own}",
            self.src.display(),
            build_dir.display()
        );
        let mut command = tools.command("make");
        command
            .current_dir(self.src)
            .arg(format!("O={}", build_dir.display()))
            .arg("ARCH=arm64")
            .arg(format!("CROSS_COMPILE={}", tools.prefix()))
            .arg(format!("LOCALVERSION={}", self.local_version))
            .arg(format!("KCFLAGS={prefixes}"))
            .arg(format!("KAFLAGS={prefixes}"))
            // The same input gives the same image.
            .env("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 2026")
            .env("KBUILD_BUILD_VERSION", "1")
            .env("KBUILD_BUILD_USER", "staleline")
            .env("KBUILD_BUILD_HOST", "staleline");
        command
    }

    /// Runs a command to its end, logging its output and showing it as progress.
    pub(super) fn follow(
        &self,
        step: &'static str,
        command: Command,
        log: &mut Log,
        progress: &dyn Progress,
    ) -> Result<(), KernelError> {
        let status = self.stream(step, command, log, progress, &mut |_| {})?;
        log.expect(step, status, self.blame)
    }

    /// As [`follow`](Self::follow), but `each` sees every line, and whether the command
    /// succeeds is the caller's affair.
    pub(super) fn stream(
        &self,
        step: &'static str,
        mut command: Command,
        log: &mut Log,
        progress: &dyn Progress,
        each: &mut dyn FnMut(&str),
    ) -> Result<ExitStatus, KernelError> {
        let failed = |error: io::Error| KernelError::Program {
            program: step.to_owned(),
            reason: error.to_string(),
        };
        let (output, input) = io::pipe().map_err(failed)?;
        let mut child = command
            .stdin(self.tree.lock_as_stdin()?)
            .stdout(input.try_clone().map_err(failed)?)
            .stderr(input)
            .spawn()
            .map_err(failed)?;
        // It holds our copies of the pipe's end: without it, reading ends with the child.
        drop(command);
        log.tail.clear();
        log.complaints.clear();
        // What ends it before its time. It is waited for all the same: it holds the lock.
        let mut over = None;
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(failed);
            if over.is_some() {
                continue;
            }
            let line = line.and_then(|line| {
                let line = String::from_utf8_lossy(&line).into_owned();
                log.line(&line).map(|()| line)
            });
            let line = match line {
                Ok(line) if !progress.cancelled() => line,
                other => {
                    over = Some(other.err().unwrap_or(KernelError::Cancelled));
                    // make then ends what it has started.
                    let _ = kill_process(Pid::from_child(&child), Signal::TERM);
                    continue;
                }
            };
            each(&line);
            // kbuild: two spaces, what it does, to which file.
            if let Some(action) = line.strip_prefix("  ") {
                progress.advance(action.trim());
            }
        }
        let status = child.wait().map_err(failed)?;
        over.map_or(Ok(status), Err)
    }
}

/// Everything that programs say, in a file; the end of what the last one said is kept for
/// error messages.
pub(super) struct Log {
    file: File,
    path: PathBuf,
    tail: VecDeque<String>,
    complaints: Complaints,
}

impl Log {
    /// Starts an empty one.
    pub(super) fn create(path: PathBuf) -> Result<Self, KernelError> {
        Ok(Log {
            file: File::create(&path).map_err(KernelError::io("create", &path))?,
            path,
            tail: VecDeque::new(),
            complaints: Complaints::default(),
        })
    }

    pub(super) fn line(&mut self, line: &str) -> Result<(), KernelError> {
        writeln!(self.file, "{line}").map_err(KernelError::io("write", &self.path))?;
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
        self.complaints.line(line);
        Ok(())
    }

    /// An error, with the first complaints or the end of the log, unless `status` is success.
    pub(super) fn expect(
        &self,
        step: &'static str,
        status: ExitStatus,
        blame: ErrorKind,
    ) -> Result<(), KernelError> {
        if status.success() {
            return Ok(());
        }
        Err(KernelError::BuildFailed {
            step,
            status: status.to_string(),
            log: self.path.clone(),
            errors: self.complaints.text(),
            tail: self.tail.iter().map(|line| format!("  {line}\n")).collect(),
            blame,
        })
    }
}

/// Takes back what an object directory is said to be prepared for.
pub(super) fn unprepare(build_dir: &Path) -> Result<(), KernelError> {
    remove_file(&build_dir.join(STAMP))
}
