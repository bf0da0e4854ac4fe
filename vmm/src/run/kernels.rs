// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Kernels by name, as the command line and runs speak of them: `STACK[~MUTANT][+CONFIG...]`.

use std::path::{Path, PathBuf};

use staleline_kernels::{
    ErrorKind, Kernel, KernelBuilder, KernelError, KernelRequest, Mutant, is_stack,
};
use staleline_support::progress::Progress;
use staleline_support::text;

use crate::exit::Error;
use crate::names;
use crate::spec::KernelChoice;
use staleline_results::KernelId;

/// What is said in place of a kernel's name where the trouble is about none in particular.
pub(super) const GUEST_KERNEL: &str = "guest-kernel";

/// What goes into a kernel besides its patches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ingredients<'a> {
    /// Configurations by name.
    pub configs: &'a [String],
    /// Fragments of configuration: files.
    pub fragments: &'a [PathBuf],
    /// The source, if it is not the usual one.
    pub src: Option<&'a Path>,
}

/// Where the source of a kernel of the cache lies unpacked, as long as it does.
pub(super) fn unpacked(kernel: &KernelId) -> Option<PathBuf> {
    builder().ok()?.unpacked(&kernel.hash)
}

/// What the name or the directory of a patch stack, and what else goes into a kernel, come to; quick.
///
/// # Errors
/// Usage errors.
pub fn request(name: &str, more: &Ingredients<'_>) -> Result<KernelRequest, Error> {
    let builder = builder()?;
    let mut request = match KernelChoice(name.into()).path() {
        Some(dir) if is_stack(dir) => KernelRequest::of_stack(dir),
        Some(dir) => {
            return Err(Error::UnknownKernel {
                name: name.into(),
                why: format!("{} is no patch stack", dir.display()),
                help: "name a directory with patches and a file `series` that lists them".into(),
            });
        }
        None => KernelRequest::named(name),
    };
    request.configs.extend(more.configs.iter().cloned());
    request.source = more.src.map(Path::to_owned);
    request.fragments = more.fragments.to_vec();
    let unknown = |what: &str, wrong: &str, known: &[String]| {
        let near = names::suggestion(wrong, known.iter().map(String::as_str));
        Error::UnknownKernel {
            name: request.name(),
            why: format!("there is no such {what}: `{wrong}`"),
            help: format!(
                "{near}{what}s: {}; a run takes a path, too",
                known.join(", ")
            ),
        }
    };
    let told = |e| match &e {
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
    };
    match builder.require(&request) {
        Ok(()) => Ok(request),
        Err(e @ (KernelError::UnknownStack { .. } | KernelError::BadName { .. })) => {
            let here = [name, &request.stack];
            let here = here.into_iter().find(|name| Path::new(name).exists());
            Err(with_path(told(e), here))
        }
        Err(e) => Err(told(e)),
    }
}

/// The error about a name, of which there is something in the working directory, which has another one.
fn with_path(e: Error, here: Option<&str>) -> Error {
    match (e, here) {
        (Error::UnknownKernel { name, why, help }, Some(here)) => Error::UnknownKernel {
            name,
            why,
            help: format!("what is here under that name is `./{here}`, with a `/`; {help}"),
        },
        (e, _) => e,
    }
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

/// All mutants, by name.
///
/// # Errors
/// What is wrong with one.
pub fn mutants() -> Result<Vec<Mutant>, Error> {
    builder()?.mutants().map_err(|e| error(GUEST_KERNEL, e))
}

/// The builder of this user and machine.
pub(super) fn builder() -> Result<KernelBuilder, Error> {
    KernelBuilder::new().map_err(|e| error(GUEST_KERNEL, e))
}

/// What the user is told of a builder's error about the kernel `name`.
pub(super) fn error(name: &str, e: KernelError) -> Error {
    if e.kind() == ErrorKind::Infrastructure {
        return Error::Kernel(e.into());
    }
    let help = match &e {
        KernelError::BadName { .. } => "a kernel's name is STACK[~MUTANT][+CONFIG...]",
        KernelError::RepeatedConfig { .. } => "name it once",
        KernelError::BadBuildName { .. } | KernelError::NameTaken { .. } => {
            "choose another with --name NAME"
        }
        KernelError::Fragment { .. } | KernelError::UnmetFragment { .. } => {
            "mend the fragment: an option may depend on others, or have another name in this source"
        }
        KernelError::Malformed { .. } => "mend that line",
        KernelError::BadSource { .. } => {
            "give --src the top of a kernel's sources, or an archive of them"
        }
        KernelError::PatchRejected { .. } => {
            "the stack is for another version of the source: copy its directory, mend that patch there, and \
             look at the outcome with `staleline kernel check --stack ./COPY --src DIR`"
        }
        KernelError::BadCache { .. } => "name a cache elsewhere with XDG_CACHE_HOME",
        KernelError::OtherBase { .. } => "a mutant's mutant.toml says which stack it is for",
        KernelError::BuildFailed { .. } => "the kernel's source or the patches do not compile",
        KernelError::Config { .. } => "make the file readable",
        KernelError::NoGuestKernel { .. } => "name the directory in STALELINE_GUEST_KERNEL",
        _ => "`staleline kernel list` shows the patch stacks",
    };
    Error::UnknownKernel {
        name: name.into(),
        why: text::chain(&e),
        help: help.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_named_with_a_slash() {
        // Tests run in the directory of the crate.
        for name in ["src", "src+lockdep"] {
            let told = request(name, &Ingredients::default()).unwrap_err().render();
            let stack = "there is no such patch stack: `src`";
            let path = "what is here under that name is `./src`, with a `/`; ";
            assert!(told.contains(stack) && told.contains(path), "{told}");
        }
        let told = request("base+src", &Ingredients::default()).unwrap_err();
        assert!(!told.render().contains("./src"), "{told}");
    }
}
