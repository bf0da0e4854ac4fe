// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Compiling the files that a stack touches, and no others.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::read::archive::ArchiveFile;
use staleline_support::progress::Progress;

use super::super::compile::{Job, Log};
use super::super::error::KernelError;
use super::super::stack::Stack;
use super::super::tools::Tools;
use super::super::worktree::remove_file;
use super::diagnostics::{Diagnostic, Level, Scanner, beyond};
use super::{VARIABLES, scripts};

/// Its lock contexts know nothing of locks that are let go of at the end of a block (guard() in
/// include/linux/cleanup.h), and complain of each.
const SPARSE: &str = "CHECK=sparse -Wno-context";

/// What a file of a patch is, as far as checking goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// C of an arm64 kernel: compiled.
    Source,
    /// Read by kernel-doc, and by the compiler where it is included.
    Header,
    /// Text for people, or for make and Kconfig, which every compilation reads.
    Text,
    /// Code that nothing here compiles.
    Other,
}

impl Kind {
    pub(super) fn of(file: &str) -> Self {
        let parts: Vec<&str> = file.split('/').collect();
        let name = parts.last().copied().unwrap_or_default();
        let texts = ["Kconfig", "Makefile", "Kbuild", "MAINTAINERS"];
        let elsewhere = match parts[..] {
            ["Documentation", ..] => return Self::Text,
            ["arch", architecture, ..] => architecture != "arm64",
            ["samples" | "scripts" | "tools" | "usr", ..] => true,
            _ => false,
        };
        let extension = Path::new(name).extension().and_then(|e| e.to_str());
        match extension {
            _ if texts.iter().any(|text| name.starts_with(text)) => Self::Text,
            Some("h") => Self::Header,
            Some("c") if !elsewhere => Self::Source,
            _ => Self::Other,
        }
    }
}

/// The files of a stack and where their objects go.
pub(super) struct Objects<'a> {
    job: &'a Job<'a>,
    build_dir: &'a Path,
    tools: &'a Tools,
    sources: BTreeSet<String>,
    headers: BTreeSet<String>,
}

/// What a state of the tree compiles to.
#[derive(Debug, Default)]
pub(super) struct State {
    /// From Kconfig.
    pub(super) kconfig: Vec<Diagnostic>,
    /// From compiling.
    pub(super) compiler: Vec<Diagnostic>,
    /// From kernel-doc on headers.
    pub(super) docs: Vec<Diagnostic>,
    /// The stack's C files that there are.
    pub(super) sources: BTreeSet<String>,
    /// The stack's headers that there are.
    pub(super) headers: BTreeSet<String>,
    /// Those of `sources` that compile.
    pub(super) compiled: BTreeSet<String>,
}

/// What is part of the kernel.
#[derive(Debug, Default)]
pub(super) struct Linked {
    /// C files whose objects are not.
    pub(super) without: BTreeSet<String>,
    /// What beside the files of the stack does not compile. Where such things are, nothing is known.
    pub(super) errors: Vec<Diagnostic>,
}

impl<'a> Objects<'a> {
    pub(super) fn new(
        stack: &Stack,
        job: &'a Job<'a>,
        build_dir: &'a Path,
        tools: &'a Tools,
    ) -> Self {
        let files = |kind| {
            let all = stack.patches.iter().flat_map(|patch| &patch.files);
            all.filter(|file| Kind::of(file) == kind)
                .cloned()
                .collect::<BTreeSet<_>>()
        };
        Self {
            job,
            build_dir,
            tools,
            sources: files(Kind::Source),
            headers: files(Kind::Header),
        }
    }

    /// Makes what every compilation needs: if that fails, nothing can be said.
    pub(super) fn prepare(
        &self,
        log: &mut Log,
        progress: &dyn Progress,
    ) -> Result<(), KernelError> {
        let mut command = self.make();
        command.arg("prepare");
        self.job.follow("make prepare", command, log, progress)
    }

    /// Configures and compiles the tree as it is now.
    pub(super) fn state(
        &self,
        log: &mut Log,
        progress: &dyn Progress,
    ) -> Result<State, KernelError> {
        let mut scanner = self.scanner();
        self.job
            .configure(self.build_dir, self.tools, log, progress, &mut |line| {
                scanner.line(line);
            })?;
        let kconfig = std::mem::take(&mut scanner.found);
        let there = |files: &BTreeSet<String>| {
            let there = files
                .iter()
                .filter(|file| self.job.src.join(file).is_file());
            there.cloned().collect::<BTreeSet<_>>()
        };
        let mut state = State {
            kconfig,
            sources: there(&self.sources),
            headers: there(&self.headers),
            ..State::default()
        };
        self.compile(&mut state, log, progress)?;
        if !state.headers.is_empty() {
            let mut scanner = self.scanner();
            scripts::kernel_doc(self.job, self.tools, &state.headers, &mut scanner, log)?;
            state.docs = scanner.found;
        }
        Ok(state)
    }

    /// kbuild makes an object of its own whether or not the configuration has a use for it.
    fn compile(
        &self,
        state: &mut State,
        log: &mut Log,
        progress: &dyn Progress,
    ) -> Result<(), KernelError> {
        if state.sources.is_empty() {
            return Ok(());
        }
        let objects: Vec<String> = state.sources.iter().map(|file| object(file)).collect();
        for object in &objects {
            // What is up to date says nothing.
            remove_file(&self.build_dir.join(object))?;
        }
        // sparse looks at each file that is compiled, behind the compiler.
        let targets = objects.iter().map(String::as_str).chain(["C=1"]);
        let mut found = self.make_all(targets, log, progress)?;
        // What else was made on the way is not judged, as long as it can be made.
        found.retain(|d| d.level == Level::Error || objects.contains(&d.object));
        state.compiler = found;
        let made = |file: &&String| self.build_dir.join(object(file)).is_file();
        state.compiled = state.sources.iter().filter(made).cloned().collect();
        Ok(())
    }

