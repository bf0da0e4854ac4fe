// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is made for a program in the guest before it can be given it: a file system of Debian's packages, or
//! one of the kernel's own tests.

use std::path::{Path, PathBuf};

use staleline_initramfs::InitramfsError;
use staleline_kernels::{KernelError, KernelRequest, Selftest};
use staleline_packages::{Package, Root};
use staleline_support::cache::CacheDir;
use staleline_support::progress::Progress;

use super::choice;
use super::kernels;
use super::prebuilt::is_source;
use crate::exit::Error;
use crate::scenario::guest::GuestSettings;
use crate::spec::{KernelChoice, RunSpec};

/// The guest's settings, with what was made in place of what was to be made.
pub(super) struct Provided {
    /// They name files of the host only.
    pub guest: GuestSettings,
    /// The packages that its file system is made of.
    pub packages: Vec<Package>,
    /// Parts of the cache that are in use with it.
    pub used: Vec<PathBuf>,
}

/// Makes it, or finds it in the cache.
///
/// # Errors
/// Usage errors, and trouble with machine or network.
pub(super) fn provide(
    spec: &RunSpec,
    cache: &CacheDir,
    progress: &dyn Progress,
) -> Result<Provided, Error> {
    let mut guest = spec.scenario.guest.clone();
    let (mut packages, mut used) = (Vec::new(), Vec::new());
    if !guest.packages.is_empty() {
        let root = root(&guest.packages, false, cache, progress)?;
        used.push(staleline_packages::kept_with(&root.path).to_owned());
        guest.root = Some(root.path.display().to_string());
        guest.packages.clear();
        packages = root.packages;
    }
    if let Some(name) = guest.selftest.take() {
        let program = selftest(&name, &spec.kernel, progress)?;
        used.extend(program.parent().map(Path::to_owned));
        guest.exec = vec![program.display().to_string()];
    }
    Ok(Provided {
        guest,
        packages,
        used,
    })
}

/// A file system of these packages.
///
/// # Errors
/// [`Error::Packages`].
pub fn root(
    names: &[String],
    renewed: bool,
    cache: &CacheDir,
    progress: &dyn Progress,
) -> Result<Root, Error> {
    staleline_packages::root(names, renewed, cache, progress).map_err(Error::Packages)
}

/// What is wrong with what the guest is to be given: with a file that the user has named, by what.
pub(super) fn unreadable(guest: &GuestSettings, e: InitramfsError) -> Error {
    let InitramfsError::Io {
        action: "read",
        path,
        source,
    } = e
    else {
        return Error::Program(e.into());
    };
    let is = |named: &Option<String>| {
        named
            .as_deref()
            .is_some_and(|named| path == Path::new(named))
    };
    let help = if guest.module_files().any(|module| module.host == path) {
        "--module FILE.ko[:PARAMETERS] (guest.modules) names a module that was built; `staleline module \
         build DIR` builds those in DIR, and prints where they are"
    } else if is(&guest.stdin) {
        "--stdin FILE (guest.stdin) names the file that the program reads as its standard input"
    } else if is(&guest.root) {
        "--root DIR (guest.root) names a directory with a file system for the guest"
    } else if guest.program().is_some_and(|program| program.host == path) {
        "name a program for arm64 behind `--`: a file of this machine, unless --root or --package gives \
         the guest a file system that has it"
    } else if guest.inputs().iter().any(|i| path.starts_with(&i.host)) {
        "--file SOURCE[:DESTINATION] (guest.files) names a file or directory of this machine, and where it \
         is to be in the guest, which starts with /"
    } else {
        return Error::Program(InitramfsError::io("read", &path)(source).into());
    };
    Error::Input { path, source, help }
}

/// The program of one of the kernel's own tests, of the sources of that kernel.
fn selftest(name: &str, kernel: &KernelChoice, progress: &dyn Progress) -> Result<PathBuf, Error> {
    let told = |why: String, help: &str| Error::Module {
        what: format!("selftest {name}"),
        why,
        help: help.into(),
    };
    let selftest: Selftest = name.parse().map_err(|why| {
        told(
            why,
            "the directories below tools/testing/selftests are the collections",
        )
    })?;
    let request = match kernel.path() {
        None => choice::request(&kernel.0)?,
        Some(path) if is_source(path) => KernelRequest {
            source: Some(path.to_owned()),
            ..KernelRequest::default()
        },
        Some(path) => {
            return Err(told(
                format!(
                    "{} is no kernel source, of which it could be built",
                    path.display()
                ),
                "name the source tree with --kernel, or a kernel that `staleline kernel build` made",
            ));
        }
    };
    let built = kernels::builder()?.selftest(&request, &selftest, progress);
    built.map_err(|e| match &e {
        KernelError::NoSelftest { why, .. } => told(
            why.clone(),
            "tests are named COLLECTION:TEST: a directory below tools/testing/selftests of the kernel's \
             sources, and a program that its Makefile builds",
        ),
        _ => kernels::error(&kernel.0, e),
    })
}
