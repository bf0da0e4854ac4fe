// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! File systems for guests, made of Debian's arm64 packages.
//!
//! apt finds out what a list of packages needs and downloads it, from the sources that this machine is set
//! up with, into directories of ours: it needs no privileges, and changes nothing of the machine's own.
//! dpkg-deb and tar unpack it. Nothing is installed: no script of a package is run, so that the machine
//! may be of any kind, and what comes out depends on the packages alone.
//!
//! # Layout of the cache
//!
//! `${XDG_CACHE_HOME:-~/.cache}/staleline/roots/`
//! - `<hash>/root/`: a finished file system, by the contents of the packages that it is made of; with
//!   `packages.json` beside it, which lists them.
//! - `requests/<key>.json`: which of these a list of names stood for when it was last asked about, so that
//!   it stays the same until the user wants a newer one.
//! - `apt/`: apt's lists.

mod apt;
mod error;
mod unpack;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use staleline_support::cache::CacheDir;
use staleline_support::digest::{self, FieldHasher};
use staleline_support::files;
use staleline_support::lock::Lock;
use staleline_support::progress::{Counted, Progress};

use self::apt::Apt;
pub use self::error::PackagesError;

/// Environment variable with the path of a `.list` or `.sources` file, which apt takes in place of the
/// machine's own sources.
pub const SOURCES_ENV: &str = "STALELINE_APT_SOURCES";

/// Part of every hash: raised whenever the way they are made changes.
const RECIPE: u32 = 1;

const ROOTS: &str = "roots";

/// How often it is looked whether another one has ended.
const TURN: Duration = Duration::from_millis(100);

/// A package in a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the `.deb` file, in hexadecimal.
    pub hash: String,
}

/// A finished file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Root {
    /// Its top.
    pub path: PathBuf,
    /// What is in it, by name.
    pub packages: Vec<Package>,
}

/// The directory of the cache that holds a root, and all that is known of it: what is in use with it.
pub fn kept_with(root: &Path) -> &Path {
    root.parent().unwrap_or(root)
}

/// What the cache keeps of file systems of packages, each with its kind.
#[must_use]
pub fn kept(cache: &CacheDir) -> Vec<(&'static str, PathBuf)> {
    let roots = cache.entries(ROOTS, digest::is_one).into_iter();
    let roots = roots.map(|path| ("file system of packages", path));
    let lists = cache.entries(ROOTS, |name| name == "apt").into_iter();
    roots
        .chain(lists.map(|path| ("apt's lists", path)))
        .collect()
}

/// Whether that can be asked for: a name, or `NAME=VERSION`.
///
/// # Errors
/// What is wrong with it, for people.
pub fn check_name(text: &str) -> Result<(), String> {
    let (name, version) = text.split_once('=').unwrap_or((text, "0"));
    let first =
        |text: &str| text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    // apt takes a `-` at the end for a wish to be rid of the package.
    let named = first(name)
        && name.len() > 1
        && !name.ends_with('-')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c));
    let versioned = version.starts_with(|c: char| c.is_ascii_digit())
        && version
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.:~".contains(c));
    match named && versioned {
        true => Ok(()),
        false => Err(format!(
            "`{text}` is no name of a Debian package, nor NAME=VERSION"
        )),
    }
}

/// A file system of these packages and all that they depend on: that of the last time, unless there is none
/// or it is to be `renewed`, with the versions that there are now.
///
/// # Errors
/// [`PackagesError`].
pub fn root(
    names: &[String],
    renewed: bool,
    cache: &CacheDir,
    progress: &dyn Progress,
) -> Result<Root, PackagesError> {
    let mut names = names.to_vec();
    names.sort();
    names.dedup();
    for name in &names {
        check_name(name).map_err(PackagesError::BadName)?;
    }
    let sources = Sources::of_environment()?;
    let roots = cache.join(ROOTS);
    let request = roots
        .join("requests")
        .join(format!("{}.json", key(&names, &sources)));
    if !renewed && let Some(root) = last(&request, &roots) {
        return Ok(root);
    }
    let lists = roots.join("apt");
    fs::create_dir_all(&lists).map_err(PackagesError::io("create", &lists))?;
    let _alone = turn(&lists, progress)?;
    // Somebody else may have made it while we waited.
    if !renewed && let Some(root) = last(&request, &roots) {
        return Ok(root);
    }
    let apt = Apt::new(&lists, sources.file.as_deref())?;
    let downloaded = tempfile::tempdir_in(&roots).map_err(PackagesError::io("create", &roots))?;
    progress.step("refreshing the lists of packages");
    let doubts = apt.update()?;
    progress.step("downloading packages");
    apt.download(&names, downloaded.path(), &doubts)?;
    let archives = archives(downloaded.path())?;
    let packages: Vec<Package> = archives
        .iter()
        .map(|(package, _)| package.clone())
        .collect();
    let hash = hash(&packages);
    let kept = roots.join(&hash);
    if !kept.join("root").is_dir() {
        let all = Counted::of("packages", archives.len() as u64);
        progress.begin("unpacking packages", all);
        make(&kept, &roots, &archives, progress)?;
    }
    let note = Request { names, root: hash };
    write_json(&request, &note)?;
    Ok(Root {
        path: kept.join("root"),
        packages,
    })
}

