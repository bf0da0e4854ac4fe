// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Guest kernels: a source tree, a configuration and an ordered stack of patches, with or without a
//! mutant on top, built once and kept by content.
//!
//! [`KernelBuilder::build`] returns a [`Kernel`] from the cache, in milliseconds, if
//! nothing that goes into it has changed, and builds it otherwise. What goes in: the
//! content of the source, the configuration fragments, the patches, the compiler and
//! linker, and [`BUILDER_VERSION`].
//!
//! # Layout of the cache
//!
//! `${XDG_CACHE_HOME:-~/.cache}/staleline/`
//! - `kernels/<hash>/`: finished kernels, written elsewhere and renamed into place; with the symbols
//!   that they export to modules, if they can load any.
//! - `work/<source>/`: one unpacked source tree per source (`src`), which all stacks
//!   share, and one object directory per configuration (`build-*`), so that going from
//!   one stack to the next compiles only what differs; another (`check-*`) for checking
//!   patches. A lock keeps builders apart.
//! - `names/<name>.json`: what the name of a build of the user's own stands for.
//! - `selftests/<key>/`: programs of one collection of the kernel's own tests.
//! - `sources.json`: content hashes of source archives by path, size and time.
//! - `tools.json`: versions of compilers, likewise.
//!
//! The user's own source tree is only ever read.

mod cache;
mod check;
mod compile;
mod complaints;
mod error;
mod fragment;
mod kconfig;
mod kernel;
mod kernels;
mod manifest;
mod module;
mod mutant;
mod named;
#[cfg(test)]
mod own_tests;
mod plan;
mod selftest;
mod source;
mod stack;
mod suited;
#[cfg(test)]
mod tests;
mod tool;
mod tools;
mod version;
mod worktree;

use std::fs;
use std::path::{Path, PathBuf};

pub use self::check::{Checker, Complaint, Level, PatchCheck, StackCheck};
pub use self::error::{ErrorKind, KernelError};
pub use self::kconfig::{Kconfig, Setting};
pub use self::kernel::Kernel;
pub use self::module::Modules;
pub use self::mutant::{About, Mutant, Several, Show};
pub use self::named::{Named, OfTree};
pub use self::plan::BUILDER_VERSION;
pub use self::selftest::Selftest;
pub use self::stack::{BASE_STACK, Patch, Stack, is_stack};
pub use self::version::Versions;

use staleline_support::cache::CacheDir;
use staleline_support::digest;
use staleline_support::home;
use staleline_support::progress::{Progress, Quiet};

use self::cache::Cache;
use self::fragment::Fragment;
use self::plan::Plan;
use self::source::Source;
use self::tools::Tools;

/// Environment variable with the path of another `guest-kernel` directory.
pub const GUEST_KERNEL_ENV: &str = "STALELINE_GUEST_KERNEL";
/// What the cache keeps of kernels, each with its kind: finished ones, and trees in which they are built, which
/// their builder holds by the file `lock` in them.
#[must_use]
pub fn kept(cache: &CacheDir) -> Vec<(&'static str, PathBuf)> {
    let kernels = cache.entries("kernels", digest::is_one).into_iter();
    let trees = cache.entries("work", |_| true).into_iter();
    let trees = trees.filter(|tree| tree.join("lock").is_file());
    let tests = cache.entries(selftest::KEPT, digest::is_one).into_iter();
    let kernels = kernels.map(|path| ("kernel", path));
    kernels
        .chain(trees.map(|path| ("kernel tree", path)))
        .chain(tests.map(|path| ("kernel's own tests", path)))
        .collect()
}

const BASE_CONFIG: &str = "staleline";
/// The configuration of the emulated host's kernel, and that kernel's name.
const HOST_CONFIG: &str = "host";

/// What to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRequest {
    /// Name of a patch stack: a directory in `guest-kernel/stacks`, unless
    /// [`stack_dir`](Self::stack_dir) says which.
    pub stack: String,
    /// The stack's directory, if it is one of the user's own.
    pub stack_dir: Option<PathBuf>,
    /// Name of a mutant that goes on top of it: a directory in `guest-kernel/mutants`.
    pub mutant: Option<String>,
    /// A kernel source tree, or an archive of one; `None` for the distribution's
    /// `/usr/src/linux-source-6.12.tar.xz`.
    pub source: Option<PathBuf>,
    /// Whether it is not for the guest, but for the emulated machine whose KVM runs the guest.
    pub host: bool,
    /// Configuration fragments on top of the base one, by name
    /// (`guest-kernel/config/<name>.config`), e.g. `lockdep`.
    pub configs: Vec<String>,
    /// Kconfig fragments of the user's own on top of those: files.
    pub fragments: Vec<PathBuf>,
    /// Parallel compile jobs; `None` for one per CPU.
    pub jobs: Option<usize>,
}

