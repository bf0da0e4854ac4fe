// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Kernels by name, as the command line and runs speak of them: `STACK[~MUTANT][+CONFIG...]`.

use std::path::{Path, PathBuf};

use staleline_kernels::{ErrorKind, Kernel, KernelBuilder, KernelError, KernelRequest, StackCheck};
use staleline_support::progress::Progress;

use super::wiring::Production;
use crate::exit::Error;
use crate::names;
use staleline_results::KernelId;

/// What is said in place of a kernel's name where the trouble is about none in particular.
const GUEST_KERNEL: &str = "guest-kernel";

/// A kernel as `staleline kernel list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KernelRow {
    /// Stack name, `~MUTANT` if there is one on top, and `+CONFIG` for each additional configuration.
    pub name: String,
    /// Release, if it has been built.
    pub version: Option<String>,
    /// Hash, if it has been built.
    pub hash: Option<String>,
    /// Where its `Image` is, if it has been built.
    pub image: Option<PathBuf>,
    /// Patches in the stack.
    pub patches: usize,
}

impl KernelRow {
    fn new(name: &str, patches: usize, kernel: Option<Kernel>) -> Self {
        KernelRow {
            name: name.into(),
            version: kernel.as_ref().map(|k| k.version.clone()),
            hash: kernel.as_ref().map(|k| k.hash.clone()),
            image: kernel.map(|k| k.image),
            patches,
        }
    }
}

