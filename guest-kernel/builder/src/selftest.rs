// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The kernel's own tests (`tools/testing/selftests`), built of a kernel's sources by their own makefiles
//! and against that kernel's own headers (Documentation/dev-tools/kselftest.rst). Static, so that they run
//! in any guest. They test the kernel through its interfaces, so all that they are made of is sources,
//! patches and the compiler: kernels that differ in their configuration have them in common.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use staleline_support::digest::{self, FieldHasher};
use staleline_support::files;
use staleline_support::progress::Progress;

use super::compile::{Job, Log, make_steps};
use super::error::{ErrorKind, KernelError};
use super::plan::Plan;
use super::worktree::{WorkTree, remove_tree};
use super::{KernelBuilder, KernelRequest};

/// Part of every key: raised whenever the way they are built changes.
const RECIPE: u32 = 1;

/// Where they are in a kernel's sources.
const PLACE: &str = "tools/testing/selftests";

/// Where they are kept in the cache.
pub(super) const KEPT: &str = "selftests";

/// A test, as kselftest calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selftest {
    /// Its directory below `tools/testing/selftests`, e.g. `drivers/dma-buf`.
    pub collection: String,
    /// The program's name.
    pub test: String,
}

impl FromStr for Selftest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = |name: &str| {
            let legal = |c: char| c.is_ascii_alphanumeric() || "_-+.".contains(c);
            name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(legal)
        };
        match text.split_once(':') {
            Some((collection, test)) if collection.split('/').all(name) && name(test) => {
                Ok(Selftest {
                    collection: collection.to_owned(),
                    test: test.to_owned(),
                })
            }
            _ => Err(format!(
                "`{text}` must be COLLECTION:TEST, as kselftest names them: drivers/dma-buf:udmabuf"
            )),
        }
    }
}

impl std::fmt::Display for Selftest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.collection, self.test)
    }
}

impl KernelBuilder {
    /// The program of one of the kernel's own tests, built of the sources of `request` with its patches.
    ///
    /// # Errors
    /// See [`KernelError`].
    pub fn selftest(
        &self,
        request: &KernelRequest,
        selftest: &Selftest,
        progress: &dyn Progress,
    ) -> Result<PathBuf, KernelError> {
        let plan = self.plan(request, progress)?;
        let kept = self.cache.root.join(KEPT).join(key(&plan, selftest));
        if kept.is_dir() {
            return program(&kept, selftest);
        }
        self.tools.require_for_build(&plan.source)?;
        let tree = WorkTree::lock(&self.cache, &plan.source, progress)?;
        if kept.is_dir() {
            return program(&kept, selftest);
        }
        let src = tree.prepare(&plan.source, &plan.stack, &self.tools, progress)?;
        let from = src.join(PLACE).join(&selftest.collection);
        if !from.join("Makefile").is_file() {
            return Err(KernelError::NoSelftest {
                name: selftest.to_string(),
                why: format!(
                    "{} has no {PLACE}/{}/Makefile",
                    plan.source.id(),
                    selftest.collection
                ),
            });
        }
        let job = Job::of(
            &plan,
            (&tree, &src),
            request.jobs,
            ErrorKind::Infrastructure,
        );
        let dir = tree.selftests_dir();
        let out = dir.join("out");
        remove_tree(&out)?;
        fs::create_dir_all(&out).map_err(KernelError::io("create", &out))?;
        let mut log = Log::create(dir.join("selftest.log"))?;
        progress.begin(
            "making the kernel's headers for its tests",
            make_steps(None),
        );
        let mut headers = job.make(&dir, &self.tools);
        headers.arg(job.parallel()).arg("headers");
        job.follow("make headers", headers, &mut log, progress)?;

        progress.begin("compiling the kernel's own tests", make_steps(None));
        let mut make = self.tools.command("make");
        make.arg("-C")
            .arg(&from)
            .arg(job.parallel())
            .arg("ARCH=arm64")
            .arg(format!("CROSS_COMPILE={}", self.tools.prefix()))
            .arg(format!("OUTPUT={}", out.display()))
            .arg(format!(
                "KHDR_INCLUDES=-isystem {}/usr/include",
                dir.display()
            ))
            // Names in the line tables are relative to the source tree, on every machine.
            .arg(format!(
                "USERCFLAGS=-g -ffile-prefix-map={}/=",
                src.display()
            ))
            .arg("USERLDFLAGS=-static");
        job.follow("make of the selftests", make, &mut log, progress)?;
        publish(&out, &kept)?;
        remove_tree(&out)?;
        program(&kept, selftest)
    }
}