impl Default for KernelRequest {
    fn default() -> Self {
        Self {
            stack: BASE_STACK.to_owned(),
            stack_dir: None,
            mutant: None,
            source: None,
            host: false,
            configs: Vec::new(),
            fragments: Vec::new(),
            jobs: None,
        }
    }
}

impl KernelRequest {
    /// The kernel of that name: a stack's, `~<mutant>` for a mutant on top of it, and `+<config>`
    /// for each additional configuration, e.g. `begin-end-access+lockdep`, `base~weak-dsb-ish`; `host` is
    /// [`host`](Self::host).
    /// Whether there are such is not looked at.
    #[must_use]
    pub fn named(name: &str) -> Self {
        if name == HOST_CONFIG {
            return Self::host();
        }
        let mut parts = name.split('+');
        let patches = parts.next().unwrap_or_default();
        let (stack, mutant) = match patches.split_once('~') {
            Some((stack, mutant)) => (stack, Some(mutant.to_owned())),
            None => (patches, None),
        };
        Self {
            stack: stack.to_owned(),
            mutant,
            configs: parts.map(str::to_owned).collect(),
            ..Self::default()
        }
    }

    /// The kernel of the emulated machine whose KVM runs the guest, where the real one's cannot: the source as
    /// it is, configured for that.
    #[must_use]
    pub fn host() -> Self {
        Self {
            host: true,
            ..Self::default()
        }
    }

    /// The kernel of a patch stack of the user's own, which is a directory with a `series`. It has that
    /// directory's name, with `-` for what cannot be part of a kernel's release.
    #[must_use]
    pub fn of_stack(dir: &Path) -> Self {
        Self {
            stack: stack::name_of(dir),
            stack_dir: Some(dir.to_owned()),
            ..Self::default()
        }
    }

    /// The kernel's name, as [`named`](Self::named) takes it.
    #[must_use]
    pub fn name(&self) -> String {
        if self.host {
            return HOST_CONFIG.to_owned();
        }
        let mutant = self.mutant.iter().map(|mutant| format!("~{mutant}"));
        let configs = self.configs.iter().map(|config| format!("+{config}"));
        mutant
            .chain(configs)
            .fold(self.stack.clone(), |name, part| name + &part)
    }
}

/// Builds kernels and finds finished ones.
#[derive(Debug, Clone)]
pub struct KernelBuilder {
    guest_kernel: PathBuf,
    cache: Cache,
    tools: Tools,
    default_source: PathBuf,
}

impl KernelBuilder {
    /// A builder for this user and machine.
    ///
    /// The `guest-kernel` directory is the one named by `STALELINE_GUEST_KERNEL`, or that
    /// of Staleline's own files ([`home`]).
    ///
    /// # Errors
    /// When either directory cannot be determined.
    pub fn new() -> Result<Self, KernelError> {
        let guest_kernel = match std::env::var_os(GUEST_KERNEL_ENV) {
            Some(named) => PathBuf::from(named),
            None => home::find("guest-kernel")?,
        };
        Self::with_directories(&guest_kernel, CacheDir::from_environment()?)
    }

    /// A builder with its own `guest-kernel` directory and cache.
    ///
    /// # Errors
    /// When `guest_kernel` is not such a directory.
    pub fn with_directories(guest_kernel: &Path, cache: CacheDir) -> Result<Self, KernelError> {
        let guest_kernel = fs::canonicalize(guest_kernel)
            .ok()
            .filter(|dir| dir.join("stacks").is_dir() && dir.join("config").is_dir())
            .ok_or_else(|| KernelError::NoGuestKernel {
                path: guest_kernel.to_owned(),
            })?;
        Ok(Self {
            guest_kernel,
            cache: Cache::new(cache),
            tools: Tools::from_environment(),
            default_source: PathBuf::from(source::DEFAULT_ARCHIVE),
        })
    }

