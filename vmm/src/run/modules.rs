// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Modules of the user's: built for a kernel, and looked at before it gets them.

use std::path::{Path, PathBuf};

use object::{Architecture, Object as _, ObjectKind, ObjectSection as _};
use serde::Serialize;
use staleline_kernels::{KernelError, is_stack};
use staleline_support::progress::Progress;
use staleline_support::text;

use super::choice::{self, Choice};
use super::kernels::{self, Ingredients};
use super::prebuilt;
use crate::exit::Error;
use crate::scenario::Scenario;
use crate::scenario::modules::name_of;
use crate::spec::{KernelChoice, quote};

/// The kernel that modules are built for if none is named.
pub const MODULES_KERNEL: &str = "base+userland";

/// The configuration that gives a kernel modules.
const CONFIG: &str = "userland";

/// A function that only a kernel with modules has.
const LOADER: &str = " do_init_module";

/// Modules that were built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Built {
    /// The kernel that they are for.
    pub kernel: String,
    /// Where they are.
    pub files: Vec<PathBuf>,
}

/// Builds the modules in `dir`: `staleline module build`.
///
/// # Errors
/// Usage or infrastructure errors.
pub fn build(dir: &Path, kernel: &KernelChoice, progress: &dyn Progress) -> Result<Built, Error> {
    let builder = kernels::builder()?;
    let files = match (choice::own_build(kernel)?, kernel.path()) {
        (Some(named), _) => {
            let built = builder.build_modules_of(&named, dir, progress);
            built.map(|built| built.files)
        }
        (None, Some(path)) if !is_stack(path) => builder.build_modules_in(path, dir, progress),
        _ => {
            let request = choice::request(&kernel.0)?;
            let built = builder.build_modules(&request, dir, progress);
            built.map(|built| built.files)
        }
    };
    let failed = |e: KernelError| {
        let help = match &e {
            KernelError::NoModules { .. } => with_modules(&kernel.0),
            KernelError::BuildChanged { name, .. } => rebuild(name),
            KernelError::NotPrepared { .. } => {
                "build that kernel, and `make modules` there once, or name one of Staleline's"
                    .into()
            }
            KernelError::ModulePath { dir } => format!(
                "move it, or build a copy: cp -r {} /tmp/module && staleline module build /tmp/module",
                quote(&dir.display().to_string())
            ),
            KernelError::BadModule { .. } | KernelError::NoModule { .. } => {
                "name a directory as Documentation/kbuild/modules.rst describes it".into()
            }
            KernelError::BuildFailed { .. } => "the messages say what to mend".into(),
            _ => return kernels::error(&kernel.0, e),
        };
        Error::Module {
            what: dir.display().to_string(),
            why: text::chain(&e),
            help,
        }
    };
    Ok(Built {
        kernel: kernel.0.clone(),
        files: files.map_err(failed)?,
    })
}

/// Whether a scenario's modules, if it has any, are such for this kernel; quick.
///
/// # Errors
/// Usage errors.
pub(super) fn check(scenario: &Scenario, kernel: &KernelChoice) -> Result<(), Error> {
    let mut files = scenario.guest.module_files().peekable();
    if files.peek().is_none() {
        return Ok(());
    }
    let able = match Choice::find(kernel)? {
        Choice::Prebuilt(prebuilt) => has_loader(prebuilt.system_map.as_deref()),
        Choice::Built { kernel, .. } => has_loader(Some(&kernel.system_map)),
        Choice::Stack(request) => {
            let able = kernels::builder()?.has_modules(&request);
            able.map_err(|e| kernels::error(&kernel.0, e))?
        }
    };
    if !able {
        return Err(Error::Module {
            what: format!("kernel `{}`", kernel.0),
            why: "it has no CONFIG_MODULES and cannot load modules".into(),
            help: with_modules(&kernel.0),
        });
    }
    files.try_for_each(|file| {
        look_at(&file.host).map_err(|why| Error::Module {
            what: file.host.display().to_string(),
            why,
            help: format!(
                "build it for this kernel: `staleline module build DIR --kernel {}`",
                kernel.0
            ),
        })
    })
}

/// Whether a kernel that somebody built can load modules, as far as anybody can tell: it says so itself
/// if not.
fn has_loader(map: Option<&Path>) -> bool {
    match map.and_then(|map| std::fs::read_to_string(map).ok()) {
        Some(map) => map.lines().any(|line| line.ends_with(LOADER)),
        None => true,
    }
}

/// What builds a kernel of the user's again, of what its source is now.
fn rebuild(name: &str) -> String {
    let builder = kernels::builder().ok();
    let named = builder.and_then(|builder| builder.named(name).ok().flatten());
    let command = named.map_or_else(
        || format!("staleline kernel build --src TREE --name {name}"),
        |(named, _)| choice::command(&named),
    );
    format!("build the kernel again: {command}")
}

fn with_modules(kernel: &str) -> String {
    let again = || {
        format!("build it again with --config {CONFIG}, or with CONFIG_MODULES=y in a --fragment")
    };
    match KernelChoice(kernel.into()).path() {
        // What it is run as is a build of ours.
        Some(path) if prebuilt::is_source(path) => return again(),
        Some(_) => return "set CONFIG_MODULES=y and build it again, or name base+userland".into(),
        None => {}
    }
    let stack = format!("{kernel}+{CONFIG}");
    match kernels::request(&stack, &Ingredients::default()) {
        Ok(_) => format!("name {stack}, which has modules"),
        // A build of the user's own.
        Err(_) => again(),
    }
}

/// What is wrong with a module's file, for people.
fn look_at(path: &Path) -> Result<(), String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let file = object::File::parse(&*bytes).map_err(|e| format!("it is no ELF file: {e}"))?;
    if file.architecture() != Architecture::Aarch64 || !file.is_little_endian() {
        return Err("it is not for arm64".into());
    }
    let info = file.section_by_name(".modinfo");
    let info = info.filter(|_| file.kind() == ObjectKind::Relocatable);
    let info =
        info.ok_or("it is no kernel module: it has no .modinfo, or was linked as a program")?;
    let info = info.data().map_err(|e| e.to_string())?;
    let own = info
        .split(|b| *b == 0)
        .find_map(|word| word.strip_prefix(b"name="));
    let own = own.map(String::from_utf8_lossy);
    match own {
        Some(own) if own != name_of(path) => Err(format!(
            "it calls itself {own}: name the file {own}.ko, by which the kernel's messages go"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "module_tests.rs"]
mod verdicts;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.ko");
        assert!(look_at(&file).unwrap_err().contains("No such file"));
        std::fs::write(&file, "text").unwrap();
        assert!(look_at(&file).unwrap_err().contains("no ELF file"));
        // This program is none, either.
        let why = look_at(&std::env::current_exe().unwrap()).unwrap_err();
        assert!(why.contains("arm64") || why.contains(".modinfo"), "{why}");
    }

    #[test]
    fn the_kernel_to_use_instead_is_named() {
        assert!(with_modules("begin-end-access").contains("begin-end-access+userland"));
        assert!(with_modules("./linux").contains("CONFIG_MODULES=y"));
    }
}
