// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! One source tree that all stacks share, patched by need.
//!
//! To change stacks, the new stack is applied with patch(1) to pristine copies of the
//! files it touches, elsewhere; then only those files of the tree are rewritten whose
//! content differs. So a stack that does not apply leaves the tree alone, make compiles
//! what differs between two stacks and no more, and an interrupted change is completed by
//! the next one: which files may differ from the pristine source is on record
//! (`overlay.json`) before the first of them is touched, and their pristine content is in
//! `pristine/`.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use staleline_support::child;
use staleline_support::digest::{self, short};
use staleline_support::files;
use staleline_support::progress::{Counted, Progress};

use super::cache::Cache;
use super::error::KernelError;
use super::manifest::Manifest;
use super::source::Source;
use super::stack::{Patch, Stack};
use super::tools::Tools;

/// How often it is looked whether another builder has ended.
const TURN: Duration = Duration::from_millis(100);

/// Where the source is in it.
pub(super) const SRC: &str = "src";

/// A work directory, locked for this builder and its child processes.
#[derive(Debug)]
pub(super) struct WorkTree {
    dir: PathBuf,
    lock: File,
}

/// Whether make can build there: it has no way to quote a path.
pub(super) fn is_for_make(path: &Path) -> bool {
    let plain = |c: char| !c.is_whitespace() && !":$#%\\'\"".contains(c);
    path.to_str().is_some_and(|path| path.chars().all(plain))
}

impl WorkTree {
    /// Waits until no other builder uses the work directory of `source`.
    pub(super) fn lock(
        cache: &Cache,
        source: &Source,
        progress: &dyn Progress,
    ) -> Result<Self, KernelError> {
        let dir = cache.work_dir(&source.work_name());
        if !is_for_make(&dir) {
            return Err(KernelError::BadCache { path: dir });
        }
        fs::create_dir_all(&dir).map_err(KernelError::io("create", &dir))?;
        let path = dir.join("lock");
        let mut lock = File::create(&path).map_err(KernelError::io("create", &path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            progress.note("waiting for another build of this source to end");
            loop {
                match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => break,
                    Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(TURN),
                    Err(error) => return Err(KernelError::io("lock", &path)(error.into())),
                }
                if progress.cancelled() {
                    return Err(KernelError::Cancelled);
                }
                // Who had it may have taken the whole tree away.
                if !path.exists() {
                    fs::create_dir_all(&dir).map_err(KernelError::io("create", &dir))?;
                    lock = File::create(&path).map_err(KernelError::io("create", &path))?;
                }
            }
        }
        Ok(Self { dir, lock })
    }

    /// The object directory for a configuration.
    pub(super) fn build_dir(&self, config: &str) -> PathBuf {
        self.dir
            .join(format!("build-{}", short(&digest::bytes(config))))
    }

    /// The object directory in which patches are checked with a configuration: other
    /// options of the compiler than in [`build_dir`](Self::build_dir), whose objects they
    /// would make make think stale.
    pub(super) fn check_dir(&self, config: &str) -> PathBuf {
        self.dir
            .join(format!("check-{}", short(&digest::bytes(config))))
    }

    /// The object directory for the kernel's own tests, whatever its configuration.
    pub(super) fn selftests_dir(&self) -> PathBuf {
        self.dir.join("selftests")
    }

    /// An input for child processes that holds the lock: should this process be killed,
    /// the next builder still waits until make has ended.
    pub(super) fn lock_as_stdin(&self) -> Result<Stdio, KernelError> {
        let path = self.dir.join("lock");
        Ok(self
            .lock
            .try_clone()
            .map_err(KernelError::io("open", &path))?
            .into())
    }

    /// The source tree with `stack` applied and nothing else.
    pub(super) fn prepare(
        &self,
        source: &Source,
        stack: &Stack,
        tools: &Tools,
        progress: &dyn Progress,
    ) -> Result<PathBuf, KernelError> {
        match source {
            Source::Archive { path, .. } => self.unpack(path, tools, progress)?,
            Source::Tree { path, manifest, .. } => {
                self.synchronise(path, manifest, tools, progress)?;
            }
        }
        self.switch(&stack.name, &stack.patches, &source.id(), tools)?;
        Ok(self.src())
    }

    fn src(&self) -> PathBuf {
        self.dir.join(SRC)
    }