    #[cfg(test)]
    fn with_directories_for_tests(
        guest_kernel: &Path,
        cache: CacheDir,
        default_source: PathBuf,
    ) -> Self {
        Self {
            guest_kernel: guest_kernel.to_owned(),
            cache: Cache::new(cache),
            tools: Tools::from_environment(),
            default_source,
        }
    }

    /// The kernel for `request`: from the cache if it is there, else built now.
    ///
    /// Two builders with the same cache take turns. A build that was interrupted, at any
    /// point, is picked up by the next.
    ///
    /// # Errors
    /// See [`KernelError`]; [`KernelError::kind`] tells the user's mistakes from trouble
    /// with the machine.
    pub fn build(
        &self,
        request: &KernelRequest,
        progress: &dyn Progress,
    ) -> Result<Kernel, KernelError> {
        let plan = self.plan(request, progress)?;
        self.build_plan(&plan, request, progress)
    }

    fn build_plan(
        &self,
        plan: &Plan,
        request: &KernelRequest,
        progress: &dyn Progress,
    ) -> Result<Kernel, KernelError> {
        if let Some(kernel) = self.cache.find(&plan.hash) {
            return Ok(kernel);
        }
        self.tools.require_for_build(&plan.source)?;
        let tree = worktree::WorkTree::lock(&self.cache, &plan.source, progress)?;
        // Somebody else may have built it while we waited.
        if let Some(kernel) = self.cache.find(&plan.hash) {
            return Ok(kernel);
        }
        let src = tree.prepare(&plan.source, &plan.stack, &self.tools, progress)?;
        // Unpatched and from the distribution, it must build: the machine is at fault.
        let blame = if plan.stack.patches.is_empty() && request.source.is_none() {
            ErrorKind::Infrastructure
        } else {
            ErrorKind::User
        };
        let job = compile::Job::of(plan, (&tree, &src), request.jobs, blame);
        let built = job.run(&self.tools, progress)?;
        let kernel = self.cache.publish(plan, &built)?;
        progress.note(&format!(
            "kernel {} ({}) is ready",
            kernel.name, kernel.version
        ));
        Ok(kernel)
    }

    /// The kernel for `request` if it is in the cache; never builds.
    ///
    /// # Errors
    /// As [`Self::build`], for what it takes to know which kernel is meant.
    pub fn cached(&self, request: &KernelRequest) -> Result<Option<Kernel>, KernelError> {
        let plan = self.plan(request, &Quiet)?;
        Ok(self.cache.find(&plan.hash))
    }

    /// Where the source of a finished kernel lies unpacked, by the kernel's hash, as long as it is there. It has
    /// the patches of whichever kernel was built of it last.
    #[must_use]
    pub fn unpacked(&self, hash: &str) -> Option<PathBuf> {
        let kernel = self.cache.find(hash)?;
        let name = source::unpacked_work_name(&kernel.source)?;
        let tree = self.cache.work_dir(&name).join(worktree::SRC);
        tree.join("Makefile").is_file().then_some(tree)
    }

    /// All finished kernels in the cache, ordered by name.
    ///
    /// # Errors
    /// When the cache exists but cannot be read.
    pub fn list(&self) -> Result<Vec<Kernel>, KernelError> {
        self.cache.list()
    }

    /// The patch stacks there are, ordered by name.
    ///
    /// # Errors
    /// When a stack is malformed or cannot be read.
    pub fn stacks(&self) -> Result<Vec<Stack>, KernelError> {
        Stack::load_all(&self.guest_kernel.join("stacks"))
    }

    /// How many patches of the stack are for the usual source; all of them if that is not there.
    #[must_use]
    pub fn patches_for_usual_source(&self, stack: &Stack) -> usize {
        let mut stack = stack.clone();
        let source = Source::identify(&self.default_source, &self.cache, &Quiet);
        // What cannot be found out leaves them as they are.
        let _ = source.and_then(|source| stack.retain_for(&source, &self.cache, &self.tools));
        stack.patches.len()
    }

