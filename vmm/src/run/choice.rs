// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which kernel is meant by what a user names: a stack, a build of the user's own, or a path.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use staleline_kernels::{
    BASE_STACK, Kernel, KernelBuilder, KernelRequest, Named, OfTree, is_stack,
};
use staleline_support::progress::Quiet;

use super::kernels::{self, Ingredients, builder, error};
use super::prebuilt::{self, Prebuilt, is_source};
use crate::engine::EngineKind;
use crate::exit::Error;
use crate::names;
use crate::requirements;
use crate::scenario::Scenario;
use crate::spec::{KernelChoice, quote};

/// A kernel that is there, or can be built.
#[derive(Debug, Clone)]
pub enum Choice {
    /// Somebody else built it.
    Prebuilt(Prebuilt),
    /// It is in the cache.
    Built {
        /// It.
        kernel: Box<Kernel>,
        /// The tree that it was built of, if that is the user's own.
        source: Option<PathBuf>,
    },
    /// A stack with what goes on top, which has yet to be built.
    Stack(Box<KernelRequest>),
}

impl Choice {
    /// One that is in the cache, and built of no source of the user's own.
    pub fn built(kernel: Kernel) -> Self {
        Choice::Built {
            kernel: Box::new(kernel),
            source: None,
        }
    }

    /// Finds out; without building anything. A source tree is looked through once for all runs of a
    /// command: it is one kernel for all of them.
    ///
    /// # Errors
    /// Usage errors, and trouble with the cache.
    pub fn find(kernel: &KernelChoice) -> Result<Self, Error> {
        static FOUND: Mutex<Option<HashMap<String, Choice>>> = Mutex::new(None);
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        let found = found.get_or_insert_default();
        if let Some(choice) = found.get(&kernel.0) {
            return Ok(choice.clone());
        }
        let choice = match kernel.path() {
            Some(path) => by_path(path)?,
            None => by_name(&kernel.0)?,
        };
        found.insert(kernel.0.clone(), choice.clone());
        Ok(choice)
    }

    /// That it has what a run of the scenario needs by that engine, as far as its configuration is known; if that is not
    /// found anywhere, a note that says so.
    ///
    /// # Errors
    /// [`Error::KernelLacks`], and if something is there that cannot be read.
    pub fn suits(
        &self,
        name: &str,
        scenario: &Scenario,
        engine: EngineKind,
    ) -> Result<Option<String>, Error> {
        let (image, found) = match self {
            Choice::Prebuilt(prebuilt) => {
                let image = &prebuilt.image;
                (image, requirements::config::find(image, &prebuilt.configs))
            }
            // What it was built with is kept beside it.
            Choice::Built { kernel, .. } => {
                let files = std::slice::from_ref(&kernel.config);
                (&kernel.image, requirements::config::of_files(files))
            }
            Choice::Stack(request) if !request.fragments.is_empty() => return Ok(None),
            Choice::Stack(request) => {
                let mut lacks = requirements::lacks_of_ours(&request.configs, scenario);
                let configs = request.configs.iter().chain([&request.stack]);
                let configs: Vec<_> = configs.map(String::as_str).collect();
                lacks.extend(requirements::lacks_port_of_ours(&configs, engine));
                return match lacks.is_empty() {
                    true => Ok(None),
                    false => Err(Error::KernelLacks {
                        name: name.into(),
                        scenario: scenario.name.clone(),
                        lacks,
                        place: "by its name".into(),
                    }),
                };
            }
        };
        let found =
            found.map_err(|e| Error::host(format!("cannot read {}", image.display()), e))?;
        let Some(found) = found else {
            let lacks = requirements::lacks_port_by_image(image, engine);
            let lacks =
                lacks.map_err(|e| Error::host(format!("cannot read {}", image.display()), e))?;
            if let Some(lacks) = lacks {
                return Err(Error::KernelLacks {
                    name: name.into(),
                    scenario: scenario.name.clone(),
                    lacks: vec![lacks],
                    place: format!("as it is not known by {}", image.display()),
                });
            }
            return Ok(Some(format!(
                "whether the kernel has all that the run needs was not looked at: there is no \
                 configuration in {} (CONFIG_IKCONFIG), nor a .config beside it",
                image.display()
            )));
        };
        let mut lacks = requirements::lacks(&found.config, scenario);
        lacks.extend(requirements::lacks_port(&found.config, engine));
        match lacks.is_empty() {
            true => Ok(None),
            false => Err(Error::KernelLacks {
                name: name.into(),
                scenario: scenario.name.clone(),
                lacks,
                place: found.place,
            }),
        }
    }
}

/// What a kernel is built of that is named: by a name, or as a directory with patches.
///
/// # Errors
/// Usage errors, and trouble with the cache.
pub fn request(name: &str) -> Result<KernelRequest, Error> {
    if KernelChoice(name.into()).path().is_some() {
        return kernels::request(name, &Ingredients::default());
    }
    let builder = builder()?;
    let request = KernelRequest::named(name);
    if builder.require(&request).is_ok() {
        return Ok(request);
    }
    match builder.named(name).map_err(|e| error(name, e))? {
        Some((named, _)) => Ok(named.request()),
        None => Err(unknown(name, &builder)),
    }
}