    fn unpack(
        &self,
        archive: &Path,
        tools: &Tools,
        progress: &dyn Progress,
    ) -> Result<(), KernelError> {
        let src = self.src();
        if src.is_dir() {
            return Ok(());
        }
        progress.begin("unpacking the source", Counted::of("files", None));
        let partial = self.dir.join("src.partial");
        remove_tree(&partial)?;
        fs::create_dir_all(&partial).map_err(KernelError::io("create", &partial))?;
        let failed = |reason| KernelError::Program {
            program: "tar".to_owned(),
            reason,
        };
        let mut tar = tools
            .command("tar")
            .args([
                "--extract",
                "--verbose",
                "--strip-components=1",
                "--no-same-owner",
                "--file",
            ])
            .arg(archive)
            .arg("--directory")
            .arg(&partial)
            .stdin(self.lock_as_stdin()?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        // While names come, complaints may, one for each file.
        let complaints = tar.stderr.take().map(child::collect);
        if let Some(names) = tar.stdout.take() {
            for name in BufReader::new(names).split(b'\n').map_while(Result::ok) {
                progress.advance(&String::from_utf8_lossy(&name));
                if progress.cancelled() {
                    let _ = tar.kill();
                    break;
                }
            }
        }
        let status = tar.wait().map_err(|error| failed(error.to_string()))?;
        if !status.success() {
            let complaints = complaints.and_then(|thread| thread.join().ok());
            let said = child::complaint(&complaints.unwrap_or_default());
            // Half a tree is of no use, and takes the room of what is.
            remove_tree(&partial)?;
            return Err(match progress.cancelled() {
                true => KernelError::Cancelled,
                false => failed(format!("{status}\n{said}")),
            });
        }
        if !partial.join("arch/arm64/Kconfig").is_file() {
            return Err(KernelError::BadSource {
                path: archive.to_owned(),
                reason: "there is no arch/arm64/Kconfig below its top directory".to_owned(),
            });
        }
        fs::rename(&partial, &src).map_err(KernelError::io("create", &src))
    }

    /// Makes the copy of the user's tree equal to it, touching only what differs.
    fn synchronise(
        &self,
        tree: &Path,
        wanted: &Manifest,
        tools: &Tools,
        progress: &dyn Progress,
    ) -> Result<(), KernelError> {
        let record = self.dir.join("synchronised");
        let copied = Manifest::load(&record);
        if copied
            .as_ref()
            .is_some_and(|copied| copied.digest() == wanted.digest())
        {
            return Ok(());
        }
        let src = self.src();
        let copied = match copied {
            // Back to pristine: what the patches touched may be what changed.
            Some(copied) => {
                self.switch("", &[], "", tools)?;
                fs::remove_file(&record).map_err(KernelError::io("remove", &record))?;
                copied
            }
            // Never copied, or an interrupted copy, about which nothing is known.
            None => {
                for dir in [&src, &self.pristine()] {
                    remove_tree(dir)?;
                }
                self.record_overlay(&BTreeSet::new())?;
                Manifest::default()
            }
        };
        let changed: Vec<_> = wanted
            .0
            .iter()
            .filter(|(name, entry)| {
                !copied
                    .0
                    .get(*name)
                    .is_some_and(|old| old.same_content(entry))
            })
            .collect();
        let files = Counted::of("files", changed.len() as u64);
        progress.begin("copying the source", files);
        for name in copied.0.keys().filter(|name| !wanted.0.contains_key(*name)) {
            remove_file(&src.join(name))?;
        }
        for (name, entry) in changed {
            let (from, to) = (tree.join(name), src.join(name));
            if let Some(target) = entry.link_target() {
                make_parent(&to)?;
                remove_file(&to)?;
                symlink(target, &to).map_err(KernelError::io("create", &to))?;
            } else {
                let content = fs::read(&from).map_err(KernelError::io("read", &from))?;
                if digest::bytes(&content) != entry.content {
                    return Err(KernelError::BadSource {
                        path: from,
                        reason: "it changed while the tree was being copied".to_owned(),
                    });
                }
                let mode = if entry.executable { 0o755 } else { 0o644 };
                replace(&to, &content, Permissions::from_mode(mode))?;
            }
            progress.advance(name);
            if progress.cancelled() {
                return Err(KernelError::Cancelled);
            }
        }
        wanted.save(&record)
    }

    /// Brings the tree from whatever state it is in to pristine plus `patches`.
    fn switch(
        &self,
        stack: &str,
        patches: &[Patch],
        source_name: &str,
        tools: &Tools,
    ) -> Result<(), KernelError> {
        let overlay = self.overlay()?;
        let wanted: BTreeSet<_> = patches
            .iter()
            .flat_map(|patch| patch.files.iter().cloned())
            .collect();

        let scratch = tempfile::Builder::new()
            .prefix("patching-")
            .tempdir_in(&self.dir)
            .map_err(KernelError::io("create a directory in", &self.dir))?;
        for file in &wanted {
            let from = if overlay.contains(file) {
                self.pristine().join(file)
            } else {
                self.src().join(file)
            };
            copy_if_present(&from, &scratch.path().join(file))?;
        }
        for patch in patches {
            apply(patch, scratch.path(), tools).map_err(|failure| match failure {
                ApplyFailure::Rejected(output) => KernelError::PatchRejected {
                    stack: stack.to_owned(),
                    patch: patch.name.clone(),
                    source_name: source_name.to_owned(),
                    output,
                },
                ApplyFailure::Broken(error) => KernelError::Program {
                    program: "patch".to_owned(),
                    reason: error.to_string(),
                },
            })?;
        }

        for file in wanted.difference(&overlay) {
            let kept = self.pristine().join(file);
            remove_file(&kept)?;
            copy_if_present(&self.src().join(file), &kept)?;
        }
        let all: BTreeSet<_> = overlay.union(&wanted).cloned().collect();
        if all != overlay {
            self.record_overlay(&all)?;
        }
        for file in &all {
            let from = if wanted.contains(file) {
                scratch.path()
            } else {
                &self.pristine()
            };
            make_same(&from.join(file), &self.src().join(file))?;
        }
        if wanted != all {
            self.record_overlay(&wanted)?;
        }
        Ok(())
    }

    fn pristine(&self) -> PathBuf {
        self.dir.join("pristine")
    }

    fn overlay_path(&self) -> PathBuf {
        self.dir.join("overlay.json")
    }

    /// The files that may differ from the pristine source.
    fn overlay(&self) -> Result<BTreeSet<String>, KernelError> {
        let path = self.overlay_path();
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json)
                .map_err(|error| KernelError::io("understand", &path)(error.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(KernelError::io("read", &path)(error)),
        }
    }

    fn record_overlay(&self, files: &BTreeSet<String>) -> Result<(), KernelError> {
        let path = self.overlay_path();
        let json = serde_json::to_vec(files)
            .map_err(|error| KernelError::io("write", &path)(error.into()))?;
        files::write_atomically(&path, &json, files::READABLE)
            .map_err(KernelError::io("write", &path))
    }
}

enum ApplyFailure {
    Rejected(String),
    Broken(io::Error),
}

/// Runs patch(1) in `dir`, exactly: an offset is fine, other context is not.
fn apply(patch: &Patch, dir: &Path, tools: &Tools) -> Result<(), ApplyFailure> {
    let mut input = tempfile::tempfile().map_err(ApplyFailure::Broken)?;
    input
        .write_all(patch.text.as_bytes())
        .map_err(ApplyFailure::Broken)?;
    io::Seek::rewind(&mut input).map_err(ApplyFailure::Broken)?;
    let output = tools
        .command("patch")
        .args([
            "--strip=1",
            "--force",
            "--fuzz=0",
            "--no-backup-if-mismatch",
            "--directory",
        ])
        .arg(dir)
        .stdin(input)
        .output()
        .map_err(ApplyFailure::Broken)?;
    if output.status.success() {
        return Ok(());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Err(ApplyFailure::Rejected(text.trim_end().to_owned()))
}

/// Gives `to` the content of `from`, or removes it if there is no `from`; leaves it alone,
/// time included, if it is right already.
fn make_same(from: &Path, to: &Path) -> Result<(), KernelError> {
    match fs::read(from) {
        Ok(content) => {
            if fs::read(to).is_ok_and(|current| current == content) {
                return Ok(());
            }
            let metadata = fs::metadata(from).map_err(KernelError::io("read", from))?;
            replace(to, &content, metadata.permissions())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => remove_file(to),
        Err(error) => Err(KernelError::io("read", from)(error)),
    }
}

fn replace(path: &Path, content: &[u8], permissions: Permissions) -> Result<(), KernelError> {
    files::replace_with(path, content, permissions).map_err(KernelError::io("write", path))
}

fn copy_if_present(from: &Path, to: &Path) -> Result<(), KernelError> {
    match fs::symlink_metadata(from) {
        Ok(metadata) if metadata.is_file() => {
            make_parent(to)?;
            fs::copy(from, to)
                .map(drop)
                .map_err(KernelError::io("copy", from))
        }
        Ok(_) => Err(KernelError::BadSource {
            path: from.to_owned(),
            reason: "a patch would change it, but it is no regular file".to_owned(),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(KernelError::io("read", from)(error)),
    }
}

fn make_parent(path: &Path) -> Result<(), KernelError> {
    path.parent().map_or(Ok(()), |dir| {
        fs::create_dir_all(dir).map_err(KernelError::io("create", dir))
    })
}

/// Removes a file if it is there.
pub(super) fn remove_file(path: &Path) -> Result<(), KernelError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(KernelError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

pub(super) fn remove_tree(path: &Path) -> Result<(), KernelError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(KernelError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "worktree_tests.rs"]
mod tests;
