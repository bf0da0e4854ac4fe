// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The guest's first file system: an initramfs with the agent as /init and nothing else, or a disk
//! with the agent and a few files.
//!
//! [`initramfs`] and [`disk()`] build the agent for the guest if its sources have changed, pack it, and
//! keep both in the cache; else it takes milliseconds. An installation has an agent of its own
//! ([`home`]), and [`AGENT_ENV`] names another.
//!
//! # Layout of the cache
//!
//! `${XDG_CACHE_HOME:-~/.cache}/staleline/`
//! - `agent/<key>/staleline-agent`: finished agents, with symbols, by content of their sources.
//! - `agent/target/`: cargo's.
//! - `initramfs/<hash>.cpio`: archives by their own content.
//! - `busybox/<hash>/`: file systems with a busybox, by that; `busybox/fetched`: one to be taken.
//! - `disk/<key>.img`, `disk/<key>.sha256`: disks by what is on them, and their hashes.

mod agent;
mod archive;
pub mod busybox;
mod contents;
pub mod disk;
mod error;
mod executable;
mod found;
mod input;
mod inputs;
mod programs;
mod toolchain;

use std::path::{Path, PathBuf};

use staleline_support::cache::CacheDir;
use staleline_support::files;
use staleline_support::home;
use staleline_support::progress::Progress;

use self::agent::Executable;
pub use self::disk::{Disk, DiskError, disk};
pub use self::error::InitramfsError;
pub use self::input::Input;
pub use self::inputs::Inputs;

/// Environment variable with the path of an agent to use instead of building one.
pub const AGENT_ENV: &str = "STALELINE_AGENT";

/// Environment variable with the path of a VMM to use instead of building one.
pub const VMM_ENV: &str = "STALELINE_VMM";

/// The agent of an installation.
const PREBUILT: &str = "agent/staleline-agent";

/// The VMM of an installation.
const PREBUILT_VMM: &str = "kvm/staleline-kvm";

/// Where archives are in the cache, and how their names end.
const ARCHIVES: &str = "initramfs";
const ARCHIVE: &str = ".cpio";

/// A finished initramfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initramfs {
    /// The uncompressed cpio archive.
    pub path: PathBuf,
    /// The agent in it, with its symbols. Linked at a fixed address.
    pub agent_elf: PathBuf,
    /// SHA-256 of the archive, in hexadecimal.
    pub hash: String,
}

/// The initramfs of the current sources.
///
/// # Errors
/// [`InitramfsError`]; none of them is a test result.
pub fn initramfs(cache: &CacheDir, progress: &dyn Progress) -> Result<Initramfs, InitramfsError> {
    pack(build_agent(cache, progress)?, cache)
}

/// The agent's executable for the guest, with symbols: the one that [`AGENT_ENV`] names, or built
/// of the current sources, or from the cache.
///
/// # Errors
/// As [`initramfs`].
pub fn build_agent(cache: &CacheDir, progress: &dyn Progress) -> Result<PathBuf, InitramfsError> {
    match std::env::var_os(AGENT_ENV) {
        Some(path) if !path.is_empty() => named(path.into()),
        _ => match home::find(PREBUILT) {
            Ok(agent) => Ok(agent),
            Err(_) => agent::build(Executable::Agent, &workspace()?, cache, progress),
        },
    }
}

/// The agent that the user has named.
fn named(path: PathBuf) -> Result<PathBuf, InitramfsError> {
    let elf = files::read(&path).map_err(|e| format!("it cannot be read: {e}"));
    match elf.and_then(|elf| executable::check(&elf)) {
        Ok(()) => Ok(path),
        Err(why) => Err(InitramfsError::BadNamed { path, why }),
    }
}

/// An example of `images/examples` that is in Rust, built as the agent is: what such a program of a user's
/// is tried with.
///
/// # Errors
/// As [`initramfs`].
pub fn build_example(
    name: &str,
    cache: &CacheDir,
    progress: &dyn Progress,
) -> Result<PathBuf, InitramfsError> {
    agent::build(Executable::Example(name), &workspace()?, cache, progress)
}

/// The VMM of the KVM engine: built of the current sources, or from the cache.
///
/// # Errors
/// As [`initramfs`].
pub fn build_vmm(cache: &CacheDir, progress: &dyn Progress) -> Result<PathBuf, InitramfsError> {
    match given_vmm() {
        Some(vmm) => is_program(vmm),
        None => agent::build(Executable::Vmm, &workspace()?, cache, progress),
    }
}