/// The build of the user's own that a name or the path of a source tree stands for, as [`Choice::find`] has
/// it; none of a stack, or of what was built somewhere else.
///
/// # Errors
/// As [`Choice::find`].
pub fn own_build(kernel: &KernelChoice) -> Result<Option<Named>, Error> {
    let builder = builder()?;
    let failed = |e| error(&kernel.0, e);
    let Some(path) = kernel.path() else {
        if builder.require(&KernelRequest::named(&kernel.0)).is_ok() {
            return Ok(None);
        }
        return match builder.named(&kernel.0).map_err(failed)? {
            Some((named, _)) => Ok(Some(named)),
            None => Err(unknown(&kernel.0, &builder)),
        };
    };
    if is_stack(path) || !is_source(path) {
        return Ok(None);
    }
    let Choice::Built { kernel: built, .. } = by_path(path)? else {
        return Ok(None);
    };
    let mut all = builder.all_named().map_err(failed)?.into_iter();
    Ok(all.find_map(|(named, _)| (named.hash == built.hash).then_some(named)))
}

fn by_name(name: &str) -> Result<Choice, Error> {
    let builder = builder()?;
    let request = KernelRequest::named(name);
    if builder.require(&request).is_ok() {
        return Ok(by_request(request, &builder));
    }
    match builder.named(name).map_err(|e| error(name, e))? {
        Some((named, Some(kernel))) => Ok(Choice::Built {
            kernel: Box::new(kernel),
            source: Some(named.source).filter(|source| is_source(source)),
        }),
        Some((named, None)) => Err(Error::UnknownKernel {
            name: name.into(),
            why: format!(
                "it was built of {}, and is not in the cache any more",
                named.source.display()
            ),
            help: format!("build it again: {}", command(&named)),
        }),
        None => Err(unknown(name, &builder)),
    }
}

fn by_request(request: KernelRequest, builder: &KernelBuilder) -> Choice {
    // Whatever is in the way of finding it is told when it is to be prepared.
    match builder.cached(&request).ok().flatten() {
        Some(kernel) => Choice::built(kernel),
        None => Choice::Stack(Box::new(request)),
    }
}

/// No stack, and no build of the user's: with those that there are.
fn unknown(name: &str, builder: &KernelBuilder) -> Error {
    let told = match kernels::request(name, &Ingredients::default()) {
        Err(e) => e,
        // It has come up in between.
        Ok(_) => {
            return error(
                name,
                staleline_kernels::KernelError::BadBuildName { name: name.into() },
            );
        }
    };
    let Error::UnknownKernel {
        name,
        why,
        mut help,
    } = told
    else {
        return told;
    };
    let builds = builder.all_named().unwrap_or_default();
    let builds: Vec<_> = builds.into_iter().map(|(named, _)| named.name).collect();
    help = names::suggestion(&name, builds.iter().map(String::as_str)) + &help;
    if !builds.is_empty() {
        help = format!("{help}; builds of your own: {}", builds.join(", "));
    }
    Error::UnknownKernel { name, why, help }
}

fn by_path(path: &Path) -> Result<Choice, Error> {
    let name = path.display().to_string();
    let in_place = prebuilt::image_of(path);
    if is_stack(path) {
        let request = kernels::request(&name, &Ingredients::default())?;
        return Ok(by_request(request, &builder()?));
    }
    if !is_source(path) {
        return Prebuilt::find(path).map(Choice::Prebuilt);
    }
    let builder = builder()?;
    if let Some(image) = in_place {
        // Built in place and in the cache: the last one counts, as it does to who has just built it.
        let last = builder.last_built(path).map_err(|e| error(&name, e))?;
        if last.is_none_or(|last| modified(&image).is_none_or(|image| image > last)) {
            return Prebuilt::find(path).map(Choice::Prebuilt);
        }
    }
    let told = |why: &str, help: String| Error::UnknownKernel {
        name: name.clone(),
        why: why.into(),
        help,
    };
    match builder.of_tree(path, &Quiet).map_err(|e| error(&name, e))? {
        OfTree::Built(kernel) => Ok(Choice::Built {
            kernel,
            source: Some(path.to_owned()),
        }),
        OfTree::NeverBuilt => Err(told(
            "it is a source tree in which no arch/arm64/boot/Image was built, nor is there a build of it \
             in the cache",
            format!("build it: staleline kernel build --src {}", quote(&name)),
        )),
        OfTree::Changed(was) => Err(told(
            &format!("it has changed since it was built as `{}`", was.name),
            format!(
                "build what it is now: {}; what it was then is `--kernel {}`",
                command(&was),
                was.name
            ),
        )),
    }
}

/// When a file was written, in seconds since 1970.
fn modified(file: &Path) -> Option<u64> {
    let time = std::fs::metadata(file).ok()?.modified().ok()?;
    time.duration_since(UNIX_EPOCH)
        .ok()
        .map(|since| since.as_secs())
}

/// A command that builds the same again, of what its source is now.
pub fn command(named: &Named) -> String {
    let path = |path: &PathBuf| quote(&path.display().to_string());
    let mut command = format!("staleline kernel build --src {}", path(&named.source));
    if let Some(dir) = &named.stack_dir {
        command = format!("{command} --stack {}", path(dir));
        // What its name has besides.
        let configs = named.patches.split('+').skip(1);
        command = configs.fold(command, |c, config| format!("{c} --config {config}"));
    } else if named.patches != BASE_STACK {
        command = format!("{command} --stack {}", named.patches);
    }
    for fragment in &named.fragments {
        command = format!("{command} --fragment {}", path(fragment));
    }
    format!("{command} --name {}", named.name)
}
