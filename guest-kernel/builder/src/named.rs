// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Builds that have a name: those of the user's own sources and fragments, which no stack's name
//! stands for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use staleline_support::files;
use staleline_support::progress::Progress;

use super::cache::{Cache, to_json};
use super::error::KernelError;
use super::fragment::Fragment;
use super::kernel::Kernel;
use super::plan::Plan;
use super::source::Source;
use super::stack::{self, BASE_STACK};
use super::{KernelBuilder, KernelRequest};

/// Bytes of a name: with its suffix it is a file's.
const MAX_NAME: usize = 100;

const SUFFIX: &str = ".json";

/// What a name stands for: the last build that was given it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The source: a tree or an archive.
    pub source: PathBuf,
    /// Hash of its content when it was built.
    pub digest: String,
    /// Patches and configurations: `STACK[~MUTANT][+CONFIG...]`.
    pub patches: String,
    /// The stack's directory, if it is one of the user's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack_dir: Option<PathBuf>,
    /// The user's fragments on top.
    pub fragments: Vec<PathBuf>,
    /// When it was built, in seconds since 1970.
    pub built: u64,
    /// Hash of the kernel that came of it.
    pub hash: String,
}

impl Named {
    /// What builds the same again, of what its source is now.
    #[must_use]
    pub fn request(&self) -> KernelRequest {
        KernelRequest {
            source: Some(self.source.clone()),
            stack_dir: self.stack_dir.clone(),
            fragments: self.fragments.clone(),
            ..KernelRequest::named(&self.patches)
        }
    }
}

/// What is known of builds of a source tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfTree {
    /// There is none in the cache.
    NeverBuilt,
    /// The last of the tree as it is now.
    Built(Box<Kernel>),
    /// The tree is not any more what it was when it was built, last under this name.
    Changed(Box<Named>),
}

impl KernelBuilder {
    /// As [`build`](Self::build), and gives the build a name: that one, or that of its source's directory
    /// and what goes on top, if it is not of the usual source alone.
    ///
    /// # Errors
    /// As [`build`](Self::build), and if the name is taken.
    pub fn build_named(
        &self,
        request: &KernelRequest,
        name: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<(Kernel, Option<String>), KernelError> {
        let chosen = name.map(str::to_owned).or_else(|| default_name(request));
        if let Some(chosen) = &chosen {
            self.check_name(chosen)?;
            self.require_free(chosen, name.is_some(), request)?;
        }
        let plan = self.plan(request, progress)?;
        let kernel = self.build_plan(&plan, request, progress)?;
        if let Some(chosen) = &chosen {
            self.register(chosen, request, &plan, &kernel)?;
        }
        Ok((kernel, chosen))
    }

    /// The build of that name, and its kernel unless the cache has lost it.
    ///
    /// # Errors
    /// When what is kept of it cannot be read.
    pub fn named(&self, name: &str) -> Result<Option<(Named, Option<Kernel>)>, KernelError> {
        if !is_name(name) {
            return Ok(None);
        }
        let path = self.cache.names().join(format!("{name}{SUFFIX}"));
        let json = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            json => json.map_err(KernelError::io("read", &path))?,
        };
        let named: Named = serde_json::from_slice(&json)
            .map_err(|error| KernelError::io("understand", &path)(error.into()))?;
        let kernel = self.cache.find(&named.hash);
        Ok(Some((named, kernel)))
    }