/// [`build_vmm`]'s, if it is there: never builds.
pub fn find_vmm(cache: &CacheDir) -> Option<PathBuf> {
    match given_vmm() {
        Some(vmm) => is_program(vmm).ok(),
        None => agent::find(Executable::Vmm, &workspace().ok()?, cache),
    }
}

/// Whether [`build_vmm`] has what it takes, as far as that can be told without building.
///
/// # Errors
/// What is missing.
pub fn can_build_vmm(cache: &CacheDir) -> Result<(), InitramfsError> {
    match given_vmm() {
        Some(vmm) => is_program(vmm).map(drop),
        None => agent::can_build(&workspace()?, cache),
    }
}

/// Where [`build_vmm`] takes the VMM from, for people.
pub fn vmm_place() -> String {
    match (given_vmm(), workspace()) {
        (Some(vmm), _) => vmm.display().to_string(),
        (_, Ok(sources)) => format!("built of {}", sources.join("vmm/kvm").display()),
        (_, Err(e)) => e.to_string(),
    }
}

/// The VMM if it need not be built, else all that it is built of.
pub fn vmm_inputs() -> Vec<PathBuf> {
    let sources = || Some(agent::files_of(Executable::Vmm, &workspace().ok()?));
    match given_vmm() {
        Some(vmm) => vec![vmm],
        None => sources().unwrap_or_default(),
    }
}

/// That the user has named, or of an installation.
fn given_vmm() -> Option<PathBuf> {
    let named = std::env::var_os(VMM_ENV).filter(|path| !path.is_empty());
    let named = named.map(PathBuf::from);
    named.or_else(|| home::find(PREBUILT_VMM).ok())
}

fn is_program(path: PathBuf) -> Result<PathBuf, InitramfsError> {
    let elf = files::read(&path).map_err(|e| format!("it cannot be read: {e}"));
    match elf.and_then(|elf| executable::check(&elf)) {
        Ok(()) => Ok(path),
        Err(why) => Err(InitramfsError::BadVmm { path, why }),
    }
}

/// An initramfs with that as /init: the file system of the machine that is emulated for it.
///
/// # Errors
/// [`InitramfsError::BadAgent`] if it is none, and those of the cache.
pub fn host_initramfs(vmm: &Path, cache: &CacheDir) -> Result<PathBuf, InitramfsError> {
    let bad = |why| InitramfsError::BadAgent {
        path: vmm.to_owned(),
        why,
    };
    let archive = archive::pack(&loadable(vmm)?).map_err(|e| bad(e.to_string()))?;
    keep(&archive, cache).map(|(path, _)| path)
}

/// Where [`build_agent`] takes the agent from, for people, as far as no variable names one.
pub fn agent_place() -> String {
    match (home::find(PREBUILT), workspace()) {
        (Ok(agent), _) => agent.display().to_string(),
        (_, Ok(sources)) => format!("built of {}", sources.join("images/agent").display()),
        (_, Err(e)) => e.to_string(),
    }
}

/// Whether there is an agent for the current sources already, so that nothing has to be compiled.
pub fn agent_is_built(cache: &CacheDir) -> bool {
    let built = || agent::find(Executable::Agent, &workspace().ok()?, cache);
    home::find(PREBUILT).is_ok() || built().is_some()
}

/// What the cache keeps of guests' file systems, each with its kind.
#[must_use]
pub fn kept(cache: &CacheDir) -> Vec<(&'static str, PathBuf)> {
    let of = |kind, dir: &str, end: &'static str| {
        let entries = cache.kept(dir, end).into_iter();
        entries.map(move |path| (kind, path)).collect::<Vec<_>>()
    };
    let target = cache.entries("agent", |name| name == "target").into_iter();
    let target = target.map(|path| ("objects of the agent", path)).collect();
    let fetched = cache.entries(busybox::DIRECTORY, |name| name == busybox::FETCHED);
    let fetched = fetched.into_iter().map(|path| ("busybox", path)).collect();
    // The same builder has made both.
    let vmm = Executable::Vmm.name();
    let agents = of("agent", "agent", "").into_iter();
    let agents = agents.map(|(kind, path)| match path.join(vmm).is_file() {
        true => ("VMM", path),
        false => (kind, path),
    });
    [
        agents.collect(),
        target,
        of("initramfs", ARCHIVES, ARCHIVE),
        of("disk", "disk", ".img"),
        of("hash of a disk", "disk", ".sha256"),
        of("file system with busybox", busybox::DIRECTORY, ""),
        fetched,
    ]
    .concat()
}

