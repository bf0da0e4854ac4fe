// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Modules of the user's: built for a kernel, and looked at before it gets them.

mod file;
mod parameters;
mod target;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use staleline_kernels::{KernelError, is_stack};
use staleline_support::progress::Progress;
use staleline_support::text;

use super::choice::{self, Choice};
use super::kernels::{self, Ingredients};
use super::prebuilt;
use crate::exit::Error;
use crate::scenario::Scenario;
use crate::scenario::modules::{name_of, parameters_of};
use crate::spec::{KernelChoice, quote};
use file::ModuleFile;
use target::Target;

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

/// Whether a scenario's modules, if it has any, are such for this kernel, as far as their files and its own
/// tell; quick.
///
/// # Errors
/// Usage errors.
pub(super) fn check(scenario: &Scenario, kernel: &KernelChoice) -> Result<(), Error> {
    if scenario.guest.modules.is_empty() {
        return Ok(());
    }
    let choice = Choice::find(kernel)?;
    let able = match &choice {
        Choice::Prebuilt(prebuilt) => has_loader(prebuilt.system_map.as_deref()),
        Choice::Built { kernel, .. } => has_loader(Some(&kernel.system_map)),
        Choice::Stack(request) => {
            let able = kernels::builder()?.has_modules(request);
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
    suit(scenario, kernel, &choice)
}

/// Whether a kernel takes a scenario's modules, with the parameters that they are given, as far as the files
/// of both tell.
///
/// # Errors
/// Usage errors.
pub(super) fn suit(
    scenario: &Scenario,
    kernel: &KernelChoice,
    choice: &Choice,
) -> Result<(), Error> {
    let given = scenario.guest.modules.iter();
    let mut given = given.zip(scenario.guest.module_files()).peekable();
    if given.peek().is_none() {
        return Ok(());
    }
    let target = Target::of(choice);
    let mut earlier = BTreeSet::new();
    for (words, file) in given {
        let path = &file.host;
        let told = |why: String, help: String| Error::Module {
            what: path.display().to_string(),
            why,
            help,
        };
        let build = || rebuilt(path, &kernel.0);
        let module = look_at(path).map_err(|why| told(why, build()))?;
        if let Some((why, help)) = renamed(&module, path) {
            return Err(told(why, help));
        }
        if let Some(why) = target.refuses(&kernel.0, &module, &earlier) {
            return Err(told(why, build()));
        }
        if let Some(has) = &module.parameters {
            parameters::check(has, parameters_of(words)).map_err(|(why, help)| told(why, help))?;
        }
        earlier.extend(module.defines);
    }
    Ok(())
}

/// What builds a module for a kernel.
fn rebuilt(module: &Path, kernel: &str) -> String {
    // Kbuild leaves modules beside their sources.
    let is_source = |dir: &&Path| ["Kbuild", "Makefile"].iter().any(|f| dir.join(f).is_file());
    let dir = module.parent().filter(is_source);
    let dir = dir.map_or("DIR".to_owned(), |dir| quote(&dir.display().to_string()));
    format!(
        "build it for this kernel: `staleline module build {dir} --kernel {}`",
        quote(kernel)
    )
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

/// What a module's file says of itself; or what is wrong with it, for people.
fn look_at(path: &Path) -> Result<ModuleFile, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    ModuleFile::read(&bytes)
}

/// What is wrong with a module whose file has not the name that it was built with, and the way out.
fn renamed(module: &ModuleFile, path: &Path) -> Option<(String, String)> {
    let own = module.name.as_ref().filter(|own| **own != name_of(path))?;
    let why = format!(
        "it is module {own}, by its .modinfo, and its file was renamed: the kernel calls it {own} all the \
         same, and so it would not be known in what the kernel says"
    );
    Some((why, format!("name the file {own}.ko")))
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
    fn a_module_that_was_renamed_is_to_be_renamed_back() {
        let module = ModuleFile {
            name: Some("my_dma".into()),
            ..ModuleFile::default()
        };
        assert_eq!(renamed(&module, Path::new("/x/my-dma.ko")), None);
        assert_eq!(
            renamed(&ModuleFile::default(), Path::new("/x/bar.ko")),
            None
        );
        let (why, help) = renamed(&module, Path::new("/x/bar.ko")).unwrap();
        assert!(why.contains("it is module my_dma"), "{why}");
        assert_eq!(help, "name the file my_dma.ko");
    }

    #[test]
    fn the_kernel_to_use_instead_is_named() {
        assert!(with_modules("begin-end-access").contains("begin-end-access+userland"));
        assert!(with_modules("./linux").contains("CONFIG_MODULES=y"));
    }
}