    /// Finds out which files of `state` the configuration has in the kernel: those whose objects
    /// are in the archive of their directory, of which the kernel is made.
    pub(super) fn linked(
        &self,
        state: &State,
        log: &mut Log,
        progress: &dyn Progress,
    ) -> Result<Linked, KernelError> {
        let files = state.compiled.iter();
        let archives: BTreeSet<PathBuf> = files.flat_map(|file| archives_of(file)).collect();
        for archive in &archives {
            remove_file(&self.build_dir.join(archive))?;
        }
        // Directories that the configuration leaves out have no archive, which is no mistake.
        let mut found = self.make_all(&archives, log, progress)?;
        found.retain(|d| d.level == Level::Error);
        let mut objects = BTreeSet::new();
        let mut made = BTreeSet::new();
        for archive in &archives {
            let path = self.build_dir.join(archive);
            let data = match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                data => data.map_err(KernelError::io("read", &path))?,
            };
            let members = members(&data).map_err(|error| {
                KernelError::io("understand", &path)(io::Error::other(error.to_string()))
            })?;
            let dir = archive.parent().unwrap_or(Path::new(""));
            objects.extend(members.iter().map(|member| dir.join(member)));
            made.insert(archive.clone());
        }
        let without = |file: &&String| {
            let known = found.is_empty() || archives_of(file).any(|a| made.contains(&a));
            known && !objects.contains(Path::new(&object(file)))
        };
        Ok(Linked {
            without: state.compiled.iter().filter(without).cloned().collect(),
            errors: beyond(&found, &state.compiler),
        })
    }

    /// Makes what can be made of `targets`, among which may be variables: what was said about it.
    fn make_all(
        &self,
        targets: impl IntoIterator<Item = impl AsRef<OsStr>>,
        log: &mut Log,
        progress: &dyn Progress,
    ) -> Result<Vec<Diagnostic>, KernelError> {
        let mut command = self.make();
        // Each target's messages together, behind its name.
        command
            .args(["--keep-going", "--output-sync=target"])
            .args(targets);
        let mut scanner = self.scanner();
        self.job
            .stream("make W=1", command, log, progress, &mut |line| {
                scanner.line(line);
            })?;
        Ok(scanner.found)
    }

    fn scanner(&self) -> Scanner {
        Scanner::new(&[self.job.src, self.build_dir])
    }

    fn make(&self) -> Command {
        let mut command = self.job.make(self.build_dir, self.tools);
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command
            .args(["W=1", "V=0", SPARSE])
            .arg(self.job.parallel());
        command
    }
}

fn object(source: &str) -> String {
    let stem = source.strip_suffix(".c").unwrap_or(source);
    format!("{stem}.o")
}

/// The archives in which a file's object can be; `lib` directories have two.
fn archives_of(source: &str) -> impl Iterator<Item = PathBuf> {
    let dir = Path::new(source).parent().unwrap_or(Path::new(""));
    let lib = dir.file_name().is_some_and(|name| name == "lib");
    let names = ["built-in.a", "lib.a"].into_iter();
    names
        .take(if lib { 2 } else { 1 })
        .map(|name| dir.join(name))
}

/// Names of the members, relative to the archive: kbuild's are thin.
fn members(archive: &[u8]) -> object::read::Result<Vec<String>> {
    ArchiveFile::parse(archive)?
        .members()
        .map(|member| Ok(String::from_utf8_lossy(member?.name()).into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_where_a_file_is() {
        for (file, kind) in [
            ("drivers/dma-buf/dma-buf.c", Kind::Source),
            ("init/main.c", Kind::Source),
            ("arch/arm64/mm/dma-mapping.c", Kind::Source),
            ("arch/x86/mm/init.c", Kind::Other),
            ("tools/testing/x.c", Kind::Other),
            ("arch/arm64/lib/clear_page.S", Kind::Other),
            ("include/linux/dma-buf.h", Kind::Header),
            ("Documentation/x/example.c", Kind::Text),
            ("drivers/a/Kconfig.debug", Kind::Text),
            ("drivers/a/Makefile", Kind::Text),
            ("MAINTAINERS", Kind::Text),
        ] {
            assert_eq!(Kind::of(file), kind, "{file}");
        }
    }

    #[test]
    fn an_object_is_in_the_archive_of_its_directory() {
        assert_eq!(object("lib/a.c.c"), "lib/a.c.o");
        let archives = |file| archives_of(file).collect::<Vec<_>>();
        assert_eq!(archives("mm/a.c"), [Path::new("mm/built-in.a")]);
        let lib = ["arch/arm64/lib/built-in.a", "arch/arm64/lib/lib.a"];
        assert_eq!(archives("arch/arm64/lib/a.c"), lib.map(PathBuf::from));
    }

    #[test]
    fn thin_archives_are_read() {
        let mut archive = b"!<thin>\n".to_vec();
        archive.extend(format!("{:<48}{:<10}`\n", "//", 24).bytes());
        archive.extend(b"dma-buf.o/\nheaps/cma.o/\n");
        for at in [0, 11] {
            archive.extend(format!("{:<48}{:<10}`\n", format!("/{at}"), 123_680).bytes());
        }
        assert_eq!(members(&archive).unwrap(), ["dma-buf.o", "heaps/cma.o"]);
        assert_eq!(members(b"!<thin>\n").unwrap(), [""; 0]);
        assert!(members(b"nonsense").is_err());
    }
}