/// Where packages come from, if not from where the machine has them from.
struct Sources {
    file: Option<PathBuf>,
    text: Vec<u8>,
}

impl Sources {
    fn of_environment() -> Result<Self, PackagesError> {
        let named = std::env::var_os(SOURCES_ENV).filter(|path| !path.is_empty());
        let Some(path) = named.map(PathBuf::from) else {
            return Ok(Sources {
                file: None,
                text: Vec::new(),
            });
        };
        let path = std::path::absolute(&path).map_err(PackagesError::io("read", &path))?;
        let text = fs::read(&path).map_err(|source| PackagesError::Sources {
            path: path.clone(),
            source,
        })?;
        Ok(Sources {
            file: Some(path),
            text,
        })
    }
}

/// What a list of names stood for.
#[derive(Serialize, Deserialize)]
struct Request {
    names: Vec<String>,
    root: String,
}

fn key(names: &[String], sources: &Sources) -> String {
    let mut key = FieldHasher::default();
    key.named("recipe", RECIPE.to_le_bytes());
    key.named("sources", &sources.text);
    for name in names {
        key.named("name", name);
    }
    digest::short(&key.finish()).to_owned()
}

fn hash(packages: &[Package]) -> String {
    let mut hash = FieldHasher::default();
    hash.named("recipe", RECIPE.to_le_bytes());
    for package in packages {
        hash.named("package", &package.name);
        hash.named("version", &package.version);
        hash.named("content", &package.hash);
    }
    digest::short(&hash.finish()).to_owned()
}

/// What it stood for the last time, if that is still there.
fn last(request: &Path, roots: &Path) -> Option<Root> {
    let noted: Request = serde_json::from_slice(&fs::read(request).ok()?).ok()?;
    let kept = roots.join(Some(noted.root).filter(|hash| digest::is_one(hash))?);
    let packages = serde_json::from_slice(&fs::read(kept.join("packages.json")).ok()?).ok()?;
    let path = kept.join("root");
    path.is_dir().then_some(Root { path, packages })
}

/// Waits until no other process uses apt's lists.
fn turn(lists: &Path, progress: &dyn Progress) -> Result<Lock, PackagesError> {
    let mut told = false;
    loop {
        match Lock::alone(lists).map_err(PackagesError::io("lock", lists))? {
            Some(lock) => return Ok(lock),
            None if progress.cancelled() => return Err(PackagesError::Cancelled),
            None if told => {}
            None => progress.note("waiting for another one that makes a file system of packages"),
        }
        told = true;
        std::thread::sleep(TURN);
    }
}

/// What was downloaded, by name: `NAME_VERSION_ARCHITECTURE.deb`.
fn archives(dir: &Path) -> Result<Vec<(Package, PathBuf)>, PackagesError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(PackagesError::io("read", dir))? {
        let path = entry.map_err(PackagesError::io("read", dir))?.path();
        if path.extension().is_none_or(|end| end != "deb") {
            continue;
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut parts = stem.split('_');
        let (name, version) = (parts.next(), parts.next());
        let package = Package {
            name: name.unwrap_or_default().to_owned(),
            // As it may not be in a file's name.
            version: version.unwrap_or_default().replace("%3a", ":"),
            hash: digest::file(&path).map_err(PackagesError::io("read", &path))?,
        };
        found.push((package, path));
    }
    found.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    match found.is_empty() {
        true => Err(PackagesError::Nothing),
        false => Ok(found),
    }
}

/// Makes it elsewhere, and puts it in its place when it is whole.
fn make(
    kept: &Path,
    roots: &Path,
    archives: &[(Package, PathBuf)],
    progress: &dyn Progress,
) -> Result<(), PackagesError> {
    let staged = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(roots)
        .map_err(PackagesError::io("create", roots))?;
    let root = staged.path().join("root");
    unpack::skeleton(&root)?;
    for (package, archive) in archives {
        progress.advance(&package.name);
        if progress.cancelled() {
            return Err(PackagesError::Cancelled);
        }
        unpack::archive(archive, &root)?;
    }
    let packages: Vec<&Package> = archives.iter().map(|(package, _)| package).collect();
    write_json(&staged.path().join("packages.json"), &packages)?;
    // What is half there is of an interrupted removal.
    match fs::remove_dir_all(kept) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(PackagesError::io("remove", kept)(e));
        }
        _ => {}
    }
    fs::rename(staged.path(), kept).map_err(PackagesError::io("create", kept))?;
    // It is gone from there: nothing is left to clean up.
    let _ = staged.keep();
    Ok(())
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), PackagesError> {
    let write = || {
        let json = serde_json::to_vec_pretty(value)?;
        files::write_atomically(path, &json, files::READABLE)
    };
    write().map_err(PackagesError::io("write", path))
}

#[cfg(test)]
mod tests;