/// The workspace with the agent's sources.
fn workspace() -> Result<PathBuf, InitramfsError> {
    let manifest = home::find("images/agent/Cargo.toml")?;
    let workspace = manifest.ancestors().nth(3).unwrap_or(&manifest);
    Ok(workspace.to_owned())
}

/// What a guest needs of the agent.
fn loadable(agent_elf: &Path) -> Result<Vec<u8>, InitramfsError> {
    let elf = files::read(agent_elf).map_err(InitramfsError::io("read", agent_elf))?;
    let bad = |why| InitramfsError::BadAgent {
        path: agent_elf.to_owned(),
        why,
    };
    executable::check(&elf).map_err(bad)?;
    executable::loadable(&elf).map_err(|e| bad(e.to_string()))
}

fn pack(agent_elf: PathBuf, cache: &CacheDir) -> Result<Initramfs, InitramfsError> {
    let init = loadable(&agent_elf)?;
    let bytes = archive::pack(&init).map_err(InitramfsError::io("pack", &agent_elf))?;
    let (path, hash) = keep(&bytes, cache)?;
    Ok(Initramfs {
        path,
        agent_elf,
        hash,
    })
}

/// An archive in the cache, and its hash.
fn keep(archive: &[u8], cache: &CacheDir) -> Result<(PathBuf, String), InitramfsError> {
    let kept = cache.keep(ARCHIVES, ARCHIVE, archive);
    kept.map_err(|e| InitramfsError::io("write", &cache.join(ARCHIVES))(e))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The smallest file that passes for an agent: an ELF header for arm64 without segments.
    fn tiny_agent() -> Vec<u8> {
        let mut elf = vec![0; 64];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[16] = 2;
        elf[18] = 183;
        elf[20] = 1;
        elf[52] = 64;
        elf[54] = 56;
        elf
    }

    #[test]
    fn the_hash_is_that_of_the_file_and_of_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        fs::write(&agent, tiny_agent()).unwrap();
        let a = pack(agent.clone(), &CacheDir::at(dir.path().join("a"))).unwrap();
        let b = pack(agent.clone(), &CacheDir::at(dir.path().join("b"))).unwrap();
        assert_ne!(a.path, b.path);
        assert_eq!(a.hash, b.hash);
        let bytes = fs::read(&a.path).unwrap();
        assert_eq!(bytes, fs::read(&b.path).unwrap());
        assert_eq!(a.hash, staleline_support::digest::bytes(&bytes));

        // Symbols behind the segments change nothing in the guest.
        fs::write(&agent, [tiny_agent(), b"symbols".to_vec()].concat()).unwrap();
        let c = pack(agent, &CacheDir::at(dir.path().join("a"))).unwrap();
        assert_eq!(a.hash, c.hash);
    }

    #[test]
    fn what_is_no_agent_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("agent");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        let e = pack(script, &CacheDir::at(dir.path())).unwrap_err();
        assert!(matches!(e, InitramfsError::BadAgent { .. }), "{e}");
        let e = pack(dir.path().join("none"), &CacheDir::at(dir.path())).unwrap_err();
        assert!(
            matches!(e, InitramfsError::Io { action: "read", .. }),
            "{e}"
        );
    }

    #[test]
    fn what_the_variable_names_is_told_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        fs::write(&agent, tiny_agent()).unwrap();
        assert_eq!(named(agent.clone()).unwrap(), agent);
        fs::write(&agent, "#!/bin/sh\n").unwrap();
        for (path, why) in [
            (agent, "it is no 64-bit ELF file"),
            (dir.path().join("none"), "it cannot be read: No such file"),
            (dir.path().to_owned(), "it is not a regular file"),
        ] {
            let told = named(path.clone()).unwrap_err().to_string();
            let start = format!("STALELINE_AGENT is {}, and ", path.display());
            assert!(told.starts_with(&start) && told.contains(why), "{told}");
            assert!(
                told.contains("staleline-agent executable for arm64"),
                "{told}"
            );
        }
    }

    #[test]
    fn the_sources_are_where_they_are_looked_for() {
        assert!(
            workspace()
                .unwrap()
                .join("images/agent/Cargo.toml")
                .is_file()
        );
    }
}