    /// All builds that have a name, ordered by that.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn all_named(&self) -> Result<Vec<(Named, Option<Kernel>)>, KernelError> {
        let dir = self.cache.names();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(KernelError::io("read", &dir))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let file = entry.map_err(KernelError::io("read", &dir))?.file_name();
            names.extend(
                file.to_str()
                    .and_then(|f| f.strip_suffix(SUFFIX))
                    .map(str::to_owned),
            );
        }
        names.sort();
        let named: Result<Vec<_>, _> = names.iter().map(|name| self.named(name)).collect();
        Ok(named?.into_iter().flatten().collect())
    }

    /// When the source tree `path` was built last, in seconds since 1970.
    ///
    /// # Errors
    /// When what is known of builds cannot be read.
    pub fn last_built(&self, path: &Path) -> Result<Option<u64>, KernelError> {
        let path = fs::canonicalize(path).map_err(KernelError::io("read", path))?;
        let builds = self.all_named()?.into_iter();
        let of_tree = builds.filter(|(named, kernel)| named.source == path && kernel.is_some());
        Ok(of_tree.map(|(named, _)| named.built).max())
    }

    /// What has been built of the source tree `path`. Looks at every file of it.
    ///
    /// # Errors
    /// When it is no source tree, or cannot be read.
    pub fn of_tree(&self, path: &Path, progress: &dyn Progress) -> Result<OfTree, KernelError> {
        let path = fs::canonicalize(path).map_err(KernelError::io("read", path))?;
        let mut builds = self.all_named()?;
        builds.retain(|(named, kernel)| named.source == path && kernel.is_some());
        // The last one first; of one second, by name.
        builds.sort_by(|(a, _), (b, _)| (b.built, &a.name).cmp(&(a.built, &b.name)));
        let Some((last, _)) = builds.first() else {
            return Ok(OfTree::NeverBuilt);
        };
        let last = last.clone();
        let now = Source::identify(&path, &self.cache, progress)?;
        let same = builds
            .into_iter()
            .find(|(named, _)| named.digest == now.digest());
        Ok(match same {
            Some((_, Some(kernel))) => OfTree::Built(Box::new(kernel)),
            _ => OfTree::Changed(Box::new(last)),
        })
    }

    /// That it can be told from the names of stacks, now and later.
    fn check_name(&self, name: &str) -> Result<(), KernelError> {
        if !is_name(name) {
            return Err(KernelError::BadBuildName {
                name: name.to_owned(),
            });
        }
        let meant = KernelRequest::named(name);
        let stacks = self.stacks()?;
        let is_stack = stacks.iter().any(|stack| stack.name == name);
        if is_stack || self.require(&meant).is_ok() {
            return Err(KernelError::NameTaken {
                name: name.to_owned(),
                by: "kernels of that name are built of a patch stack".to_owned(),
            });
        }
        Ok(())
    }

    /// That the name does not stand for a build of another source, unless it was given on purpose.
    fn require_free(
        &self,
        name: &str,
        given: bool,
        request: &KernelRequest,
    ) -> Result<(), KernelError> {
        // What cannot be read is written anew.
        let Some((other, Some(_))) = self.named(name).ok().flatten() else {
            return Ok(());
        };
        let source = absolute(self.source_of(request));
        let stack_dir = request.stack_dir.as_deref().map(absolute);
        if given || (&other.source, &other.stack_dir) == (&source, &stack_dir) {
            return Ok(());
        }
        let of = other.stack_dir.unwrap_or(other.source);
        Err(KernelError::NameTaken {
            name: name.to_owned(),
            by: format!("it stands for a build of {}", of.display()),
        })
    }

    fn register(
        &self,
        name: &str,
        request: &KernelRequest,
        plan: &Plan,
        kernel: &Kernel,
    ) -> Result<(), KernelError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let named = Named {
            name: name.to_owned(),
            source: plan.source.path().to_owned(),
            digest: plan.source.digest().to_owned(),
            patches: request.name(),
            stack_dir: request.stack_dir.as_deref().map(absolute),
            fragments: plan.fragments.iter().map(|f| f.path.clone()).collect(),
            built: now.map_or(0, |since| since.as_secs()),
            hash: kernel.hash.clone(),
        };
        let dir = self.cache.names();
        fs::create_dir_all(&dir).map_err(KernelError::io("create", &dir))?;
        let path = dir.join(format!("{name}{SUFFIX}"));
        files::write_atomically(&path, &to_json(&named, &path)?, files::READABLE)
            .map_err(KernelError::io("write", &path))
    }
}

impl Cache {
    fn names(&self) -> PathBuf {
        self.root.join("names")
    }
}

/// Whether it can be a name: it is one word, no path, and a file's name.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+~".contains(c);
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
}

/// The path from the root on; as it is, if it leads nowhere.
fn absolute(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The name that a build gets if the user has none for it.
fn default_name(request: &KernelRequest) -> Option<String> {
    let mut name = match &request.source {
        None if request.fragments.is_empty() && request.stack_dir.is_none() => return None,
        None => request.name(),
        Some(source) => {
            // `.` and `..` have a name, too.
            let source = absolute(source);
            let name = source.file_name().unwrap_or_default().to_string_lossy();
            let name = match name.split_once(".tar") {
                Some((stem, _)) if source.is_file() => stem,
                _ => &name,
            };
            let name = &stack::plain(name);
            match request.name() {
                patches if patches == BASE_STACK => name.to_owned(),
                patches => match patches.strip_prefix(&format!("{BASE_STACK}+")) {
                    Some(configs) => format!("{name}+{configs}"),
                    None => format!("{name}-{patches}"),
                },
            }
        }
    };
    for fragment in &request.fragments {
        name = name + "+" + &Fragment::stem(fragment);
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_named_after_what_it_is_made_of() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("linux");
        fs::create_dir(&tree).unwrap();
        let archive = dir.path().join("linux-6.16.tar.xz");
        fs::write(&archive, "").unwrap();
        let spaced = dir.path().join("my linux");
        fs::create_dir(&spaced).unwrap();
        let of = |source: Option<&PathBuf>, patches: &str, fragments: &[&str]| {
            default_name(&KernelRequest {
                source: source.cloned(),
                fragments: fragments.iter().map(PathBuf::from).collect(),
                ..KernelRequest::named(patches)
            })
        };
        for (source, patches, fragments, name) in [
            (Some(&tree), "base", &[][..], "linux"),
            (
                Some(&tree),
                "base+lockdep",
                &["x/dbg.config"],
                "linux+lockdep+dbg",
            ),
            (Some(&tree), "base~oops", &[], "linux-base~oops"),
            (Some(&tree), "mine", &[], "linux-mine"),
            (Some(&archive), "base", &[], "linux-6.16"),
            (Some(&spaced), "base", &[], "my-linux"),
            (None, "mine", &["dbg"], "mine+dbg"),
        ] {
            assert_eq!(of(source, patches, fragments).as_deref(), Some(name));
        }
        assert_eq!(of(None, "mine+lockdep", &[]), None);
    }

    #[test]
    fn names_are_words_and_no_paths() {
        for good in ["linux", "linux-6.16", "l+lockdep", "l-base~x"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-x", "a b", "+x", &"x".repeat(101)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