    fn plan(&self, request: &KernelRequest, progress: &dyn Progress) -> Result<Plan, KernelError> {
        let mut stack = self.patches(request)?;
        let mut config = self.load_config(request)?;
        let fragments = request.fragments.iter().map(|path| Fragment::read(path));
        let fragments = fragments.collect::<Result<_, _>>()?;
        let toolchain = self.tools.toolchain(&self.cache)?;
        let source = Source::identify(self.source_of(request), &self.cache, progress)?;
        let dir = self.guest_kernel.join("config");
        for name in with_base(request) {
            let more = suited::additions(&dir, name, &source, &self.cache, &self.tools)?;
            kconfig::override_with(&mut config, &more);
        }
        stack.retain_for(&source, &self.cache, &self.tools)?;
        let config = (config, fragments);
        Ok(Plan::new(request.name(), stack, config, toolchain, source))
    }

    fn source_of<'a>(&'a self, request: &'a KernelRequest) -> &'a Path {
        request.source.as_deref().unwrap_or(&self.default_source)
    }

    /// The request's stack, with its mutant's patches on top, and those that its configurations are about.
    fn patches(&self, request: &KernelRequest) -> Result<Stack, KernelError> {
        let mut stack = match &request.stack_dir {
            Some(dir) => Stack::read(dir, &request.stack)?,
            None => Stack::load(&self.guest_kernel.join("stacks"), &request.stack)?,
        };
        if let Some(name) = &request.mutant {
            Mutant::load(&self.mutants_dir(), name)?.apply_to(&mut stack)?;
        }
        let stacks = self.guest_kernel.join("stacks");
        for config in request.configs.iter().filter(|name| **name != stack.name) {
            // What is no name is told with the other configurations.
            let is_name = stack::check_name("configuration", config).is_ok();
            if is_name && stacks.join(config).is_dir() {
                stack.patches.extend(Stack::load(&stacks, config)?.patches);
            }
        }
        Ok(stack)
    }

    fn mutants_dir(&self) -> PathBuf {
        self.guest_kernel.join("mutants")
    }

    /// The mutants there are, ordered by name.
    ///
    /// # Errors
    /// When one is malformed or cannot be read.
    pub fn mutants(&self) -> Result<Vec<Mutant>, KernelError> {
        match self.mutants_dir() {
            dir if dir.is_dir() => Mutant::load_all(&dir),
            _ => Ok(Vec::new()),
        }
    }

    /// Whether there are the request's stack, mutant, configurations and fragments; quick.
    ///
    /// # Errors
    /// If not.
    pub fn require(&self, request: &KernelRequest) -> Result<(), KernelError> {
        self.patches(request)?;
        self.load_config(request)?;
        let mut fragments = request.fragments.iter();
        fragments.try_for_each(|path| Fragment::read(path).map(drop))
    }

    /// The configurations that can be added, ordered by name.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn configs(&self) -> Result<Vec<String>, KernelError> {
        let dir = self.guest_kernel.join("config");
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).map_err(KernelError::io("read", &dir))? {
            let name = entry.map_err(KernelError::io("read", &dir))?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".config"));
            let is_base = |name: &str| [BASE_CONFIG, HOST_CONFIG].contains(&name);
            let can_be_added = |name: &&str| !is_base(name) && !version::is_addition(name);
            names.extend(name.filter(can_be_added).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    fn load_config(&self, request: &KernelRequest) -> Result<String, KernelError> {
        let dir = self.guest_kernel.join("config");
        let mut config = String::new();
        let mut seen = Vec::new();
        for name in with_base(request) {
            stack::check_name("configuration", name)?;
            if seen.contains(&name) {
                return Err(KernelError::RepeatedConfig {
                    name: name.to_owned(),
                });
            }
            seen.push(name);
            let path = dir.join(format!("{name}.config"));
            if !path.exists() {
                return Err(KernelError::UnknownConfig {
                    name: name.to_owned(),
                    dir,
                    known: self.configs()?.join(", "),
                });
            }
            let text = fs::read_to_string(&path).map_err(|source| KernelError::Config {
                name: name.to_owned(),
                path,
                source,
            })?;
            config.push_str(&text);
            config.push('\n');
        }
        Ok(config)
    }
}

/// Names of configurations, the base one first.
fn with_base(request: &KernelRequest) -> impl Iterator<Item = &str> {
    let base = match request.host {
        true => HOST_CONFIG,
        false => BASE_CONFIG,
    };
    std::iter::once(base).chain(request.configs.iter().map(String::as_str))
}
