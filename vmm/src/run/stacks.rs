// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What there is to be told and done about kernels and their patch stacks, apart from runs.

use std::path::PathBuf;

use staleline_kernels::{Kernel, KernelBuilder, KernelError, KernelRequest, Named, StackCheck};
use staleline_support::progress::Progress;

use super::kernels::{GUEST_KERNEL, Ingredients, builder, error, request};
use super::wiring::Production;
use crate::exit::Error;

/// A kernel as `staleline kernel list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KernelRow {
    /// Stack name, `~MUTANT` if there is one on top, and `+CONFIG` for each additional configuration; or
    /// the name of a build of the user's own.
    pub name: String,
    /// Release, if it has been built.
    pub version: Option<String>,
    /// Hash, if it has been built.
    pub hash: Option<String>,
    /// Where its `Image` is, if it has been built.
    pub image: Option<PathBuf>,
    /// Patches in the stack.
    pub patches: usize,
    /// What it is made of, if it is a build of the user's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<Named>,
}

impl KernelRow {
    fn new(name: &str, patches: usize, kernel: Option<Kernel>) -> Self {
        KernelRow {
            name: name.into(),
            version: kernel.as_ref().map(|k| k.version.clone()),
            hash: kernel.as_ref().map(|k| k.hash.clone()),
            image: kernel.map(|k| k.image),
            patches,
            build: None,
        }
    }

    fn of_build(build: Named, kernel: Option<Kernel>) -> Self {
        let patches = kernel.as_ref().map_or(0, |k| k.stack.len());
        KernelRow {
            build: Some(build.clone()),
            ..KernelRow::new(&build.name, patches, kernel)
        }
    }
}

impl Production {
    /// Builds a kernel: `staleline kernel build`. Gives the name that it can be run by, too: that of its
    /// stack, or the build's own, which may be chosen.
    ///
    /// # Errors
    /// Usage or infrastructure errors.
    pub fn build_kernel(
        &self,
        stack: &str,
        more: &Ingredients<'_>,
        name: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<(Kernel, String), Error> {
        let request = request(stack, more)?;
        let built = builder()?.build_named(&request, name, progress);
        let (kernel, name) = built.map_err(|e| error(&request.name(), e))?;
        let name = name.unwrap_or_else(|| kernel.name.clone());
        Ok((kernel, name))
    }

    /// Stacks, and kernels that are built of them with the usual source; then builds of the user's own:
    /// `staleline kernel list`.
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
                let patches = kernel.as_ref().map_or_else(
                    || builder.patches_for_usual_source(&stack),
                    |k| k.stack.len(),
                );
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
        let own = builder.all_named().map_err(|e| error(GUEST_KERNEL, e))?;
        rows.extend(
            own.into_iter()
                .map(|(build, kernel)| KernelRow::of_build(build, kernel)),
        );
        Ok(rows)
    }

    /// Checks the patches of a stack, or of all that have any: `staleline kernel check`.
    ///
    /// # Errors
    /// Usage or infrastructure errors. What is wrong with a patch is none.
    pub fn check_patches(
        &self,
        name: Option<&str>,
        more: &Ingredients<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<StackCheck>, Error> {
        let builder = builder()?;
        let names = match name {
            Some(name) => vec![name.to_owned()],
            None => with_patches(&builder)?,
        };
        let requests: Result<Vec<_>, _> = names.iter().map(|n| request(n, more)).collect();
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