/// What all of a collection is made of.
fn key(plan: &Plan, selftest: &Selftest) -> String {
    let mut key = FieldHasher::default();
    key.named("recipe", RECIPE.to_le_bytes());
    key.named("source", plan.source.digest());
    key.named("toolchain", &plan.toolchain);
    key.named("collection", &selftest.collection);
    for patch in &plan.stack.patches {
        key.named("patch", &patch.text);
    }
    digest::short(&key.finish()).to_owned()
}

/// Puts the programs into the cache, all at once.
fn publish(out: &Path, kept: &Path) -> Result<(), KernelError> {
    let parent = kept.parent().unwrap_or(kept);
    fs::create_dir_all(parent).map_err(KernelError::io("create", parent))?;
    let staged = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .map_err(KernelError::io("create", parent))?;
    for name in programs(out)? {
        let from = out.join(&name);
        let bytes = fs::read(&from).map_err(KernelError::io("read", &from))?;
        let to = staged.path().join(&name);
        files::write_whole(&to, &bytes, files::EXECUTABLE)
            .map_err(KernelError::io("write", &to))?;
    }
    fs::rename(staged.path(), kept).map_err(KernelError::io("create", kept))?;
    // It is gone from there: nothing is left to clean up.
    let _ = staged.keep();
    Ok(())
}

/// Names of the programs in a directory, in order.
fn programs(dir: &Path) -> Result<Vec<String>, KernelError> {
    let entries = fs::read_dir(dir).map_err(KernelError::io("read", dir))?;
    let is_program = |entry: &fs::DirEntry| {
        let executable = |m: fs::Metadata| m.is_file() && m.permissions().mode() & 0o111 != 0;
        entry.metadata().is_ok_and(executable)
    };
    let programs = entries.flatten().filter(is_program);
    let mut names: Vec<_> = programs
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

fn program(kept: &Path, selftest: &Selftest) -> Result<PathBuf, KernelError> {
    let path = kept.join(&selftest.test);
    if path.is_file() {
        return Ok(path);
    }
    let all = programs(kept)?;
    Err(KernelError::NoSelftest {
        name: selftest.to_string(),
        why: format!(
            "{PLACE}/{} has no such program, but {}",
            selftest.collection,
            match &all[..] {
                [] => "none at all".into(),
                all => all.join(", "),
            }
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_named_as_kselftest_does() {
        let test: Selftest = "drivers/dma-buf:udmabuf".parse().unwrap();
        assert_eq!(
            (&*test.collection, &*test.test),
            ("drivers/dma-buf", "udmabuf")
        );
        assert_eq!(test.to_string(), "drivers/dma-buf:udmabuf");
        for bad in [
            "",
            "dmabuf-heaps",
            ":x",
            "x:",
            "../x:y",
            "/etc:x",
            "a//b:c",
            "a:b/c",
            "a:..",
            "a b:c",
            "a:$(x)",
        ] {
            assert!(bad.parse::<Selftest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_program_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (out, kept) = (dir.path().join("out"), dir.path().join("cache/kept"));
        fs::create_dir(&out).unwrap();
        files::write_whole(&out.join("test"), b"program", files::EXECUTABLE).unwrap();
        files::write_whole(&out.join("test.o"), b"object", files::READABLE).unwrap();
        publish(&out, &kept).unwrap();
        assert_eq!(programs(&kept).unwrap(), ["test"]);
        let named = |test: &str| format!("a:{test}").parse::<Selftest>().unwrap();
        assert_eq!(program(&kept, &named("test")).unwrap(), kept.join("test"));
        let e = program(&kept, &named("tset")).unwrap_err();
        assert!(e.to_string().contains("but test"), "{e}");
    }
}
