// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The tool that is measured: built, called, and its results read.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use staleline_results::RunResult;
use staleline_support::cache::CacheDir;
use tempfile::TempDir;

/// Tells what comes next.
pub fn step(what: &str) {
    eprintln!("\n==> {what}");
}

/// The release build, and a place for its runs.
pub struct Tool {
    root: PathBuf,
    work: TempDir,
}

impl Tool {
    /// Builds it.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn build() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize().context("the source tree is gone")?;
        step("Building the tool and the engine's plugin");
        let packages = ["-p", "staleline", "-p", "staleline-tcg"];
        let mut build = cargo(&root);
        let status = build.args(["build", "--release"]).args(packages).status();
        ensure!(status?.success(), "the tool cannot be built: see above");
        Ok(Tool {
            root,
            work: tempfile::tempdir()?,
        })
    }

    /// Cargo, in the source tree.
    pub fn cargo(&self) -> Command {
        cargo(&self.root)
    }

    /// Top of the source tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A directory that is removed at the end.
    pub fn work(&self) -> &Path {
        self.work.path()
    }

    /// The tool with arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.root.join("target/release/staleline"));
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// A run of a scenario; its files replace those of the one before.
    pub fn run(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&["run"]);
        command.args(arguments).arg("--force").arg("--out");
        command.arg(self.run_dir());
        command
    }

    /// Where the last run's files are.
    pub fn run_dir(&self) -> PathBuf {
        self.work().join("run")
    }

    /// Kernel and initramfs of the last run, in the cache.
    ///
    /// # Errors
    /// If there was none, or it had not got so far.
    pub fn images(&self) -> Result<(PathBuf, PathBuf)> {
        let result = self.result()?;
        let cache = CacheDir::from_environment()?;
        let kernel = result.kernel.context("the run had no kernel")?;
        let initramfs = result.initrd_hash.context("the run had no initramfs")?;
        let in_cache = |dir: &str| cache.path().join(dir);
        Ok((
            in_cache("kernels").join(kernel.hash).join("Image"),
            in_cache("initramfs").join(format!("{initramfs}.cpio")),
        ))
    }

    /// What the last run found.
    ///
    /// # Errors
    /// If it has left no result.
    pub fn result(&self) -> Result<RunResult> {
        let path = self.run_dir().join("result.json");
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        serde_json::from_reader(BufReader::new(file)).with_context(|| path.display().to_string())
    }
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}