impl Production {
    /// Builds a kernel: `staleline kernel build`.
    ///
    /// # Errors
    /// Usage or infrastructure errors.
    pub fn build_kernel(
        &self,
        name: &str,
        configs: &[String],
        src: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<Kernel, Error> {
        build(&request(name, configs, src)?, progress)
    }

    /// Stacks, and kernels that are built of them with the usual source: `staleline kernel list`.
    ///
    /// # Errors
    /// Usage or infrastructure errors.
    pub fn kernels(&self) -> Result<Vec<KernelRow>, Error> {
        let builder = builder()?;
        let stacks = builder.stacks().map_err(|e| error(GUEST_KERNEL, e))?;
        let in_cache = builder.list().map_err(|e| error(GUEST_KERNEL, e))?;
        // Without a source or a compiler, what is built cannot be told: shown as not built.
        let built = |request: &KernelRequest| builder.cached(request).ok().flatten();
        let mut rows = Vec::new();
        for stack in stacks {
            let row = |request: &KernelRequest, kernel: Option<Kernel>| {
                let patches = kernel
                    .as_ref()
                    .map_or(stack.patches.len(), |k| k.stack.len());
                KernelRow::new(&request.name(), patches, kernel)
            };
            let plain = KernelRequest::named(&stack.name);
            rows.push(row(&plain, built(&plain)));
            // With mutants and other configurations there are countless kernels: those are shown
            // that exist.
            let mut variants: Vec<_> = in_cache
                .iter()
                .map(|kernel| KernelRequest::named(&kernel.name))
                .filter(|variant| variant.stack == stack.name && *variant != plain)
                .collect();
            variants.dedup();
            for variant in variants {
                if let Some(kernel) = built(&variant) {
                    rows.push(row(&variant, Some(kernel)));
                }
            }
        }
        Ok(rows)
    }

    /// Checks the patches of a stack, or of all that have any: `staleline kernel check`.
    ///
    /// # Errors
    /// Usage or infrastructure errors. What is wrong with a patch is none.
    pub fn check_patches(
        &self,
        name: Option<&str>,
        configs: &[String],
        src: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<Vec<StackCheck>, Error> {
        let builder = builder()?;
        let names = match name {
            Some(name) => vec![name.to_owned()],
            None => with_patches(&builder)?,
        };
        let requests: Result<Vec<_>, _> = names.iter().map(|n| request(n, configs, src)).collect();
        let requests = requests?;
        let checks = requests.iter().map(|request| {
            let check = builder.check(request, progress);
            check.map_err(|e| match e {
                KernelError::NoPatches { .. } => Error::UnknownKernel {
                    name: request.name(),
                    why: e.to_string(),
                    help: match with_patches(&builder) {
                        Ok(names) => format!("stacks with patches: {}", names.join(", ")),
                        Err(_) => "`staleline kernel list` shows the patch stacks".into(),
                    },
                },
                e => error(&request.name(), e),
            })
        });
        checks.collect()
    }
}

fn with_patches(builder: &KernelBuilder) -> Result<Vec<String>, Error> {
    let stacks = builder.stacks().map_err(|e| error(GUEST_KERNEL, e))?;
    let some = stacks.into_iter().filter(|s| !s.patches.is_empty());
    Ok(some.map(|s| s.name).collect())
}

/// What a name, further configurations and a source come to; quick.
///
/// # Errors
/// Usage errors.
pub fn request(name: &str, configs: &[String], src: Option<&Path>) -> Result<KernelRequest, Error> {
    let builder = builder()?;
    let mut request = KernelRequest::named(name);
    request.configs.extend(configs.iter().cloned());
    request.source = src.map(Path::to_owned);
    let unknown = |what: &str, wrong: &str, known: &[String]| {
        let near = names::did_you_mean(wrong, known.iter().map(String::as_str));
        let near = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
        Error::UnknownKernel {
            name: request.name(),
            why: format!("there is no such {what}: `{wrong}`"),
            help: format!(
                "{near}{what}s: {}; a run takes a path, too",
                known.join(", ")
            ),
        }
    };
    builder.require(&request).map_err(|e| match &e {
        KernelError::UnknownStack { name, .. } => {
            let stacks = builder.stacks().unwrap_or_default();
            let stacks: Vec<_> = stacks.into_iter().map(|s| s.name).collect();
            unknown("patch stack", name, &stacks)
        }
        KernelError::UnknownMutant { name, .. } => {
            let mutants = builder.mutants().unwrap_or_default();
            let names: Vec<_> = mutants.into_iter().map(|m| m.name).collect();
            unknown("mutant", name, &names)
        }
        KernelError::UnknownConfig { name, .. } => unknown(
            "configuration",
            name,
            &builder.configs().unwrap_or_default(),
        ),
        _ => error(&request.name(), e),
    })?;
    Ok(request)
}

/// Builds it, or finds it built. The builder draws its own progress bar; ours must not stand in
/// its way.
///
/// # Errors
/// Usage or infrastructure errors.
pub fn build(request: &KernelRequest, progress: &dyn Progress) -> Result<Kernel, Error> {
    let builder = builder()?;
    let told = |e| error(&request.name(), e);
    if let Some(kernel) = builder.cached(request).map_err(told)? {
        return Ok(kernel);
    }
    builder.build(request, progress).map_err(told)
}

/// Its identity, as results have it.
pub fn id(kernel: &Kernel) -> KernelId {
    KernelId {
        name: kernel.name.clone(),
        version: kernel.version.clone(),
        stack: kernel.stack.clone(),
        hash: kernel.hash.clone(),
        image_hash: kernel.image_hash.clone(),
    }
}

fn builder() -> Result<KernelBuilder, Error> {
    KernelBuilder::new().map_err(|e| error(GUEST_KERNEL, e))
}

fn error(name: &str, e: KernelError) -> Error {
    if e.kind() == ErrorKind::Infrastructure {
        return Error::Kernel(e.into());
    }
    let help = match &e {
        KernelError::BadName { .. } => "a kernel's name is STACK[~MUTANT][+CONFIG...]",
        KernelError::RepeatedConfig { .. } => "name it once",
        KernelError::OtherBase { .. } => "a mutant's mutant.toml says which stack it is for",
        _ => "`staleline kernel list` shows the patch stacks",
    };
    Error::UnknownKernel {
        name: name.into(),
        why: crate::exit::chain(&e),
        help: help.into(),
    }
}
